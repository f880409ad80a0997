//! `backup`

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::{HumanBytes, ProgressBar};
use tokio_util::sync::CancellationToken;

use super::access::with_advice;
use super::output::Output;
use super::progress::style;
use super::{ConfigArgs, Exit};
use crate::inbox::sqlite::{BackupError, Made, Stage, back_up};
use crate::lifecycle::{Signals, Stop};

const EXAMPLES: &str = "\
Examples:
  ralio-relay backup /backup/inbox-2026-01-31.db
  ralio-relay backup /backup/inbox-$(date +%F).db

The copy is the inbox as it was at one moment: events, cursors, attempts, dead letters, quarantine, jobs. To restore it, \
stop the daemon, put the file in the place of inbox.db (of the daemon's user, mode 0600), remove inbox.db-wal, inbox.db-shm \
and inbox.times beside it, and start. The sinks then get again what they got since the backup; what Ralio delivered since \
is not in it.

Exit code: 0 when the copy was made and checked. 1 when bodies in it are not what came in: the events are named, and the copy \
is there. 1 also when it could not be made: then nothing is left of it.";

/// Copy the inbox to a file, while the daemon runs, and check the copy
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The file to make (mode 0600); it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    config: ConfigArgs,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let inbox = crate::config::load_inbox(&args.config.config)?;
    let bar = ProgressBar::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let made = runtime.block_on(async {
        let signals = Signals::register().context("signals cannot be received")?;
        let stop = Stop::default();
        let (path, file) = (inbox.clone(), args.file.clone());
        let watch = watch(bar.clone(), stop.soft.clone());
        let mut work = tokio::task::spawn_blocking(move || back_up(&path, &file, Arc::new(watch)));
        let made = tokio::select! {
            made = &mut work => made,
            // It ends soon in any case, and takes its draft with it.
            () = signals.pass_on(stop) => work.await,
        };
        made.context("the backup has crashed: this is a bug")
    })?;
    bar.finish_and_clear();
    match made {
        Ok(Made { head, bytes, altered, altered_total }) => {
            let mut out = Output::stdout();
            let file = args.file.display();
            let _ = out.line(format!("{file}: {}, up to event {head}, checked", HumanBytes(bytes)));
            out.finish()?;
            if altered_total == 0 {
                return Ok(Exit::Success);
            }
            let named: Vec<String> = altered.iter().map(ToString::to_string).collect();
            let more = altered_total - altered.len() as u64;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            to_stderr!(
                "error: the backup is made, but bodies in the inbox are not what came in: of event {}{more} the SHA-256 differs, \
                 so the file was altered or is damaged. An earlier backup may have what came in",
                named.join(", ")
            );
            Ok(Exit::Finding)
        }
        Err(BackupError::Stopped) => {
            to_stderr!("{}", BackupError::Stopped);
            Ok(Exit::Finding)
        }
        Err(error @ BackupError::Inbox(_)) => Err(with_advice(error.into(), &inbox.path)),
        Err(error) => Err(error.into()),
    }
}

fn watch(bar: ProgressBar, stop: CancellationToken) -> impl Fn(Stage) -> ControlFlow<()> + Send + Sync + 'static {
    let copying = style("copying {bar:30} {binary_bytes}/{binary_total_bytes} {eta}");
    let waiting = style("{spinner} the daemon starts: the copy begins anew");
    let checking = style("{spinner} checking the copy {elapsed}");
    move |stage| {
        match stage {
            Stage::Copying { done, total } => {
                bar.set_style(copying.clone());
                bar.set_length(total);
                bar.set_position(done);
            }
            Stage::Waiting => bar.set_style(waiting.clone()),
            Stage::Checking => bar.set_style(checking.clone()),
        }
        bar.tick();
        if stop.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
