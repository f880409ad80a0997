//! The one writer: a thread that takes what is waiting, writes it in one transaction with one fsync, and only then
//! answers everyone. What is asked of it besides appends is an [`Errand`]: it shares the transaction, and fails alone.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::append::{Append, Names, append};
use super::checkpoint::Checkpoints;
use super::errand::Errand;
use super::failure::Failure;
use super::fault::{Fault, explain};
use super::index::Index;
use super::lock::Lock;
use super::not_kept;
use super::open::Opened;
use super::paths::{Moved, Paths};
use super::quarantine::{Quarantine, Removed};
use super::refusals::{self, Refusal};
use super::shared::Shared;
use crate::clock::Clock;
use crate::inbox::{AppendKind, Appended, Config, QuarantineOutcome, Unavailable, micros};
use crate::metrics::Metrics;
use crate::model::Seq;

/// Writes in one transaction, and bytes of their bodies: what fits well within a second on a slow disk.
const MAX_BATCH: usize = 512;
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Refused requests in one transaction, and their bytes: a flood of them must not hold up the senders beside it.
const MAX_REFUSED: usize = 128;
const MAX_REFUSED_BYTES: usize = 1 << 20;
/// How often the work behind the acknowledgement is done: arrivals, gauges, a try after trouble.
const TICK: Duration = Duration::from_millis(250);
/// Arrivals waiting to be written; more are written at once, and while that fails twice as many are kept.
const MAX_ARRIVALS: usize = 10_000;
/// Between two tries to load the dedup filter.
const FILTER_AGAIN: Duration = Duration::from_secs(10);

/// What the writer is asked to do.
pub(super) enum Command {
    Append(Box<Append>),
    Errand(Box<dyn Errand>),
    Quarantine(Box<Refusal>),
    /// Whether the dedup filter was loaded.
    FilterLoaded(bool),
    /// A pass of the thread for checkpoints is over.
    Checkpointed(rusqlite::Result<()>),
    Close,
}

/// What a write came to, to be answered after the commit.
enum Written {
    Append(Appended),
    Errand(Result<Carried, Unavailable>),
    Quarantine(QuarantineOutcome),
}

/// What an errand left to be done once it is committed.
struct Carried {
    changed: bool,
    removed: Vec<Removed>,
}

impl Written {
    fn reached_the_disk(&self) -> bool {
        match self {
            Self::Append(appended) => appended.kind != AppendKind::Duplicate,
            Self::Errand(result) => result.as_ref().is_ok_and(|carried| carried.changed),
            // It may have been there before.
            Self::Quarantine(_) => false,
        }
    }
}

pub(super) struct Writer {
    path: PathBuf,
    paths: Paths,
    /// Set once one of the files is not where it was: nothing is written any more.
    moved: Option<Moved>,
    index: Index,
    names: Names,
    quarantine: Quarantine,
    /// Refused requests that wait for their turn.
    refused: VecDeque<Box<Refusal>>,
    /// Duplicates by the seq of their first copy: how many, and when last.
    arrivals: HashMap<i64, (i64, i64)>,
    last_seq: i64,
    ticked: Instant,
    /// When the dedup filter's load last failed.
    filter_failed: Option<Instant>,
    /// Before the connection: its own is closed first.
    checkpoints: Checkpoints,
    connection: Connection,
    /// What the thread's last pass came to.
    checkpointed: Option<rusqlite::Result<()>>,
    /// Whether the last checkpoint failed.
    checkpoint_fails: bool,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    shared: Arc<Shared>,
    /// For the filter's loader to answer to.
    commands: Sender<Command>,
    /// Last: nothing is written any more when it is let go of.
    _lock: Lock,
}

