//! `record show`

use std::io::Write;
use std::ops::ControlFlow;

use crate::cli::output::{Output, clean, print_table};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::{Job, RecordItem};
use crate::model::JobId;
use crate::records::job::Line;
use crate::records::record::{Full, about, items_total};

const EXAMPLES: &str = "\
Examples:
  ralio-relay record show 14
  ralio-relay record show 14 --format json | jq -r '.items[].event_id'

Of what an entry was about, the first thousand are kept, and how many there were.

Exit code: 0 when it is there, 1 when it is not.";

/// Show one entry: what was chosen, by whom, why, what came of it, and what it was about
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the list
    #[arg(value_name = "N")]
    id: JobId,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let reader = crate::cli::events::open(&args.config)?;
    let Some(job) = reader.job(args.id)? else {
        to_stderr!("the record has no entry {}: see `ralio-relay record list`", args.id);
        return Ok(Exit::Finding);
    };
    let items = reader.record_items(&job)?;
    let mut out = Output::stdout();
    let _ = match args.format {
        Format::Json => out.json(&Full::new(&job, &items)),
        Format::Table => print(&mut out, &args.view.view(), &job, &items),
    };
    out.finish()?;
    Ok(Exit::Success)
}

fn print<W: Write>(out: &mut Output<W>, view: &View, job: &Job, items: &[RecordItem]) -> ControlFlow<()> {
    let line = Line::from(job);
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let attributes = [
        ("id", job.id.to_string()),
        ("kind", line.kind().to_owned()),
        ("sink", line.sink().unwrap_or("-").to_owned()),
        ("about", or_dash(&about(&job.task))),
        ("who", job.who.clone()),
        ("reason", or_dash(&job.reason)),
        ("asked", view.exactly(job.created_at)),
        ("ended", job.ended_at.map_or_else(|| "-".to_owned(), |at| view.exactly(at))),
        ("state", job.state.as_str().to_owned()),
        ("done", job.done.to_string()),
        ("failed", job.failed.to_string()),
        ("message", or_dash(&job.message)),
    ];
    attributes.iter().try_for_each(|(name, value)| out.line(format!("{name:<10} {}", clean(value))))?;
    out.line(view.title("What it was about"))?;
    let total = items_total(job, items);
    if items.is_empty() {
        return out.line(match total {
            0 => "nothing that has a number".to_owned(),
            total => format!("{total}: which ones is not kept"),
        });
    }
    let mut shown = view.table(&["NUMBER", "SEQ", "SINK", "TYPE", "EVENT", "SHA256"]);
    for item in items {
        let dash = || "-".to_owned();
        let cells = [
            item.number.map_or_else(dash, |number| number.to_string()),
            item.seq.map_or_else(dash, |seq| seq.to_string()),
            item.sink.as_ref().map_or_else(dash, ToString::to_string),
            item.event_type.as_ref().map_or_else(dash, ToString::to_string),
            item.event_id.as_ref().map_or_else(dash, ToString::to_string),
            item.body_sha256.map_or_else(dash, |digest| digest.to_string()),
        ];
        shown.add_row(view.row(cells.each_ref().map(String::as_str), None));
    }
    print_table(out, &shown)?;
    match items.len() as u64 {
        all if all >= total => ControlFlow::Continue(()),
        first => out.line(format!("the first {first} of {total}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::JobState;
    use crate::model::Seq;
    use crate::records::replay::tests::replay;

    #[test]
    fn what_it_was_about_is_shown_with_how_much_of_it() {
        let shown = |items: &[RecordItem]| {
            let mut bytes = Vec::new();
            let job = replay(JobState::Done);
            assert!(print(&mut Output::new(&mut bytes), &View::plain(), &job, items).is_continue());
            String::from_utf8(bytes).unwrap()
        };
        let item = RecordItem { number: Some(12), seq: Seq::new(77), ..RecordItem::default() };
        let text = shown(&[item]);
        assert!(text.contains("who        ann@host\n") && text.contains("the ledger was restored"), "{text}");
        assert!(text.contains("12") && text.contains("77") && text.ends_with("the first 1 of 120\n"), "{text}");
        assert!(shown(&[]).ends_with("120: which ones is not kept\n"));
    }
}
