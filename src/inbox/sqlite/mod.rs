//! The inbox in one SQLite file: a writer thread (`writer`), readers of their own, and an index for exact
//! deduplication that is kept off the acknowledging commit (`index`).

mod altered;
mod answers;
mod append;
mod backup;
mod believed;
mod checkpoint;
mod consumer;
mod desk;
mod errand;
mod failure;
mod fault;
mod holds;
mod index;
mod job;
mod letters;
mod lock;
mod not_kept;
mod open;
mod parked;
mod paths;
mod progress;
mod quarantine;
mod quarantine_budget;
mod query;
mod reader;
mod refusals;
mod revisions;
mod rows;
mod shared;
mod stale;
#[cfg(test)]
mod tests;
mod trouble;
mod writer;

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot, watch};

pub use backup::{BackupError, Made, Stage, Watch, back_up};
pub use desk::Desk;
pub use lock::{Lock, Waiting};
pub use open::OpenError;
pub use reader::{Direction, Named, NamesFound, ParkedPlace, ReadError, Reader};

use self::append::Append;
use self::errand::{Worked, errand};
use self::refusals::Refusal;
use self::shared::Shared;
use self::writer::{Command, Writer};
use super::{
    Advance, Altered, Appended, Because, BelievedClock, Config, ConfiguredSink, ConsumerId, ConsumerState,
    EventOutline, Inbox, Job, JobUpdate, NewEvent, NewJob, NoRoom, Progress, QuarantineFilter, QuarantineOutcome,
    Quarantined, Refused, Registered, Registration, Released, Selection, SinkDefinition, Slice, StoredEvent,
    Unavailable,
};
use crate::clock::{Clock, Uptime};
use crate::metrics::Metrics;
use crate::model::{Digest, JobId, Seq, SinkName, Start};

/// Appends handed over and not yet taken by the writer: four full batches. Beyond, senders are told to come back.
const MAX_WAITING: usize = 2048;
/// Bytes of their bodies. Their senders may have gone by now: what bounds the requests in hand does not bound these.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Outlines read in one snapshot.
const OUTLINES: usize = 4096;
/// How long opening waits for another program that has locked the database.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections for reading: more reads wait, so that a thousand parked events that are due at once do not open a
/// thousand files.
const MAX_READERS: usize = 4;

/// How long a portion of a job waits while senders do, and how often.
const PORTION_WAIT: Duration = Duration::from_millis(5);
const PORTION_WAITS: u32 = 20;

