//! Signed deliveries, made without the product's own code: the tests are a second reading of the provider's contract.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The secret of the harness's default source.
pub const SECRET: &str = "canary-3f9a1c-test-secret";

/// The path of the harness's default source.
pub const PATH: &str = "/webhooks/ralio";

/// One request as the provider would send it.
#[derive(Clone, Debug)]
pub struct Delivery {
    id: Option<String>,
    pub path: String,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Delivery {
    /// Any body, signed with [`SECRET`] in lower-case hex.
    pub fn of(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let parsed: Value = serde_json::from_slice(&body).unwrap_or_default();
        let id = ["eventId", "id"].iter().find_map(|member| parsed[member].as_str().map(str::to_owned));
        let delivery = Self { id, path: PATH.to_owned(), body, headers: Vec::new() };
        delivery.with_header("content-type", "application/json").signed_with(SECRET)
    }

    /// The current envelope.
    pub fn current(id: &str, event_type: &str, data: Value) -> Self {
        let time = "2026-02-26T17:02:28.7667797-05:00";
        Self::of(json!({"eventId": id, "eventType": event_type, "timestamp": time, "data": data}).to_string())
    }

    /// The legacy envelope.
    pub fn legacy(id: &str, event_type: &str, data: Value) -> Self {
        let time = "2025-06-19T16:04:13.123Z";
        Self::of(json!({"id": id, "event": event_type, "timestamp": time, "data": data}).to_string())
    }

    /// Signed with another secret.
    pub fn signed_with(self, secret: &str) -> Self {
        let signature = signature(secret, &self.body);
        self.with_signature(&signature)
    }

    /// Under another value of the signature header.
    pub fn with_signature(mut self, signature: &str) -> Self {
        self.headers.retain(|(name, _)| name != "x-signature");
        self.with_header("x-signature", signature)
    }

    /// Without a signature.
    pub fn unsigned(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "x-signature");
        self
    }

    /// With one more header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// To another path.
    pub fn to(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The id that the relay must answer and store: the provider's, or one made of the body's SHA-256.
    pub fn stored_id(&self) -> String {
        self.id.clone().unwrap_or_else(|| format!("sha256:{}", self.sha256()))
    }

    /// SHA-256 of the body, in hex.
    pub fn sha256(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.body))
    }
}

/// The signature's 32 bytes.
pub fn mac(secret: &str, body: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// The signature in lower-case hex.
pub fn signature(secret: &str, body: &[u8]) -> String {
    HEXLOWER.encode(&mac(secret, body))
}

/// A payin about an order of its own.
pub fn payin_completed(id: &str) -> Delivery {
    payin_of(id, "payin_completed", &format!("order-of-{id}"))
}

/// A payin event about the given order.
pub fn payin_of(id: &str, event_type: &str, order: &str) -> Delivery {
    let state = event_type.trim_start_matches("payin").trim_start_matches(['_', '.']).to_uppercase();
    let amounts = json!({"creditedAmount": {"amount": 12_345, "currency": "EUR"}});
    Delivery::current(id, event_type, json!({"status": state, "orderId": order, "amounts": amounts}))
}

/// A transfer.
pub fn transfer_completed(id: &str) -> Delivery {
    Delivery::current(id, "transfer_completed", json!({"status": "COMPLETED", "orderId": format!("order-of-{id}")}))
}

/// A KYC session, in the legacy envelope.
pub fn kyc_session_verified(id: &str) -> Delivery {
    Delivery::legacy(id, "kyc_session_verified", json!({"sessionId": format!("session-of-{id}"), "entityType": "user"}))
}
