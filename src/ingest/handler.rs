//! One request, from its head to its answer.

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tracing::{debug, error, info, warn};

use super::Gate;
use super::answer::{Answer, Outcome};
use super::body::{self, Body, Checked, Delimited, Discarded, Limits};
use super::connection::Conn;
use super::shared::{Endpoint, Outcomes, Shared};
use crate::inbox::{AppendKind, Appended, NewEvent, Unavailable};
use crate::model::EventType;
use crate::verify::{Check, Header, Unverified};

/// Headers that are kept with a delivery, besides its signature and content type, which have places of their own. First what
/// the body cannot be read without.
pub(super) static KEPT: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::USER_AGENT,
    header::DATE,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
];
const MAX_HEADERS: usize = 16;
const MAX_VALUE_BYTES: usize = 1024;
/// Values of the signature header that are kept: two are one too many already.
const MAX_SIGNATURES: usize = 4;

type Payload<'a> = Delimited<'a, web::Payload>;

/// Answers any request, and counts it.
pub(super) async fn handle(shared: web::Data<Shared>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let started = Instant::now();
    let conn = request.conn_data::<Rc<Conn>>().expect("every connection is made with its state");
    conn.head_read();
    let route = Route::of(&shared, &request);
    let tally = Tally { outcomes: route.outcomes(&shared), done: false };
    let answered = AssertUnwindSafe(answer(&shared, &route, &request, payload, conn, started)).catch_unwind().await;
    let answer = answered.unwrap_or_else(|_| {
        error!(source = route.source(), "a request made the receiver panic; the sender is answered 500");
        Answer::Refused(Outcome::Error)
    });
    conn.answered();
    let outcome = answer.outcome();
    if outcome == Outcome::Aborted {
        conn.close();
    } else if let Route::Delivery(endpoint) = route {
        endpoint.counters.ack_seconds.observe(started.elapsed().as_secs_f64());
    }
    tally.count(outcome);
    let mut response = answer.into_response();
    if !conn.is_verified() {
        // Only who has signed a request may keep its connection: anybody else would keep others out.
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// Counts a request once; as aborted when the connection ends before there is an answer.
struct Tally<'a> {
    outcomes: &'a Outcomes,
    done: bool,
}

impl Tally<'_> {
    fn count(mut self, outcome: Outcome) {
        self.done = true;
        self.outcomes.get(outcome).inc();
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.outcomes.get(Outcome::Aborted).inc();
        }
    }
}

