//! Answers with bodies of events in them: large ones go out one after the other, so that memory stays bounded.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reading::{PATIENCE, Readers};
use super::refusal::Refusal;

/// Bodies up to this size are read without asking: the number of readers bounds them.
const SMALL: u64 = 1024 * 1024;

/// Whose turn it is to have a large body in memory.
pub(super) struct Bodies {
    turn: Arc<Semaphore>,
}

impl Bodies {
    pub(super) fn new() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until the bodies of the events under this id may be read; what is given back goes out with the answer.
    pub(super) async fn turn(&self, readers: &Readers, id: &str) -> Result<Turn, Refusal> {
        let id = id.to_owned();
        if readers.read(move |reader| reader.body_bytes(&id)).await? <= SMALL {
            return Ok(Turn(None));
        }
        match tokio::time::timeout(PATIENCE, Arc::clone(&self.turn).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Turn(Some(permit))),
            Ok(Err(_)) | Err(_) => Err(Refusal::large_body()),
        }
    }
}

/// The right to have a body in memory.
pub(super) struct Turn(Option<OwnedSemaphorePermit>);

impl Turn {
    /// Gives the turn back once this answer has gone out.
    pub(super) fn ends_with(self, answer: HttpResponse) -> HttpResponse {
        match self.0 {
            None => answer,
            Some(permit) => answer.map_body(|_, body| BoxBody::new(Held { body, _permit: permit })),
        }
    }
}

struct Held {
    body: BoxBody,
    _permit: OwnedSemaphorePermit,
}

impl MessageBody for Held {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
