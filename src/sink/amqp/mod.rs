//! AMQP 0-9-1.

mod confirms;
mod connection;
mod link;
mod message;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::model::{Outcome, Outgoing};

use super::{BuildError, Format, Sink};
use connection::{Broker, Open};
use link::Link;
use message::Message;

/// Bounds of the delay between two attempts to connect; up to as much again is added at random.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

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
    /// Checks names and the form of the URL; connects to nothing yet.
    pub fn new(config: &Config, format: Format) -> Result<Self, BuildError> {
        // The parser's own message may repeat the URL, and with it the password.
        let uri: AMQPUri = config.url.expose_secret().parse().map_err(|_| {
            BuildError("the URL is not one of AMQP: use amqp://user:password@host:5672/vhost, or amqps://".to_owned())
        })?;
        let short = |what: &str, name: &str| {
            ShortString::try_new(name).map_err(|_| BuildError(format!("{what} is longer than 255 bytes: shorten it")))
        };
        let queue = config.queue.as_deref().map(|queue| short("the queue's name", queue)).transpose()?;
        let exchange = short("the exchange's name", &config.exchange)?;
        let broker = Broker { uri, exchange, declare: config.declare, queue };
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

    async fn probe(&self) -> Result<(), String> {
        connection::probe(&self.broker).await
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
        Config { url: url.into(), exchange: "e".to_owned(), declare: true, queue: None }
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
