//! `/api/parked`

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fields::{Pattern, Patterns, Reason, Text, Who, patterns};
use super::input::{self, PageQuery, Query, invalid_cursor};
use super::letters::{chosen, sink_name};
use super::reading::Budget;
use super::refusal::Refusal;
use super::{Api, Says};
use crate::inbox::sqlite::{ParkedPlace, ReadError, Reader};
use crate::inbox::{ConsumerId, ParkedFilter, ParkedRecord, Task};
use crate::model::Seq;
use crate::records::job;
use crate::records::parked::Line;

/// Parked events, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct ParkedPage<'a> {
    parked: Vec<Line<'a>>,
    /// The cursor of the next page; null where there is no more.
    next: Option<String>,
}

/// Which parked events. Every parameter narrows.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ParkedQuery {
    /// Parked for this sink
    #[param(inline)]
    sink: Option<Text>,
    /// Canonical type, or a glob such as `payin.*`; may repeat
    #[param(inline, max_items = 50)]
    #[serde(default)]
    r#type: Vec<Pattern>,
    /// Entity key, exactly
    #[param(inline)]
    key: Option<Text>,
    /// Event id, exactly
    #[param(inline)]
    event_id: Option<Text>,
    /// Text that the last error holds
    #[param(inline)]
    last_error: Option<Text>,
}

impl ParkedQuery {
    fn into_filter(self) -> Result<ParkedFilter, String> {
        let Self { sink, r#type, key, event_id, last_error } = self;
        let text = |text: Option<Text>| text.map(|text| text.0);
        let filter = ParkedFilter {
            seqs: Vec::new(),
            sink: None,
            types: patterns(r#type)?,
            event_id: text(event_id),
            key: text(key),
            error: text(last_error),
        };
        let sink = sink.map(|sink| sink_name(&sink)).transpose()?;
        Ok(ParkedFilter { sink, ..filter })
    }
}

/// A cursor: both numbers of a place, with a dot between.
fn place(cursor: &str) -> Result<ParkedPlace, Refusal> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number > 0);
    let parsed = cursor.split_once('.').and_then(|(consumer, seq)| Some((number(consumer)?, number(seq)?)));
    let (consumer, seq) = parsed.ok_or_else(invalid_cursor)?;
    Ok((ConsumerId::new(consumer), Seq::new(seq).ok_or_else(invalid_cursor)?))
}

/// Lists the events that wait for their next attempt, sink by sink, oldest first; those of replays are in no list.
#[utoipa::path(get, path = "/api/parked", tag = "parked events", params(ParkedQuery, PageQuery),
    responses((status = 200, body = ParkedPage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let filter = query.take::<ParkedQuery>()?.into_filter();
    let page: PageQuery = query.take()?;
    query.finish()?;
    let filter = filter.map_err(|message| Refusal::bad("invalid_query", message))?;
    let (limit, after) = (page.limit()?, page.cursor.as_deref().map(place).transpose()?);
    api.inbox()?;
    let filter = api.can_match("invalid_query", filter).await?;
    let (events, next) = api.readers.read(move |reader| walk(reader, &filter, after, limit)).await?;
    Ok(HttpResponse::Ok().json(ParkedPage {
        parked: events.iter().map(Line::from).collect(),
        next: next.map(|(consumer, seq)| format!("{}.{}", consumer.get(), seq.get())),
    }))
}

fn walk(
    reader: &Reader,
    filter: &ParkedFilter,
    mut after: Option<ParkedPlace>,
    limit: usize,
) -> Result<(Vec<ParkedRecord>, Option<ParkedPlace>), ReadError> {
    let (mut events, budget) = (Vec::new(), Budget::page());
    loop {
        let (mut found, next) = reader.parked_after(filter, after)?;
        let room = limit - events.len();
        if found.len() > room {
            found.truncate(room);
            events.append(&mut found);
            let last = events.last().map(|event: &ParkedRecord| (event.consumer, event.seq));
            return Ok((events, last));
        }
        events.append(&mut found);
        if next.is_none() || events.len() == limit || budget.is_spent() {
            return Ok((events, next));
        }
        after = next;
    }
}

/// Which parked events are decided about: `seqs`, narrowed to a sink or not, or `all` with whatever narrows it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ParkedChoice {
    /// Their places in the log.
    #[schema(min_items = 1, max_items = 1000)]
    seqs: Option<Vec<i64>>,
    /// All of them, or with filters all that match.
    all: Option<bool>,
    /// Parked for this sink.
    #[schema(inline)]
    sink: Option<Text>,
    /// Canonical types, or globs such as `payin.*`: any may match.
    #[schema(inline)]
    r#type: Option<Patterns>,
    /// Entity key, exactly.
    #[schema(inline)]
    key: Option<Text>,
    /// Event id, exactly.
    #[schema(inline)]
    event_id: Option<Text>,
    /// Text that the last error holds.
    #[schema(inline)]
    last_error: Option<Text>,
    #[schema(inline)]
    #[serde(alias = "by")]
    who: Option<Who>,
    #[schema(inline)]
    reason: Option<Reason>,
}

impl ParkedChoice {
    fn into_parts(self) -> Result<(ParkedFilter, Says), Refusal> {
        let Self { seqs, all, sink, r#type, key, event_id, last_error, who, reason } = self;
        // Of a list that has come out empty, it would mean every type.
        let names_no_type = matches!(&r#type, Some(Patterns::Many(types)) if types.is_empty());
        let r#type = r#type.map(Patterns::into_vec).unwrap_or_default();
        let query = ParkedQuery { sink, r#type, key, event_id, last_error };
        let bad = |message: String| Refusal::bad("invalid_body", message);
        if names_no_type {
            return Err(bad("type: name one at least".to_owned()));
        }
        let filter = query.into_filter().map_err(bad)?;
        // One event may be parked for several sinks, so its place alone does not say which is meant.
        let narrowed = ParkedFilter { sink: None, ..filter.clone() };
        let seqs = chosen("seqs", seqs, all, narrowed == ParkedFilter::default())?;
        Ok((ParkedFilter { seqs, ..filter }, Says { who, reason }))
    }
}

/// Makes parked events due now. What fails again is parked again.
#[utoipa::path(post, path = "/api/parked/retry", tag = "parked events", request_body = ParkedChoice,
    responses((status = 202, body = job::Line)))]
pub(super) async fn retry(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let (parked, says) = input::body::<ParkedChoice>(&request, payload).await?.into_parts()?;
    let parked = api.can_match("invalid_body", parked).await?;
    api.submit(&request, Task::RetryParked { parked }, says).await
}

/// Gives parked events up, for a reason that is kept. Their events stay, and can still be replayed.
#[utoipa::path(post, path = "/api/parked/discard", tag = "parked events", request_body = ParkedChoice,
    responses((status = 202, body = job::Line)))]
pub(super) async fn discard(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let (parked, says) = input::body::<ParkedChoice>(&request, payload).await?.into_parts()?;
    let parked = api.can_match("invalid_body", parked).await?;
    if says.reason.is_none() {
        return Err(Refusal::reason_missing());
    }
    api.submit(&request, Task::DiscardParked { parked }, says).await
}
