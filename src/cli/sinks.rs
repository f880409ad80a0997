//! `sinks`

mod forget;
mod try_now;

use clap::Subcommand;

use super::errand::{self, new_job};
use super::output::{Output, clean, hide, keep_whole, print_table};
use super::view::{View, ViewArgs};
use super::{ConfigArgs, Exit, Format};
use crate::app::Ask;
use crate::config::{load_inbox, load_outline, nearest};
use crate::inbox::Task;
use crate::model::SinkName;
use crate::records::sink::{Configured, Line, lines};

/// Sinks and their places in the log; pause, resume, try, rename, forget
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay sinks list
  ralio-relay sinks pause bus --reason 'the broker is moved tonight'
  ralio-relay sinks resume bus
  ralio-relay sinks try ledger")]
pub(crate) enum Command {
    List(ListArgs),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Try(try_now::Args),
    Rename(RenameArgs),
    Forget(forget::Args),
}

const LIST_EXAMPLES: &str = "\
Examples:
  ralio-relay sinks list
  ralio-relay sinks list --format json | jq -r 'select(.state != \"running\") | .name'

States: running; paused (by a person); open (its breaker: too many failures in a row, it is probed until one succeeds); \
new (gets its place in the log when the daemon starts); removed (a place in the log without a sink in the configuration).

Exit code: 0 when there is any, 1 when there is none.";

/// List them: state, cursor, events to go, parked, dead letters
#[derive(clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

const PAUSE_EXAMPLES: &str = "\
Examples:
  ralio-relay sinks pause bus
  ralio-relay sinks pause bus --reason 'the broker is moved tonight'

Receiving goes on. The sink stays paused, and its replays with it, also when the daemon is started again, until \
`sinks resume`.";

/// Stop delivering to a sink; its cursor stands still, and nothing is lost
#[derive(clap::Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The sink
    #[arg(value_name = "NAME", value_parser = SinkName::new)]
    name: SinkName,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,
}

/// Go on delivering to a paused sink, from where it stood still
#[derive(clap::Args)]
#[command(after_help = "Example:\n  ralio-relay sinks resume bus
  ralio-relay sinks try ledger")]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The sink
    #[arg(value_name = "NAME", value_parser = SinkName::new)]
    name: SinkName,
}

const RENAME_EXAMPLES: &str = "\
Example:
  ralio-relay sinks rename bus broker      then, in the configuration: name = \"broker\"

The place in the log, what is parked, dead letters and attempts go along. The configuration has to use the new name \
from the next start or SIGHUP on; under a name that the inbox does not know, a sink would be new. Until the daemon has it so \
once, the sink can only be renamed back; and while a replay to it has not ended, it cannot be renamed.";

