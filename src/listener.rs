//! An HTTP listener on threads of its own, and its orderly end: what `ingest` and `admin` share of actix.

mod admission;
mod admit;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use actix_service::ServiceFactory;
use futures_util::FutureExt as _;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use admission::{Admission, Admitted, GRACE};
use admit::Admitting;
pub(crate) use admit::Incoming;

/// Connections that may be accepted beyond the places of a listener, to wait for one or to take that of another one: so
/// many, or fewer where there are few places, because each is an open file, too.
const WAITING: usize = 64;

/// A running listener. Dropping it closes every connection at once; [`Self::stop`] is the orderly end.
#[derive(Debug)]
pub struct Listener {
    addr: SocketAddr,
    server: ServerHandle,
    connections: Connections,
}

/// What the connections of one listener have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    open: TaskTracker,
    stopping: CancellationToken,
}

impl Connections {
    /// Counts as an open connection until it is dropped.
    pub(crate) fn open(&self) -> TaskTrackerToken {
        self.open.token()
    }

    /// Resolves when the listener stops: finish the request in hand, and close.
    pub(crate) fn stopping(&self) -> WaitForCancellationFutureOwned {
        // A child each, because every poll takes the lock of the token that is waited for.
        self.stopping.child_token().cancelled_owned()
    }
}

/// Serves `listener` with `workers` threads. `admission` decides which connections stay; when it has no place for a new
/// one, new ones wait in the backlog. Callable from any thread, in a runtime or not. `service` is called once per worker.
pub(crate) fn run<F, S>(
    listener: TcpListener,
    name: &'static str,
    workers: usize,
    admission: Arc<Admission>,
    service: F,
) -> io::Result<Listener>
where
    F: Fn(Connections) -> S + Send + Clone + 'static,
    S: ServiceFactory<Incoming, Config = (), Response = (), InitError = ()> + 'static,
    S::Error: From<io::Error> + std::fmt::Debug,
{
    // Each thread counts for itself; together they take the places and those that wait.
    let places = admission.places();
    let waiting = WAITING.min(places / 16).max(2);
    let per_worker = places.div_ceil(workers) + waiting.div_ceil(workers);
    let addr = listener.local_addr()?;
    let connections = Connections::default();
    let shared = connections.clone();
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(per_worker)
        .disable_signals()
        .listen(name, listener, move || Admitting::new(service(shared.clone()), Arc::clone(&admission)))?
        .run();
    let handle = server.handle();
    let (started, outcome) = mpsc::channel();
    thread::Builder::new().name(name.to_owned()).spawn(move || drive(server, &started))?;
    outcome.recv().map_err(io::Error::other)??;
    Ok(Listener { addr, server: handle, connections })
}

/// Drives the server to its end, and says first whether it could start.
fn drive(mut server: Server, started: &mpsc::Sender<io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    // The first poll starts the workers; only a failure to do so ends the server this early.
    let early = runtime.block_on(async { (&mut server).now_or_never() });
    let ended = early.is_some();
    drop(started.send(early.unwrap_or(Ok(()))));
    if !ended && let Err(error) = runtime.block_on(server) {
        tracing::error!(%error, "a listener has failed");
    }
}

impl Listener {
    /// Where it listens; the port is the real one when 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, closes idle connections, lets requests in hand finish for up to `grace`, then closes the rest.
    pub async fn stop(self, grace: Duration) {
        self.server.pause().await;
        self.connections.stopping.cancel();
        self.connections.open.close();
        if tokio::time::timeout(grace, self.connections.open.wait()).await.is_err() {
            tracing::warn!(addr = %self.addr, connections = self.connections.open.len(), "closing busy connections");
        }
        self.server.stop(false).await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The command is sent by the call; after `stop` there is nobody left to receive it.
        drop(self.server.stop(false));
    }
}
