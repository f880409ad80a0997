//! `sinks`

mod forget;
mod list;
mod show;
mod try_now;

use clap::Subcommand;

use super::errand::{self, new_job};
use super::output::clean;
use super::{ConfigArgs, Exit};
use crate::app::Ask;
use crate::config::{load_inbox, nearest};
use crate::inbox::Task;
use crate::model::SinkName;

pub(crate) use list::print_list;

/// Sinks and their places in the log; pause, resume, try, rename, forget
#[derive(Subcommand)]
#[command(after_help = "Examples:
  ralio-relay sinks list
  ralio-relay sinks show bus
  ralio-relay sinks pause bus --reason 'the broker is moved tonight'
  ralio-relay sinks resume bus
  ralio-relay sinks try ledger")]
pub(crate) enum Command {
    List(list::Args),
    Show(show::Args),
    Pause(PauseArgs),
    Resume(ResumeArgs),
    Try(try_now::Args),
    Rename(RenameArgs),
    Forget(forget::Args),
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

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,
}

const RENAME_EXAMPLES: &str = "\
Examples:
  ralio-relay sinks rename bus broker      then, in the configuration: name = \"broker\"
  ralio-relay sinks rename a b --swap      then exchange both names in the configuration, SIGHUP, and resume both

The place in the log, what is parked, dead letters and attempts go along. The configuration has to use the new name \
from the next start or SIGHUP on; under a name that the inbox does not know, a sink would be new. Until the daemon has it so \
once, the sink can only be renamed back; and while a replay to it has not ended, it cannot be renamed. The old name is \
free for another sink as soon as the configuration has the new one.

With --swap, two sinks exchange their names in one step. Until the configuration has both names exchanged too, each name \
stands at the other sink's destination. So both sinks are paused, and nothing goes to the wrong one, also when the daemon is \
started again in between. Afterwards: exchange the names in the configuration, have the daemon read it again (SIGHUP, or a \
start), and resume both sinks. It also mends a name that was changed in the configuration only, with NEW as a sink that began \
anew: then OLD goes on under the name NEW, and gets again what NEW has had in between.";

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

    /// The sink NEW gets the name OLD; both are paused, until you resume them
    #[arg(long)]
    swap: bool,

    /// Why: kept in the inbox
    #[arg(long, value_name = "TEXT", value_parser = crate::records::reason)]
    reason: Option<String>,
}

pub(crate) fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Pause(args) => {
            let reason = args.reason.unwrap_or_default();
            change(&args.config, &args.name, Task::Pause { sink: args.name.clone() }, &reason)
        }
        Command::Resume(args) => {
            let reason = args.reason.unwrap_or_default();
            change(&args.config, &args.name, Task::Resume { sink: args.name.clone() }, &reason)
        }
        Command::Try(args) => try_now::run(&args),
        Command::Rename(args) => rename(args),
        Command::Forget(args) => forget::run(args),
    }
}

/// Has the inbox do something to a sink that it knows.
fn change(config: &ConfigArgs, name: &SinkName, task: Task, reason: &str) -> anyhow::Result<Exit> {
    let inbox = load_inbox(&config.config)?;
    let records = super::events::open_inbox(&inbox)?.sinks()?;
    if let Some(complaint) = unknown(name, records.iter().map(|record| record.name.as_str())) {
        to_stderr!("error: {complaint}");
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
    let RenameArgs { config, old, new, swap, reason } = args;
    if old == new {
        to_stderr!("error: the sink has this name already");
        return Ok(Exit::BadUsage);
    }
    let task = Task::Rename { from: old.clone(), to: new.clone(), swap };
    let exit = change(&config, &old, task, &reason.unwrap_or_default())?;
    if exit == Exit::Success && !swap {
        let new = clean(new.as_str());
        to_stderr!(
            "Now write name = \"{new}\" in the configuration: it has to say so from the daemon's next start or SIGHUP on."
        );
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_known_gets_a_suggestion() {
        let known = ["ledger", "bus"];
        let said = |name: &str| unknown(&SinkName::new(name).unwrap(), known.iter().copied());
        assert_eq!(said("bus"), None);
        assert_eq!(said("ledgr").unwrap(), "there is no sink 'ledgr'; did you mean 'ledger'?");
        assert!(said("zzz").unwrap().contains("sinks list"));
    }
}
