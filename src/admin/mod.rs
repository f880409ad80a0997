//! The admin listener: health, readiness, metrics, the API and its page. Never public: plain HTTP, on loopback unless the
//! operator says otherwise.

mod answer;
mod api;
mod page;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::{App, web};
use jiff::Timestamp;
use rustix::net::sockopt::set_tcp_user_timeout;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::inbox::{self, BuildFailure, Inbox};
use crate::listener::{Admission, Incoming};
use crate::metrics::Metrics;
use crate::model::{SinkName, SourceName};
use crate::records::sink_detail::{Retry, Settings};
use crate::records::status::ReloadFailure;
use crate::throttle::Throttle;
use crate::{consume, listener};
use answer::{Admin, guard, handle};
use api::Api;
use stream::Stream;

pub use crate::listener::Listener;

/// Connections at a time: scrapers and health checks, with room for people.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection of somebody who has shown the token may stay without a request: longer than scrapers pause, or they
/// would meet the close of one.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A connection whose peer takes nothing for so long is closed by the system.
const UNREAD: Duration = Duration::from_secs(10);

/// The checked settings of the admin listener.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; loopback unless the operator says otherwise.
    pub listen: SocketAddr,
    /// The bearer token; without one, what needs it is refused.
    pub token: Option<Token>,
    /// `/metrics` without a token.
    pub open_metrics: bool,
    /// Names under which it may be asked, besides `localhost` and any address.
    pub hosts: Vec<String>,
}

/// The bearer token in use. Clones are one: what [`replace`](Self::replace) does to one of them, it does to all.
#[derive(Clone)]
pub struct Token {
    /// SHA-256, so that comparing takes the same time whatever is sent.
    digest: Arc<RwLock<[u8; 32]>>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

impl Token {
    /// Takes the token as it is.
    pub fn new(token: &str) -> Self {
        Self { digest: Arc::new(RwLock::new(Sha256::digest(token).into())) }
    }

    /// Takes another one instead, for every request from now on.
    pub fn replace(&self, token: &str) {
        *self.digest.write().unwrap_or_else(PoisonError::into_inner) = Sha256::digest(token).into();
    }

    fn is(&self, sent: &[u8]) -> bool {
        let (sent, own): ([u8; 32], _) =
            (Sha256::digest(sent).into(), *self.digest.read().unwrap_or_else(PoisonError::into_inner));
        sent.ct_eq(&own).into()
    }
}

/// What the admin listener asks the daemon.
pub trait Status: Send + Sync {
    /// Why deliveries are not taken or not stored at the moment, for people; empty = ready.
    fn reasons_not_ready(&self) -> Vec<String>;

    /// The sinks that cannot be built or opened, and why: no reason not to be ready.
    fn unavailable_sinks(&self) -> Vec<(SinkName, BuildFailure)>;

    /// Brings gauges up to date; called before each scrape, on the listener's own thread.
    fn refresh_metrics(&self);

    /// The inbox, once it is open.
    fn inbox(&self) -> Option<Arc<dyn Inbox>>;

    /// When the certificate in use ends; `None` where a proxy terminates TLS.
    fn certificate(&self) -> Option<Timestamp>;

    /// The last time that the configuration was to be read again, where it could not be used.
    fn reload_failure(&self) -> Option<ReloadFailure>;

    /// The registered endpoints.
    fn sources(&self) -> Vec<SourceFacts>;

    /// The configured sinks.
    fn sinks(&self) -> Vec<SinkFacts>;
}

/// What people may know of a source.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// Its name.
    pub name: SourceName,
    /// Its path.
    pub path: String,
    /// What a bad signature gets, as it is written in the configuration.
    pub on_bad_signature: &'static str,
    /// Since when each secret is in use, by slot.
    pub in_use_since: Vec<Timestamp>,
    /// The fingerprint of each secret, by slot.
    pub fingerprints: Vec<String>,
}

/// What people may know of a configured sink.
#[derive(Clone, Debug)]
pub struct SinkFacts {
    /// How it is fed.
    pub consumer: consume::Config,
    /// Its type as written, such as `amqp`.
    pub kind: &'static str,
    /// Where events go, without secrets.
    pub target: String,
}

impl SinkFacts {
    /// What is shown of its configuration.
    pub fn settings(&self) -> Settings {
        let consume::Config { name: _, route, ordering, start: _, concurrency, timeout, rate, retry } = &self.consumer;
        Settings {
            target: self.target.clone(),
            events: route.globs().map(str::to_owned).collect(),
            filter: route.expression().map(str::to_owned),
            ordering: match ordering {
                consume::Ordering::Key => "key",
                consume::Ordering::None => "none",
            },
            concurrency: *concurrency,
            timeout_seconds: timeout.as_secs_f64(),
            rate: rate.as_ref().map(consume::Rate::per_second),
            retry: Retry {
                initial_seconds: retry.initial.as_secs_f64(),
                max_seconds: retry.max.as_secs_f64(),
                give_up_after_seconds: retry.give_up_after.as_secs_f64(),
                breaker_after: retry.breaker_after,
                probe_max_seconds: retry.probe_max.as_secs_f64(),
                max_parked: retry.max_parked,
            },
        }
    }
}

/// What the listener works with.
pub struct Deps {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the daemon says of itself.
    pub status: Arc<dyn Status>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the inbox is.
    pub inbox: inbox::Config,
    /// Ends what would never end by itself.
    pub stop: CancellationToken,
}

/// Starts to serve. Callable in and out of a runtime; the listener has a thread of
/// its own. Fails when a thread or socket is refused.
pub fn start(listener: TcpListener, config: &Config, deps: Deps) -> io::Result<Listener> {
    let admin = Arc::new(Admin::new(config, &deps));
    let (closed, lines) = (deps.metrics.unproven_closed.with_label_values(&["admin"]), Throttle::default());
    // Health is asked for without a token: it would not answer if connections that do nothing could take every place.
    let admission = Admission::new(MAX_CONNECTIONS, move |peer| {
        closed.inc();
        if let Some(suppressed) = lines.admit(Instant::now()) {
            tracing::info!(%peer, suppressed,
                "the admin listener has as many connections as it may: closed the oldest of those that have not shown the token");
        }
    });
    let api = Arc::new(Api::new(deps));
    listener::run(listener, "admin", 1, admission, move |connections| {
        let stopping = connections.clone();
        let app = App::new()
            .app_data(web::Data::from(admin.clone()))
            .app_data(web::Data::from(api.clone()))
            .service(api::scope())
            .default_service(web::to(handle))
            .wrap(from_fn(guard));
        let http = HttpService::<Stream, _, _>::build()
            .keep_alive(KEEP_ALIVE)
            .graceful_shutdown_signal(move || stopping.stopping())
            .on_connect_ext(move |stream: &Stream, data| {
                data.insert(connections.open());
                data.insert(Arc::clone(stream.admitted()));
            })
            .finish(map_config(app.into_factory(), |()| AppConfig::default()));
        fn_service(async |incoming: Incoming| {
            let stream = Stream::new(incoming);
            set_tcp_user_timeout(stream.tcp(), UNREAD.as_millis() as u32).map_err(io::Error::from)?;
            let peer = stream.admitted().peer();
            Ok((stream, Protocol::Http1, Some(peer)))
        })
        .and_then(http)
    })
}