impl Writer {
    /// Reads what the writer must know: the last seq, the keys above the watermark, the quarantine's sizes.
    pub(super) fn new(
        config: &Config,
        opened: Opened,
        lock: Lock,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        shared: Arc<Shared>,
        commands: Sender<Command>,
    ) -> rusqlite::Result<Self> {
        let Opened { connection, paths } = opened;
        let last_seq = connection.query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0))?;
        let writer = Self {
            path: config.path.clone(),
            paths: paths.with_lock(&lock),
            moved: None,
            index: Index::load(&connection, config.dedup_memory)?,
            names: Names::default(),
            quarantine: Quarantine::load(&connection, config.quarantine)?,
            refused: VecDeque::new(),
            arrivals: HashMap::new(),
            last_seq,
            ticked: Instant::now(),
            filter_failed: None,
            checkpoints: Checkpoints::new(&config.path, commands.clone(), Arc::clone(&shared.may_read)),
            checkpointed: None,
            checkpoint_fails: false,
            clock,
            metrics,
            shared,
            commands,
            connection,
            _lock: lock,
        };
        writer.publish_head();
        writer.measure();
        Ok(writer)
    }

    /// Works until told to close, or until the storage fails for good.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut batch = Vec::new();
        loop {
            self.load_filter_if_needed();
            let wait = if self.refused.is_empty() { TICK } else { Duration::ZERO };
            let closing = match commands.recv_timeout(wait) {
                Ok(first) => self.gather(first, commands, &mut batch),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            self.add_refused(&mut batch);
            if !batch.is_empty() {
                self.commit(&mut batch);
            }
            if self.ticked.elapsed() >= TICK {
                self.look_at_files();
            }
            let full = self.arrivals.len() > MAX_ARRIVALS && self.shared.trouble().is_none();
            if !self.is_over() && (closing || full || self.ticked.elapsed() >= TICK) {
                self.housekeep();
            }
            // Nothing is built upon what a failed fsync left behind.
            if !self.is_over() {
                self.checkpoint_if_due();
            }
            if closing || self.is_over() {
                break;
            }
        }
        self.shared.close();
        // Whoever is still waiting learns at once: the replies are dropped with their commands.
        while commands.try_recv().is_ok() {}
        self.end();
    }

    /// Whether nothing may be written any more.
    fn is_over(&self) -> bool {
        self.moved.is_some() || self.shared.has_failed()
    }

    /// Takes what is waiting, up to a batch; true when told to close.
    fn gather(&mut self, first: Command, commands: &Receiver<Command>, batch: &mut Vec<Command>) -> bool {
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Append(append) => {
                    let body = append.event.delivery.body().len();
                    self.shared.taken(body);
                    bytes += body;
                    batch.push(Command::Append(append));
                }
                Command::Errand(_) => batch.push(command),
                Command::Quarantine(refusal) => self.refused.push_back(refusal),
                Command::FilterLoaded(is_loaded) => {
                    self.filter_failed = (!is_loaded).then(Instant::now);
                    self.index.filter.install(is_loaded);
                }
                Command::Checkpointed(result) => self.checkpointed = Some(result),
                Command::Close => return true,
            }
            let full = batch.len() >= MAX_BATCH || bytes >= MAX_BATCH_BYTES;
            next = if full { None } else { commands.try_recv().ok() };
        }
        false
    }

    /// Adds some of the refused requests that wait to a batch.
    fn add_refused(&mut self, batch: &mut Vec<Command>) {
        let (mut count, mut bytes) = (0, 0);
        while count < MAX_REFUSED && bytes < MAX_REFUSED_BYTES {
            let Some(refusal) = self.refused.pop_front() else { return };
            count += 1;
            bytes += refusals::weight(&refusal.refused);
            batch.push(Command::Quarantine(refusal));
        }
    }

    /// One transaction, one fsync, then the answers. On failure nothing of it stays, in the file or in memory,
    /// before anyone is answered.
    fn commit(&mut self, batch: &mut Vec<Command>) {
        let started = Instant::now();
        let committed_seq = self.last_seq;
        match self.transact(batch) {
            Ok(written) => {
                self.index.committed();
                for (source, at) in self.quarantine.committed() {
                    self.shared.not_kept.count(&source, at);
                }
                let new_events = self.last_seq - committed_seq;
                if new_events > 0 {
                    self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                    self.metrics.batch_events.observe(f64::from(u32::try_from(new_events).unwrap_or(u32::MAX)));
                    self.publish_head();
                }
                // Duplicates write nothing: that they can be answered says nothing of the disk.
                if written.iter().any(Written::reached_the_disk) {
                    self.shared.set_trouble(None);
                }
                batch.drain(..).zip(written).for_each(|(command, written)| self.answer(command, written));
            }
            Err(Failure::Moved(moved)) => {
                self.note_moved(moved);
                batch.drain(..).for_each(|command| self.refuse(command, &Unavailable::Closed));
            }
            Err(Failure::Event(error)) => {
                self.roll_back(committed_seq);
                self.without_the_event(batch, &error);
            }
            Err(Failure::Storage(error)) => {
                self.roll_back(committed_seq);
                let unavailable = self.note_failure("a batch could not be committed", &error);
                batch.drain(..).for_each(|command| self.refuse(command, &unavailable));
            }
        }
    }

    fn transact(&mut self, batch: &mut [Command]) -> Result<Vec<Written>, Failure> {
        self.execute("BEGIN IMMEDIATE")?;
        self.quarantine.refresh(&self.connection)?;
        let before = self.last_seq;
        let written = batch.iter_mut().map(|command| self.write(command)).collect::<Result<Vec<_>, Failure>>()?;
        let new_events = usize::try_from(self.last_seq - before).unwrap_or_default();
        self.index.work(&self.connection, new_events)?;
        self.make_lasting()?;
        Ok(written)
    }

    /// Commits, with its fsync; and what is then on the disk must be in files that a start would find.
    fn make_lasting(&self) -> Result<(), Failure> {
        self.execute("COMMIT")?;
        Ok(self.paths.check_database()?)
    }

    fn write(&mut self, command: &mut Command) -> Result<Written, Failure> {
        match command {
            Command::Append(new) => {
                let appended = append(&self.connection, &mut self.index, &mut self.names, new, self.last_seq + 1)
                    .map_err(Failure::of_event)?;
                if appended.kind != AppendKind::Duplicate {
                    self.last_seq += 1;
                }
                Ok(Written::Append(appended))
            }
            Command::Errand(errand) => Ok(Written::Errand(self.carry_out(errand.as_mut())?)),
            Command::Quarantine(refusal) => {
                let kept = self.quarantine.keep(&self.connection, &refusal.refused, Instant::now());
                Ok(Written::Quarantine(kept.map_err(Failure::of_event)?))
            }
            Command::FilterLoaded(_) | Command::Checkpointed(_) | Command::Close => {
                unreachable!("these are taken out when a batch is gathered")
            }
        }
    }

    /// One asker's mistake must not cost the senders whose events are in the same transaction.
    fn carry_out(&self, errand: &mut dyn Errand) -> rusqlite::Result<Result<Carried, Unavailable>> {
        let before = self.connection.total_changes();
        self.execute("SAVEPOINT errand")?;
        let result = match errand.write(&self.connection, self.clock.now()) {
            Ok(removed) => Ok(Carried { changed: self.connection.total_changes() > before, removed }),
            Err(Fault::Storage(error)) => return Err(error),
            Err(Fault::Refused(why)) => {
                tracing::error!(what = errand.name(), why, "the inbox refused something that was asked of it");
                self.execute("ROLLBACK TO errand")?;
                Err(Unavailable::Refused(why))
            }
        };
        self.execute("RELEASE errand")?;
        Ok(result)
    }

    fn answer(&mut self, command: Command, written: Written) {
        // Nobody may be waiting any more: a sender past its deadline, a consumer that was stopped.
        match (command, written) {
            (Command::Append(append), Written::Append(appended)) => {
                if appended.kind == AppendKind::Duplicate {
                    self.count_arrival(appended.seq, micros(append.event.received_at));
                }
                _ = append.reply.send(Ok(appended));
            }
            (Command::Errand(errand), Written::Errand(result)) => {
                let result = result.map(|carried| carried.removed.iter().for_each(|gone| self.quarantine.forget(gone)));
                errand.answer(result);
            }
            (Command::Quarantine(refusal), Written::Quarantine(kept)) => {
                self.shared.refused.leave(&refusal.refused);
                _ = refusal.reply.send(Ok(kept));
            }
            _ => unreachable!("answers stand in the order of their commands"),
        }
    }

    fn refuse(&self, command: Command, why: &Unavailable) {
        match command {
            Command::Append(append) => _ = append.reply.send(Err(why.clone())),
            Command::Errand(errand) => errand.answer(Err(why.clone())),
            Command::Quarantine(refusal) => {
                self.shared.refused.leave(&refusal.refused);
                _ = refusal.reply.send(Err(why.clone()));
            }
            Command::FilterLoaded(_) | Command::Checkpointed(_) | Command::Close => {}
        }
    }

    fn count_arrival(&mut self, seq: Seq, at: i64) {
        if self.arrivals.len() < 2 * MAX_ARRIVALS || self.arrivals.contains_key(&seq.get()) {
            let arrival = self.arrivals.entry(seq.get()).or_default();
            *arrival = (arrival.0 + 1, at);
        }
    }

    fn roll_back(&mut self, committed_seq: i64) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            self.shared.fail(&format!("a failed transaction could not be rolled back: {error}"));
        }
        self.index.rolled_back(committed_seq);
        self.quarantine.rolled_back();
        self.names.clear();
        self.last_seq = committed_seq;
    }

    /// Logs a failure once, and decides whether it is for good: what a failed fsync left behind cannot be trusted
    /// until the next start has checkpointed it.
    fn note_failure(&self, what: &str, error: &rusqlite::Error) -> Unavailable {
        if is_fatal(error) {
            self.shared.fail(&explain(what, &self.path, error));
            Unavailable::Closed
        } else {
            self.shared.set_trouble(Some(explain(what, &self.path, error)));
            Unavailable::Storage(error.to_string())
        }
    }

    fn checkpoint_if_due(&mut self) {
        let result = match self.checkpointed.take() {
            Some(result) => self.checkpoints.after_pass(&self.connection, result),
            None => self.checkpoints.after_commit(&self.connection),
        };
        match result {
            Ok(()) => self.checkpoint_fails = false,
            Err(error) if is_fatal(&error) => _ = self.note_failure("a checkpoint failed", &error),
            // What is acknowledged is safe in the log, which grows until this works or the disk is full.
            Err(error) if !self.checkpoint_fails => {
                tracing::error!(%error, "the write-ahead log could not be written back; it is tried again");
                self.checkpoint_fails = true;
            }
            Err(_) => {}
        }
    }

    /// Arrivals, the numbers of refused requests that were not kept, and gauges, in a transaction of their own. After trouble
    /// this is also the try that tells whether it is over, so that the relay gets ready again without traffic.
    fn housekeep(&mut self) {
        self.ticked = Instant::now();
        let not_kept = self.shared.not_kept.take();
        if !self.arrivals.is_empty() || !not_kept.is_empty() || self.shared.trouble().is_some() {
            match self.write_behind(&not_kept) {
                Ok(()) => {
                    self.arrivals.clear();
                    self.shared.set_trouble(None);
                }
                Err(Failure::Moved(moved)) => self.note_moved(moved),
                Err(Failure::Storage(error) | Failure::Event(error)) => {
                    self.shared.not_kept.give_back(not_kept);
                    self.roll_back(self.last_seq);
                    _ = self.note_failure("numbers of arrivals could not be written", &error);
                }
            }
        }
        self.shared.look_at_trouble();
        _ = self.shared.altered.look(&self.connection);
        self.measure();
    }

    fn measure(&self) {
        self.metrics.quarantine_entries.set(i64::try_from(self.quarantine.entries()).unwrap_or(i64::MAX));
        self.metrics.inbox_bytes.set(file_bytes(&self.path));
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        self.metrics.wal_bytes.set(file_bytes(&PathBuf::from(wal)));
    }

    fn write_behind(&mut self, not_kept: &not_kept::Numbers) -> Result<(), Failure> {
        self.execute("BEGIN IMMEDIATE")?;
        for (&seq, &(again, last_at)) in &self.arrivals {
            self.connection
                .prepare_cached(
                    "INSERT INTO arrivals VALUES (?1, ?2, ?3) ON CONFLICT (seq)
                     DO UPDATE SET again = again + excluded.again, last_at = excluded.last_at",
                )?
                .execute([seq, again, last_at])?;
        }
        not_kept::write(&self.connection, not_kept)?;
        self.execute("UPDATE index_state SET watermark = watermark")?;
        self.make_lasting()
    }

    fn load_filter_if_needed(&mut self) {
        let too_soon = self.filter_failed.is_some_and(|at| at.elapsed() < FILTER_AGAIN);
        if too_soon {
            return;
        }
        let Some(load) = self.index.filter.begin_load() else { return };
        let (path, shared, commands) = (self.path.clone(), Arc::clone(&self.shared), self.commands.clone());
        let loader = std::thread::Builder::new().name("dedup-filter".to_owned()).spawn(move || {
            let is_loaded = load.run(&path, &shared.closed).unwrap_or_else(|error| {
                tracing::warn!(%error, "the dedup filter could not be loaded: every id is looked up until it is");
                false
            });
            _ = commands.send(Command::FilterLoaded(is_loaded));
        });
        if let Err(error) = loader {
            tracing::warn!(%error, "the dedup filter's thread could not be started");
            self.filter_failed = Some(Instant::now());
            self.index.filter.install(false);
        }
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn publish_head(&self) {
        self.shared.head.send_replace(Seq::new(self.last_seq).expect("places in the log are positive"));
    }
}

/// A failed fsync (the pages that it was for may be gone), or a file that is no longer a sound database.
fn is_fatal(error: &rusqlite::Error) -> bool {
    match error.sqlite_error() {
        Some(error) => {
            matches!(error.extended_code, rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC)
                || matches!(error.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        }
        None => false,
    }
}

fn file_bytes(path: &std::path::Path) -> i64 {
    std::fs::metadata(path).map_or(0, |file| i64::try_from(file.len()).unwrap_or(i64::MAX))
}

mod alone;
mod ending;
#[cfg(test)]
mod tests;
