//! The inbox as one consumer sees it: slow at times, failing at times, and the place where the process dies.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use super::stage::{Stage, Who};
use crate::clock::Uptime;
use crate::inbox::{
    Advance, Appended, Because, BelievedClock, ConfiguredSink, ConsumerId, ConsumerState, EventOutline, Inbox, Job,
    JobUpdate, NewEvent, NewJob, Progress, QuarantineFilter, QuarantineOutcome, Quarantined, Refused, Registered,
    Registration, Released, Selection, SinkDefinition, Slice, StoredEvent, Unavailable,
};
use crate::model::{Digest, JobId, Seq, SinkName, Start};

/// See the module. What consumers do not call goes straight through.
pub(super) struct Unsteady {
    pub stage: Arc<Stage>,
    pub who: Who,
}

fn failure() -> Unavailable {
    Unavailable::Storage("simulated".to_owned())
}

impl Unsteady {
    async fn read_slowly(&self) -> Result<(), Unavailable> {
        let plan = &self.stage.plan.inbox;
        self.stage.pass(plan.latency).await;
        if self.stage.mishap(plan.failing_reads) { Err(failure()) } else { Ok(()) }
    }
}

#[async_trait]
impl Inbox for Unsteady {
    async fn read_after(&self, after: Seq, limit: usize, of: Option<Selection>) -> Result<Slice, Unavailable> {
        self.stage.step(format!("{} reads after {after}", self.who)).await;
        self.read_slowly().await?;
        let slice = self.stage.memory.read_after(after, limit, of).await?;
        self.stage.step(format!("{} has read to {}", self.who, slice.read_to)).await;
        Ok(slice)
    }

    async fn note_altered(&self, found: Vec<(Seq, Digest)>) -> Result<(), Unavailable> {
        self.stage.memory.note_altered(found).await
    }

    async fn note_definition(
        &self,
        sink: SinkName,
        definition: SinkDefinition,
        because: Because,
    ) -> Result<(), Unavailable> {
        self.stage.memory.note_definition(sink, definition, because).await
    }

    async fn outlines(&self, seqs: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        self.stage.step(format!("{} looks at {seqs:?}", self.who)).await;
        self.read_slowly().await?;
        self.stage.memory.outlines(seqs).await
    }

    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        self.stage.reads(self.who, &seqs);
        self.stage.step(format!("{} reads {seqs:?}", self.who)).await;
        let found = match self.read_slowly().await {
            Ok(()) => self.stage.memory.read(seqs.clone()).await?,
            Err(error) => {
                self.stage.has_read(self.who, &seqs, &[]);
                return Err(error);
            }
        };
        self.stage.step(format!("{} has read {}", self.who, found.len())).await;
        self.stage.has_read(self.who, &seqs, &found);
        Ok(found)
    }

    async fn consumer(&self, who: Registration, route: String) -> Result<ConsumerState, Unavailable> {
        self.stage.step(format!("{} registers", self.who)).await;
        self.read_slowly().await?;
        let state = self.stage.memory.consumer(who, route).await?;
        self.stage.registered(self.who, &state);
        self.stage.step(format!("{} is registered", self.who)).await;
        Ok(state)
    }

    async fn register_sinks(&self, sinks: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable> {
        self.stage.memory.register_sinks(sinks).await
    }

    async fn has_sink(&self, name: SinkName) -> Result<bool, Unavailable> {
        self.stage.memory.has_sink(name).await
    }

    async fn note_built(&self, consumer: ConsumerId, failure: Option<String>) -> Result<(), Unavailable> {
        self.stage.memory.note_built(consumer, failure).await
    }

    async fn record(&self, progress: Progress) -> Result<(), Unavailable> {
        let (stage, who, plan) = (&self.stage, self.who, &self.stage.plan.inbox);
        stage.hand_over(who, progress.clone());
        let (attempts, cursor) = (progress.attempts.len(), progress.cursor);
        stage.step(format!("{who} records {attempts} attempts, and its cursor {cursor}")).await;
        stage.pass(plan.latency).await;
        // Once more: it may have died meanwhile.
        stage.step(format!("{who}: its record's turn has come")).await;
        if stage.is_out(&plan.outages) || stage.mishap(plan.failing_records) {
            stage.arrived(who, false);
            stage.count("failed records");
            return Err(failure());
        }
        stage.write(who, progress);
        stage.arrived(who, true);
        stage.step(format!("{who} has recorded")).await;
        if stage.mishap(plan.lost_answers) {
            // For all that its consumer knows.
            stage.arrived(who, false);
            stage.count("lost answers");
            return Err(failure());
        }
        Ok(())
    }

    /// Every turn of a consumer begins with it.
    fn trouble(&self) -> Option<String> {
        self.stage.turns(self.who);
        self.stage.is_out(&self.stage.plan.inbox.outages).then(|| "simulated".to_owned())
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.stage.head(self.who)
    }

    async fn append(&self, event: NewEvent) -> Result<Appended, Unavailable> {
        self.stage.memory.append(event).await
    }

    async fn quarantine(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable> {
        self.stage.memory.quarantine(refused).await
    }

    async fn submit(&self, job: NewJob) -> Result<JobId, Unavailable> {
        self.stage.memory.submit(job).await
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        self.stage.memory.open_jobs().await
    }

    async fn advance(&self, job: JobId, sinks: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        self.stage.memory.advance(job, sinks).await
    }

    async fn update_job(&self, job: JobId, update: JobUpdate) -> Result<(), Unavailable> {
        self.stage.memory.update_job(job, update).await
    }

    async fn quarantined(
        &self,
        which: QuarantineFilter,
        bounds: (i64, i64),
        limit: usize,
    ) -> Result<Vec<Quarantined>, Unavailable> {
        self.stage.memory.quarantined(which, bounds, limit).await
    }

    async fn release(&self, job: JobId, portion: Released) -> Result<(), Unavailable> {
        self.stage.memory.release(job, portion).await
    }

    async fn note_clock(&self, uptime: Uptime) -> Result<BelievedClock, Unavailable> {
        self.stage.memory.note_clock(uptime).await
    }

    async fn failed(&self) -> String {
        self.stage.memory.failed().await
    }

    async fn close(&self) {}
}
