//! `/api/quarantine`: requests refused for their signature.

use std::ops::ControlFlow;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::fields::{Moment, Reason, Text, Who};
use super::input::{self, PageQuery, Query};
use super::letters::chosen;
use super::reading::Budget;
use super::refusal::Refusal;
use super::{Api, Says, number};
use crate::inbox::sqlite::ReadError;
use crate::inbox::{QuarantineFilter, Quarantined, Task};
use crate::records::job;
use crate::records::quarantine::{Entry, FullEntry};

/// Quarantined requests, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct QuarantinePage<'a> {
    quarantine: Vec<Entry<'a>>,
    /// The cursor of the next page; null where there is no more.
    next: Option<String>,
}

/// Which ones.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SourceQuery {
    /// Name of the source that it came in at
    #[param(inline)]
    source: Option<Text>,
}

/// Lists the requests in quarantine, newest first.
#[utoipa::path(get, path = "/api/quarantine", tag = "quarantine", params(SourceQuery, PageQuery),
    responses((status = 200, body = QuarantinePage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let source = query.take::<SourceQuery>()?.source.map(|source| source.0);
    let page: PageQuery = query.take()?;
    query.finish()?;
    let (limit, below) = (page.limit()?, page.below()?);
    api.inbox()?;
    let filter = QuarantineFilter { source, ..QuarantineFilter::default() };
    let source = api.can_match("invalid_query", filter).await?.source;
    let found = api.readers.read(move |reader| {
        let (mut requests, mut next, budget) = (Vec::<Quarantined>::new(), None, Budget::page());
        reader.each_quarantined(below, &mut |request| {
            if requests.len() == limit || budget.is_spent() {
                next = Some((request.id + 1).to_string());
                return ControlFlow::Break(());
            }
            requests.extend(Some(request).filter(|r| source.as_ref().is_none_or(|source| *source == r.source)));
            ControlFlow::Continue(())
        })?;
        Ok::<_, ReadError>((requests, next))
    });
    let (requests, next) = found.await?;
    Ok(HttpResponse::Ok().json(QuarantinePage { quarantine: requests.iter().map(Entry::from).collect(), next }))
}

/// One request in quarantine: who sent it, signature headers, body. Nothing of it is verified.
#[utoipa::path(get, path = "/api/quarantine/{id}", tag = "quarantine", params(("id" = i64, Path, minimum = 1)),
    responses((status = 200, body = FullEntry)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let id = number(&id)?;
    api.inbox()?;
    let found = api.readers.read(move |reader| reader.quarantined(id)).await?;
    let refused = found.ok_or_else(|| Refusal::absent("nothing in quarantine has this number"))?;
    Ok(HttpResponse::Ok().json(FullEntry::from(&refused)))
}

/// Which requests are decided about: `ids`, or `all` with whatever narrows it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuarantineChoice {
    /// Their numbers.
    #[schema(min_items = 1, max_items = 1000)]
    ids: Option<Vec<i64>>,
    /// All of them, or with filters all that match.
    all: Option<bool>,
    /// Name of the source that it came in at.
    #[schema(inline)]
    source: Option<Text>,
    /// Received at or after.
    #[schema(inline)]
    since: Option<Moment>,
    /// Received before.
    #[schema(inline)]
    until: Option<Moment>,
    #[schema(inline)]
    #[serde(alias = "by")]
    who: Option<Who>,
    #[schema(inline)]
    reason: Option<Reason>,
}

impl QuarantineChoice {
    fn into_parts(self) -> Result<(QuarantineFilter, Says), Refusal> {
        let Self { ids, all, source, since, until, who, reason } = self;
        let filter = QuarantineFilter {
            ids: Vec::new(),
            source: source.map(|source| source.0),
            since: since.map(|since| since.0),
            until: until.map(|until| until.0),
        };
        let ids = chosen("ids", ids, all, filter == QuarantineFilter::default())?;
        Ok((QuarantineFilter { ids, ..filter }, Says { who, reason }))
    }
}

/// Checks requests again with the secrets of now; those that hold become events.
#[utoipa::path(post, path = "/api/quarantine/admit", tag = "quarantine", request_body = QuarantineChoice,
    responses((status = 202, body = job::Line)))]
pub(super) async fn admit(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let (requests, says) = input::body::<QuarantineChoice>(&request, payload).await?.into_parts()?;
    let requests = api.can_match("invalid_body", requests).await?;
    api.submit(&request, Task::Admit { requests }, says).await
}

/// Deletes requests from the quarantine.
#[utoipa::path(post, path = "/api/quarantine/purge", tag = "quarantine", request_body = QuarantineChoice,
    responses((status = 202, body = job::Line)))]
pub(super) async fn purge(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    let (requests, says) = input::body::<QuarantineChoice>(&request, payload).await?.into_parts()?;
    if says.reason.is_none() {
        return Err(Refusal::reason_missing());
    }
    let requests = api.can_match("invalid_body", requests).await?;
    api.submit(&request, Task::Purge { requests }, says).await
}
