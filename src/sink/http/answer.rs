//! What an answer means.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

use crate::model::Outcome;

/// Pure, so that every status is tested without a server. RFC 9110, section 15; 425 from RFC 8470.
///
/// Only an answer that condemns this very event is permanent. Everything else, a 401 or a 404 included, says
/// something about the endpoint or about us, and can be put right while the event waits.
pub(super) fn classify(status: StatusCode, retry_after: Option<Duration>) -> Outcome {
    let answer = told(status);
    match status.as_u16() {
        200..=299 => Outcome::delivered(answer),
        400 | 413 | 415 | 422 => Outcome::permanent(answer),
        408 | 425 | 429 | 500..=599 => match Outcome::transient(answer) {
            Outcome::Transient { reason, .. } => Outcome::Transient { reason, retry_after },
            other @ (Outcome::Delivered { .. } | Outcome::Permanent { .. }) => other,
        },
        _ => Outcome::transient(answer),
    }
}

/// A status for people.
pub(super) fn told(status: StatusCode) -> String {
    match advice(status.as_u16()) {
        Some(advice) => format!("HTTP {}: {advice}", status.as_u16()),
        None => format!("HTTP {}", status.as_u16()),
    }
}

/// What an operator can do about it, where the status says enough.
fn advice(status: u16) -> Option<&'static str> {
    Some(match status {
        300..=399 => "redirects are not followed: put the address that the endpoint moved to into url",
        401 => "renew the credentials in headers or url",
        403 => "let these credentials, or this machine's address, POST to the endpoint",
        404 | 410 => "nothing is there: check the path of url",
        405 => "the endpoint takes no POST: check the path of url",
        413 => "the endpoint takes no body this large: raise its limit",
        415 => "the endpoint does not take this content type: try the other format",
        429 => "it is too much for the endpoint: lower concurrency if this goes on",
        _ => return None,
    })
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110, section 10.2.3). A date that has passed means now.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More seconds than fit a number are as good as for ever; the consumer has its own maximum.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_meaning() {
        for code in 200..=999 {
            let outcome = classify(StatusCode::from_u16(code).unwrap(), Some(Duration::from_secs(7)));
            let (label, waits) = match code {
                200..=299 => ("delivered", false),
                400 | 413 | 415 | 422 => ("permanent", false),
                408 | 425 | 429 | 500..=599 => ("transient", true),
                _ => ("transient", false),
            };
            assert_eq!(outcome.label(), label, "{code}");
            let waited = matches!(outcome, Outcome::Transient { retry_after: Some(_), .. });
            assert_eq!(waited, waits, "{code}");
        }
    }

    #[test]
    fn receipts_are_bare_and_reasons_say_what_to_do() {
        let classify = |code| classify(StatusCode::from_u16(code).unwrap(), None);
        assert_eq!(classify(202), Outcome::delivered("HTTP 202"));
        assert_eq!(classify(503), Outcome::transient("HTTP 503"));
        assert_eq!(classify(422), Outcome::permanent("HTTP 422"));
        for (code, word) in [(301, "url"), (308, "url"), (401, "renew"), (404, "path"), (429, "concurrency")] {
            let Outcome::Transient { reason, .. } = classify(code) else { panic!("{code}") };
            let reason = reason.as_str();
            assert!(reason.starts_with(&format!("HTTP {code}: ")) && reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn retry_after_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("99999999999999999999999", now), Some(Duration::from_secs(u64::MAX)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sunday, 06-Nov-94 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO));
        for nonsense in ["", "-1", "1.5", "soon", "+5"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
