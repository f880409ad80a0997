//! `/api/jobs`: who asked for what, when and why, and what came of it.

use std::ops::ControlFlow;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::input::{PageQuery, Query};
use super::reading::Budget;
use super::refusal::Refusal;
use super::{Api, number};
use crate::inbox::Job;
use crate::model::JobId;
use crate::records::job::Line;

/// Jobs, page by page.
#[derive(Serialize, ToSchema)]
pub(super) struct JobPage<'a> {
    jobs: Vec<Line<'a>>,
    /// The cursor of the next page; null where there is no more.
    next: Option<String>,
}

/// Jobs of a kind, newest first, and the cursor of the next page.
pub(super) async fn page(
    api: &Api,
    page: &PageQuery,
    is_meant: impl Fn(&Job) -> bool + Send + 'static,
) -> Result<(Vec<Job>, Option<String>), Refusal> {
    let (limit, below) = (page.limit()?, page.below()?);
    api.inbox()?;
    api.readers
        .read(move |reader| {
            let (mut jobs, mut next, budget) = (Vec::new(), None, Budget::page());
            reader.each_job(below.map(JobId::new), &mut |job| {
                if jobs.len() == limit || budget.is_spent() {
                    next = Some((job.id.get() + 1).to_string());
                    return ControlFlow::Break(());
                }
                jobs.extend(Some(job).filter(&is_meant));
                ControlFlow::Continue(())
            })?;
            Ok::<_, crate::inbox::sqlite::ReadError>((jobs, next))
        })
        .await
}

/// One job.
pub(super) async fn one(api: &Api, id: &str) -> Result<Job, Refusal> {
    let id = JobId::new(number(id)?);
    api.inbox()?;
    let job = api.readers.read(move |reader| reader.job(id)).await?;
    job.ok_or_else(|| Refusal::absent("there is no such job"))
}

/// Lists every job, newest first: the record of who did what.
#[utoipa::path(get, path = "/api/jobs", tag = "jobs", params(PageQuery), responses((status = 200, body = JobPage)))]
pub(super) async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let mut query = Query::of(&request)?;
    let asked: PageQuery = query.take()?;
    query.finish()?;
    let (jobs, next) = page(&api, &asked, |_| true).await?;
    Ok(HttpResponse::Ok().json(JobPage { jobs: jobs.iter().map(Line::from).collect(), next }))
}

/// One job: how far it is, and what came of it.
#[utoipa::path(get, path = "/api/jobs/{id}", tag = "jobs", params(("id" = i64, Path, minimum = 1)),
    responses((status = 200, body = Line)))]
pub(super) async fn show(
    api: web::Data<Api>,
    request: HttpRequest,
    id: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    Ok(HttpResponse::Ok().json(Line::from(&one(&api, &id).await?)))
}
