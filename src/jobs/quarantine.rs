//! What the daemon does about the quarantine by itself: when a source's secrets have changed, it verifies the requests
//! again and has the genuine ones admitted, and it has those deleted that are too old. Both are jobs like any other.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::{Deps, admit};
use crate::inbox::{NewJob, QuarantineFilter, Task, Unavailable};
use crate::model::SourceName;

/// After a change of secrets, requests that were verified with the former ones may be on their way into the quarantine. A
/// sender waits no longer than this for its answer, so by then they are there.
const ONCE_MORE: Duration = Duration::from_secs(60);
/// How often requests that are too old are looked for.
const AGE: Duration = Duration::from_secs(3600);
/// Requests verified in one go.
const PAGE: usize = 256;

/// What was looked at.
#[derive(Default)]
pub(super) struct Upkeep {
    sources: HashMap<SourceName, Checked>,
    /// When requests that are too old were last looked for.
    aged: Option<Instant>,
}

/// With which secrets a source's requests were verified last.
struct Checked {
    /// How often these had changed.
    changes: u64,
    once_more: Option<Instant>,
}

/// How it went to verify a source's requests again.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Genuine,
    /// None of so many.
    None(u64),
}

impl Upkeep {
    /// One look. What cannot be done for now is due again at the next one. Age is reckoned by the time that is `believed`: a
    /// clock that jumps ahead must not delete what was answered 401.
    pub(super) async fn look(&mut self, deps: &Deps, believed: Option<Timestamp>) -> Result<(), Unavailable> {
        if let Some(now) = believed.filter(|_| self.aged.is_none_or(|at| at.elapsed() >= AGE)) {
            delete_old(deps, now).await?;
            self.aged = Some(Instant::now());
        }
        if !deps.quarantine.admits_by_itself {
            return Ok(());
        }
        for (source, keys) in &deps.keys {
            // Before anything is verified: a change that comes meanwhile is seen by the next look.
            let (changes, now) = (keys.changes(), Instant::now());
            let Some(why) = self.due(source, changes, now) else { continue };
            admit_genuine(deps, source, why).await?;
            let is_changed = self.sources.get(source).map_or(changes > 0, |checked| checked.changes != changes);
            let once_more = is_changed.then(|| now + ONCE_MORE);
            self.sources.insert(source.clone(), Checked { changes, once_more });
        }
        Ok(())
    }

    /// Why a source's requests are to be verified again, where they are.
    fn due(&self, source: &SourceName, changes: u64, now: Instant) -> Option<&'static str> {
        match self.sources.get(source) {
            None => Some("the relay has started"),
            Some(checked) if checked.changes != changes => Some("its secrets have changed"),
            Some(checked) if checked.once_more.is_some_and(|at| at <= now) => Some("its secrets have changed"),
            Some(_) => None,
        }
    }
}

/// Asks for what holds to be admitted. Where nothing does, no job is made of it: what strangers send would make one at
/// each start.
async fn admit_genuine(deps: &Deps, source: &SourceName, why: &str) -> Result<(), Unavailable> {
    match look_for_genuine(deps, source).await? {
        Found::None(0) => Ok(()),
        Found::None(requests) => {
            tracing::info!(%source, requests, why, "of the source's quarantined requests none is genuine by its secrets");
            Ok(())
        }
        Found::Genuine => {
            let requests = QuarantineFilter { source: Some(source.to_string()), ..QuarantineFilter::default() };
            let reason = format!("source '{source}': {why}");
            let job = submit(deps, Task::Admit { requests }, reason).await?;
            tracing::info!(%source, job, why, "quarantined requests are genuine by the source's secrets: they are admitted");
            Ok(())
        }
    }
}

async fn look_for_genuine(deps: &Deps, source: &SourceName) -> Result<Found, Unavailable> {
    let of_source = QuarantineFilter { source: Some(source.to_string()), ..QuarantineFilter::default() };
    let (mut place, mut count) = (0, 0);
    loop {
        let requests = deps.consume.inbox.quarantined(of_source.clone(), (place, i64::MAX), PAGE).await?;
        let Some(last) = requests.last() else { return Ok(Found::None(count)) };
        place = last.id;
        count += requests.len() as u64;
        if requests.into_iter().any(|request| admit::verify(&deps.keys, request).is_some()) {
            return Ok(Found::Genuine);
        }
    }
}

async fn delete_old(deps: &Deps, now: Timestamp) -> Result<(), Unavailable> {
    let Ok(until) = now.checked_sub(deps.quarantine.max_age) else { return Ok(()) };
    let old = QuarantineFilter { until: Some(until), ..QuarantineFilter::default() };
    if deps.consume.inbox.quarantined(old.clone(), (0, i64::MAX), 1).await?.is_empty() {
        return Ok(());
    }
    let job = submit(deps, Task::Purge { requests: old }, "inbox.quarantine.max_age".to_owned()).await?;
    tracing::warn!(job, "quarantined requests are older than inbox.quarantine.max_age: they are deleted");
    Ok(())
}

async fn submit(deps: &Deps, task: Task, reason: String) -> Result<i64, Unavailable> {
    let (who, at) = ("ralio-relay".to_owned(), deps.consume.clock.now());
    Ok(deps.consume.inbox.submit(NewJob { task, who, reason, total: None, at }).await?.get())
}