/// The inbox of the process that holds its lock.
pub struct SqliteInbox {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    path: PathBuf,
    readers: Arc<Mutex<Vec<Reader>>>,
    may_read: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteInbox {
    /// Opens the inbox: makes its log durable, brings its schema up to date, loads the newest keys, and starts the writer.
    /// Blocks while it does; what it reads is bounded, whatever the size of the log. While another program has locked the
    /// database it waits for 10 s. The lock is let go of when the writer has ended: dropping the inbox only asks it to.
    pub fn open(config: &Config, lock: Lock, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let until = Instant::now() + PATIENCE;
        Self::open_patiently(config, lock, clock, metrics, &mut |_| match Instant::now() < until {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    }

    /// The same; `patience` decides, each time that the database was found locked, whether to try again.
    pub fn open_patiently(
        config: &Config,
        lock: Lock,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        patience: &mut dyn FnMut(&OpenError) -> ControlFlow<()>,
    ) -> Result<Self, OpenError> {
        let opened = open::open_writer(&config.path, patience)?;
        let (commands, receiver): (_, Receiver<Command>) = channel();
        let shared = Arc::new(Shared::new(Arc::clone(&metrics)));
        let writer = Writer::new(config, opened, lock, clock, metrics, Arc::clone(&shared), commands.clone())
            .map_err(|error| OpenError::sqlite(&config.path, error))?;
        let (fate, may_read) = (Arc::clone(&shared), Arc::clone(&shared.may_read));
        let thread = std::thread::Builder::new()
            .name("inbox-writer".to_owned())
            .spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| writer.run(&receiver))).is_err() {
                    fate.close();
                    fate.fail("the writer panicked: this is a bug");
                }
            })
            .map_err(|error| open::io_error(&config.path, error))?;
        Ok(Self {
            commands,
            shared,
            path: config.path.clone(),
            readers: Arc::default(),
            may_read,
            writer: Mutex::new(Some(thread)),
        })
    }

    fn let_go_of_readers(&self) {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn send(&self, command: Command) -> Result<(), Unavailable> {
        if self.shared.is_closed() {
            return Err(Unavailable::Closed);
        }
        self.commands.send(command).map_err(|_| Unavailable::Closed)
    }

    async fn keep(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable> {
        if !self.shared.refused.enter(&refused) {
            return Ok(QuarantineOutcome::NotKept(NoRoom::Busy));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Quarantine(Box::new(Refusal { refused, reply })))?;
        answer.await.unwrap_or(Err(Unavailable::Closed))
    }

    /// Has the writer do something besides appending, durably.
    async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnMut(&Connection, Timestamp) -> Worked<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (errand, answer) = errand(what, work);
        self.send(Command::Errand(errand))?;
        answer.await.unwrap_or(Err(Unavailable::Closed))
    }

    /// A portion of a job shares the transaction of the events beside it, so it waits for a moment in which no sender does:
    /// for a while, and then it goes on all the same.
    async fn let_senders_go_first(&self) {
        for _ in 0..PORTION_WAITS {
            if self.shared.waiting.load(Ordering::Relaxed) == 0 {
                break;
            }
            tokio::time::sleep(PORTION_WAIT).await;
        }
    }

    /// Tells of bodies that are not what came in. What cannot be noted now is found again when it is read again.
    async fn look_for_altered(&self, events: &[StoredEvent]) {
        let mut found = Vec::new();
        for event in events {
            match event.altered {
                Some(Altered::Other(digest)) => found.push((event.seq, digest)),
                Some(Altered::Missing) => self.shared.altered.raise_missing(event.seq),
                None => {}
            }
        }
        if !found.is_empty() {
            _ = self.note_altered(found).await;
        }
    }

    async fn with_reader<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (readers, path) = (Arc::clone(&self.readers), self.path.clone());
        let permit = Arc::clone(&self.may_read).acquire_owned().await.map_err(|_| Unavailable::Closed)?;
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = match idle {
                Some(reader) => reader,
                None => Reader::open_path(&path)?,
            };
            let result = read(&mut reader)?;
            readers.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
            Ok(result)
        });
        match reading.await {
            Ok(result) => result.map_err(|error: rusqlite::Error| Unavailable::Storage(error.to_string())),
            Err(_) => Err(Unavailable::Closed),
        }
    }
}

#[async_trait]
impl Inbox for SqliteInbox {
    async fn append(&self, event: NewEvent) -> Result<Appended, Unavailable> {
        let bytes = event.delivery.body().len();
        let waiting = self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting_bytes = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting >= MAX_WAITING || waiting_bytes >= MAX_WAITING_BYTES {
            self.shared.taken(bytes);
            return Err(Unavailable::Busy);
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Append(Box::new(Append::new(event, reply))))?;
        answer.await.unwrap_or(Err(Unavailable::Closed))
    }

    async fn quarantine(&self, refused: Refused) -> Result<QuarantineOutcome, Unavailable> {
        let (source, at) = (refused.rejected.delivery.source.clone(), refused.received_at);
        let kept = self.keep(refused).await;
        if kept != Ok(QuarantineOutcome::Kept) {
            self.shared.not_kept.count(source.as_str(), at);
        }
        kept
    }

    fn head(&self) -> watch::Receiver<Seq> {
        self.shared.head.subscribe()
    }

    async fn read_after(&self, after: Seq, limit: usize, of: Option<Selection>) -> Result<Slice, Unavailable> {
        let reading = self.with_reader(move |reader| match of {
            Some(selection) => reader.read_selected(&selection, after, limit),
            None => reader.read_after(after, limit),
        });
        let slice = reading.await?;
        self.look_for_altered(&slice.events).await;
        Ok(slice)
    }

    async fn read(&self, seqs: Vec<Seq>) -> Result<Vec<StoredEvent>, Unavailable> {
        let events = self.with_reader(move |reader| reader.read(&seqs)).await?;
        self.look_for_altered(&events).await;
        Ok(events)
    }

