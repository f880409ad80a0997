//! One request to the admin listener.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, HOST, HeaderMap, HeaderValue, ORIGIN, WWW_AUTHENTICATE,
};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use serde_json::json;

use super::{Config, Status, Token};
use crate::metrics::Metrics;

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
    pub(super) fn new(config: &Config, metrics: Arc<Metrics>, status: Arc<dyn Status>) -> Self {
        let (token, hosts) = (config.token.clone(), config.hosts.clone());
        Self { metrics, status, token, open_metrics: config.open_metrics, hosts }
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

    fn metrics(&self, headers: &HeaderMap) -> HttpResponse {
        match (self.open_metrics, &self.token) {
            (true, _) => {}
            (false, None) => {
                let message = "set admin.token, or admin.open_metrics = true for metrics without a token";
                return refuse(HttpResponse::Forbidden(), "no_token_configured", message);
            }
            (false, Some(token)) if !is_bearer(headers, token) => {
                let mut response = HttpResponse::Unauthorized();
                response.insert_header((WWW_AUTHENTICATE, "Bearer"));
                return refuse(response, "unauthorized", "send `Authorization: Bearer <admin.token>`");
            }
            (false, Some(_)) => {}
        }
        self.status.refresh_metrics();
        HttpResponse::Ok().content_type(METRICS_TYPE).insert_header(NO_STORE).body(self.metrics.render())
    }

    fn ready(&self) -> HttpResponse {
        let reasons = self.status.reasons_not_ready();
        if reasons.is_empty() {
            HttpResponse::Ok().insert_header(NO_STORE).json(json!({ "ready": true }))
        } else {
            HttpResponse::ServiceUnavailable()
                .insert_header(NO_STORE)
                .json(json!({ "ready": false, "reasons": reasons }))
        }
    }
}

const NO_STORE: (actix_web::http::header::HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// Answers any request.
pub(super) async fn handle(admin: web::Data<Admin>, request: HttpRequest) -> HttpResponse {
    if !admin.is_our_name(request.headers()) {
        let message = "ask by address, as localhost, or by a name that is listed in admin.hosts";
        return refuse(HttpResponse::Forbidden(), "wrong_host", message);
    }
    if !is_same_origin(request.headers()) {
        let message = "a page of another site asks: its Origin is not this Host";
        return refuse(HttpResponse::Forbidden(), "wrong_origin", message);
    }
    let known = matches!(request.path(), "/healthz" | "/readyz" | "/metrics");
    if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = HttpResponse::MethodNotAllowed();
        response.insert_header((ALLOW, "GET, HEAD"));
        return refuse(response, "method_not_allowed", "use GET");
    }
    match request.path() {
        "/healthz" => HttpResponse::Ok().content_type("text/plain").insert_header(NO_STORE).body("ok"),
        "/readyz" => admin.ready(),
        "/metrics" => admin.metrics(request.headers()),
        _ => refuse(HttpResponse::NotFound(), "not_found", "there are /healthz, /readyz and /metrics"),
    }
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

fn refuse(mut response: HttpResponseBuilder, error: &str, message: &str) -> HttpResponse {
    response.insert_header(NO_STORE).json(json!({ "error": error, "message": message }))
}

/// RFC 6750 2.1; the scheme's case does not matter (RFC 9110 11.1).
fn is_bearer(headers: &HeaderMap, token: &Token) -> bool {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    sent.is_some_and(|(scheme, sent)| scheme.eq_ignore_ascii_case(b"bearer ") && token.is(sent))
}
