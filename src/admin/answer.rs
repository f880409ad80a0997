//! One request to the admin listener.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{Error, HttpRequest, HttpResponse, ResponseError as _, web};
use serde_json::json;

use super::api::refusal::Refusal;
use super::{Config, Deps, Status, Token, page};
use crate::inbox::BuildFailure;
use crate::listener::Admitted;
use crate::metrics::Metrics;
use crate::model::SinkName;
use crate::records::Time;

/// The media type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The state of the listener.
pub(super) struct Admin {
    metrics: Arc<Metrics>,
    status: Arc<dyn Status>,
    token: Option<Token>,
    open_metrics: bool,
    hosts: Vec<String>,
}

impl Admin {
    pub(super) fn new(config: &Config, deps: &Deps) -> Self {
        let (metrics, status) = (Arc::clone(&deps.metrics), Arc::clone(&deps.status));
        let (token, hosts) = (config.token.clone(), config.hosts.clone());
        Self { metrics, status, token, open_metrics: config.open_metrics, hosts }
    }

    /// Whether a request is for us, and not sent by a page of somebody else's.
    fn may_ask(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !self.is_our_name(headers) {
            let message = "ask by address, as localhost, or by a name that is listed in admin.hosts";
            return Err(Refusal::forbidden("wrong_host", message));
        }
        if !is_same_origin(headers) {
            return Err(Refusal::forbidden("wrong_origin", "a page of another site asks: its Origin is not this Host"));
        }
        Ok(())
    }

    /// Whether a request was meant for us. A page in a browser can make a name of its own lead to this listener (DNS
    /// rebinding), but it cannot make an address or `localhost` lead elsewhere. Who sends no Host is no browser.
    fn is_our_name(&self, headers: &HeaderMap) -> bool {
        headers.get_all(HOST).all(|host| {
            let Some(name) = host_name(host) else { return false };
            let ours = |ours: &String| name.eq_ignore_ascii_case(ours);
            is_address(name) || name.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(ours)
        })
    }

    /// Whether the token was sent.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match &self.token {
            None => Err(Refusal::forbidden("no_token_configured", "set admin.token, and restart")),
            Some(token) if !is_bearer(headers, token) => Err(Refusal::unauthorized()),
            Some(_) => Ok(()),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Result<HttpResponse, Refusal> {
        if !self.open_metrics && self.token.is_none() {
            let message = "set admin.token, or admin.open_metrics = true for metrics without a token";
            return Err(Refusal::forbidden("no_token_configured", message));
        }
        if !self.open_metrics {
            self.authorize(headers)?;
        }
        self.status.refresh_metrics();
        Ok(HttpResponse::Ok().content_type(METRICS_TYPE).body(self.metrics.render()))
    }

    fn ready(&self) -> HttpResponse {
        let (reasons, unavailable) = (self.status.reasons_not_ready(), self.status.unavailable_sinks());
        let mut answer = json!({ "ready": reasons.is_empty() });
        if !unavailable.is_empty() {
            let sink = |(name, failure): &(SinkName, BuildFailure)| json!({ "name": name.as_str(), "error": failure.error, "since": Time(failure.since) });
            answer["unavailable_sinks"] = unavailable.iter().map(sink).collect();
        }
        // Not why: nobody has shown the token, and what does not hold could be a secret in the wrong place.
        if let Some(failure) = self.status.reload_failure() {
            answer["last_reload_failed_at"] = json!(Time(failure.at));
        }
        if reasons.is_empty() {
            return HttpResponse::Ok().json(answer);
        }
        answer["reasons"] = reasons.into();
        HttpResponse::ServiceUnavailable().json(answer)
    }
}

/// Said of every answer, where it does not say otherwise itself.
const HEADERS: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// What comes before everything: who may ask at all. Every answer goes out through here.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let admin = request.app_data::<web::Data<Admin>>().expect("it is the application's").clone();
    let has_token = admin.authorize(request.headers()).is_ok();
    if has_token && let Some(admitted) = request.conn_data::<Arc<Admitted>>() {
        admitted.prove();
    }
    let mut response = match admin.may_ask(request.headers()) {
        Ok(()) => next.call(request).await?.map_into_boxed_body(),
        Err(refusal) => request.into_response(refusal.error_response()),
    };
    for (name, value) in HEADERS {
        if !response.headers().contains_key(&name) {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    if !has_token {
        // A place is kept only for who has shown the token.
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Answers what is not the API's.
pub(super) async fn handle(admin: web::Data<Admin>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    let answer = match request.path() {
        "/healthz" => Ok(HttpResponse::Ok().content_type("text/plain").body("ok")),
        "/readyz" => Ok(admin.ready()),
        "/metrics" if is_read(&request) => admin.metrics(request.headers()),
        "/metrics" => Ok(HttpResponse::Ok().finish()),
        path => page::file(path).ok_or_else(|| {
            Refusal::absent(
                "there are /, /api/, /healthz, /readyz and /metrics; the API is told of in /api/openapi.json",
            )
        }),
    };
    match answer {
        Ok(_) if !is_read(&request) => Err(Refusal::method_not_allowed("GET, HEAD".to_owned())),
        answer => answer,
    }
}

fn is_read(request: &HttpRequest) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// The name in a Host header, without the port.
fn host_name(header: &HeaderValue) -> Option<&str> {
    let host = header.to_str().ok()?;
    match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') => port.bytes().all(|b| b.is_ascii_digit()).then_some(name),
        _ => Some(host),
    }
}

fn is_address(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    inner.unwrap_or(name).parse::<IpAddr>().is_ok()
}

/// A browser names the page that asks in Origin, unless that page is ours and only reads. `null` is nobody's page.
fn is_same_origin(headers: &HeaderMap) -> bool {
    headers.get_all(ORIGIN).all(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        matches!((origin, host), (Some((_, origin)), Some(host)) if origin.eq_ignore_ascii_case(host))
    })
}

/// RFC 6750 2.1; the scheme's case does not matter (RFC 9110 11.1).
fn is_bearer(headers: &HeaderMap, token: &Token) -> bool {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    sent.is_some_and(|(scheme, sent)| scheme.eq_ignore_ascii_case(b"bearer ") && token.is(sent))
}
