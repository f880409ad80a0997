//! `/api/tail`: events as they come in, as server-sent events (WHATWG HTML, 9.2).

use std::convert::Infallible;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{CONTENT_TYPE, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, timeout_at};
use utoipa::IntoParams;

use super::Api;
use super::fields::EventQuery;
use super::input::Query;
use super::reading::Budget;
use super::refusal::Refusal;
use crate::admin::answer::Admin;
use crate::inbox::sqlite::{Direction, ReadError, Reader};
use crate::inbox::{EventFilter, EventSummary};
use crate::model::Seq;
use crate::records::event::Stated;

/// A comment is sent at least so often: whoever reads then knows that there is nothing, and proxies keep the connection. That
/// a reader has gone shows at the second one: only then is there room for another.
const ALIVE: Duration = Duration::from_secs(5);
/// Between two looks at the log: what comes in meanwhile goes out together.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two tries where the inbox cannot be read.
const AGAIN: Duration = Duration::from_secs(1);
/// Events in one piece: no more than this waits in memory for a reader that is slow.
const PIECE: usize = 200;

/// Where it begins.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TailQuery {
    /// After this event; from now on without it. `Last-Event-ID` comes first
    #[param(minimum = 0)]
    after: Option<i64>,
}

/// A reader of the stream, and what it has got. Pulled by the connection: while that takes nothing, nothing is read.
struct Tail {
    api: web::Data<Api>,
    admin: web::Data<Admin>,
    /// With which it was asked for.
    headers: HeaderMap,
    filter: Arc<EventFilter>,
    head: watch::Receiver<Seq>,
    /// Everything up to here has been looked at.
    seen: Seq,
    /// When something was sent last.
    spoken: Instant,
    _slot: OwnedSemaphorePermit,
}

/// New events as they come in, as `text/event-stream`. Each has its `seq` as its id; a client that comes back with
/// `Last-Event-ID` misses none. It ends when the token is replaced.
#[utoipa::path(get, path = "/api/tail", tag = "events", params(EventQuery, TailQuery,
    ("Last-Event-ID" = Option<i64>, Header, minimum = 0, description = "The last id that was received")),
    responses((status = 200, body = String, content_type = "text/event-stream")))]
pub(super) async fn tail(
    api: web::Data<Api>,
    admin: web::Data<Admin>,
    request: HttpRequest,
) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let filter = query.take::<EventQuery>()?.into_filter()?;
    let asked: TailQuery = query.take()?;
    query.finish()?;
    let after = last_event_id(&request)?.or(asked.after).map(|after| {
        Seq::new(after).ok_or_else(|| Refusal::bad("invalid_query", "after: write the number of an event"))
    });
    let after = after.transpose()?;
    let head = api.inbox()?.head();
    let filter = Arc::new(api.can_match("invalid_query", filter).await?);
    let slot = Arc::clone(&api.tails).try_acquire_owned().map_err(|_| Refusal::too_many_streams())?;
    // A log that ends before is another one.
    let end = *head.borrow();
    let seen = after.map_or(end, |after| after.min(end));
    let stop = api.deps.stop.clone();
    let headers = request.headers().clone();
    let tail = Tail { api, admin, headers, filter, head, seen, spoken: Instant::now(), _slot: slot };
    let pieces = stream::unfold((tail, true), |(mut tail, is_first)| async move {
        // At once, so that whoever waits for the head of the answer gets it.
        let piece = if is_first { Bytes::from_static(b": tail\n\n") } else { tail.next().await };
        // Another token may be in use by now.
        tail.admin.authorize(&tail.headers).ok()?;
        Some((Ok::<_, Infallible>(piece), (tail, false)))
    });
    let pieces = futures_util::StreamExt::take_until(Box::pin(pieces), stop.cancelled_owned());
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/event-stream")).streaming(pieces))
}

/// What a client sends that was here before.
fn last_event_id(request: &HttpRequest) -> Result<Option<i64>, Refusal> {
    let Some(header) = request.headers().get("last-event-id") else { return Ok(None) };
    let id = header.to_str().ok().and_then(|text| text.parse::<i64>().ok()).filter(|id| *id >= 0);
    id.map(Some).ok_or_else(|| Refusal::bad("invalid_header", "Last-Event-ID: send the id of an event of this stream"))
}

impl Tail {
    /// Waits for something to say.
    async fn next(&mut self) -> Bytes {
        loop {
            let alive = self.spoken + ALIVE;
            let news = timeout_at(alive, async {
                let seen = self.seen;
                if self.head.wait_for(|head| *head > seen).await.is_err() {
                    // The inbox is closed: nothing will come.
                    return std::future::pending().await;
                }
                sleep(PAUSE).await;
            });
            let is_alive = news.await.is_err();
            let said = if is_alive { Bytes::from_static(b": alive\n\n") } else { self.news().await };
            if !said.is_empty() {
                self.spoken = Instant::now();
                return said;
            }
        }
    }

    /// What has come in, in one short read; nothing where none of it is asked for.
    async fn news(&mut self) -> Bytes {
        let (filter, seen) = (Arc::clone(&self.filter), self.seen);
        match self.api.readers.read(move |reader| read(reader, &filter, seen)).await {
            Ok((events, upto)) => {
                self.seen = upto;
                piece(&events)
            }
            Err(_) => {
                sleep(AGAIN).await;
                Bytes::new()
            }
        }
    }
}

fn read(reader: &mut Reader, filter: &EventFilter, seen: Seq) -> Result<(Vec<EventSummary>, Seq), ReadError> {
    let (mut events, budget, head) = (Vec::new(), Budget::page(), reader.head()?);
    let mut upto = None;
    reader.each_stretch(filter, Direction::Forward, Some(seen), &mut |stretch| {
        events.append(stretch.events);
        if events.len() >= PIECE {
            events.truncate(PIECE);
            upto = events.last().map(|event: &EventSummary| event.seq);
        } else {
            upto = Some(stretch.upto);
        }
        if events.len() >= PIECE || budget.is_spent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let is_over = events.len() < PIECE && !budget.is_spent();
    // Looked at to its end; without an index walk that is known anyway.
    let upto = upto.unwrap_or(seen);
    Ok((events, if is_over { upto.max(head) } else { upto }))
}

fn piece(events: &[EventSummary]) -> Bytes {
    let mut text = Vec::new();
    for event in events {
        // JSON has no line breaks of its own.
        let _ = write!(text, "id: {}\nevent: event\ndata: ", event.seq);
        let _ = serde_json::to_writer(&mut text, &Stated::from(event));
        text.extend_from_slice(b"\n\n");
    }
    text.into()
}
