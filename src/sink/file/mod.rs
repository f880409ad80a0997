//! JSON lines in a file.

mod compress;
mod log;
mod rotated;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::spawn_blocking;

use crate::files;
use crate::model::{Outcome, Outgoing};

use super::lines::LineWriter;
use super::{BuildError, Sink};
use log::Log;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that is appended to.
    pub path: PathBuf,
    /// Rotate before the file would hold more than this many bytes.
    pub rotate_size: Option<u64>,
    /// Rotate when the file is this old, counted from its creation (on a file system that does not tell, from when
    /// the relay opened it), with the first line after that.
    pub rotate_every: Option<Duration>,
    /// Compress what was rotated, with gzip, and remove the plain file once that is durable.
    pub compress: bool,
}

/// One CloudEvents JSON object a line. `Delivered` means that the line is fsynced; lines that wait at the same time
/// share one fsync. A file that cannot be rotated or compressed stays as it is, and delivering goes on.
pub struct File {
    config: Config,
    writer: LineWriter,
}

impl File {
    /// Makes sure that the file can be appended to, or created in its directory, which must be there. The first event creates
    /// it, with mode 0600; where root does, it belongs to the owner of the directory. Rights of others to a file that is
    /// there are taken away.
    pub async fn open(config: &Config) -> Result<Self, BuildError> {
        let log = blocking({
            let config = config.clone();
            move || Log::open(config)
        })
        .await
        .map_err(|error| BuildError(refusal(config, &error)))?;
        let writer = LineWriter::start(log, config.path.display().to_string(), "synced")?;
        Ok(Self { config: config.clone(), writer })
    }
}

fn refusal(config: &Config, error: &std::io::Error) -> String {
    let path = config.path.display();
    let whose = files::whose(&config.path);
    format!(
        "cannot append to {path}: {error}; create its directory, or give the relay's user the right to write there: {whose}"
    )
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

#[async_trait]
impl Sink for File {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        self.writer.deliver(event).await
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        let path = self.config.path.clone();
        blocking(move || log::check(&path)).await.map(|()| None).map_err(|error| refusal(&self.config, &error))
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}
