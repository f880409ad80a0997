//! Whose turn it is: an event that was never tried, or one that is parked and due. Pure.

/// While untried events wait, one that has failed before goes after so many of them.
const RETRY_TURN: u32 = 15;

/// In turns: entities that fail again and again must not look like an outage by going one after the other, and new events
/// need not wait for all that an outage has left. What has failed before goes more rarely: a hundred thousand events that
/// are never taken must not halve what is left for the others.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Starts of events that were not parked, since the last start of one that was.
    since_parked: u32,
    /// An outage has ended, and nothing that it left has failed again since.
    recovering: bool,
}

impl Turns {
    /// Whether a parked event goes before those that were never tried. `is_retry`: it was tried before.
    pub(super) fn is_for_parked(&self, is_retry: bool) -> bool {
        self.since_parked >= if is_retry && !self.recovering { RETRY_TURN } else { 1 }
    }

    /// An event was started.
    pub(super) fn started(&mut self, was_parked: bool) {
        self.since_parked = if was_parked { 0 } else { self.since_parked.saturating_add(1) };
    }

    /// An outage has ended.
    pub(super) fn outage_ended(&mut self) {
        self.recovering = true;
    }

    /// An attempt has failed, the `attempts`th of its event.
    pub(super) fn failed(&mut self, attempts: u32) {
        self.recovering &= attempts <= 1;
    }
}
