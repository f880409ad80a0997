//! The admin listener: health, readiness, metrics.

use std::net::SocketAddr;

use secrecy::SecretString;

/// The checked settings of the admin listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; loopback unless the operator says otherwise.
    pub listen: SocketAddr,
    /// The bearer token; without one, what needs it is refused.
    pub token: Option<SecretString>,
    /// `/metrics` without a token.
    pub open_metrics: bool,
}
