//! Plays a schedule: processes one after the other, until everything is well and nothing is left to do.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::checks;
use super::inbox::Unsteady;
use super::plan::{Action, Plan};
use super::sink::Far;
use super::stage::{Stage, Who};
use crate::clock::Clock as _;
use crate::consume::{Consumer, Deps, End, Handle};
use crate::inbox::contract::{job, new_event};
use crate::inbox::{
    Change, ConfiguredSink, EventFilter, Inbox as _, JobState, JobUpdate, LetterFilter, NewEvent, Selection, Task,
};
use crate::metrics::Metrics;
use crate::model::{JobId, Seq, SinkName};

/// Between two tries to begin, and to see whether there is nothing left to do.
const AGAIN: Duration = Duration::from_millis(500);
/// Everything is well by now, or never will be.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a process ended.
enum Fate {
    Died,
    /// In good order, to be started again.
    Stopped,
    /// There is nothing left to do.
    AtRest,
}

/// See the module.
pub(super) struct World {
    stage: Arc<Stage>,
    metrics: Arc<Metrics>,
    /// The next of the plan's actions.
    next: Cell<usize>,
    /// Of this process.
    handles: RefCell<Vec<(Who, Handle)>>,
    replays: RefCell<HashMap<JobId, CancellationToken>>,
    last_replay: Cell<Option<JobId>>,
    began: Instant,
}

type Run = LocalBoxFuture<'static, (Who, End)>;

impl World {
    pub(super) fn new(stage: Arc<Stage>) -> Self {
        Self {
            stage,
            metrics: Arc::new(Metrics::new()),
            next: Cell::new(0),
            handles: RefCell::default(),
            replays: RefCell::default(),
            last_replay: Cell::new(None),
            began: Instant::now(),
        }
    }

    /// To the end, or to what goes wrong first.
    pub(super) async fn play(&self) -> Result<(), String> {
        loop {
            let fate = tokio::select! {
                biased;
                () = self.stage.death() => Fate::Died,
                fate = self.live() => fate,
            };
            self.stage.is_wrong()?;
            if !matches!(fate, Fate::Died) {
                checks::ended_in_order(&self.stage)?;
            }
            if matches!(fate, Fate::AtRest) {
                return checks::at_rest(&self.stage, &self.metrics);
            }
            self.stage.restart()?;
            if self.began.elapsed() > PATIENCE {
                return Err("it does not come to rest".to_owned());
            }
        }
    }

    /// One process.
    async fn live(&self) -> Fate {
        self.handles.borrow_mut().clear();
        self.replays.borrow_mut().clear();
        let stop = CancellationToken::new();
        let mut running: FuturesUnordered<Run> = FuturesUnordered::new();
        for sink in 0..self.stage.plan.sinks.len() {
            running.extend(self.open(Who { sink, replay: None }, &stop).await);
        }
        for replay in self.open_replays().await {
            running.extend(self.open(replay, &stop).await);
        }
        loop {
            let acted = async {
                tokio::pin! { let act = self.act(&stop); }
                loop {
                    tokio::select! {
                        biased;
                        Some((who, end)) = running.next() => self.ended(who, end).await,
                        acted = &mut act => return acted,
                    }
                }
            };
            match acted.await {
                Acted::Begun(run) => running.extend(run),
                Acted::Ends(fate) => {
                    stop.cancel();
                    while let Some((who, end)) = running.next().await {
                        self.ended(who, end).await;
                    }
                    return fate;
                }
            }
        }
    }

