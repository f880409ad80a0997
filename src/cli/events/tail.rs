//! `events tail`

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::ArgAction;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cli::filter::Filters;
use crate::cli::output::{Output, clean};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::sqlite::{Direction, Reader};
use crate::inbox::{EventFilter, EventSummary};
use crate::model::Seq;

use super::list::notes;
use crate::records::event::write_json;

const EXAMPLES: &str = "\
Examples:
  ralio-relay events tail
  ralio-relay events tail --type 'payin.*' -n 0
  ralio-relay events tail --format json | jq -r .key
  ralio-relay events tail -n 100 --follow=false

Ends with Ctrl-C, or when nobody reads its output any more.";

const INTERVAL: Duration = Duration::from_millis(250);

/// Print the last events, then new ones as they come in
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// How many of the last events to begin with
    #[arg(short = 'n', long = "last", value_name = "N", default_value_t = 10)]
    last: usize,

    /// Go on with new events
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1,
          require_equals = true, default_missing_value = "true")]
    follow: bool,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    #[command(flatten)]
    filters: Filters,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let (mut reader, view) = (super::open(&args.config)?, args.view.view());
    let filter = args.filters.into_filter(&mut reader, &args.config, &view)?;
    let mut tail = Tail { reader, filter, out: Output::stdout(), format: args.format, view, seen: Seq::ZERO };
    if tail.last(args.last)?.is_continue() && args.follow {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(tail.follow())?;
    }
    tail.out.finish()?;
    Ok(Exit::Success)
}

struct Tail<W: Write> {
    reader: Reader,
    filter: EventFilter,
    out: Output<W>,
    format: Format,
    view: View,
    /// Everything up to here has been looked at.
    seen: Seq,
}

impl<W: Write> Tail<W> {
    /// The last `count` events, oldest first. The head is taken first: what comes in meanwhile is left to `follow`.
    fn last(&mut self, count: usize) -> anyhow::Result<ControlFlow<()>> {
        self.seen = self.reader.head()?;
        let mut events: Vec<EventSummary> = Vec::new();
        if count > 0 {
            self.reader.each_event(&self.filter, Direction::Backward, Some(self.seen.next()), &mut |event| {
                events.push(event);
                if events.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        let printed = events.iter().rev().try_for_each(|event| print(&mut self.out, &self.view, self.format, event));
        Ok(if printed.is_break() { printed } else { self.out.flush() })
    }

    async fn follow(&mut self) -> anyhow::Result<()> {
        let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            tokio::select! {
                signal = &mut interrupted => return Ok(signal?),
                () = tokio::time::sleep(INTERVAL) => {}
            }
            if nobody_reads_stdout() || self.news()?.is_break() {
                return Ok(());
            }
        }
    }

    /// What has come in since. Without a match `seen` moves on all the same, so that no stretch is searched twice.
    fn news(&mut self) -> anyhow::Result<ControlFlow<()>> {
        let head = self.reader.head()?;
        if head <= self.seen {
            return Ok(ControlFlow::Continue(()));
        }
        let (out, view, format) = (&mut self.out, &self.view, self.format);
        let mut printed = ControlFlow::Continue(());
        self.reader.each_event(&self.filter, Direction::Forward, Some(self.seen), &mut |event| {
            if event.seq > head {
                return ControlFlow::Break(());
            }
            printed = print(out, view, format, &event);
            printed
        })?;
        self.seen = head;
        Ok(if printed.is_break() { printed } else { self.out.flush() })
    }
}

fn print<W: Write>(out: &mut Output<W>, view: &View, format: Format, event: &EventSummary) -> ControlFlow<()> {
    match format {
        Format::Json => out.composed(|line| write_json(event, line)),
        Format::Table => out.line(line(view, event)),
    }
}

/// One line: columns cannot be fitted to rows that are still to come.
fn line(view: &View, event: &EventSummary) -> String {
    let (state, notes) = (event.state.as_deref().unwrap_or("-"), notes(event));
    let text = format!(
        "{:>8}  {}  {:<28}  {}  {}  {}  {}  {notes}",
        event.seq.get(),
        view.seconds(event.received_at),
        clean(event.event_type.as_str()),
        view.painted(&format!("{:<12}", clean(state)), state),
        clean(event.key.as_str()),
        event.source,
        clean(event.id.as_str()),
    );
    text.trim_end().to_owned()
}

/// Whether the other end of a pipe is closed. Without asking, a tail of a quiet inbox would never find out.
fn nobody_reads_stdout() -> bool {
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|_| fds[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::event::tests::summary;

    #[test]
    fn an_event_is_one_line() {
        let line = line(&View::plain(), &summary(7));
        assert!(line.starts_with("       7  2026-01-31T10:00:00Z  payin.completed "), "{line}");
        assert!(line.ends_with("order-1  production  evt-1  stale, came 3 times"), "{line}");
        assert!(!line.contains('\n'));
    }
}
