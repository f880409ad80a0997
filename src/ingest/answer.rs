//! The acknowledgement table: every answer that a sender can get.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::inbox::AppendKind;
use crate::model::EventId;

/// The only client errors that a sender can get: the provider never repeats a delivery that was answered with one.
pub(super) const CLIENT_ERRORS: [&[u8]; 4] = [b"401", b"404", b"405", b"413"];

/// What passes by itself, such as a full queue.
const SOON: HeaderValue = HeaderValue::from_static("5");
/// What a person has to mend, such as a mistyped path.
const LATER: HeaderValue = HeaderValue::from_static("60");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What became of a request: the label `outcome` of `requests_total`, and the `error` of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Stored.
    Accepted,
    /// Stored already.
    Duplicate,
    /// Stored beside another event of the same id.
    Conflict,
    /// The signature does not hold, and the request is kept: never to be sent again.
    BadSignature,
    /// The signature does not hold, and the source wants such deliveries again.
    BadSignatureRetry,
    /// The signature does not hold, and the request could not be kept: to be sent again.
    BadSignatureNotKept,
    /// Over the limit, and not signed by the provider.
    TooLarge,
    /// Over the limit, but genuine.
    TooLargeGenuine,
    /// Too many bodies in memory.
    Overloaded,
    /// The inbox cannot store.
    Unavailable,
    /// The inbox could not store in time.
    Deadline,
    /// Not ready yet.
    Starting,
    /// No longer ready.
    Stopping,
    /// Not a path of ours, and not signed.
    NotFound,
    /// Not a path of ours; there is a signature, but it does not hold with the secrets of any source.
    NotFoundSigned,
    /// A path of ours, but not a delivery.
    MethodNotAllowed,
    /// Signed with the secret of a source, but sent to a path that is not configured.
    Misdirected,
    /// Closed without an answer: cut off, too slow, broken, or far too large to be checked.
    Aborted,
    /// A bug.
    Error,
}