/// Give a sink another name without losing its place in the log
#[derive(clap::Args)]
#[command(after_help = RENAME_EXAMPLES)]
pub(crate) struct RenameArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The name that it has
    #[arg(value_name = "OLD", value_parser = SinkName::new)]
    old: SinkName,

    /// The name that it gets
    #[arg(value_name = "NEW", value_parser = SinkName::new)]
    new: SinkName,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list(&args),
        Command::Pause(args) => {
            let reason = args.reason.unwrap_or_default();
            change(&args.config, &args.name, Task::Pause { sink: args.name.clone() }, &reason)
        }
        Command::Resume(args) => change(&args.config, &args.name, Task::Resume { sink: args.name.clone() }, ""),
        Command::Try(args) => try_now::run(&args),
        Command::Rename(args) => rename(args),
        Command::Forget(args) => forget::run(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<Exit> {
    let (inbox, configured) = match load_outline(&args.config.config) {
        Ok(outline) => (outline.inbox, Some(outline.sinks)),
        Err(problems) => {
            let inbox = load_inbox(&args.config.config)?;
            eprintln!("what the configuration says of its sinks cannot be used, so types are missing: {problems}");
            (inbox, None)
        }
    };
    let records = super::events::open_inbox(&inbox)?.sinks()?;
    let outlines = configured
        .as_deref()
        .map(|sinks| sinks.iter().map(|sink| Configured { name: &sink.name, kind: sink.kind }).collect::<Vec<_>>());
    let lines = lines(&records, outlines.as_deref());
    if lines.is_empty() {
        eprintln!("there is no sink, neither in the configuration nor in the inbox");
        return Ok(Exit::Finding);
    }
    for record in &records {
        let (name, former) = (&record.name, &record.former_name);
        let sinks = configured.iter().flatten().map(|sink| &sink.name);
        if let Some(former) = former.as_ref().filter(|former| sinks.clone().any(|sink| sink == *former))
            && !sinks.clone().any(|sink| sink == name)
        {
            eprintln!("sink '{former}' was renamed: write name = \"{name}\" in the configuration");
        }
    }
    let mut out = Output::stdout();
    let _ = match args.format {
        Format::Json => lines.iter().try_for_each(|line| out.json(line)),
        Format::Table => print_table(&mut out, &shown(&args.view.view(), &lines)),
    };
    out.finish()?;
    Ok(Exit::Success)
}

fn shown(view: &View, lines: &[Line<'_>]) -> comfy_table::Table {
    let mut shown = view.table(&["NAME", "STATE", "CURSOR", "LAG", "PARKED", "DEAD", "DELIVERED", "SINCE", "TYPE"]);
    keep_whole(&mut shown, 8);
    match shown.width() {
        Some(..90) => hide(&mut shown, &[6, 8]),
        Some(90..100) => hide(&mut shown, &[6]),
        Some(100..) | None => {}
    }
    let or_dash = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
    for line in lines {
        let since = line.since.map(|since| view.seconds(since.0));
        let cells = [
            line.name,
            line.state,
            &or_dash(line.cursor.map(|cursor| cursor.to_string())),
            &or_dash(line.lag.map(|lag| lag.to_string())),
            &line.parked.to_string(),
            &line.dead_letters.to_string(),
            &line.delivered.to_string(),
            &or_dash(since),
            line.r#type.unwrap_or("-"),
        ];
        shown.add_row(view.row(cells, Some(1)));
    }
    shown
}

/// Has the inbox do something to a sink that it knows.
fn change(config: &ConfigArgs, name: &SinkName, task: Task, reason: &str) -> anyhow::Result<Exit> {
    let inbox = load_inbox(&config.config)?;
    let records = super::events::open_inbox(&inbox)?.sinks()?;
    if let Some(complaint) = unknown(name, records.iter().map(|record| record.name.as_str())) {
        eprintln!("error: {complaint}");
        return Ok(Exit::Finding);
    }
    errand::run(config, &inbox, Ask::New(Box::new(new_job(task, reason))))
}

/// What to say of a name that is none of those; `None` when it is one.
pub(crate) fn unknown<'a>(name: &SinkName, known: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    if known.clone().any(|known| known == name.as_str()) {
        return None;
    }
    Some(match nearest(name.as_str(), known) {
        Some(near) => format!("there is no sink '{name}'; did you mean '{near}'?"),
        None => format!(
            "there is no sink '{name}': see `ralio-relay sinks list`; one that is new has its place in the log when the \
             daemon has started with it"
        ),
    })
}

fn rename(args: RenameArgs) -> anyhow::Result<Exit> {
    let RenameArgs { config, old, new } = args;
    if old == new {
        eprintln!("error: the sink has this name already");
        return Ok(Exit::BadUsage);
    }
    let exit = change(&config, &old, Task::Rename { from: old.clone(), to: new.clone() }, "")?;
    if exit == Exit::Success {
        let new = clean(new.as_str());
        eprintln!(
            "Now write name = \"{new}\" in the configuration: it has to say so from the daemon's next start or SIGHUP on."
        );
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::sink::tests::record;

    #[test]
    fn a_table_has_a_line_for_each() {
        let names = ["bus", "new-one"].map(|name| SinkName::new(name).unwrap());
        let configured = names.each_ref().map(|name| Configured { name, kind: "amqp" });
        let text = shown(&View::plain(), &lines(&[record("bus")], Some(&configured))).to_string();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("2026-01-31T10:00:00Z") && text.contains("new-one") && text.contains("DELIVERED"));
    }

    #[test]
    fn a_name_that_is_not_known_gets_a_suggestion() {
        let known = ["ledger", "bus"];
        let said = |name: &str| unknown(&SinkName::new(name).unwrap(), known.iter().copied());
        assert_eq!(said("bus"), None);
        assert_eq!(said("ledgr").unwrap(), "there is no sink 'ledgr'; did you mean 'ledger'?");
        assert!(said("zzz").unwrap().contains("sinks list"));
    }
}
