//! `sinks list`

use std::io::Write;
use std::ops::ControlFlow;

use crate::cli::output::{Output, clean, hide, keep_whole, print_table};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::config::{SinkOutline, load_inbox, load_outline};
use crate::inbox::SinkRecord;
use crate::records::sink::{Configured, Line, lines};

const EXAMPLES: &str = "\
Examples:
  ralio-relay sinks list
  ralio-relay sinks list --format json | jq -r 'select(.state != \"running\") | .name'

States: running; failing (the last three attempts failed, whatever the orders); down (too many failures in a row: it is \
only tried now and then, until one attempt succeeds); paused (by a person); unavailable (it could not be built from the \
configuration; it is built again by itself); new (gets its place in the log when the daemon starts); removed (a place in \
the log without a sink in the configuration).

SINCE tells since when it is failing, down, paused or unavailable. UNDELIVERED counts every event that it has still to get, \
those that are parked included. Why a sink is in its state, and what to do: `ralio-relay sinks show NAME`.

Exit code: 0, also when there is none.";

/// List them: state, since when, why, the next try, what is undelivered
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let (inbox, configured) = match load_outline(&args.config.config) {
        Ok(outline) => (outline.inbox, Some(outline.sinks)),
        Err(problems) => {
            let inbox = load_inbox(&args.config.config)?;
            to_stderr!("what the configuration says of its sinks cannot be used, so types are missing: {problems}");
            (inbox, None)
        }
    };
    let records = crate::cli::events::open_inbox(&inbox)?.sinks()?;
    let outlines = configured
        .as_deref()
        .map(|sinks| sinks.iter().map(|sink| Configured { name: &sink.name, kind: sink.kind }).collect::<Vec<_>>());
    let lines = lines(&records, outlines.as_deref());
    if lines.is_empty() {
        to_stderr!("there is no sink, neither in the configuration nor in the inbox");
    }
    tell_renamed(&records, configured.as_deref().unwrap_or_default());
    let mut out = Output::stdout();
    let _ = match args.format {
        Format::Json => lines.iter().try_for_each(|line| out.json(line)),
        Format::Table if lines.is_empty() => ControlFlow::Continue(()),
        Format::Table => print_list(&mut out, &args.view.view(), &lines),
    };
    out.finish()?;
    Ok(Exit::Success)
}

/// Says what the configuration has still to follow.
fn tell_renamed(records: &[SinkRecord], configured: &[SinkOutline]) {
    for record in records {
        let (name, former) = (&record.name, &record.former_name);
        let sinks = configured.iter().map(|sink| &sink.name);
        if let Some(former) = former.as_ref().filter(|former| sinks.clone().any(|sink| sink == *former))
            && !sinks.clone().any(|sink| sink == name)
        {
            to_stderr!("sink '{former}' was renamed: write name = \"{name}\" in the configuration");
        }
    }
}

const HEADER: [&str; 11] = [
    "NAME",
    "STATE",
    "SINCE",
    "UNDELIVERED",
    "DEAD",
    "NEXT TRY",
    "PARKED",
    "DELIVERED",
    "CURSOR",
    "TYPE",
    "LAST ERROR",
];
const NEXT_TRY: usize = 5;
const PARKED: usize = 6;
const DELIVERED: usize = 7;
const CURSOR: usize = 8;
const TYPE: usize = 9;
const LAST_ERROR: usize = 10;

/// Which columns there is no room for.
fn hidden(width: Option<u16>) -> &'static [usize] {
    match width {
        Some(..100) => &[NEXT_TRY, PARKED, DELIVERED, CURSOR, TYPE, LAST_ERROR],
        Some(100..160) => &[PARKED, DELIVERED, CURSOR, TYPE, LAST_ERROR],
        Some(160..) => &[CURSOR, TYPE],
        None => &[],
    }
}

