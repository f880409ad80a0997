//! Refused requests on their way to the writer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::quarantine::{SHARE, peer_name};
use crate::inbox::{QuarantineOutcome, Refused, Unavailable};

/// Bytes of refused requests waiting to be written; what goes beyond is not kept.
const MAX_WAITING_BYTES: usize = 8 << 20;
/// What a refused request weighs besides its body.
const OVERHEAD: usize = 4096;

/// A request to be kept, and who waits to hear whether it is.
pub(super) struct Refusal {
    pub(super) refused: Refused,
    pub(super) reply: oneshot::Sender<Result<QuarantineOutcome, Unavailable>>,
}

/// How much waits to be written. A peer has its share here too: whoever floods keeps nobody else out.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, usize>>);

impl Waiting {
    /// Whether there is room for one more; then it waits, until [`Self::leave`].
    pub(super) fn enter(&self, refused: &Refused) -> bool {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peer_name(refused.peer);
        let (total, own) = (peers.values().sum::<usize>(), peers.get(&peer).copied().unwrap_or_default());
        let room = total < MAX_WAITING_BYTES && own < MAX_WAITING_BYTES / SHARE as usize;
        if room {
            peers.insert(peer, own + weight(refused));
        }
        room
    }

    /// This one waits no longer.
    pub(super) fn leave(&self, refused: &Refused) {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = peer_name(refused.peer);
        if let Some(own) = peers.get_mut(&peer) {
            *own = own.saturating_sub(weight(refused));
            if *own == 0 {
                peers.remove(&peer);
            }
        }
    }

    /// Of all peers.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }
}

/// Bytes that it holds in memory, about.
pub(super) fn weight(refused: &Refused) -> usize {
    refused.rejected.delivery.body.len() + OVERHEAD
}
