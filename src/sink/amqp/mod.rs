//! AMQP 0-9-1.

mod confirms;
mod connection;
mod link;
mod message;
mod pending;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use lapin::types::ShortString;
use lapin::uri::{AMQPScheme, AMQPUri};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::model::{Outcome, Outgoing};

use super::{BuildError, Format, Sink, Tls};
use connection::{Broker, Open};
use link::Link;
use message::Message;

/// Bounds of the delay between two attempts to connect; up to as much again is added at random.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(3);

/// In seconds, where the URL has none: a connection that ends without a word is noticed after twice as long.
const HEARTBEAT: u16 = 20;

/// In bytes, where the URL has none: RabbitMQ's own default. Without it, a broker that sets no limit would have lapin
/// take memory for 64 of the largest frames that there can be, 4 GiB each.
const FRAME_MAX: u32 = 131_072;

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
    /// Certificates for `amqps://`; without meaning for `amqp://`.
    pub tls: Tls,
}

/// Publishes each event to an exchange. `Delivered` means a positive confirm with nothing returned.
///
/// One connection and one channel carry everything, with as many confirms outstanding as the caller has deliveries in
/// flight. A connection that is lost, or on which a delivery was given up, is replaced by the next delivery.
pub struct Amqp {
    broker: Arc<Broker>,
    format: Format,
    slot: Mutex<Slot>,
    tasks: TaskTracker,
}

/// The connection in use, and when to try the next one.
struct Slot {
    link: Option<Link>,
    connecting: Option<JoinHandle<Result<Open, String>>>,
    delays: ExponentialBackoff,
    /// Not before this; the reason of the last failure.
    wait: Option<(Instant, String)>,
}

impl Amqp {
    /// Checks names, certificates and the form of the URL; connects to nothing yet.
    pub fn new(config: &Config, format: Format) -> Result<Self, BuildError> {
        let uri = uri(config.url.expose_secret()).ok_or_else(|| {
            BuildError("the URL is not one of AMQP: use amqp://user:password@host:5672/vhost, or amqps://".to_owned())
        })?;
        if uri.scheme == AMQPScheme::AMQPS && tls::names_files(&config.tls) {
            tls::connector(&config.tls).map_err(BuildError)?;
        }
        let short = |what: &str, name: &str| {
            ShortString::try_new(name).map_err(|_| BuildError(format!("{what} is longer than 255 bytes: shorten it")))
        };
        let queue = config.queue.as_deref().map(|queue| short("the queue's name", queue)).transpose()?;
        let exchange = short("the exchange's name", &config.exchange)?;
        let broker = Broker { uri, exchange, declare: config.declare, queue, tls: config.tls.clone() };
        let slot = Slot { link: None, connecting: None, delays: delays(), wait: None };
        Ok(Self { broker: Arc::new(broker), format, slot: Mutex::new(slot), tasks: TaskTracker::new() })
    }

    /// The open link, or a new one. While one delivery connects the others wait for it; after a failure all of them
    /// fail at once until the delay is over.
    async fn link(&self) -> Result<Link, String> {
        let mut slot = self.slot.lock().await;
        if let Some(link) = &slot.link {
            if link.is_open() {
                return Ok(link.clone());
            }
            slot.ended();
        }
        if let Some((at, reason)) = &slot.wait
            && let Some(left) = at.checked_duration_since(Instant::now())
        {
            return Err(format!("not connected, next try in {} ms: {reason}", left.as_millis()));
        }
        let connecting = slot.connecting.get_or_insert_with(|| {
            let broker = Arc::clone(&self.broker);
            self.tasks.spawn(async move { connection::open(&broker).await })
        });
        // A task of its own: a delivery that is given up meanwhile leaves the attempt to the next one.
        let opened = connecting.await.unwrap_or_else(|error| Err(format!("connecting failed: {error}")));
        slot.connecting = None;
        match opened {
            Ok(connection) => {
                let link = Link::start(connection, Arc::clone(&self.broker), &self.tasks);
                slot.link = Some(link.clone());
                Ok(link)
            }
            Err(reason) => {
                slot.failed(reason.clone());
                Err(reason)
            }
        }
    }
}

impl Slot {
    /// Forgets a link that is over. One that had confirmed something is replaced at once; one that never did may do so
    /// for ever (such as an exchange that is not there), and counts as a failed attempt.
    fn ended(&mut self) {
        let Some(link) = self.link.take() else { return };
        if link.has_confirmed() {
            self.delays = delays();
            self.wait = None;
        } else {
            self.failed(link.end());
        }
    }

    fn failed(&mut self, reason: String) {
        self.wait = Some((Instant::now() + self.delays.next().unwrap_or(LONGEST_DELAY), reason));
    }
}

