//! A service around the one that serves a connection: it gives the connection a place, and ends it when it loses it.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_service::{Service, ServiceFactory};
use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;

use super::{Admission, Admitted};

/// A connection that has a place.
pub(crate) struct Incoming {
    /// The connection.
    pub(crate) tcp: TcpStream,
    /// Its place.
    pub(crate) admitted: Arc<Admitted>,
}

/// Makes [`AdmittingService`]s.
pub(super) struct Admitting<F> {
    inner: F,
    admission: Arc<Admission>,
}

impl<F> Admitting<F> {
    pub(super) fn new(inner: F, admission: Arc<Admission>) -> Self {
        Self { inner, admission }
    }
}

impl<F> ServiceFactory<TcpStream> for Admitting<F>
where
    F: ServiceFactory<Incoming, Config = (), Response = (), InitError = ()> + 'static,
    F::Error: From<io::Error>,
{
    type Response = ();
    type Error = F::Error;
    type Config = ();
    type Service = AdmittingService<F::Service>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (inner, admission) = (self.inner.new_service(()), Arc::clone(&self.admission));
        Box::pin(async move { Ok(AdmittingService { inner: Rc::new(inner.await?), admission }) })
    }
}

/// Serves each connection from when it gets a place until it ends or loses it.
pub(super) struct AdmittingService<S> {
    inner: Rc<S>,
    admission: Arc<Admission>,
}

impl<S> Service<TcpStream> for AdmittingService<S>
where
    S: Service<Incoming, Response = ()> + 'static,
    S::Error: From<io::Error>,
{
    type Response = ();
    type Error = S::Error;
    type Future = LocalBoxFuture<'static, Result<(), S::Error>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&self, tcp: TcpStream) -> Self::Future {
        let (inner, admission) = (Rc::clone(&self.inner), Arc::clone(&self.admission));
        Box::pin(async move {
            let admitted = Arc::new(admission.admit(tcp.peer_addr()?).await);
            let served = inner.call(Incoming { tcp, admitted: Arc::clone(&admitted) });
            tokio::select! {
                // Whatever the connection is at ends here, and its memory is free.
                () = admitted.evicted() => Ok(()),
                served = served => served,
            }
        })
    }
}
