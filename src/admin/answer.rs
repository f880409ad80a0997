//! One request to the admin listener.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, HOST, HeaderMap, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use secrecy::ExposeSecret as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Config, Status};
use crate::metrics::Metrics;

/// The media type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The state of the listener.
pub(super) struct Admin {
    metrics: Arc<Metrics>,
    status: Arc<dyn Status>,
    /// SHA-256 of the token, so that comparing takes the same time whatever is sent.
    token: Option<[u8; 32]>,
    open_metrics: bool,
    listen: IpAddr,
}

impl Admin {
    pub(super) fn new(config: &Config, listen: IpAddr, metrics: Arc<Metrics>, status: Arc<dyn Status>) -> Self {
        let token = config.token.as_ref().map(|token| Sha256::digest(token.expose_secret()).into());
        Self { metrics, status, token, open_metrics: config.open_metrics, listen }
    }

    /// Whether a request was meant for us: a page in a browser on this machine can reach a loopback address under a name
    /// of its own (DNS rebinding). On all addresses there is no saying what our name is.
    fn is_our_name(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return true };
        let host = host.to_str().ok().and_then(|host| host.parse::<actix_web::http::uri::Authority>().ok());
        let Some(host) = host else { return false };
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        self.listen.is_unspecified()
            || name.eq_ignore_ascii_case("localhost")
            || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback() || ip == self.listen)
    }

    fn metrics(&self, headers: &HeaderMap) -> HttpResponse {
        match (self.open_metrics, self.token) {
            (true, _) => {}
            (false, None) => {
                let message = "set admin.token, or admin.open_metrics = true for metrics without a token";
                return refuse(HttpResponse::Forbidden(), "no_token_configured", message);
            }
            (false, Some(token)) if !is_bearer(headers, &token) => {
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
        let message = "the Host header must be a loopback name or address, or the one that is listened on";
        return refuse(HttpResponse::Forbidden(), "wrong_host", message);
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

fn refuse(mut response: HttpResponseBuilder, error: &str, message: &str) -> HttpResponse {
    response.insert_header(NO_STORE).json(json!({ "error": error, "message": message }))
}

/// RFC 6750 2.1; the scheme's case does not matter (RFC 9110 11.1).
fn is_bearer(headers: &HeaderMap, token: &[u8; 32]) -> bool {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split_at_checked(7));
    sent.is_some_and(|(scheme, sent)| {
        let sent: [u8; 32] = Sha256::digest(sent).into();
        scheme.eq_ignore_ascii_case(b"bearer ") && bool::from(sent.ct_eq(token))
    })
}
