//! What a consumer does beside its loop: records, deliveries and reads, each a future whose end the loop takes in.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;

use super::{Consumer, Done, Landing, Work};
use crate::consume::core::Start;
use crate::consume::reading;
use crate::inbox::StoredEvent;
use crate::model::{Outcome, Seq};

/// Between two tries to record, while the inbox cannot write.
const RECORD_AGAIN: Duration = Duration::from_millis(500);
/// Between two tries to read the log, while it cannot be read.
const READ_AGAIN: Duration = Duration::from_millis(500);
/// Events that are read again at once, to be delivered.
const REREAD: usize = 64;
/// Events that a replay reads at once: the readers are there for live deliveries first.
const REPLAY_READ: usize = 64;

impl Consumer {
    pub(super) fn next_record(&mut self) -> Option<Work> {
        if self.recording {
            return None;
        }
        let after = if self.unwritten.is_some() { RECORD_AGAIN } else { Duration::ZERO };
        if self.unwritten.is_none() {
            self.unwritten = self.core.take_progress();
        }
        let (inbox, progress) = (Arc::clone(&self.deps.inbox), self.unwritten.clone()?);
        self.recording = true;
        Some(Box::pin(async move {
            rest(after).await;
            Done::Recorded(inbox.record(progress).await)
        }))
    }

    /// Nothing is handed over while its outcome could not be recorded.
    pub(super) fn next_deliveries(&mut self) -> Vec<Work> {
        if self.deps.inbox.trouble().is_some() {
            return Vec::new();
        }
        let (mut work, mut reread) = (Vec::new(), Vec::new());
        for start in self.core.start(self.deps.clock.now()) {
            match start {
                Start::Event(event) => work.push(self.deliver(*event)),
                Start::Reread(seq) => reread.push(seq),
            }
        }
        // Their bodies are bounded in bytes by the core, as all that is in flight.
        for seqs in reread.chunks(REREAD) {
            let (inbox, seqs) = (Arc::clone(&self.deps.inbox), seqs.to_vec());
            work.push(Box::pin(async move {
                let events = inbox.read(seqs.clone()).await;
                Done::Reread(seqs, events)
            }));
        }
        work
    }

    pub(super) fn next_read(&mut self, head: Seq) -> Option<Work> {
        let of = self.replay.as_ref().map(|(_, selection)| selection.clone());
        let end = of.as_ref().map_or(head, |selection| selection.last.min(head));
        let (after, limit) = self.core.wants().filter(|(after, _)| !self.reading && *after < end)?;
        let limit = if of.is_some() { limit.min(REPLAY_READ) } else { limit };
        self.reading = true;
        let (inbox, route) = (Arc::clone(&self.deps.inbox), Arc::clone(&self.route));
        let pause = self.pause_before_reading();
        Some(Box::pin(async move {
            rest(pause).await;
            Done::Read(reading::read(inbox.as_ref(), &route, after, limit, of).await)
        }))
    }

    pub(super) fn next_adoption(&mut self) -> Option<Work> {
        if self.adopting || self.revived.is_empty() {
            return None;
        }
        let parked = std::mem::take(&mut self.revived);
        self.adopting = true;
        let inbox = Arc::clone(&self.deps.inbox);
        let pause = self.pause_before_reading();
        Some(Box::pin(async move {
            rest(pause).await;
            let outlines = inbox.outlines(parked.iter().map(|parked| parked.seq).collect()).await;
            Done::Revived(parked, outlines)
        }))
    }

    fn pause_before_reading(&self) -> Duration {
        if self.unreadable { READ_AGAIN } else { Duration::ZERO }
    }

    pub(super) fn deliver(&self, event: StoredEvent) -> Work {
        let (sink, deps, timeout) = (Arc::clone(&self.sink), self.deps.clone(), self.config.timeout);
        let replay = self.replay.as_ref().map(|(job, _)| *job);
        Box::pin(async move {
            let seq = event.seq;
            if let Some(altered) = event.altered {
                return Done::Landed(Landing::Altered { seq, altered });
            }
            let Some(outgoing) = reading::outgoing(event, replay) else {
                return Done::Landed(Landing::Bodiless { seq });
            };
            let (at, began) = (deps.clock.now(), tokio::time::Instant::now());
            let delivery = AssertUnwindSafe(sink.deliver(&outgoing)).catch_unwind();
            let outcome = match tokio::time::timeout(timeout, delivery).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Outcome::transient("the sink panicked: this is a bug"),
                Err(_) => Outcome::transient(format!("no answer within {timeout:?}: unknown whether it arrived")),
            };
            Done::Landed(Landing::Attempt { seq, at, latency: began.elapsed(), outcome })
        })
    }
}

/// A sleep of no time at all would still last until the timer's next tick.
async fn rest(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
