//! How results look to people: the zone in which times are told, and colours where they are welcome. JSON knows neither.

use std::ffi::OsStr;
use std::io::IsTerminal as _;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row, Table, presets};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::output::clean;

/// For every command that tells times to people.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct ViewArgs {
    /// Tell and understand times in UTC, and not in the time zone of this machine or $TZ; $RALIO_RELAY_UTC=1 always does. JSON
    /// is in UTC anyway
    #[arg(long)]
    utc: bool,
}

impl ViewArgs {
    /// As this terminal, its environment and the options want it.
    pub(crate) fn view(self) -> View {
        let var = |name: &str| std::env::var_os(name);
        let colours = wants_colours(
            std::io::stdout().is_terminal(),
            var("NO_COLOR").as_deref(),
            var("CLICOLOR_FORCE").as_deref(),
        );
        let is_utc = self.utc || is_set(var("RALIO_RELAY_UTC").as_deref());
        View { zone: if is_utc { TimeZone::UTC } else { system_zone(var("TZ").as_deref()) }, colours }
    }

    /// For what holds no times.
    pub(crate) fn without_times() -> View {
        Self { utc: true }.view()
    }
}

/// The zone of this machine or of `$TZ`, from the data in this binary where the machine has none about it; UTC where there is
/// no zone. A `$TZ` that is none is told of: whoever set it expects other times.
fn system_zone(tz: Option<&OsStr>) -> TimeZone {
    if let Ok(zone) = TimeZone::try_system() {
        return zone;
    }
    let tz = tz.unwrap_or_default().to_string_lossy();
    if tz.is_empty() {
        return TimeZone::unknown();
    }
    TimeZoneDatabase::bundled().get(tz.trim_start_matches(':')).unwrap_or_else(|_| {
        to_stderr!("warning: TZ is '{}', which is no time zone such as Europe/Berlin: times are in UTC", clean(&tz));
        TimeZone::unknown()
    })
}

fn is_set(value: Option<&OsStr>) -> bool {
    value.is_some_and(|value| !value.is_empty() && value != "0")
}

/// Colours are for terminals, unless their owner does not want any (no-color.org), and for whoever insists
/// (bixense.com/clicolors).
pub(super) fn wants_colours(is_terminal: bool, no_color: Option<&OsStr>, force: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && (is_terminal || is_set(force))
}

/// What is welcome, and what a person has to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Good,
    Odd,
    Bad,
}

impl Mood {
    /// Of the state of an event, an attempt, a sink or a job, or of the level of a finding.
    fn of(state: &str) -> Option<Self> {
        match state {
            "delivered" | "OK" => Some(Self::Good),
            "parked" | "paused" | "transient" | "WARNING" | "look" => Some(Self::Odd),
            "dead letter" | "down" | "failing" | "unavailable" | "failed" | "permanent" | "act" | "FAILED" | "FAIL"
            | "PROBLEM" => Some(Self::Bad),
            _ => None,
        }
    }

    fn colour(self) -> Color {
        match self {
            Self::Good => Color::DarkGreen,
            Self::Odd => Color::DarkYellow,
            Self::Bad => Color::DarkRed,
        }
    }

    /// Select Graphic Rendition, ECMA-48 8.3.117.
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Odd => "33",
            Self::Bad => "31",
        }
    }
}

/// What [`ViewArgs`] amount to.
#[derive(Clone, Debug)]
pub(crate) struct View {
    zone: TimeZone,
    colours: bool,
}

