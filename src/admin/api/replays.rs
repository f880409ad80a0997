//! `/api/replays`

use std::ops::ControlFlow;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::events::Searched;
use super::fields::{FilterBody, Reason, Text, Who};
use super::input::{self, Object, PageQuery, Query};
use super::jobs::{one, page};
use super::reading::Budget;
use super::refusal::Refusal;
use super::{Api, Says};
use crate::admin::SinkFacts;
use crate::consume::plan::{self, Counts, UpperEnd};
use crate::inbox::{EventFilter, Job, Selection, Task};
use crate::model::Seq;
use crate::records::replay::{Full, Replay};
use crate::records::{self, job};

/// How long the events of a plan are counted.
const PLANNING: Duration = Duration::from_secs(2);

/// Replays, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayPage<'a> {
    replays: Vec<Full<'a>>,
    /// The cursor of the next page; null where there is no more.
    next: Option<String>,
}

/// Lists replays, newest first.
#[utoipa::path(get, path = "/api/replays", tag = "replays", params(PageQuery),
    responses((status = 200, body = ReplayPage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let asked: PageQuery = query.take()?;
    query.finish()?;
    let (jobs, next) = page(&api, &asked, |job| Replay::of(job).is_some()).await?;
    let replays = jobs.iter().filter_map(Replay::of).map(Full::from).collect();
    Ok(HttpResponse::Ok().json(ReplayPage { replays, next }))
}

/// One replay: how far it is, and what of the log it is about.
#[utoipa::path(get, path = "/api/replays/{id}", tag = "replays", params(("id" = i64, Path, minimum = 1)),
    responses((status = 200, body = Full)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let job = replay(&api, &id).await?;
    let replay = Replay::of(&job).ok_or_else(Refusal::inbox_unavailable)?;
    Ok(HttpResponse::Ok().json(Full::from(replay)))
}

async fn replay(api: &Api, id: &str) -> Result<Job, Refusal> {
    let job = one(api, id).await?;
    if Replay::of(&job).is_some() { Ok(job) } else { Err(Refusal::absent("this job is no replay: see /api/jobs")) }
}

/// What a replay would be about.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanRequest {
    /// The sink, as it is named in the configuration.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    sink: Text,
    /// Which events; all without it.
    #[schema(value_type = Option<FilterBody>)]
    filter: Option<Object<FilterBody>>,
    /// From this event on; from the first without it.
    #[schema(minimum = 1)]
    from_seq: Option<i64>,
    /// Up to this event; up to the sink's cursor without it, and never beyond it.
    #[schema(minimum = 1)]
    to_seq: Option<i64>,
}

/// What a replay would do.
#[derive(Serialize, ToSchema)]
pub(super) struct Plan {
    /// Events that match the filter.
    matched: u64,
    /// Of these: will be delivered.
    deliver: u64,
    /// Of these: the sink's route does not want them.
    filtered: u64,
    /// Of these: their bodies are gone.
    pruned: u64,
    /// Of these: another event with the same id came first.
    conflicts: u64,
    /// The first place of the log that it looks at.
    first: i64,
    /// The last one.
    last: i64,
    /// Why there.
    ends_at: &'static str,
    /// Whether everything was counted; otherwise these are the counts up to where the time was over.
    complete: bool,
    searched: Searched,
}

/// A part of the log for a sink.
struct Target {
    sink: SinkFacts,
    selection: Selection,
    why: &'static str,
}

async fn target(api: &Api, asked: PlanRequest) -> Result<Target, Refusal> {
    let PlanRequest { sink, filter, from_seq, to_seq } = asked;
    let configured = api.deps.status.sinks();
    let names: Vec<_> = configured.iter().map(|known| known.consumer.name.clone()).collect();
    let known = configured.into_iter().find(|known| known.consumer.name.as_str() == sink.0);
    let sink = known.ok_or_else(|| Refusal::absent("the configuration has no such sink: see /api/sinks"))?;
    let bad = |message: String| Refusal::bad("invalid_body", message);
    let seq = |number: Option<i64>| match number.map(|number| Seq::new(number).filter(|_| number > 0)) {
        Some(None) => Err(bad("from_seq and to_seq are numbers of events, from 1 on".to_owned())),
        Some(seq) => Ok(seq),
        None => Ok(None),
    };
    let (from, to): (_, Option<Seq>) = (seq(from_seq)?, seq(to_seq)?);
    let filter: EventFilter = filter.map_or_else(FilterBody::default, |filter| filter.0).into_filter().map_err(bad)?;
    api.inbox()?;
    let filter = api.can_match("invalid_body", filter).await?;
    let (records, head) =
        api.readers.read(|reader| Ok::<_, crate::inbox::sqlite::ReadError>((reader.sinks()?, reader.head()?))).await?;
    let record = records.iter().find(|record| record.is_meant_by(&sink.consumer.name, &names, &records));
    let is_new = || Refusal::conflict("no_past", "the sink is new: there is nothing before its first event");
    let end = UpperEnd::new(to, head, record.ok_or_else(is_new)?.cursor);
    let selection = Selection { filter, first: from.unwrap_or(Seq::ZERO.next()), last: end.seq };
    Ok(Target { sink, selection, why: end.why })
}