/// The parser's own message may repeat the URL, and with it the password.
fn uri(url: &str) -> Option<AMQPUri> {
    let mut uri: AMQPUri = url.parse().ok()?;
    // It takes any address of IPv6 for none, and none for localhost.
    if let Some(address) = Url::parse(url).ok()?.host_str()?.strip_prefix('[') {
        address.trim_end_matches(']').clone_into(&mut uri.authority.host);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max.get_or_insert(FRAME_MAX);
    Some(uri)
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .with_jitter()
        .without_max_times()
        .build()
}

#[async_trait]
impl Sink for Amqp {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        match self.link().await {
            Ok(link) => link.publish(Message::new(event, self.format)).await,
            Err(reason) => Outcome::transient(reason),
        }
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        connection::probe(&self.broker).await.map(|()| None)
    }

    async fn close(&self) {
        let (link, connecting) = {
            let mut slot = self.slot.lock().await;
            (slot.link.take(), slot.connecting.take())
        };
        if let Some(link) = link {
            link.close();
        }
        if let Some(connecting) = connecting {
            connecting.abort();
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::event;

    fn config(url: &str) -> Config {
        Config { url: url.into(), exchange: "e".to_owned(), declare: true, queue: None, tls: Tls::default() }
    }

    #[test]
    fn a_bad_url_is_refused_without_being_shown() {
        for url in ["", "secret", "http://u:secret@h", "amqp:secret", "amqp://u:secret@h:99999/"] {
            let error = Amqp::new(&config(url), Format::Raw).err().unwrap();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let long = Config { exchange: "e".repeat(256), ..config("amqp://h") };
        assert!(Amqp::new(&long, Format::Raw).is_err());
    }

    #[test]
    fn the_host_is_the_one_in_the_url() {
        for (url, host) in
            [("amqp://h", "h"), ("amqps://u:p@127.0.0.1:5671/v", "127.0.0.1"), ("amqp://u:p@[::1]:5672/v", "::1")]
        {
            assert_eq!(uri(url).unwrap().authority.host, host);
        }
    }

    #[test]
    fn what_the_url_says_about_the_connection_counts() {
        let query = uri("amqp://h?heartbeat=5&frame_max=8192").unwrap().query;
        assert_eq!((query.heartbeat, query.frame_max), (Some(5), Some(8192)));
        let query = uri("amqp://h").unwrap().query;
        assert_eq!((query.heartbeat, query.frame_max), (Some(HEARTBEAT), Some(FRAME_MAX)));
    }

    #[tokio::test]
    async fn after_a_failure_deliveries_fail_at_once() {
        // A port that was free a moment ago, so nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let sink = Amqp::new(&config(&format!("amqp://u:secret@127.0.0.1:{port}")), Format::Raw).unwrap();
        let mut reasons = Vec::new();
        for _ in 0..2 {
            let Outcome::Transient { reason, .. } = sink.deliver(&event("{}")).await else { panic!("delivered") };
            assert!(!reason.as_str().contains("secret"), "{reason}");
            reasons.push(reason);
        }
        assert!(reasons[0].as_str().starts_with("cannot connect to 127.0.0.1"), "{}", reasons[0]);
        assert!(reasons[1].as_str().starts_with("not connected, next try in"), "{}", reasons[1]);
        sink.close().await;
    }

    /// However short the consumer's patience: a broker that takes its time is not asked again and again.
    #[tokio::test]
    async fn an_attempt_to_connect_outlives_the_delivery_that_began_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://u:p@{}", listener.local_addr().unwrap());
        let sink = Amqp::new(&config(&url), Format::Raw).unwrap();
        let mut attempts = Vec::new();
        let accepting = async {
            loop {
                attempts.push(listener.accept().await.unwrap());
            }
        };
        let deliveries = async {
            for _ in 0..5 {
                let given_up = tokio::time::timeout(Duration::from_millis(50), sink.deliver(&event("{}"))).await;
                assert!(given_up.is_err(), "{given_up:?}");
            }
        };
        tokio::select! {
            () = accepting => {}
            () = deliveries => {}
        }
        assert_eq!(attempts.len(), 1);
        tokio::time::timeout(Duration::from_secs(3), sink.close()).await.expect("closing gives the attempt up");
    }

    #[test]
    fn delays_grow_to_a_bound() {
        let all: Vec<_> = delays().take(20).collect();
        assert!(all[0] >= FIRST_DELAY && all[0] <= 2 * FIRST_DELAY);
        assert!(all.iter().all(|delay| *delay <= 2 * LONGEST_DELAY));
        assert!(all[19] >= LONGEST_DELAY);
    }
}
