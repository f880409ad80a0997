//! Which message a confirm is about.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation};
use tokio::sync::oneshot;

use crate::model::{Outcome, Seq};

use super::link::Publication;
use super::message;

/// Messages published and not yet confirmed.
///
/// The broker sends a message that it cannot route back, and then confirms it like any other. lapin keeps the one
/// that came back until the *next* confirm that it settles, and hands it out with that, whichever message that is
/// about: with many outstanding, and with one confirm that settles several in no order, `Ack` with a returned message
/// says nothing about its own message, and `Ack` with none proves nothing alone. What does hold: when a message
/// that came back settles with none, the one that took it has settled before. So everything that has settled is
/// collected until there is no more, and only then answered, by the number inside the message that came back.
///
/// All publishing happens here, too: lapin numbers a message and queues it in two steps, which two tasks on one
/// channel could interleave, and then every later confirm would be about another message.
pub(super) struct Confirms {
    channel: Channel,
    exchange: ShortString,
    in_flight: Vec<InFlight>,
    /// Came back, and not settled yet.
    returned: HashSet<Seq>,
}

struct InFlight {
    seq: Seq,
    routing_key: ShortString,
    reply: oneshot::Sender<Outcome>,
    confirm: Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>,
}

/// A message and what the broker said.
pub(super) struct Settled {
    message: InFlight,
    confirmation: lapin::Result<Confirmation>,
}

impl Confirms {
    pub(super) fn new(channel: Channel, exchange: ShortString) -> Self {
        Self { channel, exchange, in_flight: Vec::new(), returned: HashSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Takes a message; it is sent when [`Self::poll_settled`] is polled next.
    pub(super) fn publish(&mut self, Publication { message, reply }: Publication) {
        let (channel, exchange) = (self.channel.clone(), self.exchange.clone());
        let routing_key = message.routing_key.clone();
        let confirm = Box::pin(async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent =
                channel.basic_publish(exchange, message.routing_key, options, &message.payload, message.properties);
            sent.await?.await
        });
        self.in_flight.push(InFlight { seq: message.seq, routing_key, reply, confirm });
    }

    /// Ready with every message that has settled, as soon as one has.
    pub(super) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Settled>> {
        let mut settled = Vec::new();
        loop {
            let before = settled.len();
            let mut at = 0;
            while let Some(message) = self.in_flight.get_mut(at) {
                match message.confirm.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(confirmation) => {
                        settled.push(Settled { message: self.in_flight.swap_remove(at), confirmation });
                    }
                }
            }
            if settled.len() == before {
                break;
            }
        }
        if settled.is_empty() { Poll::Pending } else { Poll::Ready(settled) }
    }

    /// Tells the deliveries. The number of messages that the broker has taken, or why the channel is of no more use;
    /// deliveries that are not told by then are told when this is dropped.
    pub(super) fn answer(&mut self, settled: Vec<Settled>) -> Result<usize, String> {
        for Settled { confirmation, .. } in &settled {
            if let Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) = confirmation {
                let seq = message::seq(&back.delivery.properties);
                self.returned.insert(seq.ok_or("the broker returned a message that is not ours")?);
            }
        }
        let mut delivered = 0;
        let mut lost = None;
        for Settled { message, confirmation } in settled {
            let outcome = match confirmation {
                Ok(Confirmation::Ack(_)) if self.returned.contains(&message.seq) => {
                    let (exchange, key) = (&self.exchange, &message.routing_key);
                    Outcome::transient(format!("no queue is bound to exchange '{exchange}' for routing key '{key}'"))
                }
                Ok(Confirmation::Ack(_)) => {
                    delivered += 1;
                    Outcome::delivered("confirmed")
                }
                Ok(Confirmation::Nack(_)) => Outcome::transient("the broker refused the message (basic.nack)"),
                Ok(Confirmation::NotRequested) => Outcome::transient("the channel does not confirm"),
                Err(error) => {
                    let reason = format!("not confirmed: {error}");
                    lost.get_or_insert_with(|| reason.clone());
                    Outcome::transient(reason)
                }
            };
            // A delivery that is gone has timed out: for it the outcome is unknown.
            let _ = message.reply.send(outcome);
        }
        self.returned.retain(|seq| self.in_flight.iter().any(|message| message.seq == *seq));
        lost.map_or(Ok(delivered), Err)
    }
}
