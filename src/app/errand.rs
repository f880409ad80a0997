//! A job that somebody asks for at the command line: handed to the daemon that holds the inbox, or carried out here when
//! none does.

use tokio_util::sync::CancellationToken;

use super::AppError;
use crate::config::{Problems, Settings};
use crate::inbox::{self, Job, NewJob};
use crate::model::JobId;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    /// A new job.
    New(NewJob),
    /// One that is stored and has not ended, such as an interrupted replay.
    GoOn(JobId),
}

/// How an errand ended.
#[derive(Clone, Debug)]
pub enum Errand {
    /// The job has ended, well or not: see its state.
    Ended(Job),
    /// `stop` came first. The job is stored, and goes on in the daemon: at once when one runs, else when one starts.
    Left(Job),
}

/// Has a job carried out, and waits for its end; `watch` sees it whenever it may have changed, several times a second.
///
/// While a daemon holds the inbox the job is handed to it. Otherwise it is carried out here, under the inbox's lock; a
/// daemon that starts meanwhile gets the inbox as soon as it asks for it, and goes on with the job. `settings` is only
/// asked for where the job needs secrets or a sink.
pub async fn carry_out(
    _inbox: &inbox::Config,
    _settings: &mut dyn FnMut() -> Result<Settings, Problems>,
    _ask: Ask,
    _stop: CancellationToken,
    _watch: &mut dyn FnMut(&Job),
) -> Result<Errand, AppError> {
    Err(AppError::Ended(String::new())) // HELPER
}
