//! The public HTTPS listener and the acknowledgement table.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::SourceName;
use crate::verify::Keys;

/// The checked settings of the public listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The largest body that is stored, in bytes.
    pub max_body: usize,
    /// After this, an append that is not yet durable is answered 503.
    pub ack_deadline: Duration,
    /// Connections at a time.
    pub max_connections: usize,
    /// A request whose head or body takes longer is closed.
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

/// What a bad signature gets; the request is kept in the quarantine either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadSignature {
    /// 401: never sent again.
    #[default]
    Reject,
    /// 503: sent again later.
    Retry,
}
