//! An inbox that fails where a test says so.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::clock::Uptime;
use crate::inbox::sqlite::SqliteInbox;
use crate::inbox::{
    Advance, Appended, Because, BelievedClock, ConsumerId, ConsumerState, EventOutline, NewEvent, NewJob, Progress,
    QuarantineFilter, QuarantineOutcome, Quarantined, Refused, Registered, Registration, Released, Selection,
    SinkDefinition, Slice, StoredEvent,
};
use crate::model::{Digest, Seq, Start};

/// An inbox of which a part can go wrong.
pub(super) struct Meddled {
    pub(super) inbox: SqliteInbox,
    /// Pruning goes on, and comes to no end.
    pub(super) endless: AtomicBool,
    /// No job is carried out within the inbox.
    pub(super) refuses: AtomicBool,
    /// Registrations still to be failed.
    pub(super) failures: AtomicUsize,
}

#[async_trait]
impl Inbox for Meddled {
    async fn append(&self, event: NewEvent) -> Result<Appended, Unavailable> {
        self.inbox.append(event).await
    }

    async fn quarantine(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable> {
        self.inbox.quarantine(refused).await
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.inbox.head()
    }

    async fn read_after(&self, after: Seq, limit: usize, of: Option<Selection>) -> Result<Slice, Unavailable> {
        self.inbox.read_after(after, limit, of).await
    }

    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        self.inbox.read(seqs).await
    }

    async fn note_altered(&self, found: Vec<(Seq, Digest)>) -> Result<(), Unavailable> {
        self.inbox.note_altered(found).await
    }

    async fn note_definition(
        &self,
        sink: SinkName,
        definition: SinkDefinition,
        because: Because,
    ) -> Result<(), Unavailable> {
        self.inbox.note_definition(sink, definition, because).await
    }

    async fn outlines(&self, seqs: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        self.inbox.outlines(seqs).await
    }

    async fn consumer(&self, who: Registration, route: String) -> Result<ConsumerState, Unavailable> {
        if self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Unavailable::Storage("too many open files".to_owned()));
        }
        self.inbox.consumer(who, route).await
    }

    async fn register_sinks(&self, sinks: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable> {
        self.inbox.register_sinks(sinks).await
    }

    async fn has_sink(&self, name: SinkName) -> Result<bool, Unavailable> {
        self.inbox.has_sink(name).await
    }

    async fn note_built(&self, consumer: ConsumerId, failure: Option<String>) -> Result<(), Unavailable> {
        self.inbox.note_built(consumer, failure).await
    }

    async fn record(&self, progress: Progress) -> Result<(), Unavailable> {
        self.inbox.record(progress).await
    }

    async fn submit(&self, job: NewJob) -> Result<JobId, Unavailable> {
        self.inbox.submit(job).await
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        self.inbox.open_jobs().await
    }

    async fn advance(&self, job: JobId, sinks: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        if self.refuses.load(SeqCst) {
            return Err(Unavailable::Storage("no".to_owned()));
        }
        if self.endless.load(SeqCst) {
            tokio::task::yield_now().await;
            return Ok(Advance::default());
        }
        self.inbox.advance(job, sinks).await
    }

    async fn update_job(&self, job: JobId, update: JobUpdate) -> Result<(), Unavailable> {
        self.inbox.update_job(job, update).await
    }

    async fn quarantined(
        &self,
        which: QuarantineFilter,
        bounds: (i64, i64),
        limit: usize,
    ) -> Result<Vec<Quarantined>, Unavailable> {
        self.inbox.quarantined(which, bounds, limit).await
    }

    async fn release(&self, job: JobId, portion: Released) -> Result<(), Unavailable> {
        self.inbox.release(job, portion).await
    }

    async fn note_clock(&self, uptime: Uptime) -> Result<BelievedClock, Unavailable> {
        self.inbox.note_clock(uptime).await
    }

    fn trouble(&self) -> Option<String> {
        self.inbox.trouble()
    }

    async fn failed(&self) -> String {
        self.inbox.failed().await
    }

    async fn close(&self) {
        self.inbox.close().await;
    }
}
