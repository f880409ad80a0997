//! `quarantine`

mod decide;

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use clap::Subcommand;
use comfy_table::Row;
use jiff::Timestamp;

use super::body::pretty;
use super::filter::can_match;
use super::output::{Output, clean, clean_lines, keep_whole, print_headers, print_table};
use super::progress::count;
use super::view::{View, ViewArgs};
use super::{ConfigArgs, Exit, Format};
use crate::inbox::{QuarantineCounts, Quarantined};
use crate::records::filter::Asked;
use crate::records::quarantine::{Entry, FullEntry};

/// Requests refused for their signature
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay quarantine list
  ralio-relay quarantine show 3
  ralio-relay quarantine admit --all")]
pub(crate) enum Command {
    List(ListArgs),
    Show(ShowArgs),
    Admit(decide::AdmitArgs),
    Purge(decide::PurgeArgs),
}

const LIST_EXAMPLES: &str = "\
Examples:
  ralio-relay quarantine list
  ralio-relay quarantine list --source production --format json | jq -r .reason | sort | uniq -c

Exit code: 0, also when there is none, 2 when there is no such source.";

/// List them, newest first
#[derive(clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Name of the source that it came in at
    #[arg(long, value_name = "NAME")]
    source: Option<String>,

    /// At most so many; 0 = all [default: 50 for a table, all for JSON]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const SHOW_EXAMPLES: &str = "\
Examples:
  ralio-relay quarantine show 3
  ralio-relay quarantine show 3 --raw | ralio-relay sign --secret-file /run/secrets/ralio

Exit code: 0 when it is there, 1 when it is not.";

/// Show one: who sent it, signature headers, body
#[derive(clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the list
    #[arg(value_name = "ID")]
    id: i64,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t, conflicts_with = "raw")]
    format: Format,

    /// The body's bytes, exactly as received, and nothing else
    #[arg(long)]
    raw: bool,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list(args),
        Command::Show(args) => show(args),
        Command::Admit(args) => decide::admit(args),
        Command::Purge(args) => decide::purge(args),
    }
}

/// Bounded by `inbox.quarantine.max_entries`, so a table of them fits into memory.
fn list(args: ListArgs) -> anyhow::Result<Exit> {
    let mut reader = super::events::open(&args.config)?;
    let limit = args.format.limit(args.limit);
    let (mut out, view) = (Output::stdout(), args.view.view());
    can_match(&mut reader, &args.config, &view, Asked { source: args.source.as_deref(), ..Asked::default() })?;
    let mut shown = view.table(&["ID", "RECEIVED", "SOURCE", "PEER", "REASON", "ANSWER", "SIZE", "SHA256"]);
    keep_whole(&mut shown, 7);
    let (mut count, mut more) = (0, false);
    reader.each_quarantined(None, &mut |refused| {
        if args.source.as_ref().is_some_and(|source| *source != refused.source) {
            return ControlFlow::Continue(());
        }
        if count == limit {
            more = true;
            return ControlFlow::Break(());
        }
        count += 1;
        match args.format {
            Format::Json => out.json(&Entry::from(&refused)),
            Format::Table => {
                shown.add_row(entry_row(&view, &refused));
                ControlFlow::Continue(())
            }
        }
    })?;
    if !shown.is_empty() {
        let _ = print_table(&mut out, &shown);
    }
    out.finish()?;
    if count == 0 {
        to_stderr!("nothing {}is in quarantine", if args.source.is_some() { "of this source " } else { "" });
    }
    if more && args.limit.is_none() {
        to_stderr!("there are more: these are the first {limit}; see --limit");
    }
    if args.format == Format::Table {
        print_counts(&reader.quarantine_counts(Timestamp::now())?, &view);
    }
    Ok(Exit::Success)
}

/// What became of all that was refused, whatever its source.
fn print_counts(counts: &QuarantineCounts, view: &View) {
    let QuarantineCounts { entries, answered_401, not_kept, not_kept_since } = counts;
    if *entries > 0 {
        let answered_503 = entries - answered_401;
        to_stderr!(
            "{} kept: {} answered 401, never sent again; {} answered 503, sent again",
            count(*entries),
            count(*answered_401),
            count(answered_503)
        );
    }
    if let Some(since) = not_kept_since {
        let since = view.seconds(*since);
        let not_kept = count(*not_kept);
        to_stderr!("{not_kept} not kept since {since}, for want of room: answered 503, sent again");
    }
}

/// One line, cut where the terminal ends.
fn entry_row(view: &View, refused: &Quarantined) -> Row {
    let cells = [
        &refused.id.to_string(),
        &view.seconds(refused.received_at),
        &refused.source,
        &refused.peer,
        refused.reason.label(),
        &refused.answer.status().to_string(),
        &refused.size.to_string(),
        &refused.body_sha256.to_string(),
    ];
    let mut row = view.row(cells, None);
    row.max_height(1);
    row
}

fn show(args: ShowArgs) -> anyhow::Result<Exit> {
    let reader = super::events::open(&args.config)?;
    let Some(refused) = reader.quarantined(args.id)? else {
        to_stderr!("nothing in quarantine has the number {}", args.id);
        return Ok(Exit::Finding);
    };
    let mut out = Output::stdout();
    let _ = match (args.raw, args.format) {
        (true, _) => match &refused.body {
            Some(body) => out.bytes(body),
            None => bail!("the body of {} is not kept", args.id),
        },
        (false, Format::Json) => out.json(&FullEntry::from(&refused)),
        (false, Format::Table) => print(&mut out, &args.view.view(), &refused),
    };
    out.finish()?;
    Ok(Exit::Success)
}

fn print<W: Write>(out: &mut Output<W>, view: &View, refused: &Quarantined) -> ControlFlow<()> {
    let attributes = [
        ("id", refused.id.to_string()),
        ("source", refused.source.clone()),
        ("peer", refused.peer.clone()),
        ("received", view.exactly(refused.received_at)),
        ("reason", refused.reason.label().to_owned()),
        ("answered", refused.answer.status().to_string()),
        ("size", format!("{} bytes", refused.size)),
        ("sha256", refused.body_sha256.to_string()),
    ];
    attributes.iter().try_for_each(|(name, value)| out.line(format!("{name:<10} {}", clean(value))))?;
    refused.signatures.iter().try_for_each(|value| out.line(format!("{:<10} {}", "signature", clean(value))))?;
    print_headers(out, view, &refused.headers)?;
    out.line(view.title("Body (not verified: anybody may have written it)"))?;
    match &refused.body {
        Some(body) => out.line(clean_lines(&pretty(body, &refused.headers))),
        None => out.line("(not kept)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::quarantine::tests::refused;

    #[test]
    fn what_a_stranger_sent_cannot_steer_the_terminal() {
        let mut bytes = Vec::new();
        assert!(print(&mut Output::new(&mut bytes), &View::plain(), &refused()).is_continue());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("mismatch") && text.contains("192.0.2.1"));
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    }
}
