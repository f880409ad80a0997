//! Requests refused for their signature.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Body, Time};
use crate::inbox::Quarantined;

/// One line of `quarantine list`.
#[derive(Serialize, ToSchema)]
#[schema(as = Quarantined)]
pub struct Entry<'a> {
    id: i64,
    source: &'a str,
    received_at: Time,
    size: u64,
    reason: &'static str,
    body_sha256: String,
    /// What the sender was answered: 401, and it never sends it again, or 503.
    answer: u16,
}

impl<'a> From<&'a Quarantined> for Entry<'a> {
    fn from(refused: &'a Quarantined) -> Self {
        Self {
            id: refused.id,
            source: &refused.source,
            received_at: Time(refused.received_at),
            size: refused.size,
            reason: refused.reason.label(),
            body_sha256: refused.body_sha256.to_string(),
            answer: refused.answer.status(),
        }
    }
}

/// `quarantine show`.
#[derive(Serialize, ToSchema)]
#[schema(as = QuarantinedDetail)]
pub struct FullEntry<'a> {
    #[serde(flatten)]
    entry: Entry<'a>,
    peer: &'a str,
    signatures: &'a [String],
    /// Pairs of name and value.
    #[schema(value_type = Vec<[String; 2]>)]
    headers: &'a [(String, String)],
    #[serde(flatten)]
    body: Body,
}

impl<'a> From<&'a Quarantined> for FullEntry<'a> {
    fn from(refused: &'a Quarantined) -> Self {
        Self {
            entry: refused.into(),
            peer: &refused.peer,
            signatures: &refused.signatures,
            headers: &refused.headers,
            body: Body::new(refused.body.as_deref(), &refused.headers),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::inbox::RefusalAnswer;
    use crate::model::Digest;
    use crate::verify::Rejection;

    pub(crate) fn refused() -> Quarantined {
        Quarantined {
            id: 3,
            source: "production".to_owned(),
            peer: "192.0.2.1".to_owned(),
            received_at: "2026-01-31T10:00:00Z".parse().unwrap(),
            reason: Rejection::Mismatch,
            answer: RefusalAnswer::Unauthorized,
            size: 2,
            body_sha256: Digest::of(b"{}"),
            signatures: vec!["\u{1b}]0;owned\u{7}".to_owned()],
            content_type: None,
            headers: Vec::new(),
            body: Some("{\u{9b}}".into()),
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let line = serde_json::to_string(&Entry::from(&refused())).unwrap();
        let digest = Digest::of(b"{}");
        let expected = format!(
            r#"{{"id":3,"source":"production","received_at":"2026-01-31T10:00:00.000000Z","size":2,"reason":"mismatch","body_sha256":"{digest}","answer":401}}"#
        );
        assert_eq!(line, expected);
    }
}