/// The table as it fits the terminal.
pub(crate) fn print_list<W: Write>(out: &mut Output<W>, view: &View, lines: &[Line<'_>]) -> ControlFlow<()> {
    print(out, view, lines, None)
}

/// The table, and below it the errors that it has no room for. `width`: instead of the terminal's.
fn print<W: Write>(out: &mut Output<W>, view: &View, lines: &[Line<'_>], width: Option<u16>) -> ControlFlow<()> {
    let mut shown = view.table(&HEADER);
    if let Some(width) = width {
        shown.set_width(width);
    }
    let hidden = hidden(shown.width());
    keep_whole(&mut shown, LAST_ERROR);
    hide(&mut shown, hidden);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let next = |line: &Line<'_>| line.next_try.map(|at| view.seconds(at.0));
    for line in lines {
        let cells = [
            line.name,
            line.state,
            &or_dash(line.since.map(|since| view.seconds(since.0))),
            &line.undelivered.to_string(),
            &line.dead_letters.to_string(),
            &or_dash(next(line)),
            &line.parked.to_string(),
            &line.delivered.to_string(),
            &or_dash(line.cursor.map(|cursor| cursor.to_string())),
            line.r#type.unwrap_or("-"),
            error(line).unwrap_or("-"),
        ];
        shown.add_row(view.row(cells, Some(1)));
    }
    print_table(out, &shown)?;
    if !hidden.contains(&LAST_ERROR) {
        return ControlFlow::Continue(());
    }
    for line in lines {
        if let Some(error) = error(line) {
            let next = next(line).filter(|_| hidden.contains(&NEXT_TRY));
            let next = next.map(|at| format!("; next try {at}")).unwrap_or_default();
            out.line(format!("\n{}: {}{next}", line.name, clean(error)))?;
        }
    }
    ControlFlow::Continue(())
}

/// Why something waits; an error that is over is not told.
fn error<'a>(line: &'a Line<'_>) -> Option<&'a str> {
    line.last_error.as_deref().filter(|_| line.has_trouble())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{SinkHealth, Standing};
    use crate::model::SinkName;
    use crate::records::sink::tests::record;

    fn printed(width: Option<u16>) -> String {
        let time = |text: &str| Some(text.parse().unwrap());
        let health = SinkHealth {
            failures: 12,
            failing_since: time("2026-02-01T09:59:00Z"),
            last_error: Some(format!("HTTP 503: \u{1b}[2J{}", "overload ".repeat(20))),
            last_error_at: time("2026-02-01T10:01:00Z"),
            next_try: time("2026-02-01T10:02:00Z"),
            ..SinkHealth::default()
        };
        let standing = Standing { breaker_open_since: time("2026-02-01T10:00:00Z"), ..Standing::default() };
        let down = SinkRecord { health: health.clone(), standing, ..record("bus") };
        // What went wrong once is over.
        let over = SinkHealth { failures: 0, failing_since: None, ..health };
        let well = SinkRecord { health: over, parked: 0, ..record("ledger") };
        let names = ["bus", "ledger", "new-one"].map(|name| SinkName::new(name).unwrap());
        let configured = names.each_ref().map(|name| Configured { name, kind: "amqp" });
        let mut bytes = Vec::new();
        let (records, view) = ([down, well], View::plain());
        let lines = lines(&records, Some(&configured));
        assert!(print(&mut Output::new(&mut bytes), &view, &lines, width).is_continue());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn state_since_when_why_and_the_next_try_fit_every_terminal() {
        for width in [Some(80), Some(100), Some(160), None] {
            let text = printed(width);
            let table: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
            let widest = table.iter().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(width.unwrap_or(u16::MAX)), "{width:?}: {text}");
            for told in ["down", "2026-02-01T10:00:00Z", "2026-02-01T10:02:00Z", "UNDELIVERED", "HTTP 503: "] {
                assert!(text.contains(told), "{width:?}: no {told} in {text}");
            }
            assert!(text.contains("new-one") && !text.contains('\u{1b}'), "{text:?}");
            let of_ledger: Vec<&str> = text.lines().filter(|line| line.contains("ledger")).collect();
            assert!(of_ledger.len() == 1 && !of_ledger[0].contains("HTTP"), "{of_ledger:?}");
        }
        assert_eq!(printed(None).lines().count(), 4, "each sink has one line where no terminal is");
        assert!(printed(Some(100)).contains("\nbus: HTTP 503"));
        assert!(printed(Some(80)).contains("; next try 2026-02-01T10:02:00Z"));
    }
}
