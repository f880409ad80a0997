//! Quarantined requests: all of them are kept.

use super::State;
use crate::inbox::{Quarantined, Refused};
use crate::model::Digest;

impl State {
    pub(super) fn keep(&mut self, refused: Refused) {
        let Refused { rejected, peer, received_at } = refused;
        let delivery = rejected.delivery;
        self.quarantined_ever += 1;
        self.quarantined.push(Quarantined {
            id: self.quarantined_ever,
            source: delivery.source.as_str().to_owned(),
            peer: peer.to_string(),
            received_at,
            reason: rejected.reason,
            size: delivery.body.len() as u64,
            body_sha256: Digest::of(&delivery.body),
            signatures: delivery.signatures.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect(),
            content_type: delivery.content_type,
            headers: delivery.headers,
            body: Some(delivery.body),
        });
    }
}