/// What a request is for.
enum Route<'a> {
    Delivery(&'a Endpoint),
    WrongMethod(&'a Endpoint),
    /// On an unknown path, with what may be a signature.
    Misdirected,
    Unknown,
}

impl<'a> Route<'a> {
    fn of(shared: &'a Shared, request: &HttpRequest) -> Self {
        let post = request.method() == Method::POST;
        match shared.endpoint(request.uri().path()) {
            Some(endpoint) if post => Self::Delivery(endpoint),
            Some(endpoint) => Self::WrongMethod(endpoint),
            None if post && shared.has_signature(request.headers()) => Self::Misdirected,
            None => Self::Unknown,
        }
    }

    fn outcomes(&self, shared: &'a Shared) -> &'a Outcomes {
        match self {
            Self::Delivery(endpoint) | Self::WrongMethod(endpoint) => &endpoint.counters.outcomes,
            Self::Misdirected | Self::Unknown => &shared.elsewhere,
        }
    }

    fn source(&self) -> Option<&str> {
        match self {
            Self::Delivery(endpoint) | Self::WrongMethod(endpoint) => Some(endpoint.name.as_str()),
            Self::Misdirected | Self::Unknown => None,
        }
    }
}

async fn answer(
    shared: &Shared,
    route: &Route<'_>,
    request: &HttpRequest,
    payload: web::Payload,
    conn: &Conn,
    started: Instant,
) -> Answer {
    let declared = body::declared(request.headers());
    let mut payload = Delimited::new(payload, declared, conn);
    let gate = *shared.gate.borrow();
    let outcome = match (route, gate) {
        (Route::Delivery(endpoint), Gate::Open) => {
            let delivery = Delivery { shared, endpoint, request, conn };
            return delivery.take_in_time(payload, declared, started).await;
        }
        (Route::Delivery(_), Gate::Starting) => Outcome::Starting,
        (Route::Delivery(_), Gate::Stopping) => Outcome::Stopping,
        (Route::WrongMethod(_), _) => Outcome::MethodNotAllowed,
        (Route::Misdirected, _) => return misdirected(shared, request, payload, declared, conn).await,
        (Route::Unknown, _) => Outcome::NotFound,
    };
    let discarded = body::discard(&mut payload, shared.max_body).await;
    if discarded == Discarded::Whole {
        conn.body_read();
    }
    Answer::Refused(if discarded == Discarded::Broken { Outcome::Aborted } else { outcome })
}

/// A request with a signature to an unknown path. It is a lost delivery only where the signature holds for some source:
/// the others are a stranger's, who can neither page anybody nor hide those.
async fn misdirected(
    shared: &Shared,
    request: &HttpRequest,
    mut payload: Payload<'_>,
    declared: Option<u64>,
    conn: &Conn,
) -> Answer {
    let headers = request.headers();
    let checks = match body::check(&mut payload, declared, shared.max_body, shared.begin_checks(headers)).await {
        Checked::Whole(checks) => checks,
        Checked::Endless => return Answer::Refused(Outcome::NotFoundSigned),
        Checked::Broken => return Answer::Refused(Outcome::Aborted),
    };
    conn.body_read();
    let holds = |(endpoint, check): (&Endpoint, Check)| check.finish(&signatures(headers, endpoint)).is_ok();
    if !checks.into_iter().any(holds) {
        return Answer::Refused(Outcome::NotFoundSigned);
    }
    conn.verified();
    if let Some(suppressed) = shared.misdirected.admit(Instant::now()) {
        let path: String = request.uri().path().chars().take(200).collect();
        error!(
            path,
            peer = %peer(shared, request),
            suppressed,
            "a signed delivery came to a path that is not configured; answered 503: correct the URL in the provider's portal"
        );
    }
    Answer::Refused(Outcome::Misdirected)
}

/// The different values of a source's signature header, as far as they are kept. One more than two is enough to know that
/// they differ.
fn signatures(headers: &HeaderMap, endpoint: &Endpoint) -> Vec<Bytes> {
    let mut signatures: Vec<Bytes> = Vec::new();
    for value in headers.get_all(&endpoint.signature_header) {
        let value = cut(value.as_bytes());
        if signatures.len() < MAX_SIGNATURES && signatures.iter().all(|signature| signature != value) {
            signatures.push(Bytes::copy_from_slice(value));
        }
    }
    signatures
}

/// A delivery to a known source, while the gate is open.
pub(super) struct Delivery<'a> {
    pub(super) shared: &'a Shared,
    pub(super) endpoint: &'a Endpoint,
    pub(super) request: &'a HttpRequest,
    conn: &'a Conn,
}

impl Delivery<'_> {
    async fn take_in_time(&self, payload: Payload<'_>, declared: Option<u64>, started: Instant) -> Answer {
        let deadline = (started + self.shared.ack_deadline).into();
        let Ok(answer) = tokio::time::timeout_at(deadline, self.take(payload, declared)).await else {
            if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
                warn!(source = self.source(), suppressed, "a delivery could not be stored in time; answered 503");
            }
            return Answer::Refused(Outcome::Deadline);
        };
        answer
    }

    async fn take(&self, mut payload: Payload<'_>, declared: Option<u64>) -> Answer {
        let headers = self.request.headers();
        let signatures = signatures(headers, self.endpoint);
        let limits = Limits {
            max: self.shared.max_body,
            memory: &self.shared.memory,
            admitted: self.conn.admitted(),
            keys: &self.endpoint.keys,
        };
        let body = body::read(&mut payload, declared, &limits).await;
        self.conn.body_read();
        match body {
            // The share is held until the answer: the inbox holds the body that long.
            Body::Whole(body, _share) => self.store(signatures, body).await,
            Body::Oversize(check) => self.oversize(check, &signatures),
            Body::NoRoom => self.overloaded(),
            Body::Endless => {
                if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
                    warn!(source = self.source(), peer = %self.peer(), declared, suppressed,
                        "closed the connection of a body too large to be checked");
                }
                Answer::Refused(Outcome::Aborted)
            }
            Body::Broken => {
                if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
                    info!(source = self.source(), peer = %self.peer(), suppressed,
                        "closed a connection without an answer: the body ended early, came too slowly, or is no valid HTTP");
                }
                Answer::Refused(Outcome::Aborted)
            }
        }
    }

    async fn store(&self, signatures: Vec<Bytes>, body: Bytes) -> Answer {
        let received_at = self.shared.clock.now();
        let headers = self.request.headers();
        let delivery = Unverified {
            source: self.endpoint.name.clone(),
            signatures,
            content_type: headers.get(header::CONTENT_TYPE).and_then(|value| Some(cut_text(value.to_str().ok()?))),
            headers: kept_headers(headers),
            body,
        };
        let verified = match delivery.verify(&self.endpoint.keys) {
            Ok(verified) => verified,
            Err(rejected) => return self.refuse(rejected, received_at).await,
        };
        self.conn.verified();
        self.endpoint.counters.secret_used(verified.slot());
        let event = NewEvent::new(verified, received_at).sent_by(self.peer().to_string());
        let (id, event_type) = (event.id.clone(), event.envelope.event_type.clone());
        let (has_time, is_ambiguous) = (event.envelope.time.is_some(), event.envelope.is_ambiguous);
        match self.shared.inbox().append(event).await {
            Ok(Appended { seq, kind }) => {
                debug!(source = self.source(), event_id = %id, seq = seq.get(), r#type = %event_type, ?kind, "stored");
                self.count(kind, &event_type, has_time);
                if is_ambiguous
                    && kind != AppendKind::Duplicate
                    && let Some(suppressed) = self.shared.ambiguous.admit(Instant::now())
                {
                    warn!(source = self.source(), event_id = %id, seq = seq.get(), suppressed,
                        "an event gives a member of its envelope more than once; the relay reads the first, and others may \
                         read another one: see `events show`");
                }
                if kind == AppendKind::Conflict {
                    warn!(source = self.source(), event_id = %id, seq = seq.get(),
                        "an event came with the id of another one and with other bytes; both are kept");
                }
                Answer::Stored(id, kind)
            }
            Err(Unavailable::Unstorable(why)) => {
                if let Some(suppressed) = self.shared.unstorable.admit(Instant::now()) {
                    error!(
                        source = self.source(), event_id = %id, r#type = %event_type, why, suppressed,
                        "the database refuses an event, which is not stored; answered 500, so it comes again: see whether \
                         another program has put a trigger or a constraint into the inbox, and take it out"
                    );
                }
                Answer::Refused(Outcome::Error)
            }
            Err(error) => self.unavailable(&error),
        }
    }

    fn count(&self, kind: AppendKind, event_type: &EventType, has_time: bool) {
        let counters = &self.endpoint.counters;
        match kind {
            AppendKind::Fresh => {}
            AppendKind::Duplicate => return counters.same.inc(),
            AppendKind::Conflict => counters.conflicts.inc(),
        }
        counters.event(event_type.category()).inc();
        if !has_time {
            counters.time_missing.inc();
        }
        self.shared.unrouted.note(&self.endpoint.name, event_type, counters);
    }

    fn oversize(&self, check: Check, signatures: &[Bytes]) -> Answer {
        match check.finish(signatures) {
            Ok(_) => {
                self.conn.verified();
                if let Some(suppressed) = self.shared.too_large.admit(Instant::now()) {
                    error!(
                        source = self.source(),
                        max_body = self.shared.max_body,
                        suppressed,
                        "a genuine delivery is larger than server.max_body; answered 503: raise the limit before it is lost"
                    );
                }
                Answer::Refused(Outcome::TooLargeGenuine)
            }
            Err(reason) => {
                if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
                    let reason = reason.label();
                    info!(source = self.source(), peer = %self.peer(), reason, suppressed, "refused an oversize body");
                }
                Answer::Refused(self.refusal_of_oversize(reason))
            }
        }
    }

    fn overloaded(&self) -> Answer {
        if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
            warn!(source = self.source(), suppressed, "no memory left for bodies; answered 503");
        }
        Answer::Refused(Outcome::Overloaded)
    }

    pub(super) fn unavailable(&self, error: &Unavailable) -> Answer {
        if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
            warn!(source = self.source(), %error, suppressed, "a delivery could not be stored; answered 503");
        }
        Answer::Refused(match error {
            Unavailable::Busy => Outcome::Overloaded,
            Unavailable::Unstorable(_) => Outcome::Error,
            Unavailable::Closed | Unavailable::Storage(_) | Unavailable::Refused(_) => Outcome::Unavailable,
        })
    }

    pub(super) fn source(&self) -> &str {
        self.endpoint.name.as_str()
    }

    fn peer(&self) -> IpAddr {
        peer(self.shared, self.request)
    }
}

fn kept_headers(headers: &HeaderMap) -> Vec<Header> {
    let values = KEPT.iter().flat_map(|name| headers.get_all(name).map(move |value| (name, value)));
    values.take(MAX_HEADERS).map(|(name, value)| (name.as_str().to_owned(), text(value))).collect()
}

fn text(value: &HeaderValue) -> String {
    cut_text(&String::from_utf8_lossy(cut(value.as_bytes())))
}

fn cut(value: &[u8]) -> &[u8] {
    &value[..value.len().min(MAX_VALUE_BYTES)]
}

fn cut_text(value: &str) -> String {
    value[..value.floor_char_boundary(MAX_VALUE_BYTES)].to_owned()
}

pub(super) fn peer(shared: &Shared, request: &HttpRequest) -> IpAddr {
    let peer = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |addr| addr.ip());
    shared.sender(peer, request.headers())
}
