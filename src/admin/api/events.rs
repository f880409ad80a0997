//! `/api/events`

use std::ops::ControlFlow;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fields::{EventQuery, Order};
use super::input::{PageQuery, Query, invalid_cursor};
use super::reading::Budget;
use super::refusal::Refusal;
use super::{Api, number};
use crate::inbox::sqlite::{Direction, ReadError, Reader};
use crate::inbox::{EventFilter, EventSummary};
use crate::model::Seq;
use crate::records::event::{Detail, Stated};

/// Events, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct EventPage<'a> {
    events: Vec<Stated<'a>>,
    /// The cursor of the next page; null where there is no more. A page may be empty, and not the last: where few events
    /// match, each request searches a part of the log.
    next: Option<String>,
    searched: Searched,
}

/// How far a search has come.
#[derive(Serialize, ToSchema)]
pub(super) struct Searched {
    /// Places of the log looked at or passed over.
    pub(super) done: u64,
    /// Of how many.
    pub(super) total: u64,
}

/// In which order.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OrderQuery {
    /// `newest` first, unless told
    #[param(inline)]
    order: Option<Order>,
}

/// Where a list of events goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) order: Order,
    /// The last event when the list was begun.
    pub(super) head: i64,
    /// The last event that was looked at.
    pub(super) at: i64,
}

impl Place {
    fn begin(order: Order, head: i64) -> Self {
        Self { order, head, at: if order == Order::Newest { head + 1 } else { 0 } }
    }

    fn encode(self) -> String {
        let order = if self.order == Order::Newest { 'n' } else { 'o' };
        format!("{order}{}-{}", self.head, self.at)
    }

    fn decode(text: &str, order: Order) -> Option<Self> {
        let numbers = text.strip_prefix(if order == Order::Newest { 'n' } else { 'o' })?;
        let (head, at) = numbers.split_once('-')?;
        let number = |text: &str| text.parse::<i64>().ok().filter(|number| (0..i64::MAX).contains(number));
        Some(Self { order, head: number(head)?, at: number(at)? })
    }

    /// How much of the log has been looked at.
    fn searched(self, is_end: bool) -> Searched {
        let total = u64::try_from(self.head).unwrap_or(0);
        let done = if self.order == Order::Newest { self.head + 1 - self.at } else { self.at };
        Searched { done: if is_end { total } else { u64::try_from(done).unwrap_or(0).min(total) }, total }
    }
}

/// What one request finds.
struct Found {
    events: Vec<EventSummary>,
    place: Place,
    is_end: bool,
}

fn walk(
    reader: &mut Reader,
    filter: &EventFilter,
    from: Result<Place, Order>,
    limit: usize,
    budget: Budget,
) -> Result<Found, ReadError> {
    let head = reader.head()?.get();
    let mut place = match from {
        // What comes in meanwhile belongs to a list that ends with the newest, and not to one that began with it.
        Ok(place) if place.order == Order::Oldest => Place { head, at: place.at.min(head), ..place },
        Ok(place) => Place { at: place.at.min(head + 1), ..place },
        Err(order) => Place::begin(order, head),
    };
    let direction = if place.order == Order::Newest { Direction::Backward } else { Direction::Forward };
    let (mut events, mut is_end) = (Vec::new(), true);
    reader.each_stretch(filter, direction, Seq::new(place.at), &mut |stretch| {
        let all = stretch.events.len();
        events.extend(stretch.events.drain(..all.min(limit - events.len())));
        place.at = match (events.len() == limit, events.last()) {
            (true, Some(last)) => last.seq.get(),
            (_, _) => stretch.upto.get(),
        };
        let is_over = if direction == Direction::Backward { place.at <= 1 } else { place.at >= place.head };
        let is_enough = events.len() == limit || budget.is_spent();
        is_end = is_over || !is_enough;
        if is_over || is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(Found { events, place, is_end })
}

/// Lists events, newest first unless asked otherwise. One request works for half a second at most: with `search`, or
/// where few events match, go on with `next` until it is null.
#[utoipa::path(get, path = "/api/events", tag = "events", params(EventQuery, OrderQuery, PageQuery),
    responses((status = 200, body = EventPage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let filter = query.take::<EventQuery>()?.into_filter()?;
    let order = query.take::<OrderQuery>()?.order.unwrap_or_default();
    let page: PageQuery = query.take()?;
    query.finish()?;
    let from = match &page.cursor {
        Some(cursor) => Ok(Place::decode(cursor, order).ok_or_else(invalid_cursor)?),
        None => Err(order),
    };
    let limit = page.limit()?;
    api.inbox()?;
    // Of a page that goes on, that is known.
    let filter = if page.cursor.is_none() { api.can_match("invalid_query", filter).await? } else { filter };
    let found = api.readers.read(move |reader| walk(reader, &filter, from, limit, Budget::page())).await?;
    Ok(HttpResponse::Ok().json(EventPage {
        events: found.events.iter().map(Stated::from).collect(),
        next: (!found.is_end).then(|| found.place.encode()),
        searched: found.place.searched(found.is_end),
    }))
}

/// The events under one id or at one place.
#[derive(Serialize, ToSchema)]
pub(super) struct EventDetails<'a> {
    /// One; several where other bytes came under the same id, where two sources use it, or where an id is the number of
    /// another event.
    events: Vec<Detail<'a>>,
}

/// One event, by its id or its `seq`: body, headers kept, lifecycle, what became of it at each sink, every attempt.
#[utoipa::path(get, path = "/api/events/{id}", tag = "events",
    params(("id" = String, Path, description = "Event id, or seq")),
    responses((status = 200, body = EventDetails)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    api.inbox()?;
    let turn = api.bodies.turn(&api.readers, &id).await?;
    let events = api.readers.read(move |reader| reader.event(&id)).await?;
    if events.is_empty() {
        return Err(Refusal::absent("there is no such event"));
    }
    api.look_for_altered(&events).await;
    let details = EventDetails { events: events.iter().map(Detail::from).collect() };
    Ok(turn.ends_with(HttpResponse::Ok().json(details)))
}

/// The body of one event, byte for byte as it was received.
#[utoipa::path(get, path = "/api/events/{seq}/body", tag = "events",
    params(("seq" = i64, Path, minimum = 1, description = "Its place in the log")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 410, body = super::refusal::ErrorBody, description = "Retention has dropped the body"),
        (status = 409, body = super::refusal::ErrorBody, description = "The stored body is not what came in")))]
