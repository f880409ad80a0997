//! `/api/record`: what people and the relay did, and what it was about.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fields::{MANY, Moment, Text};
use super::input::{PageQuery, Query};
use super::jobs::page;
use super::refusal::Refusal;
use super::{Api, number};
use crate::inbox::sqlite::ReadError;
use crate::model::JobId;
use crate::records::record::{Entry, Full, RecordFilter, kind};

/// The record, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct RecordPage<'a> {
    record: Vec<Entry<'a>>,
    /// The cursor of the next page; null where there is no more.
    next: Option<String>,
}

/// Which entries. Every parameter narrows.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RecordQuery {
    /// Asked for at or after
    #[param(inline)]
    since: Option<Moment>,
    /// Asked for before
    #[param(inline)]
    until: Option<Moment>,
    /// Text that the name of who asked holds, ignoring case
    #[param(inline)]
    by: Option<Text>,
    /// Such as `discard`; may repeat
    #[param(inline, max_items = 50)]
    #[serde(default)]
    kind: Vec<Text>,
}

impl RecordQuery {
    fn into_filter(self) -> Result<RecordFilter, Refusal> {
        let Self { since, until, by, kind: kinds } = self;
        let bad = |message: String| Refusal::bad("invalid_query", message);
        if kinds.len() > MANY {
            return Err(bad(format!("name at most {MANY} kinds")));
        }
        let kinds: Result<Vec<String>, String> = kinds.iter().map(|text| kind(&text.0)).collect();
        Ok(RecordFilter {
            since: since.map(|since| since.0),
            until: until.map(|until| until.0),
            by: by.map(|by| by.0),
            kinds: kinds.map_err(|message| bad(format!("kind: {message}")))?,
        })
    }
}

/// Lists what people and the relay did, newest first: what was chosen, by whom, why, and what came of it.
#[utoipa::path(get, path = "/api/record", tag = "record", params(RecordQuery, PageQuery),
    responses((status = 200, body = RecordPage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let filter = query.take::<RecordQuery>()?.into_filter()?;
    let asked: PageQuery = query.take()?;
    query.finish()?;
    let filter = api.can_match("invalid_query", filter).await?;
    let (jobs, next) = page(&api, &asked, move |job| filter.matches(job)).await?;
    Ok(HttpResponse::Ok().json(RecordPage { record: jobs.iter().map(Entry::from).collect(), next }))
}

/// One entry, with the events, dead letters or requests that it was about: the first thousand, and how many there were.
#[utoipa::path(get, path = "/api/record/{id}", tag = "record", params(("id" = i64, Path, minimum = 1)),
    responses((status = 200, body = Full)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let id = JobId::new(number(&id)?);
    api.inbox()?;
    let found = api.readers.read(move |reader| {
        let Some(job) = reader.job(id)? else { return Ok::<_, ReadError>(None) };
        let items = reader.record_items(&job)?;
        Ok(Some((job, items)))
    });
    let (job, items) = found.await?.ok_or_else(|| Refusal::absent("the record has no such entry"))?;
    Ok(HttpResponse::Ok().json(Full::new(&job, &items)))
}
