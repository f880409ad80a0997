//! Quarantined requests: all of them are kept, and none twice.

use super::State;
use crate::inbox::{Quarantined, RefusalAnswer, Refused};
use crate::model::Digest;

impl State {
    pub(super) fn keep(&mut self, refused: Refused) {
        let Refused { rejected, peer, received_at, answer } = refused;
        let delivery = rejected.delivery;
        let digest = Digest::of(&delivery.body);
        let signatures: Vec<String> =
            delivery.signatures.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let is_same = |other: &&mut Quarantined| {
            other.source == delivery.source.as_str() && other.body_sha256 == digest && other.signatures == signatures
        };
        if let Some(there) = self.quarantined.iter_mut().find(is_same) {
            if answer == RefusalAnswer::Unauthorized {
                there.answer = answer;
            }
            return;
        }
        self.quarantined_ever += 1;
        self.quarantined.push(Quarantined {
            id: self.quarantined_ever,
            source: delivery.source.as_str().to_owned(),
            peer: peer.to_string(),
            received_at,
            reason: rejected.reason,
            size: delivery.body.len() as u64,
            answer,
            body_sha256: digest,
            signatures,
            content_type: delivery.content_type,
            headers: delivery.headers,
            body: Some(delivery.body),
        });
    }
}
