//! What commands print: lines, JSON and tables, on an output that may close at any time.

use std::borrow::Cow;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use comfy_table::{ColumnConstraint, ContentArrangement, Row, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

/// Where results go. After the first failed write everything else is skipped, so that a walk over millions of rows
/// ends as soon as nobody reads it.
pub(crate) struct Output<W: Write = BufWriter<StdoutLock<'static>>> {
    out: W,
    /// The line at hand: put together in memory, which is quicker than piece by piece into a writer.
    line: Vec<u8>,
    failed: Option<io::Error>,
}

/// What is gathered before it is handed to the system.
const BUFFER: usize = 64 << 10;

impl Output {
    /// Standard output, buffered.
    pub(crate) fn stdout() -> Self {
        Self::new(BufWriter::with_capacity(BUFFER, io::stdout().lock()))
    }
}

impl<W: Write> Output<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, line: Vec::new(), failed: None }
    }

    fn attempt(&mut self, write: impl FnOnce(&mut W) -> io::Result<()>) -> ControlFlow<()> {
        if self.failed.is_none() {
            self.failed = write(&mut self.out).err();
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        self.attempt(|out| out.write_all(bytes))
    }

    /// A line. The text must be [`clean`]: nothing here looks at it again.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> ControlFlow<()> {
        self.attempt(|out| writeln!(out, "{}", text.as_ref()))
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> ControlFlow<()> {
        self.composed(|line| Ok(serde_json::to_writer(line, value)?))
    }

    /// A line that is put together in memory, without its end.
    pub(crate) fn composed(&mut self, compose: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> ControlFlow<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let done = self.attempt(|out| {
            compose(&mut line)?;
            line.push(b'\n');
            out.write_all(&line)
        });
        self.line = line;
        done
    }

    /// Hands over what is buffered.
    pub(crate) fn flush(&mut self) -> ControlFlow<()> {
        self.attempt(Write::flush)
    }

    /// The end: a reader that went away is none of our business, a full disk is.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        let _ = self.flush();
        match self.failed {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("cannot write the results"),
            _ => Ok(()),
        }
    }
}

/// Text from outside without anything that could steer a terminal or hide what is there: control characters and the
/// invisible ones that turn the direction of writing are shown by number.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    text.chars()
        .fold(String::new(), |mut done, c| {
            if steers(c) {
                done.extend(c.escape_unicode())
            } else {
                done.push(c)
            }
            done
        })
        .into()
}

/// [`clean`], line by line.
pub(crate) fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// RFC 3339 in UTC with seconds, for people.
pub(crate) fn utc_seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// A plain table that fits the terminal; where there is none, each row is one line.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    let mut names = Row::from(header.to_vec());
    names.max_height(1);
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(names);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Never breaks what is in the first `count` columns: the others make room, on a narrow terminal.
pub(crate) fn keep_whole(table: &mut Table, count: usize) {
    table.column_iter_mut().take(count).for_each(|column| _ = column.set_constraint(ColumnConstraint::ContentWidth));
}

/// Leaves columns out, where others matter more and there is no room for all.
pub(crate) fn hide(table: &mut Table, places: &[usize]) {
    for &place in places {
        if let Some(column) = table.column_mut(place) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
}

/// Cells of one row, cleaned.
pub(crate) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(|cell| clean(cell).into_owned()).collect()
}

/// The table as lines without trailing spaces.
pub(crate) fn print_table<W: Write>(out: &mut Output<W>, table: &Table) -> ControlFlow<()> {
    table.lines().try_for_each(|line| out.line(line.trim_end()))
}

/// The headers that are kept of a request.
pub(crate) fn print_headers<W: Write>(out: &mut Output<W>, headers: &[(String, String)]) -> ControlFlow<()> {
    out.line("\nHeaders")?;
    if headers.is_empty() {
        return out.line("none of those that are kept");
    }
    headers.iter().try_for_each(|(name, value)| out.line(format!("{}: {}", clean(name), clean(value))))
}

/// Shows on a terminal how far a walk over the log has come, while it finds nothing.
pub(crate) struct Search {
    quiet_since: Instant,
    bar: Option<ProgressBar>,
}

/// So long nobody wonders.
const PATIENCE: Duration = Duration::from_secs(1);

impl Search {
    pub(crate) fn new() -> Self {
        Self { quiet_since: Instant::now(), bar: None }
    }

    /// There is something else to look at.
    pub(crate) fn found(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.quiet_since = Instant::now();
    }

    /// Nothing was found up to here; true when that has been so for long, so that what was found before is not held back.
    pub(crate) fn went_on(&mut self, done: u64, total: u64) -> bool {
        if self.quiet_since.elapsed() < PATIENCE {
            return false;
        }
        let style = "searching {bar:30} {human_pos}/{human_len}, {eta} to go";
        let new = || ProgressBar::new(total).with_style(ProgressStyle::with_template(style).expect("it is valid"));
        self.bar.get_or_insert_with(new).set_position(done);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts some bytes, then fails.
    struct Limited(usize, io::ErrorKind);

    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(self.1.into());
            }
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_ends_the_walk_quietly() {
        let mut out = Output::new(Limited(10, io::ErrorKind::BrokenPipe));
        let lines = (0..1_000_000).take_while(|n| out.line(format!("line {n}")).is_continue()).count();
        assert_eq!(lines, 1);
        assert!(out.finish().is_ok());
    }

    #[test]
    fn a_search_is_shown_once_it_finds_nothing_for_long() {
        let mut search = Search::new();
        assert!(!search.went_on(1, 10) && search.bar.is_none());
        search.quiet_since -= PATIENCE;
        assert!(search.went_on(2, 10));
        assert_eq!(search.bar.as_ref().map(|bar| (bar.position(), bar.length())), Some((2, Some(10))));
        search.found();
        assert!(search.bar.is_none() && !search.went_on(3, 10));
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let mut out = Output::new(Limited(0, io::ErrorKind::StorageFull));
        assert!(out.json(&1).is_break());
        assert!(out.finish().is_err());
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\u{7f}\u{9b}\n"), "a\\u{1b}[31mb\\u{7f}\\u{9b}\\u{a}");
        assert_eq!(clean("user\u{202e}gpj"), "user\\u{202e}gpj");
        assert!(matches!(clean("Zoë 収納"), Cow::Borrowed(_)));
        assert_eq!(clean_lines("a\nb\r\n"), "a\nb\\u{d}\n");
    }
}
