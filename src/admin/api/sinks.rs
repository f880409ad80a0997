//! `/api/sinks`

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fields::{Reason, Who};
use super::input::{self, Query};
use super::refusal::Refusal;
use super::{Api, Says};
use crate::admin::SinkFacts;
use crate::consume::Ordering;
use crate::inbox::{SinkRecord, Task};
use crate::model::SinkName;
use crate::records::job;
use crate::records::sink::{Configured, Line, lines};

/// The sinks.
#[derive(Serialize, ToSchema)]
pub(super) struct Sinks<'a> {
    sinks: Vec<Sink<'a>>,
}

/// A sink, and how it is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct Sink<'a> {
    #[serde(flatten)]
    line: Line<'a>,
    /// Age of the oldest event that waits; 0 where none does, null for a sink that is new.
    lag_seconds: Option<u64>,
    /// What the configuration says of it; null where it is not in there.
    config: Option<SinkConfig<'a>>,
}

/// What the configuration says of a sink, and is no secret.
#[derive(Serialize, ToSchema)]
struct SinkConfig<'a> {
    /// Globs over the types that it wants; none means all.
    events: Vec<&'a str>,
    /// Its filter, where there is one.
    filter: Option<&'a str>,
    /// `key` or `none`.
    ordering: &'static str,
}

/// Each sink with what is known of it.
pub(super) fn sinks<'a>(known: &'a [SinkFacts], records: &'a [SinkRecord], now: Timestamp) -> Vec<Sink<'a>> {
    let configured: Vec<_> =
        known.iter().map(|sink| Configured { name: &sink.consumer.name, kind: sink.kind }).collect();
    let with_facts = |line: Line<'a>| {
        let record = records.iter().find(|record| record.name.as_str() == line.name);
        let config = known.iter().find(|sink| {
            record.map_or(sink.consumer.name.as_str() == line.name, |r| r.is_meant_by(&sink.consumer.name, records))
        });
        let age = |at: Timestamp| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
        let config = config.map(|sink| SinkConfig {
            events: sink.consumer.route.globs().collect(),
            filter: sink.consumer.route.expression(),
            ordering: match sink.consumer.ordering {
                Ordering::Key => "key",
                Ordering::None => "none",
            },
        });
        Sink { lag_seconds: record.map(|record| record.oldest_waiting.map_or(0, age)), line, config }
    };
    lines(records, Some(&configured)).into_iter().map(with_facts).collect()
}

/// Lists the sinks: state, cursor, events to go, parked, dead letters.
#[utoipa::path(get, path = "/api/sinks", tag = "sinks", responses((status = 200, body = Sinks)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    api.inbox()?;
    let records = api.readers.read(|reader| reader.sinks()).await?;
    let known = api.deps.status.sinks();
    Ok(HttpResponse::Ok().json(Sinks { sinks: sinks(&known, &records, api.now()) }))
}

/// Who asks for it, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkChange {
    #[schema(inline)]
    who: Option<Who>,
    #[schema(inline)]
    reason: Option<Reason>,
}

/// Stops delivering to a sink. Receiving goes on; its cursor stands still, and its replays with it.
#[utoipa::path(post, path = "/api/sinks/{name}/pause", tag = "sinks", params(("name" = String, Path)),
    request_body = SinkChange, responses((status = 202, body = job::Line)))]
pub(super) async fn pause(
    api: web::Data<Api>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    change(&api, &request, &name, payload, |sink| Task::Pause { sink }).await
}

/// Goes on delivering to a paused sink, from where it stood still.
#[utoipa::path(post, path = "/api/sinks/{name}/resume", tag = "sinks", params(("name" = String, Path)),
    request_body = SinkChange, responses((status = 202, body = job::Line)))]
pub(super) async fn resume(
    api: web::Data<Api>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    change(&api, &request, &name, payload, |sink| Task::Resume { sink }).await
}

/// Tries a sink now: what is parked for it is due, and one that is down or unavailable is tried. What came of it is seen in
/// `/api/sinks`.
#[utoipa::path(post, path = "/api/sinks/{name}/try", tag = "sinks", params(("name" = String, Path)),
    request_body = SinkChange, responses((status = 202, body = job::Line)))]
pub(super) async fn try_now(
    api: web::Data<Api>,
    request: HttpRequest,
    name: web::Path<String>,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    change(&api, &request, &name, payload, |sink| Task::Try { sink }).await
}

async fn change(
    api: &Api,
    request: &HttpRequest,
    name: &str,
    payload: web::Payload,
    task: fn(SinkName) -> Task,
) -> Result<HttpResponse, Refusal> {
    Query::none(request)?;
    let SinkChange { who, reason } = input::body(request, payload).await?;
    api.inbox()?;
    let records = api.readers.read(|reader| reader.sinks()).await?;
    let sink = records.into_iter().map(|record| record.name).find(|known| known.as_str() == name);
    let sink = sink.ok_or_else(|| Refusal::absent("there is no such sink: see /api/sinks"))?;
    api.submit(request, task(sink), Says { who, reason }).await
}
