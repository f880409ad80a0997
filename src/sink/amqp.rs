//! AMQP 0-9-1.

use secrecy::SecretString;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// `amqp://` or `amqps://` with user, password and virtual host.
    pub url: SecretString,
    /// Topic exchange; the routing key is the canonical type.
    pub exchange: String,
    /// Declare the exchange (and the queue, bound with `#`) when connecting.
    pub declare: bool,
    /// A queue to declare and bind, when `declare` is on.
    pub queue: Option<String>,
}
