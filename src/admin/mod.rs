//! The admin listener: health, readiness, metrics. Never public: plain HTTP, on loopback unless the operator says
//! otherwise.

mod answer;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use secrecy::SecretString;
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
    pub token: Option<SecretString>,
    /// `/metrics` without a token.
    pub open_metrics: bool,
    /// Names under which it may be asked, besides `localhost` and any address.
    pub hosts: Vec<String>,
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