    /// Begins a consumer; `None` for a replay that has ended meanwhile.
    async fn open(&self, who: Who, stop: &CancellationToken) -> Option<Run> {
        let stage = &self.stage;
        let config = stage.plan.sinks[who.sink].config.clone();
        let far = Arc::new(Far { stage: Arc::clone(stage), sink: who.sink });
        let inbox = Arc::new(Unsteady { stage: Arc::clone(stage), who });
        let deps = Deps { inbox, clock: stage.clock.clone(), metrics: Arc::clone(&self.metrics) };
        let consumer = loop {
            let opened = match who.replay {
                None => Consumer::open(config.clone(), far.clone(), deps.clone()).await,
                Some(job) => Consumer::replay(config.clone(), far.clone(), job, self.rate(job), deps.clone()).await,
            };
            match opened {
                Ok(consumer) => break consumer,
                Err(error) if error.to_string().contains("has ended") => return None,
                Err(_) => sleep(AGAIN).await,
            }
        };
        stage.opened(who);
        self.handles.borrow_mut().push((who, consumer.handle()));
        let stop = stop.child_token();
        if let Some(job) = who.replay {
            self.replays.borrow_mut().insert(job, stop.clone());
        }
        Some(Box::pin(async move { (who, consumer.run(stop).await) }))
    }

    fn rate(&self, wanted: JobId) -> Option<f64> {
        let memory = self.stage.memory.state();
        let job = memory.all_jobs().find(|job| job.id == wanted)?;
        match job.task {
            Task::Replay { rate, .. } => rate,
            _ => None,
        }
    }

    async fn open_replays(&self) -> Vec<Who> {
        let jobs = self.stage.memory.open_jobs().await.unwrap_or_default();
        let replays = jobs.into_iter().filter_map(|job| match job.task {
            Task::Replay { sink, .. } => Some(Who { sink: self.place(&sink)?, replay: Some(job.id) }),
            _ => None,
        });
        replays.collect()
    }

    fn place(&self, name: &SinkName) -> Option<usize> {
        self.stage.plan.sinks.iter().position(|sink| sink.config.name == *name)
    }

    fn name(&self, sink: usize) -> SinkName {
        self.stage.plan.sinks[sink].config.name.clone()
    }

    async fn ended(&self, who: Who, end: End) {
        self.stage.note(&format!("{who} has ended: {end:?}"));
        if let (Some(job), End::Finished) = (who.replay, end) {
            self.end_job(job, JobState::Done).await;
        }
    }

    async fn end_job(&self, job: JobId, state: JobState) {
        let update = JobUpdate { state: Some(state), ..JobUpdate::default() };
        self.stage.memory.update_job(job, update).await.expect("the job is there");
    }

    /// The plan's next action; when there is none, waits until nothing is left to do.
    async fn act(&self, stop: &CancellationToken) -> Acted {
        let Some((at, action)) = self.stage.plan.actions.get(self.next.get()) else {
            self.heal().await;
            return Acted::Ends(Fate::AtRest);
        };
        sleep_until(self.began + *at).await;
        self.next.set(self.next.get() + 1);
        self.stage.note(&format!("{action:?}"));
        match action {
            Action::Append { id, key, kind } => self.append(*id, *key, kind).await,
            Action::Pause(sink) => self.pause(*sink).await,
            Action::Resume(sink) => self.resume(*sink).await,
            Action::Retry(sink) => {
                // SQLite's answer gets lost with the process only. An inbox beyond a network would have to keep a record
                // that is repeated from burying again what was revived in between.
                while !self.stage.state().is_sure(Who { sink: *sink, replay: None }) {
                    sleep(AGAIN).await;
                }
                self.carry_out(Task::Retry { letters: self.letters_of(*sink) }).await;
            }
            Action::Discard(sink) => self.carry_out(Task::Discard { letters: self.letters_of(*sink) }).await,
            Action::Replay { sink, first, last, rate } => {
                let who = self.replay(*sink, (*first, *last), *rate).await;
                return Acted::Begun(self.open(who, stop).await);
            }
            Action::Cancel => self.cancel().await,
            Action::Prune => {
                let sinks = self.stage.plan.sinks.iter().map(|sink| sink.config.name.clone()).collect();
                self.carry_out(Task::Prune { before: self.stage.clock.now(), sinks }).await;
            }
            Action::Clock(seconds) => self.stage.set_clock(*seconds),
            Action::Restart => return Acted::Ends(Fate::Stopped),
        }
        Acted::Begun(None)
    }

