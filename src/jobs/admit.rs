//! Quarantined requests, checked again with the secrets of now.

use bytes::Bytes;

use super::Deps;
use crate::inbox::{AppendKind, JobState, JobUpdate, NewEvent, QuarantineFilter, Quarantined, Unavailable};
use crate::model::{JobId, SourceName};
use crate::verify::{Unverified, Verified};

/// Requests looked at in one portion.
const PORTION: usize = 64;

/// Admits what holds among the next requests: each becomes an event, received when it came in, and leaves the
/// quarantine once the event is durable. The place to go on from, or `None` when the job has ended.
pub(super) async fn portion(
    deps: &Deps,
    job: JobId,
    requests: &QuarantineFilter,
    after: i64,
) -> Result<Option<i64>, Unavailable> {
    let inbox = &deps.consume.inbox;
    let requests = inbox.quarantined(requests.clone(), after, PORTION).await?;
    let Some(place) = requests.last().map(|request| request.id) else {
        let message = "every request that was meant has been checked".to_owned();
        let update = JobUpdate { state: Some(JobState::Done), message: Some(message), ..JobUpdate::default() };
        inbox.update_job(job, update).await?;
        return Ok(None);
    };
    let checked = requests.len();
    let mut admitted = Vec::new();
    for request in requests {
        let (id, received_at) = (request.id, request.received_at);
        if let Some(verified) = verify(deps, request) {
            let event = NewEvent::new(verified, received_at);
            let category = event.envelope.event_type.category();
            let source = event.delivery.source().as_str().to_owned();
            match inbox.append(event).await {
                Ok(appended) => {
                    if appended.kind != AppendKind::Duplicate {
                        deps.consume.metrics.events.with_label_values(&[source.as_str(), category.as_str()]).inc();
                    }
                    admitted.push(id);
                }
                // It stays where it is, and holds up no other.
                Err(Unavailable::Unstorable(why)) => {
                    tracing::error!(request = id, why, "the database refuses a request that was to be admitted");
                }
                Err(error) => return Err(error),
            }
        }
    }
    let done = admitted.len();
    inbox.release(admitted).await?;
    let (done, failed) = (done as u64, (checked - done) as u64);
    inbox.update_job(job, JobUpdate { state: Some(JobState::Running), done, failed, ..JobUpdate::default() }).await?;
    Ok(Some(place))
}

fn verify(deps: &Deps, request: Quarantined) -> Option<Verified> {
    let source = SourceName::new(&request.source).ok()?;
    let keys = deps.keys.get(&source)?;
    let delivery = Unverified {
        source,
        signatures: request.signatures.into_iter().map(Bytes::from).collect(),
        content_type: request.content_type,
        headers: request.headers,
        body: request.body?,
    };
    delivery.verify(keys).ok()
}
