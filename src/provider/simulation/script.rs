//! What happens, in what order.

use fastrand::Rng;
use serde_json::Value;

use super::world::World;
use super::{Flow, Generation, kyc, money};

/// One event to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Canonical type.
    pub(super) event_type: &'static str,
    /// What its `data` is.
    pub(super) data: fn(&World, Generation, &mut Rng) -> Value,
}

const fn step(event_type: &'static str, data: fn(&World, Generation, &mut Rng) -> Value) -> Step {
    Step { event_type, data }
}

/// Every documented type once. Those of one entity are about the same one, as far as they can be in one life.
pub(super) const CATALOGUE: [Step; 18] = [
    RELATED_PARTY,
    SESSION_MANUAL_REVIEW,
    SESSION_VERIFIED,
    step("kyc.session_failed", |world, generation, rng| {
        kyc::session(world, &world.failed_session, "FAILED", generation, rng)
    }),
    step("kyc.session_expired", |world, generation, rng| {
        kyc::session(world, &world.expired_session, "EXPIRED", generation, rng)
    }),
    KYC_STATE,
    KYB_STATE,
    ACCOUNT,
    VIBAN,
    step("viban.failed", |world, _, _| kyc::viban(world, &world.failed_viban, "FAILED")),
    step("viban.deactivated", |world, _, _| kyc::viban(world, &world.viban, "DEACTIVATED")),
    PAYIN_PROCESSING,
    PAYIN_COMPLETED,
    PAYIN_FAILED,
    PAYOUT_PROCESSING,
    PAYOUT_COMPLETED,
    TRANSFER_PROCESSING,
    TRANSFER_COMPLETED,
];

const RELATED_PARTY: Step = step("related_party.kyc_session_created", |world, _, _| kyc::related_party(world));
const SESSION_MANUAL_REVIEW: Step = step("kyc.session_manual_review", |world, generation, rng| {
    kyc::session(world, &world.session, "MANUAL_REVIEW", generation, rng)
});
const SESSION_VERIFIED: Step = step("kyc.session_verified", |world, generation, rng| {
    kyc::session(world, &world.session, "VERIFIED", generation, rng)
});
const KYC_STATE: Step = step("kyc.state_updated", kyc::state);
const KYB_STATE: Step = step("kyb.state_updated", kyc::business_state);
const ACCOUNT: Step = step("account.activated", |world, generation, _| kyc::account(world, generation));
const VIBAN: Step = step("viban.activated", |world, _, _| kyc::viban(world, &world.viban, "ACTIVE"));
const PAYIN_PROCESSING: Step = step("payin.processing", |world, _, _| money::payin(world, &world.payin, "PROCESSING"));
const PAYIN_COMPLETED: Step = step("payin.completed", |world, _, _| money::payin(world, &world.payin, "COMPLETED"));
const PAYIN_TO_FAIL: Step =
    step("payin.processing", |world, _, _| money::payin(world, &world.failed_payin, "PROCESSING"));
const PAYIN_FAILED: Step = step("payin.failed", |world, _, _| money::payin(world, &world.failed_payin, "FAILED"));
const PAYOUT_PROCESSING: Step = step("payout.processing", |world, _, _| money::payout(world, "PROCESSING"));
const PAYOUT_COMPLETED: Step = step("payout.completed", |world, _, _| money::payout(world, "COMPLETED"));
const TRANSFER_PROCESSING: Step = step("transfer.processing", |world, _, _| money::transfer(world, "PROCESSING"));
const TRANSFER_COMPLETED: Step = step("transfer.completed", |world, _, _| money::transfer(world, "COMPLETED"));

/// The events of a flow, in order.
pub(super) fn flow(flow: Flow) -> Vec<Step> {
    match flow {
        Flow::Onboarding => {
            vec![RELATED_PARTY, KYB_STATE, SESSION_MANUAL_REVIEW, SESSION_VERIFIED, KYC_STATE, ACCOUNT, VIBAN]
        }
        Flow::Payin => vec![PAYIN_PROCESSING, PAYIN_COMPLETED, PAYIN_TO_FAIL, PAYIN_FAILED],
        Flow::Payout => vec![PAYOUT_PROCESSING, PAYOUT_COMPLETED],
        Flow::Transfer => vec![TRANSFER_PROCESSING, TRANSFER_COMPLETED],
        Flow::All => [Flow::Onboarding, Flow::Payin, Flow::Payout, Flow::Transfer].map(self::flow).concat(),
    }
}
