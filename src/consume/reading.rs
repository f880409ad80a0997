//! What a consumer reads of the log: the next events, judged by its route.

use crate::inbox::{Inbox, Selection, StoredEvent, Unavailable};
use crate::model::{EventType, JobId, Outgoing, Seq};
use crate::route::{Route, Subject, Verdict};

/// A stretch of the log.
pub(super) struct Judged {
    /// Its events, each with whether the sink wants it.
    pub events: Vec<(StoredEvent, bool)>,
    /// Everything up to here has been looked at.
    pub read_to: Seq,
    /// Events that the filter could not decide on, and why. The sink gets them.
    pub unsure: Vec<(Seq, String)>,
}

/// Reads on in the log, and has the route judge what is there.
pub(super) async fn read(
    inbox: &dyn Inbox,
    route: &Route,
    after: Seq,
    limit: usize,
    of: Option<Selection>,
) -> Result<Judged, Unavailable> {
    let slice = inbox.read_after(after, limit, of).await?;
    if slice.read_to <= after && slice.events.is_empty() {
        // Asked again at once, it would say so again, without end.
        return Err(Unavailable::Storage("the log has nothing where there should be an event".to_owned()));
    }
    if route.is_by_type() {
        let by_type = |event: StoredEvent| {
            let is_wanted = route.wants(&event.event_type);
            (event, is_wanted)
        };
        let events = slice.events.into_iter().map(by_type).collect();
        return Ok(Judged { events, read_to: slice.read_to, unsure: Vec::new() });
    }
    let verdicts = route.judge(slice.events.iter().map(subject).collect()).await;
    assert_eq!(verdicts.len(), slice.events.len(), "an event without a verdict would vanish");
    let mut unsure = Vec::new();
    let judged = slice.events.into_iter().zip(verdicts).map(|(event, verdict)| match verdict {
        Verdict::Wanted => (event, true),
        Verdict::Filtered => (event, false),
        Verdict::Unsure(why) => {
            unsure.push((event.seq, why));
            (event, true)
        }
    });
    Ok(Judged { events: judged.collect(), read_to: slice.read_to, unsure })
}

/// An event as its route sees it.
pub fn subject(event: &StoredEvent) -> Subject {
    Subject {
        seq: event.seq,
        id: event.id.clone(),
        event_type: event.event_type.clone(),
        source: event.source.clone(),
        key: event.key.clone(),
        time: event.time,
        received_at: event.received_at,
        stale: event.stale,
        content_encoding: event.content_encoding.clone(),
        body: event.body.clone(),
    }
}

/// An event as the sink gets it; `None` when its body is gone.
pub(super) fn outgoing(event: StoredEvent, replay: Option<JobId>) -> Option<Outgoing> {
    let assumed =
        if event.event_type.as_str() == EventType::MALFORMED { "application/octet-stream" } else { "application/json" };
    Some(Outgoing {
        seq: event.seq,
        category: event.event_type.category(),
        time: event.time,
        id: event.id,
        event_type: event.event_type,
        source: event.source,
        key: event.key,
        received_at: event.received_at,
        stale: event.stale,
        replay,
        signature: event.signature,
        content_type: event.content_type.unwrap_or_else(|| assumed.to_owned()),
        content_encoding: event.content_encoding,
        body: event.body?,
    })
}
