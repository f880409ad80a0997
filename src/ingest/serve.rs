//! From a socket to the handler: accept, TLS, guard, HTTP.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive, Protocol, Request};
use actix_service::{IntoServiceFactory as _, ServiceFactory, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::{App, web};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connection::{Conn, Guarded, LINGER};
use super::handler::handle;
use super::handshake::{self, Failures};
use super::shared::Shared;
use super::{Config, Deps, Listener, ServerTls, descriptors};
use crate::listener::{self, Admission, Connections, Incoming};
use crate::metrics::Metrics;
use crate::throttle::Throttle;

type Stream = Guarded<Either<TlsStream<TcpStream>, TcpStream>>;

/// Starts to serve: deliveries are answered from now on, according to the gate. Callable in and out of a runtime; the
/// listener has threads of its own, one for each core. Fails when a thread or socket is refused.
pub fn start(listener: TcpListener, config: &Config, tls: Option<ServerTls>, deps: Deps) -> io::Result<Listener> {
    if let Some(tls) = &tls {
        note_expiry(tls, &deps);
    }
    let max_connections = descriptors::within_limit(config.max_connections);
    let workers = available_parallelism().map_or(1, NonZeroUsize::get).min(max_connections).max(1);
    let (failures, admission) =
        (Arc::new(Failures::new(deps.metrics.clone())), admission(max_connections, &deps.metrics));
    let shared = Arc::new(Shared::new(config, deps)?);
    let (patience, max_head) = (config.read_timeout, config.max_head);
    let acceptor = Acceptor { tls, patience, max_head, failures, shared: shared.clone() };
    listener::run(listener, "ingest", workers, admission, move |connections| {
        pipeline(acceptor.clone(), shared.clone(), connections)
    })
}

/// A place for each connection; the count and the log say whose is taken away.
fn admission(max_connections: usize, metrics: &Metrics) -> Arc<Admission> {
    let (closed, lines) = (metrics.unproven_closed.with_label_values(&["connection"]), Throttle::default());
    Admission::new(max_connections, move |peer| {
        closed.inc();
        if let Some(suppressed) = lines.admit(Instant::now()) {
            let peer = peer.ip().to_canonical();
            tracing::warn!(%peer, suppressed,
                "server.max_connections are open: closed the oldest of those that have shown no valid signature");
        }
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
) -> impl ServiceFactory<Incoming, Config = (), Response = (), Error = DispatchError, InitError = ()> {
    let open = connections.clone();
    let accept = fn_service(move |incoming: Incoming| {
        let (acceptor, open) = (acceptor.clone(), open.open());
        async move {
            let (stream, peer) = acceptor.accept(incoming, open).await?;
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
    max_head: usize,
    failures: Arc<Failures>,
    shared: Arc<Shared>,
}

impl Acceptor {
    async fn accept(&self, incoming: Incoming, open: TaskTrackerToken) -> io::Result<(Stream, SocketAddr)> {
        let Incoming { tcp, admitted } = incoming;
        let peer = admitted.peer();
        tcp.set_nodelay(true)?;
        // The time for a request begins with the connection: the handshake is a part of it.
        let conn = Conn::new(self.patience, admitted);
        let stream = match &self.tls {
            Some(tls) => Either::Left(handshake::accept(tls, tcp, peer, self.patience, &self.failures).await?),
            None => Either::Right(tcp),
        };
        Ok((Guarded::new(stream, conn, self.max_head, Arc::clone(&self.shared), open), peer))
    }
}
