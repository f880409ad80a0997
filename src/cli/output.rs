//! What commands print: lines, JSON and tables, on an output that may close at any time.

use std::borrow::Cow;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use comfy_table::{ColumnConstraint, Table, Width};
use indicatif::ProgressBar;
use serde::Serialize;

use super::progress;
use super::view::View;
use crate::model::unseen::{escape_json, hides, steers};

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

    /// A line, or several. Text from outside in it should be [`clean`]; what is not gets no further than line breaks and
    /// colours.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> ControlFlow<()> {
        self.attempt(|out| writeln!(out, "{}", harmless(text.as_ref())))
    }

    /// One JSON value on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> ControlFlow<()> {
        self.composed(|line| Ok(serde_json::to_writer(line, value)?))
    }

    /// A line of JSON that is put together in memory, without its end.
    pub(crate) fn composed(&mut self, compose: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> ControlFlow<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        let done = self.attempt(|out| {
            compose(&mut line)?;
            escape_json(&mut line);
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
    by_number(text, |c| c.is_control() || hides(c))
}

/// Text of our own making, line breaks and colours included, in which something from outside may hide: only what is
/// invisible is shown by number.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    by_number(text, hides)
}

fn by_number(text: &str, which: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&which) {
        return Cow::Borrowed(text);
    }
    let shown = text.chars().fold(String::new(), |mut done, c| {
        if which(c) {
            done.extend(c.escape_unicode())
        } else {
            done.push(c)
        }
        done
    });
    shown.into()
}

/// The text with what [`steers`] by number, colours left as they are.
fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let (mut done, mut rest) = (String::with_capacity(text.len() + 16), text);
    while let Some(place) = rest.find(steers) {
        let (before, from) = rest.split_at(place);
        done.push_str(before);
        let length = colour(from).unwrap_or_else(|| from.chars().next().map_or(0, char::len_utf8));
        let (this, after) = from.split_at(length);
        if colour(from).is_some() {
            done.push_str(this);
        } else {
            done.extend(this.chars().flat_map(char::escape_unicode));
        }
        rest = after;
    }
    done.push_str(rest);
    done.into()
}

/// How long the colour is with which a text begins: Select Graphic Rendition, ECMA-48 8.3.117.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some("\u{1b}[".len() + end + "m".len())
}

/// [`clean`], line by line.
pub(crate) fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

/// Never breaks what is in the first `count` columns: the others make room, on a narrow terminal.
pub(crate) fn keep_whole(table: &mut Table, count: usize) {
    table.column_iter_mut().take(count).for_each(|column| _ = column.set_constraint(ColumnConstraint::ContentWidth));
}

/// Characters of an id or a key that are left where there is no room for all: they tell one from the others, and are enough
/// for a command.
const BEGINNING: u16 = 14;

/// Leaves at least the beginning of what is in these columns.
pub(crate) fn leave_a_beginning(table: &mut Table, places: &[usize]) {
    for &place in places {
        if let Some(column) = table.column_mut(place) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(BEGINNING)));
        }
    }
}

/// Leaves columns out, where others matter more and there is no room for all.
pub(crate) fn hide(table: &mut Table, places: &[usize]) {
    for &place in places {
        if let Some(column) = table.column_mut(place) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
}

/// The table as lines without trailing spaces.
pub(crate) fn print_table<W: Write>(out: &mut Output<W>, table: &Table) -> ControlFlow<()> {
    table.lines().try_for_each(|line| out.line(line.trim_end()))
}

/// The headers that are kept of a request.
pub(crate) fn print_headers<W: Write>(
    out: &mut Output<W>,
    view: &View,
    headers: &[(String, String)],
) -> ControlFlow<()> {
    out.line(view.title("Headers"))?;
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
        let new = || progress::bar(total, "searching {bar:30} {human_pos}/{human_len} {left} to go");
        self.bar.get_or_insert_with(new).set_position(done);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    fn printed(print: impl FnOnce(&mut Output<&mut Vec<u8>>) -> ControlFlow<()>) -> String {
        let mut bytes = Vec::new();
        let mut out = Output::new(&mut bytes);
        assert!(print(&mut out).is_continue());
        out.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn lines_are_harmless_and_colours_are_kept() {
        let line = |text: &str| printed(|out| out.line(text));
        assert_eq!(line("\u{1b}[1mNAME\u{1b}[38;5;10m x\u{1b}[0m\nb"), "\u{1b}[1mNAME\u{1b}[38;5;10m x\u{1b}[0m\nb\n");
        assert_eq!(line("\u{1b}[2J\u{1b}]0;x\u{7}"), "\\u{1b}[2J\\u{1b}]0;x\\u{7}\n");
        assert_eq!(line("\u{1b}[1"), "\\u{1b}[1\n");
        assert_eq!(line("a\u{e0041}\u{ad}b\u{3164}"), "a\\u{e0041}\\u{ad}b\\u{3164}\n");
    }

    fn anything() -> impl Strategy<Value = String> {
        let odd = prop_oneof![
            any::<char>(),
            proptest::char::range('\0', '\u{a0}'),
            proptest::char::range('\u{2000}', '\u{2070}'),
            proptest::char::range('\u{e0000}', '\u{e0100}'),
            proptest::sample::select(vec!['\u{1b}', '[', 'm', '3', ';', '\\', '"']),
        ];
        proptest::collection::vec(odd, 0..60).prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn whatever_comes_from_outside_steers_nothing(text in anything()) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.contains(|c: char| c.is_control() || hides(c)), "{cleaned:?}");
            let is_plain = !text.contains(|c: char| c.is_control() || hides(c));
            prop_assert_eq!(is_plain, cleaned == text, "what is seen is left as it is");
            let kept = |c: char| c.is_control() || hides(c);
            prop_assert_eq!(clean_lines(&text).replace('\n', "").contains(kept), false);
            // What a caller has forgotten to clean.
            let line = printed(|out| out.line(&text));
            let mut rest = line.as_str();
            while let Some(place) = rest.find(steers) {
                let length = colour(&rest[place..]);
                prop_assert!(length.is_some(), "{line:?}");
                rest = &rest[place + length.unwrap_or_default()..];
            }
        }

        #[test]
        fn json_means_the_same_and_steers_nothing(text in anything()) {
            let line = printed(|out| out.json(&text));
            prop_assert!(!line.contains(steers), "{line:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }

    #[test]
    fn nothing_from_outside_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\u{7f}\u{9b}\n"), "a\\u{1b}[31mb\\u{7f}\\u{9b}\\u{a}");
        assert_eq!(clean("user\u{202e}gpj"), "user\\u{202e}gpj");
        assert!(matches!(clean("Zoë 収納"), Cow::Borrowed(_)));
        assert_eq!(clean_lines("a\nb\r\n"), "a\nb\\u{d}\n");
    }
}
