//! One connection in use: a task that owns it, and the handle through which deliveries reach the task.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

/// Confirms that may be outstanding: twice as many as the largest `concurrency`. Only those that were given up while the
/// broker blocked add to what the deliveries wait for, and a broker that then never confirms them is left.
const MAX_OUTSTANDING: usize = 20_000;

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
    /// Why the broker takes no messages for now.
    blocked: Mutex<Option<String>>,
    end: OnceLock<String>,
}

impl State {
    fn blocked(&self) -> Option<String> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the broker says about publishing: RabbitMQ blocks the connection, others stop the flow of a channel.
    fn heed(&self, event: Event) {
        let blocked = match event {
            Event::ConnectionBlocked(reason) => Some(format!("the broker blocks publishers: {reason}")),
            Event::SendFlow(false) => Some("the broker blocks publishers (channel.flow)".to_owned()),
            Event::ConnectionUnblocked | Event::SendFlow(true) => None,
            // Says nothing about it.
            _ => return,
        };
        *self.blocked.lock().unwrap_or_else(PoisonError::into_inner) = blocked;
    }
}

/// Condemns the connection when a delivery is dropped unanswered: a confirm that nobody waits for says that something
/// is stuck, and would be kept for ever. Not so while the broker blocks: then it is known what is stuck, and the
/// confirms come when that is over.
struct Waiting<'s>(Option<&'s State>);

impl Waiting<'_> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0
            && state.blocked().is_none()
        {
            state.abandoned.cancel();
        }
    }
}

impl Link {
    /// Starts the task.
    pub(super) fn start(open: Open, broker: Arc<Broker>, tasks: &TaskTracker) -> Self {
        let (publications, waiting) = mpsc::channel(QUEUE);
        let state = Arc::new(State {
            abandoned: CancellationToken::new(),
            closing: CancellationToken::new(),
            confirmed: AtomicBool::new(false),
            blocked: Mutex::default(),
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

    /// Publishes and waits for the confirm of this message only. While the broker blocks publishers nothing is published,
    /// and the answer is there at once. Dropping the future condemns the connection, unless the broker blocks.
    pub(super) async fn publish(self, message: Message) -> Outcome {
        if let Some(reason) = self.state.blocked() {
            return Outcome::transient(reason);
        }
        let waiting = Waiting(Some(&self.state));
        let (reply, outcome) = oneshot::channel();
        let answered = match self.publications.send(Publication { message, reply }).await {
            Ok(()) => outcome.await.ok(),
            Err(_) => None,
        };
        waiting.answered();
        answered.unwrap_or_else(|| Outcome::transient(self.end()))
    }
}

async fn run(mut open: Open, broker: Arc<Broker>, mut waiting: mpsc::Receiver<Publication>, state: Arc<State>) {
    let mut confirms = Confirms::new(open.channel.clone(), broker.exchange.clone(), open.opened);
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
            Some(event) = open.events.next() => match event {
                Event::Error(error) => break format!("the connection was lost: {error}"),
                event => state.heed(event),
            },
            taken = waiting.recv_many(&mut batch, QUEUE) => {
                if taken == 0 {
                    break "closed".to_owned();
                }
                if confirms.outstanding() > MAX_OUTSTANDING {
                    break "the broker does not confirm what was published before it blocked publishers".to_owned();
                }
                let blocked = state.blocked();
                for publication in batch.drain(..) {
                    match &blocked {
                        None => confirms.publish(publication),
                        // An error means that the delivery is gone; its message was never sent.
                        Some(reason) => drop(publication.reply.send(Outcome::transient(reason))),
                    }
                }
            }
            () = state.closing.cancelled(), if !confirms.is_awaited() => break "closed".to_owned(),
        }
    };
    // Known before the first delivery hears of it: dropping `waiting` and `confirms` answers them all.
    let _ = state.end.set(end);
    drop((waiting, confirms));
    open.close().await;
}
