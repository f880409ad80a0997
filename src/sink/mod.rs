//! Destinations: `trait Sink`, one file a kind, one registry ([`build`]).

#[cfg(feature = "amqp")]
pub mod amqp;
mod cloudevents;
pub mod exec;
pub mod file;
#[cfg(test)]
mod fixtures;
pub mod http;
mod lines;
pub mod stdout;
mod tls;

use async_trait::async_trait;
use reqwest::Url;
#[cfg(feature = "amqp")]
use secrecy::ExposeSecret as _;

pub use tls::{ClientCertificate, Tls};

use crate::model::{Outcome, Outgoing};

/// A place that events go. Every sink passes `tests/it/sink_contract.rs`.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Hands one event over and says what became of it.
    ///
    /// `Delivered` means the far side holds the event durably (publisher confirm, 2xx, fsync, exit 0).
    /// Called concurrently, up to the consumer's `concurrency`: a sink that can batch (one fsync, one
    /// stream of confirms) does so inside. The same event can come again after a crash: pass its id on as
    /// the idempotency key. The caller owns the timeout; dropping the future must be safe and means "unknown".
    async fn deliver(&self, event: &Outgoing) -> Outcome;

    /// Whether the far side can be reached, for `check --probe`; delivers nothing. What is odd about it, though it can be
    /// reached, is told. The caller owns the timeout.
    async fn probe(&self) -> Result<Option<String>, String>;

    /// Flushes and lets go of connections; called once, after the last `deliver`. The caller owns the timeout.
    async fn close(&self);
}

/// How an event looks at its destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The body as received; metadata in headers.
    #[default]
    Raw,
    /// CloudEvents 1.0 structured mode: one JSON object with the attributes and `data`.
    CloudEvents,
}

/// The checked settings of one sink: what it is, not how its consumer behaves.
#[derive(Clone, Debug)]
pub enum Config {
    /// RabbitMQ and other AMQP 0-9-1 brokers.
    #[cfg(feature = "amqp")]
    Amqp(amqp::Config),
    /// POST to an endpoint.
    Http(http::Config),
    /// Run a command for each event.
    Exec(exec::Config),
    /// Append to a file.
    File(file::Config),
    /// Print to standard output.
    Stdout,
}

impl Config {
    /// The type as it is written in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            #[cfg(feature = "amqp")]
            Self::Amqp(_) => "amqp",
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::File(_) => "file",
            Self::Stdout => "stdout",
        }
    }

    /// Where events go, for people: of a URL only scheme, host and port, because every other part may be a secret.
    pub fn target(&self) -> String {
        let bare = |url: &Url| {
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{}://{host}{port}", url.scheme())
        };
        match self {
            #[cfg(feature = "amqp")]
            Self::Amqp(config) => {
                // It was a URL when the configuration was checked.
                let url = Url::parse(config.url.expose_secret()).ok();
                let url = url.as_ref().map(bare).unwrap_or_default();
                match &config.queue {
                    Some(queue) => format!("{url}, exchange {}, queue {queue}", config.exchange),
                    None => format!("{url}, exchange {}", config.exchange),
                }
            }
            Self::Http(config) => bare(&config.url),
            Self::Exec(config) => config.command.join(" "),
            Self::File(config) => config.path.display().to_string(),
            Self::Stdout => "standard output".to_owned(),
        }
    }
}

/// A sink that cannot be made, such as a file in a directory that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BuildError(pub String);

/// The one registry: from settings to a sink. Opens files, but waits for no network: a broker that is down at start
/// is an outage like any other. `format` has no meaning for files and standard output: their lines are always the
/// structured form.
pub async fn build(config: &Config, format: Format) -> Result<Box<dyn Sink>, BuildError> {
    Ok(match config {
        #[cfg(feature = "amqp")]
        Config::Amqp(config) => Box::new(amqp::Amqp::new(config, format)?),
        Config::Http(config) => Box::new(http::Http::new(config, format)?),
        Config::Exec(config) => Box::new(exec::Exec::new(config, format)?),
        Config::File(config) => Box::new(file::File::open(config).await?),
        Config::Stdout => Box::new(stdout::Stdout::new()?),
    })
}
