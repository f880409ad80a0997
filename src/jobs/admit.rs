//! Quarantined requests, checked again with the secrets of now.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::Deps;
use crate::inbox::{
    AppendKind, Job, JobState, JobUpdate, NewAdmission, NewEvent, QuarantineFilter, Quarantined, Released, Unavailable,
};
use crate::model::{Seq, SourceName};
use crate::verify::{Keys, Unverified, Verified};

/// Requests looked at in one portion.
const PORTION: usize = 256;

/// Admits what holds among the next requests: each becomes an event, received when it came in, and leaves the
/// quarantine once the event is durable. Ends the job after the last one.
pub(super) async fn portion(deps: &Deps, job: &Job, requests: &QuarantineFilter) -> Result<(), Unavailable> {
    let inbox = &deps.consume.inbox;
    if job.state == JobState::Queued {
        // From now on it has an end: what is refused later is none of its business.
        return inbox.update_job(job.id, JobUpdate { state: Some(JobState::Running), ..JobUpdate::default() }).await;
    }
    let requests = inbox.quarantined(requests.clone(), (job.place, job.upto), PORTION).await?;
    let Some(place) = requests.last().map(|request| request.id) else {
        let message = told(job.done, job.failed);
        tracing::info!(job = job.id.get(), admitted = job.done, still_refused = job.failed, message, "a job has ended");
        let update = JobUpdate { state: Some(JobState::Done), message: Some(message), ..JobUpdate::default() };
        return inbox.update_job(job.id, update).await;
    };
    let (checked, now) = (requests.len() as u64, deps.consume.clock.now());
    let genuine: Vec<(i64, NewEvent)> = requests
        .into_iter()
        .filter_map(|request| {
            let (id, received_at, peer) = (request.id, request.received_at, request.peer.clone());
            let admission = NewAdmission { at: now, job: job.id, request: id, refused: request.reason.label() };
            let event = NewEvent::new(verify(&deps.keys, request)?, received_at);
            Some((id, event.sent_by(peer).admitted(admission)))
        })
        .collect();
    // Together: they share commits. If the process ends before the release, they are duplicates the next time.
    let admitted = try_join_all(genuine.into_iter().map(|(id, event)| append(deps, id, event))).await?;
    let admitted: Vec<(i64, Seq)> = admitted.into_iter().flatten().collect();
    let failed = checked - admitted.len() as u64;
    inbox.release(job.id, Released { admitted, failed, place }).await
}

/// The request's number and its event's place, where that is stored now.
async fn append(deps: &Deps, request: i64, event: NewEvent) -> Result<Option<(i64, Seq)>, Unavailable> {
    let (category, has_time) = (event.envelope.event_type.category(), event.envelope.time.is_some());
    let source = event.delivery.source().clone();
    match deps.consume.inbox.append(event).await {
        Ok(appended) => {
            if appended.kind != AppendKind::Duplicate {
                let metrics = &deps.consume.metrics;
                metrics.events.with_label_values(&[source.as_str(), category.as_str()]).inc();
                if !has_time {
                    metrics.event_time_missing.with_label_values(&[source.as_str()]).inc();
                }
            }
            Ok(Some((request, appended.seq)))
        }
        // It stays where it is, and holds up no other.
        Err(Unavailable::Unstorable(why)) => {
            tracing::error!(request, why, "the database refuses a request that was to be admitted");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn told(admitted: u64, failed: u64) -> String {
    let requests = |count: u64| format!("{count} quarantined {}", if count == 1 { "request" } else { "requests" });
    match failed {
        0 => format!("{} admitted", requests(admitted)),
        _ => format!("{} admitted; of {failed} the signature still does not hold", requests(admitted)),
    }
}

/// The delivery, where its signature holds with the secrets that its source has now.
pub(super) fn verify(keys: &HashMap<SourceName, Keys>, request: Quarantined) -> Option<Verified> {
    let source = SourceName::new(&request.source).ok()?;
    let keys = keys.get(&source)?;
    let delivery = Unverified {
        source,
        signatures: request.signatures.into_iter().map(Bytes::from).collect(),
        content_type: request.content_type,
        headers: request.headers,
        body: request.body?,
    };
    delivery.verify(keys).ok()
}
