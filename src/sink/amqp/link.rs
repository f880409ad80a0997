//! One connection in use: a task that owns it, and the handle through which deliveries reach the task.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt as _;
use lapin::Event;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::model::Outcome;

use super::confirms::Confirms;
use super::connection::{Broker, Open};
use super::message::Message;

/// Messages that may wait for the task; it takes them as fast as the socket does.
const QUEUE: usize = 256;

/// A message, and where its outcome goes.
pub(super) struct Publication {
    pub(super) message: Message,
    pub(super) reply: oneshot::Sender<Outcome>,
}

/// A handle to the task; the connection ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Link {
    publications: mpsc::Sender<Publication>,
    state: Arc<State>,
}

struct State {
    /// A delivery was given up: whatever holds it up, and its confirm with it, ends with this connection.
    abandoned: CancellationToken,
    closing: CancellationToken,
    confirmed: AtomicBool,
    end: OnceLock<String>,
}

impl Link {
    /// Starts the task.
    pub(super) fn start(open: Open, broker: Arc<Broker>, tasks: &TaskTracker) -> Self {
        let (publications, waiting) = mpsc::channel(QUEUE);
        let state = Arc::new(State {
            abandoned: CancellationToken::new(),
            closing: CancellationToken::new(),
            confirmed: AtomicBool::new(false),
            end: OnceLock::new(),
        });
        tasks.spawn(run(open, broker, waiting, Arc::clone(&state)));
        Self { publications, state }
    }

    /// Whether it is worth publishing on.
    pub(super) fn is_open(&self) -> bool {
        !self.publications.is_closed() && !self.state.abandoned.is_cancelled()
    }

    /// Whether the broker has confirmed a message on this connection.
    pub(super) fn has_confirmed(&self) -> bool {
        self.state.confirmed.load(Ordering::Relaxed)
    }

    /// Why the connection is over.
    pub(super) fn end(&self) -> String {
        self.state.end.get().map_or("a delivery was given up unanswered", String::as_str).to_owned()
    }

    /// Lets the task end when everything published is answered.
    pub(super) fn close(self) {
        self.state.closing.cancel();
    }

    /// Publishes and waits for the confirm of this message only. Dropping the future condemns the connection: a
    /// confirm that nobody waits for says that something is stuck, and would be kept for ever.
    pub(super) async fn publish(self, message: Message) -> Outcome {
        let abandoned = self.state.abandoned.clone().drop_guard();
        let (reply, outcome) = oneshot::channel();
        let answered = match self.publications.send(Publication { message, reply }).await {
            Ok(()) => outcome.await.ok(),
            Err(_) => None,
        };
        abandoned.disarm();
        answered.unwrap_or_else(|| Outcome::transient(self.end()))
    }
}

async fn run(open: Open, broker: Arc<Broker>, mut waiting: mpsc::Receiver<Publication>, state: Arc<State>) {
    let mut confirms = Confirms::new(open.channel.clone(), broker.exchange.clone());
    let mut events = std::pin::pin!(open.connection.events_listener());
    let mut batch = Vec::new();
    let end = loop {
        tokio::select! {
            biased;
            () = state.abandoned.cancelled() => break "another delivery on this connection was given up".to_owned(),
            settled = poll_fn(|cx| confirms.poll_settled(cx)) => match confirms.answer(settled) {
                Ok(delivered) => {
                    state.confirmed.fetch_or(delivered > 0, Ordering::Relaxed);
                }
                Err(reason) => break reason,
            },
            Some(Event::Error(error)) = events.next() => break format!("the connection was lost: {error}"),
            taken = waiting.recv_many(&mut batch, QUEUE) => {
                if taken == 0 {
                    break "closed".to_owned();
                }
                batch.drain(..).for_each(|publication| confirms.publish(publication));
            }
            () = state.closing.cancelled(), if confirms.is_empty() => break "closed".to_owned(),
        }
    };
    // Known before the first delivery hears of it: dropping `waiting` and `confirms` answers them all.
    let _ = state.end.set(end);
    drop((waiting, confirms));
    open.close().await;
}