pub(super) async fn body(
    api: web::Data<Api>,
    request: HttpRequest,
    seq: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let seq = number(&seq)?;
    api.inbox()?;
    let turn = api.bodies.turn(&api.readers, &seq.to_string()).await?;
    let found = api.readers.read(move |reader| reader.event(&seq.to_string())).await?;
    let event = found.into_iter().find(|event| event.summary.seq.get() == seq);
    let event = event.ok_or_else(|| Refusal::absent("there is no such event"))?;
    api.look_for_altered(std::slice::from_ref(&event)).await;
    if event.body_matches == Some(false) {
        let message =
            "the stored body is not what came in: its SHA-256 differs. /api/events/{seq} shows it, with that mark";
        return Err(Refusal::conflict("digest_mismatch", message));
    }
    let body = event.body;
    let pruned = || Refusal::new(StatusCode::GONE, "pruned", "retention has dropped the body; its SHA-256 is kept");
    let answer = HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"event-{seq}\"")))
        .body(body.ok_or_else(pruned)?);
    Ok(turn.ends_with(answer))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::SystemClock;
    use crate::inbox::contract::new_event;
    use crate::inbox::sqlite::{Lock, SqliteInbox};
    use crate::inbox::{Config, Inbox as _, QuarantineLimits};
    use crate::metrics::Metrics;

    /// Each request takes the time for one step; where the next one goes on, nothing is lost and nothing comes twice.
    #[tokio::test]
    async fn a_search_whose_time_is_over_goes_on_in_the_next_request() {
        let dir = tempfile::tempdir().unwrap();
        let quarantine = QuarantineLimits { max_entries: 1, max_bytes: 1, ..Default::default() };
        let config = Config { path: dir.path().join("inbox.db"), quarantine, dedup_memory: 1 << 20, retention: None };
        let lock = Lock::try_take(&config.path).unwrap().unwrap();
        let inbox = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::new(Metrics::new())).unwrap();
        for n in 1..=3 {
            let body = format!(r#"{{"eventId":"e{n}","eventType":"payin_completed","data":{{"orderId":"o"}}}}"#);
            inbox.append(new_event("one", &body)).await.unwrap();
        }
        let filter = EventFilter { key: Some("o".to_owned()), ..EventFilter::default() };
        let mut reader = Reader::open(&config).unwrap();
        for (order, expected) in [(Order::Newest, [3, 2, 1]), (Order::Oldest, [1, 2, 3])] {
            let mut from = Err(order);
            for (request, seq) in (1..).zip(expected) {
                let found = walk(&mut reader, &filter, from, 50, Budget::of(Duration::ZERO)).unwrap();
                let seqs: Vec<i64> = found.events.iter().map(|event| event.seq.get()).collect();
                assert_eq!((seqs, found.is_end), (vec![seq], request == 3), "{order:?}");
                from = Ok(found.place);
            }
            let found = walk(&mut reader, &filter, Err(order), 50, Budget::page()).unwrap();
            assert_eq!((found.events.len(), found.is_end), (3, true), "with time for all of it");
        }
        inbox.close().await;
    }
}
