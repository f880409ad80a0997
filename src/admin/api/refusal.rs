//! What the API answers when it does not do what was asked for.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer that is an error. Its message says what to do, and holds no internals.
#[derive(Debug)]
pub(in crate::admin) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: Cow<'static, str>,
    header: Option<(HeaderName, Cow<'static, str>)>,
}

/// Every error looks so.
#[derive(Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody<'a> {
    /// For programs.
    error: &'a str,
    /// For people.
    message: &'a str,
}

impl Refusal {
    pub(in crate::admin) fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    /// What was sent cannot be understood.
    pub(super) fn bad(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Whoever changes something says who they are.
    pub(super) fn name_missing() -> Self {
        Self::bad("name_missing", "who: say who you are: the name is kept in the record with what was done")
    }

    /// Some things are done only for a reason.
    pub(super) fn reason_missing() -> Self {
        Self::bad("reason_missing", "reason: say why, in a few words: it is kept with what was done")
    }

    /// There is nothing under this name or number.
    pub(in crate::admin) fn absent(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// It is there, and in no state for this.
    pub(super) fn conflict(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    pub(in crate::admin) fn method_not_allowed(allow: String) -> Self {
        let message = format!("this path takes {allow}");
        Self {
            header: Some((ALLOW, allow.into())),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        }
    }

    pub(in crate::admin) fn unauthorized() -> Self {
        let message = "send `Authorization: Bearer <admin.token>`";
        Self {
            header: Some((WWW_AUTHENTICATE, "Bearer".into())),
            ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
        }
    }

    pub(in crate::admin) fn forbidden(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// Nothing is wrong with what was asked for: it may work later.
    fn later(code: &'static str, message: &'static str) -> Self {
        let header = Some((RETRY_AFTER, "1".into()));
        Self { header, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    pub(super) fn starting() -> Self {
        Self::later("starting", "the inbox is not open yet: see /readyz")
    }

    pub(super) fn inbox_unavailable() -> Self {
        Self::later("inbox_unavailable", "the inbox cannot be read or written at the moment: see the daemon's log")
    }

    pub(super) fn large_body() -> Self {
        Self::later("large_body", "another large body is being read, and only one may be at a time: try again")
    }

    pub(super) fn too_many_streams() -> Self {
        Self::later("too_many_streams", "as many tails run as there may be: close another one")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some((name, value)) = &self.header {
            response.insert_header((name.clone(), value.as_ref()));
        }
        response.json(ErrorBody { error: self.code, message: &self.message })
    }
}
