//! The admin API: everything under `/api/`, for whoever has the token. What changes something becomes a job, which the
//! daemon carries out as it does those of the command line.

mod bodies;
mod events;
mod fields;
mod input;
mod jobs;
mod letters;
mod overview;
mod parked;
mod quarantine;
mod reading;
mod record;
pub(super) mod refusal;
mod replays;
mod sinks;
mod spec;
mod tail;

use std::ops::ControlFlow;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::{Next, from_fn};
use actix_web::{Error, HttpRequest, HttpResponse, Resource, Responder, ResponseError as _, Route, web};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::bodies::Bodies;
use self::reading::{Budget, Readers};
use self::refusal::Refusal;
use super::Deps;
use super::answer::Admin;
use crate::inbox::sqlite::ReadError;
use crate::inbox::{EventDetail, Inbox, NewJob, Task, Unavailable};
use crate::model::Digest;
use crate::records::filter::{Asked, Configured, check};
use crate::records::job::Line;

/// Tails at a time: of the connections that the listener has, most are left for everybody else.
const MAX_TAILS: usize = 16;

/// What the handlers share.
pub(super) struct Api {
    deps: Deps,
    readers: Readers,
    bodies: Bodies,
    tails: Arc<Semaphore>,
}

impl Api {
    pub(super) fn new(deps: Deps) -> Self {
        let readers = Readers::new(deps.inbox.clone());
        Self { deps, readers, bodies: Bodies::new(), tails: Arc::new(Semaphore::new(MAX_TAILS)) }
    }

    /// The inbox, once it is open.
    fn inbox(&self) -> Result<Arc<dyn Inbox>, Refusal> {
        self.deps.status.inbox().ok_or_else(Refusal::starting)
    }

    fn now(&self) -> Timestamp {
        self.deps.clock.now()
    }

    /// Marks what was read and is not what came in. What cannot be noted now is found again.
    async fn look_for_altered(&self, events: &[EventDetail]) {
        let is_new = |event: &&EventDetail| event.body_matches == Some(false) && event.mismatch_found_at.is_none();
        let digest = |event: &EventDetail| Some((event.summary.seq, Digest::of(event.body.as_deref()?)));
        let found: Vec<_> = events.iter().filter(is_new).filter_map(digest).collect();
        if let Some(inbox) = self.deps.status.inbox().filter(|_| !found.is_empty()) {
            _ = inbox.note_altered(found).await;
        }
    }

    /// Refuses a filter that cannot match anything, as the command line does. `code` is what the refusal is called.
    async fn can_match<F>(&self, code: &'static str, filter: F) -> Result<F, Refusal>
    where
        F: Send + 'static,
        for<'a> Asked<'a>: From<&'a F>,
    {
        let configured = Configured {
            sources: self.deps.status.sources().iter().map(|source| source.name.to_string()).collect(),
            sinks: self.deps.status.sinks().iter().map(|sink| sink.consumer.name.to_string()).collect(),
        };
        let checked = self.readers.read(move |reader| {
            let budget = Budget::page();
            let found = check(reader, (&filter).into(), Some(&configured), &mut |_, _| {
                if budget.is_spent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok::<_, ReadError>((filter, found))
        });
        let (filter, found) = checked.await?;
        match found {
            Some(found) => Err(Refusal::bad(code, found.utc())),
            None => Ok(filter),
        }
    }

    /// Stores a job, and answers with it.
    async fn submit(&self, request: &HttpRequest, task: Task, says: Says) -> Result<HttpResponse, Refusal> {
        let inbox = self.inbox()?;
        let name = says.who.as_ref().map(|who| who.0.as_str()).filter(|name| !name.is_empty());
        let who = who(name.ok_or_else(Refusal::name_missing)?, request);
        let reason = says.reason.map(|reason| reason.0).unwrap_or_default();
        let new = NewJob { task, who, reason, total: None, at: self.now() };
        let id = inbox.submit(new.clone()).await.map_err(|error| match error {
            Unavailable::Refused(why) | Unavailable::Unstorable(why) => Refusal::conflict("refused", why),
            Unavailable::Busy | Unavailable::Closed | Unavailable::Storage(_) => Refusal::inbox_unavailable(),
        })?;
        // Not read back: where that failed, who asked would ask for the same again.
        Ok(HttpResponse::Accepted().json(Line::from(&new.queued(id))))
    }
}

/// What somebody says about themselves and about why.
#[derive(Default)]
struct Says {
    who: Option<fields::Who>,
    reason: Option<fields::Reason>,
}

/// Who asked, as it is kept: nobody proves a name, so the address stands beside it.
fn who(name: &str, request: &HttpRequest) -> String {
    let ip = request.peer_addr().map_or_else(|| "unknown".to_owned(), |peer| peer.ip().to_string());
    format!("{name} (admin API, {ip})")
}

/// One path, and what it does for each method.
struct Place {
    path: &'static str,
    methods: Vec<(Method, Route)>,
}

impl Place {
    fn at(path: &'static str) -> Self {
        Self { path, methods: Vec::new() }
    }

    fn on<F, Args>(mut self, method: Method, handler: F) -> Self
    where
        F: actix_web::Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.methods.push((method.clone(), web::method(method).to(handler)));
        self
    }

    fn get<F, Args>(self, handler: F) -> Self
    where
        F: actix_web::Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::GET, handler)
    }