    async fn note_altered(&self, found: Vec<(Seq, Digest)>) -> Result<(), Unavailable> {
        self.shared.altered.raise(&found);
        self.ask("altered bodies", move |connection, now| {
            altered::note(connection, &found, now)?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn outlines(&self, seqs: Vec<Seq>) -> Result<Vec<EventOutline>, Unavailable> {
        let mut outlines = Vec::with_capacity(seqs.len());
        for some in seqs.chunks(OUTLINES) {
            let some = some.to_vec();
            outlines.extend(self.with_reader(move |reader| reader.outlines(&some)).await?);
        }
        Ok(outlines)
    }

    async fn register_sinks(&self, sinks: Vec<(SinkName, Start)>) -> Result<Vec<Registered>, Unavailable> {
        self.ask("the sinks of a configuration", move |connection, now| {
            Ok((consumer::register_sinks(connection, &sinks, now)?, Vec::new()))
        })
        .await
    }

    async fn has_sink(&self, name: SinkName) -> Result<bool, Unavailable> {
        self.with_reader(move |reader| reader.has_sink(&name)).await
    }

    async fn note_built(&self, id: ConsumerId, failure: Option<String>) -> Result<(), Unavailable> {
        self.ask("whether a sink is built", move |connection, now| {
            consumer::note_built(connection, id, failure.as_deref(), now)?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn note_definition(
        &self,
        sink: SinkName,
        definition: SinkDefinition,
        because: Because,
    ) -> Result<(), Unavailable> {
        self.ask("what a sink is", move |connection, now| {
            Ok((revisions::note(connection, &sink, &definition, because, now)?, Vec::new()))
        })
        .await
    }

    async fn consumer(&self, who: Registration, route: String) -> Result<ConsumerState, Unavailable> {
        self.ask("a registration", move |connection, now| {
            Ok((consumer::register(connection, &who, &route, now)?, Vec::new()))
        })
        .await
    }

    async fn record(&self, progress: Progress) -> Result<(), Unavailable> {
        self.ask("a consumer's progress", move |connection, _| {
            progress::record(connection, &progress)?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn submit(&self, job: NewJob) -> Result<JobId, Unavailable> {
        self.ask("a new job", move |connection, _| Ok((job::insert(connection, &job)?, Vec::new()))).await
    }

    async fn open_jobs(&self) -> Result<Vec<Job>, Unavailable> {
        let shared = Arc::clone(&self.shared);
        self.with_reader(move |reader| {
            reader.open_jobs(|job, error| {
                if shared.is_new_unreadable(job) {
                    tracing::warn!(job = job.get(), %error, "a job cannot be read, and waits for a newer version");
                }
            })
        })
        .await
    }

    async fn advance(&self, job: JobId, sinks: &[ConfiguredSink]) -> Result<Advance, Unavailable> {
        self.let_senders_go_first().await;
        let sinks = sinks.to_vec();
        self.ask("a job's next portion", move |connection, now| job::advance(connection, job, &sinks, now)).await
    }

    async fn update_job(&self, job: JobId, update: JobUpdate) -> Result<(), Unavailable> {
        self.ask("a job's state", move |connection, now| {
            job::update(connection, job, &update, now)?;
            Ok(((), Vec::new()))
        })
        .await
    }

    async fn quarantined(
        &self,
        which: QuarantineFilter,
        bounds: (i64, i64),
        limit: usize,
    ) -> Result<Vec<Quarantined>, Unavailable> {
        self.with_reader(move |reader| reader.quarantined_between(&which, bounds, limit)).await
    }

    async fn release(&self, job: JobId, portion: Released) -> Result<(), Unavailable> {
        self.ask("a release from the quarantine", move |connection, _| job::release(connection, job, &portion)).await
    }

    async fn note_clock(&self, uptime: Uptime) -> Result<BelievedClock, Unavailable> {
        self.ask("the time", move |connection, now| Ok((believed::note(connection, now, &uptime)?, Vec::new()))).await
    }

    fn trouble(&self) -> Option<String> {
        self.shared.trouble()
    }

    async fn failed(&self) -> String {
        let mut failure = self.shared.failure();
        let why = failure.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // Its sender lives as long as the inbox.
            None => std::future::pending().await,
        }
    }

    async fn close(&self) {
        // Whoever reads may hold up the log.
        self.let_go_of_readers();
        _ = self.send(Command::Close);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            _ = tokio::task::spawn_blocking(move || writer.join()).await;
        }
        self.let_go_of_readers();
    }
}

/// The writer has a sender of its own, so it does not end by itself.
impl Drop for SqliteInbox {
    fn drop(&mut self) {
        _ = self.send(Command::Close);
    }
}
