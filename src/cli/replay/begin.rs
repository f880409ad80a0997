//! A new replay: counted, agreed to, begun.

use std::ops::ControlFlow;

use anyhow::Context as _;

use super::BeginArgs;
use super::plan::Plan;
use crate::app::Ask;
use crate::cli::access::with_advice;
use crate::cli::consent::{ask, counted, is_terminal};
use crate::cli::errand::{self, daemon_runs, new_job};
use crate::cli::output::Output;
use crate::cli::sinks::unknown;
use crate::cli::{ConfigArgs, Exit, Unusable, consent, progress};
use crate::config::{Outline, SinkOutline, load_outline};
use crate::consume::plan::{self, Counts, UpperEnd};
use crate::inbox::sqlite::{Desk, Reader};
use crate::inbox::{self, NewJob, Selection, SinkRecord, Task};
use crate::model::Seq;
use crate::route::Route;

pub(super) fn run(args: BeginArgs) -> anyhow::Result<Exit> {
    let (name, reason) = (args.sink.context("--sink is missing")?, args.reason.context("--reason is missing")?);
    let Outline { inbox, sinks } = load_outline(&args.config.config)?;
    let Some(sink) = sinks.iter().find(|sink| sink.name == name) else {
        let names = sinks.iter().map(|sink| sink.name.as_str());
        to_stderr!(
            "error: {} (--sink takes the name of a sink in the configuration)",
            unknown(&name, names).unwrap_or_default()
        );
        return Ok(Exit::BadUsage);
    };
    if let (Some(first), Some(last)) = (args.from_seq, args.to_seq)
        && first > last
    {
        return Err(Unusable(format!("no event is from {first} to {last}: exchange --from-seq and --to-seq?")).into());
    }
    // Before anything is counted, for that can take a while.
    if !args.dry_run && !args.yes && !is_terminal() {
        return Ok(consent::Consent::Unasked.exit("a replay").unwrap_or(Exit::BadUsage));
    }
    if args.detach && !daemon_runs(&inbox.path) {
        to_stderr!("error: no daemon holds the inbox: start it, or leave out --detach to replay from here");
        return Ok(Exit::Finding);
    }
    let (mut reader, view) = (crate::cli::events::open_inbox(&inbox)?, args.view.view());
    // A filter that cannot match is to be told of, whatever the sink has had.
    let filter = args.filters.into_filter(&mut reader, &args.config, &view)?;
    let Some(end) = upper_end(&reader, sink, args.to_seq)? else {
        to_stderr!("sink '{}' is new: it has no past to replay before the daemon has started with it", sink.name);
        return Ok(Exit::Finding);
    };
    let first = args.from_seq.unwrap_or(Seq::ZERO.next());
    if first > end.seq {
        to_stderr!("there is no event from {first} to {} ({}): nothing to replay", end.seq, end.why);
        return Ok(Exit::Finding);
    }
    let selection = Selection { filter, first, last: end.seq };
    let counts = count(&mut reader, &selection, &sink.route)?;
    drop(reader);
    let plan = Plan {
        sink: &sink.name,
        kind: sink.kind,
        selection: &selection,
        end,
        counts: &counts,
        rate: args.rate,
        reason: &reason,
    };
    let mut out = Output::stdout();
    let _ = plan.print(&mut out, &view);
    out.finish()?;
    if counts.wanted == 0 {
        to_stderr!("nothing to replay");
        return Ok(Exit::Finding);
    }
    if args.dry_run {
        return Ok(Exit::Success);
    }
    let question = format!("Deliver {} to '{}' again?", counted(counts.wanted, "event"), sink.name);
    if let Some(exit) = ask(&question, args.yes)?.exit("a replay") {
        return Ok(exit);
    }
    let task = Task::Replay { sink: name, selection, rate: args.rate };
    let job = NewJob { total: Some(counts.wanted + counts.conflicts), ..new_job(task, &reason) };
    start(&args.config, &inbox, job, args.detach)
}

/// A replay of a paused sink waits, and it should be known for what.
pub(super) fn tell_paused(sink: &SinkRecord) {
    if sink.paused_since.is_some() {
        let name = &sink.name;
        to_stderr!(
            "sink '{name}' is paused, and so are its replays: `ralio-relay sinks resume {name}` lets them go on"
        );
    }
}

/// `None` where the sink has no cursor yet.
fn upper_end(reader: &Reader, sink: &SinkOutline, asked: Option<Seq>) -> anyhow::Result<Option<UpperEnd>> {
    let records = reader.sinks()?;
    let wanted = std::slice::from_ref(&sink.name);
    let record = records.iter().find(|record| record.is_meant_by(&sink.name, wanted, &records));
    if let Some(record) = record {
        tell_paused(record);
    }
    let head = reader.head()?;
    Ok(record.map(|record| UpperEnd::new(asked, head, record.cursor)))
}

fn count(reader: &mut Reader, selection: &Selection, route: &Route) -> anyhow::Result<Counts> {
    let before = selection.first.get() - 1;
    let stretch = |to: Seq| u64::try_from(to.get() - before).unwrap_or(0);
    let bar = progress::bar(stretch(selection.last), "counting {bar:30} {human_pos}/{human_len}");
    let counts = plan::count(reader, selection, route, &mut |_, read_to| {
        bar.set_position(stretch(read_to));
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    Ok(counts?)
}

fn start(config: &ConfigArgs, inbox: &inbox::Config, job: NewJob, detach: bool) -> anyhow::Result<Exit> {
    if !detach {
        return errand::run(config, inbox, Ask::New(Box::new(job)));
    }
    let submitted = Desk::open(inbox).and_then(|desk| desk.submit(&job));
    let id = submitted.map_err(|error| with_advice(error.into(), &inbox.path))?;
    let mut out = Output::stdout();
    let _ = out.line(format!("replay {id} is with the daemon: watch it with `ralio-relay replay resume {id}`"));
    out.finish()?;
    Ok(Exit::Success)
}
