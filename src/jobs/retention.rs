//! Retention: asked for once a day, with a time that is believed.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Executor;
use crate::inbox::{BelievedClock, ClockAhead, NewJob, Task};

/// How often retention is applied.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// How often the time is noted.
const NOTE: Duration = Duration::from_secs(3600);

/// When retention was asked for, and what it went by.
#[derive(Default)]
pub(super) struct Retention {
    asked: Option<Instant>,
    noted: Option<(Instant, BelievedClock)>,
}

impl Retention {
    /// What was noted is no longer what is believed.
    pub(super) fn forget_note(&mut self) {
        self.noted = None;
    }
}

impl Executor {
    /// Notes the time, so that the inbox knows how far the clock may be believed after the next start.
    pub(super) async fn note_clock(&mut self) {
        if self.retention.noted.as_ref().is_some_and(|(at, _)| at.elapsed() < NOTE) {
            return;
        }
        match self.inbox().note_clock(self.deps.consume.clock.uptime()).await {
            Ok(believed) => self.retention.noted = Some((Instant::now(), believed)),
            Err(error) => self.warn(&error),
        }
    }

    /// The time to go by where something is dropped for its age; `None` while it could not be noted.
    pub(super) fn retention_time(&self) -> Option<Timestamp> {
        let (_, believed) = self.retention.noted.as_ref()?;
        let clock = &self.deps.consume.clock;
        let now = clock.now();
        Some(believed.advanced(now, clock.uptime()).retention_time(now))
    }

    /// Asks for a prune, once a day, like anybody else: so it is kept who dropped the bodies, and when.
    pub(super) async fn apply_retention(&mut self) {
        self.note_clock().await;
        let (Some(keep), Some((_, believed))) = (self.deps.retention, &self.retention.noted) else { return };
        if self.retention.asked.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        let clock = &self.deps.consume.clock;
        let at = clock.now();
        let believed = believed.advanced(at, clock.uptime());
        let Ok(before) = believed.retention_time(at).checked_sub(keep) else { return };
        let mut reason = "inbox.retention.bodies".to_owned();
        if let Some(ahead) = believed.ahead(at) {
            let (what, remedy) = (ahead.text(), ClockAhead::REMEDY);
            tracing::warn!("retention is held back: {what}. Bodies are kept that would go by the clock; {remedy}");
            reason = format!("{reason}; held back: {what}");
        }
        let sinks = self.deps.sinks.lock().await.iter().map(|sink| sink.config.name.clone()).collect();
        let task = Task::Prune { before, sinks };
        let asked = self.inbox().submit(NewJob { task, who: "ralio-relay".to_owned(), reason, total: None, at });
        if asked.await.is_ok() {
            self.retention.asked = Some(Instant::now());
        }
    }
}