impl Outcome {
    pub(super) const ALL: [Self; 19] = [
        Self::Accepted,
        Self::Duplicate,
        Self::Conflict,
        Self::BadSignature,
        Self::BadSignatureRetry,
        Self::BadSignatureNotKept,
        Self::TooLarge,
        Self::TooLargeGenuine,
        Self::Overloaded,
        Self::Unavailable,
        Self::Deadline,
        Self::Starting,
        Self::Stopping,
        Self::NotFound,
        Self::NotFoundSigned,
        Self::MethodNotAllowed,
        Self::Misdirected,
        Self::Aborted,
        Self::Error,
    ];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::BadSignature | Self::BadSignatureRetry => "bad_signature",
            Self::BadSignatureNotKept => "bad_signature_not_kept",
            Self::TooLarge => "too_large",
            Self::TooLargeGenuine => "too_large_genuine",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Deadline => "deadline",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::NotFound | Self::NotFoundSigned => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Misdirected => "misdirected",
            Self::Aborted => "aborted",
            Self::Error => "error",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Accepted | Self::Duplicate | Self::Conflict => StatusCode::OK,
            Self::BadSignature => StatusCode::UNAUTHORIZED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadSignatureRetry
            | Self::BadSignatureNotKept
            | Self::TooLargeGenuine
            | Self::Overloaded
            | Self::Unavailable
            | Self::Deadline
            | Self::Starting
            | Self::Stopping
            | Self::NotFoundSigned
            | Self::Misdirected => StatusCode::SERVICE_UNAVAILABLE,
            // Aborted: the connection is closed before this could be written.
            Self::Aborted | Self::Error => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::Accepted | Self::Duplicate | Self::Conflict | Self::Aborted => "",
            Self::BadSignature | Self::BadSignatureRetry | Self::BadSignatureNotKept => {
                "the signature is missing or does not match the body"
            }
            Self::TooLarge => "the body is too large",
            Self::TooLargeGenuine => "the body is larger than this receiver is configured for",
            Self::Overloaded => "too many deliveries at once",
            Self::Unavailable => "the delivery cannot be stored at the moment",
            Self::Deadline => "the delivery could not be stored in time",
            Self::Starting => "the receiver is starting",
            Self::Stopping => "the receiver is stopping",
            Self::NotFound => "there is nothing here",
            Self::MethodNotAllowed => "deliveries are sent with POST",
            Self::NotFoundSigned | Self::Misdirected => "no webhook is configured at this path",
            Self::Error => "the receiver failed",
        }
    }

    /// The answer to a request that was not stored.
    pub(super) fn refusal(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        response.insert_header((CONTENT_TYPE, JSON));
        match self {
            Self::BadSignature => response.insert_header((WWW_AUTHENTICATE, HeaderValue::from_static("HMAC-SHA256"))),
            Self::MethodNotAllowed => response.insert_header((ALLOW, HeaderValue::from_static("POST"))),
            Self::Stopping => response.insert_header((RETRY_AFTER, SOON)).force_close(),
            Self::Overloaded | Self::Unavailable | Self::Deadline | Self::Starting => {
                response.insert_header((RETRY_AFTER, SOON))
            }
            Self::BadSignatureRetry
            | Self::BadSignatureNotKept
            | Self::TooLargeGenuine
            | Self::NotFoundSigned
            | Self::Misdirected => response.insert_header((RETRY_AFTER, LATER)),
            Self::Accepted
            | Self::Duplicate
            | Self::Conflict
            | Self::TooLarge
            | Self::NotFound
            | Self::Aborted
            | Self::Error => &mut response,
        };
        response.body(format!(r#"{{"error":"{}","message":"{}"}}"#, self.label(), self.message()))
    }
}

impl From<AppendKind> for Outcome {
    fn from(kind: AppendKind) -> Self {
        match kind {
            AppendKind::Fresh => Self::Accepted,
            AppendKind::Duplicate => Self::Duplicate,
            AppendKind::Conflict => Self::Conflict,
        }
    }
}

/// What the sender is told.
pub(super) enum Answer {
    /// The event is durable.
    Stored(EventId, AppendKind),
    /// It is not; [`Outcome::Aborted`] = the sender is told nothing.
    Refused(Outcome),
}

impl Answer {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Stored(_, kind) => (*kind).into(),
            Self::Refused(outcome) => *outcome,
        }
    }

    pub(super) fn into_response(self) -> HttpResponse {
        match self {
            Self::Stored(id, kind) => {
                let duplicate = kind == AppendKind::Duplicate;
                let receipt = Receipt { received: true, id: id.as_str(), duplicate };
                let receipt = serde_json::to_vec(&receipt).expect("text and flags are always JSON");
                HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(receipt)
            }
            Self::Refused(outcome) => outcome.refusal(),
        }
    }
}

#[derive(Serialize)]
struct Receipt<'a> {
    received: bool,
    id: &'a str,
    duplicate: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_error_is_let_out_and_no_other_exists() {
        let mut errors: Vec<_> =
            Outcome::ALL.map(Outcome::status).into_iter().filter(|s| s.is_client_error()).collect();
        errors.sort();
        let errors: Vec<_> = errors.iter().map(|status| status.as_str().as_bytes()).collect();
        assert_eq!(errors, CLIENT_ERRORS);
    }

    #[test]
    fn every_503_says_when_to_come_back() {
        for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.status() == StatusCode::SERVICE_UNAVAILABLE) {
            let refusal = outcome.refusal();
            let seconds = refusal.headers().get(RETRY_AFTER).unwrap().to_str().unwrap();
            assert!(seconds.parse::<u32>().unwrap() > 0, "{outcome:?}");
        }
    }

    #[test]
    fn all_is_in_the_order_of_the_enum() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{outcome:?}");
        }
    }
}
