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
use crate::inbox::sqlite::{ReadError, Reader};
use crate::inbox::{SinkRecord, Task};
use crate::model::{EventType, SinkName};
use crate::records::job;
use crate::records::sink::{Configured, Line, lines};
use crate::records::sink_detail::{Detail, Settings};
use crate::records::status::words;

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
    /// What it is doing and why, in a sentence or two.
    words: String,
    /// What the configuration says of it; null where it is not in there.
    config: Option<Settings>,
}

impl<'a> Sink<'a> {
    /// As it is listed.
    pub(super) fn line(&self) -> &Line<'a> {
        &self.line
    }
}

/// Each sink with what is known of it.
pub(super) fn sinks<'a>(known: &'a [SinkFacts], records: &'a [SinkRecord], now: Timestamp) -> Vec<Sink<'a>> {
    let configured: Vec<_> =
        known.iter().map(|sink| Configured { name: &sink.consumer.name, kind: sink.kind }).collect();
    let names: Vec<_> = known.iter().map(|sink| sink.consumer.name.clone()).collect();
    let with_facts = |line: Line<'a>| {
        let record = records.iter().find(|record| record.name.as_str() == line.name);
        let config = known.iter().find(|sink| is_meant(record, line.name, sink, &names, records));
        let age = |at: Timestamp| u64::try_from(now.duration_since(at).as_secs()).unwrap_or(0);
        Sink {
            lag_seconds: record.map(|record| record.oldest_waiting.map_or(0, age)),
            words: words(&line, now),
            line,
            config: config.map(SinkFacts::settings),
        }
    };
    lines(records, Some(&configured)).into_iter().map(with_facts).collect()
}

/// Whether a configured sink is the one with this record and name.
fn is_meant(
    record: Option<&SinkRecord>,
    name: &str,
    sink: &SinkFacts,
    names: &[SinkName],
    records: &[SinkRecord],
) -> bool {
    let configured = &sink.consumer.name;
    record.map_or(configured.as_str() == name, |record| record.is_meant_by(configured, names, records))
}

/// One sink: how it is doing and why, what it has still to get, what the configuration says of it.
#[utoipa::path(get, path = "/api/sinks/{name}", tag = "sinks", params(("name" = String, Path)),
    responses((status = 200, body = Detail)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    name: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    api.inbox()?;
    let (known, name) = (api.deps.status.sinks(), name.into_inner());
    let wanted = {
        let (known, name) = (known.clone(), name.clone());
        move |reader: &mut Reader| {
            let records = reader.sinks()?;
            let record = records.iter().find(|record| record.name.as_str() == name);
            let names: Vec<_> = known.iter().map(|sink| sink.consumer.name.clone()).collect();
            let facts = known.iter().find(|sink| is_meant(record, &name, sink, &names, &records));
            let wants = |event_type: &EventType| facts.is_none_or(|sink| sink.consumer.route.wants(event_type));
            let found = record.map(|record| reader.undelivered(record, &wants)).transpose()?.unwrap_or_default();
            let revisions = record.map(|record| reader.sink_revisions(record.id)).transpose()?.unwrap_or_default();
            Ok::<_, ReadError>((found, facts.map(SinkFacts::settings), records, revisions))
        }
    };
    let (found, config, records, revisions) = api.readers.read(wanted).await?;
    let configured: Vec<_> =
        known.iter().map(|sink| Configured { name: &sink.consumer.name, kind: sink.kind }).collect();
    let line = lines(&records, Some(&configured)).into_iter().find(|line| line.name == name);
    let line = line.ok_or_else(|| Refusal::absent("there is no such sink: see /api/sinks"))?;
    Ok(HttpResponse::Ok().json(Detail::new(line, &found, config, &revisions, api.now())))
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
    #[serde(alias = "by")]
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
