//! From a socket to the handler: accept, TLS, guard, HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_service::{IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use prometheus::IntCounter;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::answer::Outcome;
use super::connection::{Conn, Guarded};
use super::handler::handle;
use super::shared::Shared;
use super::{Config, Deps, Listener, ServerTls, descriptors};
use crate::listener::{self, Connections};

/// How long a connection that is closed after an early answer is still read, so that the answer arrives.
const LINGER: Duration = Duration::from_secs(5);

type Stream = Guarded<Either<TlsStream<TcpStream>, TcpStream>>;

/// Starts to serve: deliveries are answered from now on, according to the gate. Callable in and out of a runtime; the
/// listener has threads of its own, one for each core. Fails when a thread or socket is refused.
pub fn start(listener: TcpListener, config: &Config, tls: Option<ServerTls>, deps: Deps) -> io::Result<Listener> {
    if let Some(tls) = &tls {
        note_expiry(tls, &deps);
    }
    let max_connections = descriptors::within_limit(config.max_connections);
    let workers = available_parallelism().map_or(1, NonZeroUsize::get).min(max_connections).max(1);
    let per_worker = (max_connections / workers).max(1);
    let shared = Arc::new(Shared::new(config, deps)?);
    let acceptor =
        Acceptor { tls, patience: config.read_timeout, broken: shared.elsewhere.get(Outcome::Aborted).clone() };
    listener::run(listener, "ingest", workers, per_worker, move |connections| {
        pipeline(acceptor.clone(), shared.clone(), connections)
    })
}

fn note_expiry(tls: &ServerTls, deps: &Deps) {
    let left = tls.not_after().duration_since(deps.clock.now()).as_secs();
    deps.metrics.tls_cert_expiry_seconds.set(left);
    if left <= 0 {
        tracing::error!(not_after = %tls.not_after(), "the certificate has expired: senders will not connect");
    }
}

/// Everything between a TCP connection and its end.
fn pipeline(
    acceptor: Acceptor,
    shared: Arc<Shared>,
    connections: Connections,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let open = connections.clone();
    let accept = fn_service(move |tcp: TcpStream| {
        let (acceptor, open) = (acceptor.clone(), open.open());
        async move {
            let peer = tcp.peer_addr()?;
            let conn = Conn::new(acceptor.patience, acceptor.broken.clone());
            let stream = Guarded::new(acceptor.accept(tcp).await?, conn, open);
            Ok::<_, DispatchError>((stream, Protocol::Http1, Some(peer)))
        }
    });
    let http = HttpService::<Stream, _, _>::build()
        // Both are the guard's: the server's own timer for heads would answer 408.
        .client_request_timeout(Duration::ZERO)
        .keep_alive(KeepAlive::Os)
        .client_disconnect_timeout(LINGER)
        .graceful_shutdown_signal(move || connections.stopping())
        .on_connect_ext(|stream: &Stream, data| {
            data.insert(Rc::clone(stream.conn()));
        })
        .finish(application(shared));
    accept.and_then(http)
}

fn application(
    shared: Arc<Shared>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = actix_web::dev::ServiceResponse,
    Error = actix_web::Error,
    InitError = (),
> {
    let app = App::new().app_data(web::Data::from(shared)).default_service(web::to(handle));
    map_config(app.into_factory(), |()| AppConfig::default())
}

#[derive(Clone)]
struct Acceptor {
    tls: Option<ServerTls>,
    patience: Duration,
    broken: IntCounter,
}

impl Acceptor {
    async fn accept(&self, tcp: TcpStream) -> io::Result<Either<TlsStream<TcpStream>, TcpStream>> {
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Either::Right(tcp)) };
        let peer = tcp.peer_addr()?;
        let accepted = match tokio::time::timeout(self.patience, TlsAcceptor::from(tls.config()).accept(tcp)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        accepted.map(Either::Left).inspect_err(|error| log_handshake(peer, error))
    }
}

fn log_handshake(peer: SocketAddr, error: &io::Error) {
    tracing::debug!(%peer, %error, "a TLS handshake failed");
}
