//! A delivery whose signature does not hold: kept in the quarantine, and only then answered 401.

use std::time::Instant;

use jiff::Timestamp;
use tracing::{error, warn};

use super::OnBadSignature;
use super::answer::{Answer, Outcome};
use super::handler::{Delivery, peer};
use crate::inbox::{NoRoom, QuarantineOutcome, RefusalAnswer, Refused};
use crate::verify::{Rejected, Rejection};

impl Delivery<'_> {
    /// The sender never repeats what was answered 401. So it gets a 401 only for what is kept until a person, or a change of
    /// secrets, has decided about it: it may be that it is our secret that is wrong.
    pub(super) async fn refuse(&self, rejected: Rejected, received_at: Timestamp) -> Answer {
        let (peer, reason) = (peer(self.shared, self.request), rejected.reason.label());
        if let Some(suppressed) = self.shared.refusals.admit(Instant::now()) {
            let size = rejected.delivery.body.len();
            warn!(source = self.source(), %peer, reason, size, suppressed, "refused a delivery for its signature");
        }
        let answer = match self.endpoint.on_bad_signature {
            OnBadSignature::Reject => RefusalAnswer::Unauthorized,
            OnBadSignature::Retry => RefusalAnswer::Unavailable,
        };
        let kept = self.shared.inbox().quarantine(Refused { rejected, peer, received_at, answer }).await;
        match (kept, self.endpoint.on_bad_signature) {
            (Ok(QuarantineOutcome::Kept), OnBadSignature::Reject) => Answer::Refused(Outcome::BadSignature),
            (Ok(QuarantineOutcome::Kept), OnBadSignature::Retry) => Answer::Refused(Outcome::BadSignatureRetry),
            (Ok(QuarantineOutcome::NotKept(why)), OnBadSignature::Reject) => {
                self.alert_not_kept(why);
                Answer::Refused(Outcome::BadSignatureNotKept)
            }
            (Ok(QuarantineOutcome::NotKept(why)), OnBadSignature::Retry) => {
                self.alert_not_kept(why);
                Answer::Refused(Outcome::BadSignatureRetry)
            }
            (Err(error), OnBadSignature::Reject | OnBadSignature::Retry) => self.unavailable(&error),
        }
    }

    /// What a body over the limit is answered whose signature does not hold. No quarantine keeps it, so one that is signed is
    /// not refused for good: it may be our secret that is wrong.
    pub(super) fn refusal_of_oversize(&self, reason: Rejection) -> Outcome {
        match (reason, self.endpoint.on_bad_signature) {
            (Rejection::Missing, OnBadSignature::Reject) => Outcome::TooLarge,
            (Rejection::Repeated | Rejection::Undecodable | Rejection::Mismatch, OnBadSignature::Reject) => {
                self.endpoint.counters.not_kept.inc();
                self.alert_not_kept(NoRoom::TooLarge);
                Outcome::BadSignatureNotKept
            }
            (_, OnBadSignature::Retry) => {
                self.endpoint.counters.not_kept.inc();
                Outcome::BadSignatureRetry
            }
        }
    }

    fn alert_not_kept(&self, why: NoRoom) {
        if let Some(suppressed) = self.shared.not_kept.admit(Instant::now()) {
            error!(
                source = self.source(),
                %why,
                suppressed,
                "a delivery that was refused for its signature cannot be kept; answered 503, so that the sender sends it \
                 again: if the secret here is wrong, put the right one in place; if these are strangers, purge the quarantine"
            );
        }
    }
}