    fn post<F, Args>(self, handler: F) -> Self
    where
        F: actix_web::Handler<Args>,
        Args: actix_web::FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.on(Method::POST, handler)
    }

    fn resource(self) -> Resource {
        let allow: Vec<String> = self.methods.iter().map(|(method, _)| method.to_string()).collect();
        let allow = allow.join(", ");
        let resource = self.methods.into_iter().fold(web::resource(self.path), |all, (_, route)| all.route(route));
        resource.default_service(web::to(move || {
            let refusal = Refusal::method_not_allowed(allow.clone());
            async move { refusal.error_response() }
        }))
    }
}

/// Every path. What is more specific comes first.
fn places() -> Vec<Place> {
    vec![
        Place::at("/api/openapi.json").get(spec::get),
        Place::at("/api/overview").get(overview::overview),
        Place::at("/api/sources").get(overview::sources),
        Place::at("/api/events").get(events::list),
        Place::at("/api/events/{id}").get(events::show),
        Place::at("/api/events/{seq}/body").get(events::body),
        Place::at("/api/tail").get(tail::tail),
        Place::at("/api/sinks").get(sinks::list),
        Place::at("/api/sinks/{name}").get(sinks::show),
        Place::at("/api/sinks/{name}/pause").post(sinks::pause),
        Place::at("/api/sinks/{name}/resume").post(sinks::resume),
        Place::at("/api/sinks/{name}/try").post(sinks::try_now),
        Place::at("/api/parked").get(parked::list),
        Place::at("/api/parked/retry").post(parked::retry),
        Place::at("/api/parked/discard").post(parked::discard),
        Place::at("/api/dead-letters").get(letters::list),
        Place::at("/api/dead-letters/retry").post(letters::retry),
        Place::at("/api/dead-letters/discard").post(letters::discard),
        Place::at("/api/dead-letters/{id}").get(letters::show),
        Place::at("/api/quarantine").get(quarantine::list),
        Place::at("/api/quarantine/admit").post(quarantine::admit),
        Place::at("/api/quarantine/purge").post(quarantine::purge),
        Place::at("/api/quarantine/{id}").get(quarantine::show),
        Place::at("/api/replays").get(replays::list).post(replays::begin),
        Place::at("/api/replays/plan").post(replays::plan),
        Place::at("/api/replays/{id}").get(replays::show),
        Place::at("/api/replays/{id}/cancel").post(replays::cancel),
        Place::at("/api/record").get(record::list),
        Place::at("/api/record/{id}").get(record::show),
        Place::at("/api/jobs").get(jobs::list),
        Place::at("/api/jobs/{id}").get(jobs::show),
    ]
}

/// Everything under `/api`, behind the token.
pub(super) fn scope() -> impl actix_web::dev::HttpServiceFactory {
    let scope = places().into_iter().fold(web::scope(""), |scope, place| scope.service(place.resource()));
    scope
        .guard(actix_web::guard::fn_guard(|context| {
            let path = context.head().uri.path();
            path == "/api" || path.starts_with("/api/")
        }))
        .default_service(web::to(async || {
            Refusal::absent("there is no such path: see /api/openapi.json").error_response()
        }))
        .wrap(from_fn(authorize))
}

/// The token comes before everything that could tell anything.
async fn authorize(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let admin = request.app_data::<web::Data<Admin>>().expect("it is the application's");
    if let Err(refusal) = admin.authorize(request.headers()) {
        return Ok(request.into_response(refusal.error_response()));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// The number in a path; what is none names nothing.
fn number(text: &str) -> Result<i64, Refusal> {
    let number = text.parse().ok().filter(|number: &i64| *number > 0 && text.bytes().all(|b| b.is_ascii_digit()));
    number.ok_or_else(|| Refusal::absent("there is nothing under this number"))
}
