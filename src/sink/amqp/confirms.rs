//! Which message a confirm is about.

use std::collections::HashMap;
use std::task::{Context, Poll};

use jiff::Timestamp;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, ErrorKind};
use tokio::sync::oneshot;

use crate::model::{Outcome, Seq};

use super::link::Publication;
use super::message;
use super::pending::Pending;

/// Messages published and not yet confirmed.
///
/// The broker sends a message that it cannot route back, and then confirms it like any other. lapin keeps the one
/// that came back until the *next* confirm that it settles, and hands it out with that, whichever message that is
/// about: with many outstanding, and with one confirm that settles several in no order, `Ack` with a returned message
/// says nothing about its own message, and `Ack` with none proves nothing alone. What does hold: when a message
/// that came back settles with none, the one that took it has settled before. So everything that has settled is
/// collected until there is no more, and only then answered, by the number inside the message that came back.
///
/// Only messages that lapin has woken are asked, so a confirm costs the same however many are outstanding. That leaves
/// nothing out: lapin settles one message after the other, and wakes each before it settles the next, so when a message
/// is seen to have settled, those that settled before it have been woken, and [`Pending`] has asked them, too.
///
/// All publishing happens here, too: lapin numbers a message and queues it in two steps, which two tasks on one
/// channel could interleave, and then every later confirm would be about another message.
pub(super) struct Confirms {
    channel: Channel,
    exchange: ShortString,
    /// When the channel was opened: with a message's number, it names one confirm of all.
    opened: Timestamp,
    /// The number of the last message. Broker and lapin count alike: 1 for the first message after `confirm.select`,
    /// in the order of publishing. lapin keeps the number to itself, and counts when a message's future is polled for
    /// the first time, which happens in the order of [`Self::publish`]. Only a channel that is over refuses a message
    /// without counting it, and then it refuses all that follow.
    last: u64,
    in_flight: HashMap<u64, InFlight>,
    confirms: Pending<lapin::Result<Confirmation>>,
    /// How often an event is in flight: twice, when it was given up while the broker blocked, and came again.
    copies: HashMap<Seq, u32>,
    /// Came back, with the broker's reason, and not settled yet.
    returned: HashMap<Seq, String>,
}

struct InFlight {
    seq: Seq,
    routing_key: ShortString,
    size: usize,
    reply: oneshot::Sender<Outcome>,
}

/// A message and what the broker said.
pub(super) struct Settled {
    number: u64,
    message: InFlight,
    confirmation: lapin::Result<Confirmation>,
}

impl Confirms {
    pub(super) fn new(channel: Channel, exchange: ShortString, opened: Timestamp) -> Self {
        Self {
            channel,
            exchange,
            opened,
            last: 0,
            in_flight: HashMap::new(),
            confirms: Pending::new(),
            copies: HashMap::new(),
            returned: HashMap::new(),
        }
    }

    /// How many are published and not confirmed.
    pub(super) fn outstanding(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether a delivery still waits for its confirm.
    pub(super) fn is_awaited(&self) -> bool {
        self.in_flight.values().any(|message| !message.reply.is_closed())
    }

    /// Takes a message; it is sent when [`Self::poll_settled`] is polled next.
    pub(super) fn publish(&mut self, Publication { message, reply }: Publication) {
        let (channel, exchange) = (self.channel.clone(), self.exchange.clone());
        let (seq, routing_key, size) = (message.seq, message.routing_key.clone(), message.payload.len());
        self.last += 1;
        self.in_flight.insert(self.last, InFlight { seq, routing_key, size, reply });
        *self.copies.entry(seq).or_default() += 1;
        self.confirms.push(self.last, async move {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent =
                channel.basic_publish(exchange, message.routing_key, options, &message.payload, message.properties);
            let sent = sent.await?;
            drop(message.payload);
            sent.await
        });
    }

    /// Ready with every message that has settled, as soon as one has.
    pub(super) fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Vec<Settled>> {
        self.confirms.poll_done(cx).map(|done| {
            let settled = |(number, confirmation)| {
                let message = self.in_flight.remove(&number)?;
                Some(Settled { number, message, confirmation })
            };
            done.into_iter().filter_map(settled).collect()
        })
    }

    /// Tells the deliveries. The number of messages that the broker has taken, or why the channel is of no more use;
    /// deliveries that are not told by then are told when this is dropped.
    pub(super) fn answer(&mut self, settled: Vec<Settled>) -> Result<usize, String> {
        for Settled { confirmation, .. } in &settled {
            if let Ok(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) = confirmation {
                let seq = message::seq(&back.delivery.properties);
                let seq = seq.ok_or("the broker returned a message that is not ours")?;
                self.returned.insert(seq, format!("{} {}", back.reply_code, back.reply_text));
            }
        }
        let mut delivered = 0;
        let mut lost = None;
        for Settled { number, message, confirmation } in settled {
            let outcome = match confirmation {
                Ok(Confirmation::Ack(_)) => match self.returned.get(&message.seq) {
                    Some(words) => {
                        let (exchange, key) = (&self.exchange, &message.routing_key);
                        let why = format!("no queue is bound to exchange '{exchange}' for routing key '{key}'");
                        Outcome::transient(why).with_answer(words)
                    }
                    None => {
                        delivered += 1;
                        Outcome::delivered(format!("confirm {number} on channel of {:.3}", self.opened))
                    }
                },
                Ok(Confirmation::Nack(_)) => Outcome::transient("the broker refused the message (basic.nack)"),
                Ok(Confirmation::NotRequested) => Outcome::transient("the channel does not confirm"),
                Err(error) => {
                    lost.get_or_insert_with(|| not_confirmed(&error));
                    if is_too_large(&error, message.size) {
                        Outcome::permanent(format!("the broker takes no message of this size: {error}"))
                    } else {
                        Outcome::transient(not_confirmed(&error))
                    }
                }
            };
            // A delivery that is gone has timed out: for it the outcome is unknown.
            let _ = message.reply.send(outcome);
            self.forget(message.seq);
        }
        self.returned.retain(|seq, _| self.copies.contains_key(seq));
        lost.map_or(Ok(delivered), Err)
    }

    fn forget(&mut self, seq: Seq) {
        if let Some(copies) = self.copies.get_mut(&seq) {
            *copies -= 1;
            if *copies == 0 {
                self.copies.remove(&seq);
            }
        }
    }
}

fn not_confirmed(error: &lapin::Error) -> String {
    format!("not confirmed: {error}")
}

/// RabbitMQ closes the channel over a message that is larger than its `max_message_size`, and with the channel go the
/// confirms of all the others: the one that is to blame must not come again and again. It is found by its size.
fn is_too_large(error: &lapin::Error, size: usize) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return false };
    error.get_message().as_str().contains(&format!("message size {size} is larger than"))
}