impl View {
    /// UTC, and no colours.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { zone: TimeZone::UTC, colours: false }
    }

    #[cfg(test)]
    fn new(zone: TimeZone, colours: bool) -> Self {
        Self { zone, colours }
    }

    /// In which times are told, and understood where they name none.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// RFC 3339 with seconds, and the zone's offset at that time.
    pub(crate) fn seconds(&self, at: Timestamp) -> String {
        match self.is_utc() {
            true => format!("{at:.0}"),
            false => format!("{:.0}", at.display_with_offset(self.zone.to_offset(at))),
        }
    }

    /// The same with microseconds.
    pub(crate) fn exactly(&self, at: Timestamp) -> String {
        match self.is_utc() {
            true => format!("{at:.6}"),
            false => format!("{:.6}", at.display_with_offset(self.zone.to_offset(at))),
        }
    }

    /// A machine without a zone tells UTC, too.
    fn is_utc(&self) -> bool {
        let name = self.zone.iana_name();
        self.zone == TimeZone::UTC || self.zone.is_unknown() || name.is_some_and(|name| name.ends_with("UTC"))
    }

    /// A plain table that fits the terminal; where there is none, each row is one line.
    pub(crate) fn table(&self, header: &[&str]) -> Table {
        let mut table = Table::new();
        if self.colours {
            table.enforce_styling();
        }
        let names = header.iter().map(|name| {
            let name = Cell::new(name);
            if self.colours { name.add_attribute(Attribute::Bold) } else { name }
        });
        let mut names = Row::from(names.collect::<Vec<_>>());
        names.max_height(1);
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(names);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        table
    }

    /// Cells of one row, cleaned; the one at `state` in the colour of what it says.
    pub(crate) fn row<const N: usize>(&self, cells: [&str; N], state: Option<usize>) -> Row {
        let cell = |(place, text): (usize, &str)| {
            let cell = Cell::new(clean(text));
            match Mood::of(text).filter(|_| self.colours && state == Some(place)) {
                Some(mood) => cell.fg(mood.colour()),
                None => cell,
            }
        };
        Row::from(cells.into_iter().enumerate().map(cell).collect::<Vec<_>>())
    }

    /// Text in the colour of the state that it is about. Not cleaned.
    pub(crate) fn painted(&self, text: &str, state: &str) -> String {
        match Mood::of(state).filter(|_| self.colours) {
            Some(mood) => format!("\u{1b}[{}m{text}\u{1b}[0m", mood.code()),
            None => text.to_owned(),
        }
    }

    /// The line above a part of what is shown.
    pub(crate) fn title(&self, text: &str) -> String {
        if self.colours { format!("\n\u{1b}[1m{text}\u{1b}[0m") } else { format!("\n{text}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_offset_that_the_zone_has_then() {
        let (winter, summer): (Timestamp, Timestamp) =
            ("2026-01-31T10:00:00.5Z".parse().unwrap(), "2026-07-31T10:00:00Z".parse().unwrap());
        let madrid = View::new(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(), false);
        assert_eq!(madrid.seconds(winter), "2026-01-31T11:00:00+01:00");
        assert_eq!(madrid.exactly(winter), "2026-01-31T11:00:00.500000+01:00");
        assert_eq!(madrid.seconds(summer), "2026-07-31T12:00:00+02:00");
        assert_eq!(madrid.seconds(summer).parse::<Timestamp>().unwrap(), summer, "to be pasted into --since");
        for utc in [TimeZone::UTC, TimeZone::unknown()] {
            assert_eq!(View::new(utc, false).seconds(winter), "2026-01-31T10:00:00Z");
        }
        assert_eq!(View::plain().exactly(winter), "2026-01-31T10:00:00.500000Z");
    }

    #[test]
    fn colours_are_for_terminals_whose_owner_wants_them() {
        let set = |text| Some(OsStr::new(text));
        assert!(wants_colours(true, None, None) && wants_colours(true, set(""), None));
        assert!(!wants_colours(true, set("1"), None) && !wants_colours(false, None, None));
        assert!(wants_colours(false, None, set("1")) && !wants_colours(false, None, set("0")));
        assert!(!wants_colours(true, set("1"), set("1")), "who wants none gets none");
    }

    #[test]
    fn states_and_headers_are_coloured_and_nothing_else() {
        let shown = |colours| {
            let view = View::new(TimeZone::UTC, colours);
            let mut table = view.table(&["NAME", "STATE"]);
            for state in ["delivered", "paused", "down", "running"] {
                table.add_row(view.row(["down", state], Some(1)));
            }
            table.lines().collect::<Vec<_>>()
        };
        let lines = shown(true);
        assert!(lines[0].contains("\u{1b}[1m"), "{lines:?}");
        assert!(lines[1].starts_with("down") && lines[1].contains("\u{1b}["), "{lines:?}");
        assert!(lines[3].starts_with("down") && lines[3].contains("\u{1b}["), "{lines:?}");
        assert!(!lines[4].contains('\u{1b}'), "{lines:?}");
        assert!(shown(false).iter().all(|line| !line.contains('\u{1b}')));
    }
}
