//! The admin listener: health, readiness, metrics. Never public: plain HTTP, on loopback unless the operator says
//! otherwise.

mod answer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::net::TcpStream;

use crate::listener;
use crate::metrics::Metrics;
use answer::{Admin, handle};

pub use crate::listener::Listener;

/// Connections at a time: scrapers and health checks, with room for people.
const MAX_CONNECTIONS: usize = 64;

/// How long a connection may stay without a request: longer than scrapers pause, or they would meet the close of one.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

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

    /// Brings gauges up to date; called before each scrape, on the listener's own thread.
    fn refresh_metrics(&self);
}

/// Starts to serve `/healthz`, `/readyz` and `/metrics`. Callable in and out of a runtime; the listener has a thread of
/// its own. Fails when a thread or socket is refused.
pub fn start(
    listener: TcpListener,
    config: &Config,
    metrics: Arc<Metrics>,
    status: Arc<dyn Status>,
) -> io::Result<Listener> {
    let admin = Arc::new(Admin::new(config, metrics, status));
    listener::run(listener, "admin", 1, MAX_CONNECTIONS, move |connections| {
        let stopping = connections.clone();
        let app = App::new().app_data(web::Data::from(admin.clone())).default_service(web::to(handle));
        let http = HttpService::<TcpStream, _, _>::build()
            .keep_alive(KEEP_ALIVE)
            .graceful_shutdown_signal(move || stopping.stopping())
            .on_connect_ext(move |_, data| {
                data.insert(connections.open());
            })
            .finish(map_config(app.into_factory(), |()| AppConfig::default()));
        fn_service(async |tcp: TcpStream| {
            let peer = tcp.peer_addr()?;
            Ok((tcp, Protocol::Http1, Some(peer)))
        })
        .and_then(http)
    })
}
