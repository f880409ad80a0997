//! The public HTTPS listener and the acknowledgement table.
//!
//! No answer reaches a sender but those of `answer.rs`: the HTTP server's own 400, 408 and 431 are cut off by the guard
//! around each connection (`connection.rs`), because the provider never repeats what was answered with a 4xx.

mod answer;
mod body;
mod connection;
mod descriptors;
mod handler;
mod handshake;
mod head;
mod memory;
mod networks;
mod refuse;
mod serve;
mod shared;
#[cfg(test)]
mod tests;
mod tls;
mod unrouted;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::model::{EventType, SourceName};
use crate::verify::Keys;

pub use crate::listener::Listener;
pub use networks::{BadNetwork, Network};
pub use serve::start;
pub use tls::{About, ServerTls, TlsError, describe, load_tls};

/// Whether deliveries are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Not yet: 503.
    Starting,
    /// Yes.
    Open,
    /// No longer: 503, and the connection is closed after it.
    Stopping,
}

/// What the listener works with.
pub struct Deps {
    /// Where deliveries go; to be set before the gate opens.
    pub inbox: Arc<OnceLock<Arc<dyn Inbox>>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time of arrival.
    pub clock: Arc<dyn Clock>,
    /// Whether deliveries are taken; looked at once for each request.
    pub gate: watch::Receiver<Gate>,
    /// Whether any sink wants events of a type; asked for each event.
    pub is_wanted: IsWanted,
}

/// Whether any sink wants events of a type, by its route's globs.
pub type IsWanted = Arc<dyn Fn(&EventType) -> bool + Send + Sync>;

/// The checked settings of the public listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The largest body that is stored, in bytes.
    pub max_body: usize,
    /// After this, an append that is not yet durable is answered 503.
    pub ack_deadline: Duration,
    /// Connections at a time; fewer where the system lets the process open fewer files.
    pub max_connections: usize,
    /// The largest head of a request that is taken, in bytes.
    pub max_head: usize,
    /// Proxies that may say whom a request is from.
    pub trusted_proxies: Vec<Network>,
    /// A request whose head and body take longer is closed; so is a connection whose peer does not take its answer.
    pub read_timeout: Duration,
    /// Certificate and key; `None` = plain HTTP behind a proxy that terminates TLS.
    pub tls: Option<Tls>,
    /// Registered endpoints.
    pub sources: Vec<Source>,
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// A registered endpoint.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub name: SourceName,
    /// Its path, without a trailing slash.
    pub path: String,
    /// Its secrets.
    pub keys: Keys,
    /// The header that carries the signature, in lower case.
    pub signature_header: String,
    /// What a bad signature gets.
    pub on_bad_signature: OnBadSignature,
}

/// What a bad signature gets; the request is kept in the quarantine either way, as long as there is room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadSignature {
    /// 401 for what is kept: never sent again. 503 for what is not.
    #[default]
    Reject,
    /// Always 503: sent again later.
    Retry,
}