/// What a replay would do. Counts for two seconds at most, see `complete`.
#[utoipa::path(post, path = "/api/replays/plan", tag = "replays", request_body = PlanRequest,
    responses((status = 200, body = Plan)))]
pub(super) async fn plan(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let Target { sink, selection, why } = target(&api, input::body(&request, payload).await?).await?;
    let (first, last, route) = (selection.first, selection.last, sink.consumer.route.clone());
    let counting = move |reader: &mut crate::inbox::sqlite::Reader| {
        let (budget, mut upto) = (Budget::of(PLANNING), None);
        let counts = plan::count(reader, &selection, &route, &mut |_, read_to| {
            let is_over = budget.is_spent() && read_to < selection.last;
            upto = is_over.then_some(read_to);
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok::<_, plan::CountError>((counts, upto))
    };
    let (counts, upto) = api.readers.read(counting).await?;
    let places = |to: Seq| u64::try_from(to.get() - first.get() + 1).unwrap_or(0);
    let total = places(last);
    let Counts { matched, wanted, filtered, pruned, conflicts, unsure: _ } = counts;
    Ok(HttpResponse::Ok().json(Plan {
        matched,
        deliver: wanted,
        filtered,
        pruned,
        conflicts,
        first: first.get(),
        last: last.get(),
        ends_at: why,
        complete: upto.is_none(),
        searched: Searched { done: upto.map_or(total, places), total },
    }))
}

/// A new replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// The sink, as it is named in the configuration.
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    sink: Text,
    /// Which events; all without it.
    #[schema(value_type = Option<FilterBody>)]
    filter: Option<Object<FilterBody>>,
    /// From this event on; from the first without it.
    #[schema(minimum = 1)]
    from_seq: Option<i64>,
    /// Up to this event; up to the sink's cursor without it, and never beyond it.
    #[schema(minimum = 1)]
    to_seq: Option<i64>,
    /// Events a second at most; as fast as the sink takes them without it.
    #[schema(minimum = 0.001, maximum = 1_000_000)]
    rate: Option<f64>,
    #[schema(inline)]
    reason: Reason,
    #[schema(inline)]
    #[serde(alias = "by")]
    who: Option<Who>,
}

/// Delivers stored events to a sink again, beside the live ones.
#[utoipa::path(post, path = "/api/replays", tag = "replays", request_body = ReplayRequest,
    responses((status = 202, body = job::Line)))]
pub(super) async fn begin(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let asked: ReplayRequest = input::body(&request, payload).await?;
    let ReplayRequest { sink, filter, from_seq, to_seq, rate, reason, who } = asked;
    let checked = rate.map(records::rate).transpose();
    let rate = checked.map_err(|error| Refusal::bad("invalid_body", format!("rate: {error}")))?;
    let Target { sink, selection, why } = target(&api, PlanRequest { sink, filter, from_seq, to_seq }).await?;
    if selection.first > selection.last {
        let message = format!("there is no event from {} to {} ({why})", selection.first, selection.last);
        return Err(Refusal::conflict("nothing_to_replay", message));
    }
    let task = Task::Replay { sink: sink.consumer.name.clone(), selection, rate };
    api.submit(&request, task, Says { who, reason: Some(reason) }).await
}

/// Who cancels, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelRequest {
    #[schema(inline)]
    #[serde(alias = "by")]
    who: Option<Who>,
    #[schema(inline)]
    reason: Option<Reason>,
}

/// Stops a replay for good; what it has delivered stays delivered. The answer is the job that cancels it.
#[utoipa::path(post, path = "/api/replays/{id}/cancel", tag = "replays", params(("id" = i64, Path, minimum = 1)),
    request_body = CancelRequest, responses((status = 202, body = job::Line)))]
pub(super) async fn cancel(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let CancelRequest { who, reason } = input::body(&request, payload).await?;
    let job = replay(&api, &id).await?;
    if job.state.has_ended() {
        let message = format!("the replay has ended already: {}", job.state.as_str());
        return Err(Refusal::new(StatusCode::CONFLICT, "already_ended", message));
    }
    api.submit(&request, Task::Cancel { job: job.id }, Says { who, reason }).await
}