    /// From now on nothing goes wrong any more.
    async fn heal(&self) {
        self.stage.note("everything is well");
        self.stage.state().healed = true;
        for sink in 0..self.stage.plan.sinks.len() {
            self.resume(sink).await;
        }
        let began = Instant::now();
        while !checks::is_at_rest(&self.stage) {
            if began.elapsed() > PATIENCE {
                return self.stage.wrong("it does not come to rest".to_owned());
            }
            sleep(AGAIN).await;
        }
        // What is in the inbox, its consumer knows by then.
        sleep(AGAIN).await;
    }

    async fn append(&self, id: u32, key: u32, kind: &'static str) {
        thread_local! {
            /// To sign and to verify takes longer than all the rest of a schedule.
            static EVENTS: RefCell<HashMap<(u32, u32, &'static str), NewEvent>> = RefCell::default();
        }
        let make = || {
            new_event("one", &format!(r#"{{"eventId":"e{id}","eventType":"{kind}","data":{{"orderId":"o{key}"}}}}"#))
        };
        let event = EVENTS.with_borrow_mut(|events| events.entry((id, key, kind)).or_insert_with(make).clone());
        let event = NewEvent { received_at: self.stage.clock.now(), ..event };
        self.stage.memory.append(event).await.expect("it is always appended");
        self.stage.tell_head();
    }

    async fn pause(&self, sink: usize) {
        self.carry_out(Task::Pause { sink: self.name(sink) }).await;
        self.stage.state().paused_since.entry(sink).or_insert_with(Instant::now);
    }

    async fn resume(&self, sink: usize) {
        self.carry_out(Task::Resume { sink: self.name(sink) }).await;
        self.stage.state().paused_since.remove(&sink);
    }

    fn letters_of(&self, sink: usize) -> LetterFilter {
        LetterFilter { sink: Some(self.name(sink)), ..LetterFilter::default() }
    }

    /// As `jobs` does it: what it has changed is told to who runs.
    async fn carry_out(&self, task: Task) {
        let memory = &self.stage.memory;
        let id = memory.submit(job(task)).await.expect("it is stored");
        let configured = |sink| ConfiguredSink { name: self.name(sink), max_parked: usize::MAX };
        let sinks: Vec<_> = (0..self.stage.plan.sinks.len()).map(configured).collect();
        loop {
            let advance = memory.advance(id, &sinks).await.expect("it is carried out");
            for effect in &advance.effects {
                for (who, handle) in self.handles.borrow().iter() {
                    if let (Change::Revived(parked), true) = (&effect.change, handle.id() == effect.consumer) {
                        self.stage.count("revivals");
                        self.stage.told(*who, &parked.iter().map(|event| event.seq).collect::<Vec<_>>());
                    }
                    handle.tell(effect);
                }
            }
            if advance.ended {
                return;
            }
        }
    }

    async fn replay(&self, sink: usize, (first, last): (u32, u32), rate: Option<f64>) -> Who {
        let head = self.stage.memory.state().last().get();
        let part = |hundredths: u32| Seq::new(1 + head * i64::from(hundredths) / 100).expect("it is positive");
        let selection = Selection { filter: EventFilter::default(), first: part(first), last: part(last) };
        let task = Task::Replay { sink: self.name(sink), selection, rate };
        let id = self.stage.memory.submit(job(task)).await.expect("it is stored");
        self.stage.count("replays");
        self.last_replay.set(Some(id));
        Who { sink, replay: Some(id) }
    }

    async fn cancel(&self) {
        let Some(job) = self.last_replay.take() else { return };
        self.end_job(job, JobState::Cancelled).await;
        if let Some(stop) = self.replays.borrow().get(&job) {
            stop.cancel();
        }
    }
}

/// What an action came to.
enum Acted {
    Begun(Option<Run>),
    Ends(Fate),
}

/// One schedule, from its seed.
pub(super) fn stage(seed: u64, plan: Plan, in_words: bool) -> Arc<Stage> {
    Arc::new(Stage::new(seed, plan, in_words))
}
