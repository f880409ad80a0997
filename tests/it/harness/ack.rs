//! What the sender got, checked for its form.

use serde_json::Value;

use super::{Delivery, keys};

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    pub status: u16,
    pub kind: Kind,
}

/// What the answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Received; a conflict looks the same, for the sender can do nothing about it.
    Fresh,
    /// Received, known already.
    Duplicate,
    /// An error.
    Refused,
}

impl Ack {
    pub const FRESH: Self = Self { status: 200, kind: Kind::Fresh };
    pub const DUPLICATE: Self = Self { status: 200, kind: Kind::Duplicate };

    /// An error with this status.
    pub const fn refused(status: u16) -> Self {
        Self { status, kind: Kind::Refused }
    }

    /// Reads an answer, which may be cut off; fails when it is not of the form that `Delivery` promises its sender.
    pub async fn read(delivery: &Delivery, response: reqwest::Response) -> reqwest::Result<Self> {
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").map(|v| v.to_str().unwrap().parse::<u32>());
        let body = response.bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_else(|e| panic!("{status} with {body:?}: {e}"));
        if status == 503 {
            assert!(matches!(retry_after, Some(Ok(_))), "503 without Retry-After in seconds: {body}");
        }
        if status != 200 {
            assert_eq!(keys(&body), ["error", "message"], "{status}");
            assert!(body["error"].is_string() && body["message"].is_string(), "{body}");
            return Ok(Self::refused(status));
        }
        assert_eq!(keys(&body), ["duplicate", "id", "received"]);
        assert_eq!(body["received"], true);
        assert_eq!(body["id"], delivery.stored_id());
        Ok(if body["duplicate"].as_bool().unwrap() { Self::DUPLICATE } else { Self::FRESH })
    }
}
