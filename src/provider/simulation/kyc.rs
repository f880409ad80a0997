//! `data` of verifications, accounts and virtual IBANs.

use fastrand::Rng;
use serde_json::{Value, json};

use super::Generation;
use super::world::{Viban, World};

/// Older payloads spell ids with underscores.
fn user_id(generation: Generation) -> &'static str {
    match generation {
        Generation::Current => "userId",
        Generation::Legacy => "user_id",
    }
}

pub(super) fn state(world: &World, generation: Generation, rng: &mut Rng) -> Value {
    let kyc_id = match generation {
        Generation::Current => "kycId",
        Generation::Legacy => "kyc_id",
    };
    let state = if rng.bool() { json!("REGULAR") } else { json!(2) };
    json!({kyc_id: world.kyc, user_id(generation): world.user, "entityType": "user", "state": state})
}

pub(super) fn business_state(world: &World, generation: Generation, _: &mut Rng) -> Value {
    json!({"kybId": world.kyb, user_id(generation): world.business, "state": "REGULAR"})
}

pub(super) fn session(world: &World, id: &str, outcome: &str, generation: Generation, rng: &mut Rng) -> Value {
    let checks: &[&str] = match outcome {
        "EXPIRED" => &[],
        _ => &["document", "liveness", "screening"],
    };
    // All but the last hold: that one decides the session.
    let check = |(at, kind): (usize, &&str)| {
        let outcome = if at + 1 == checks.len() { outcome } else { "VERIFIED" };
        let reasons = if outcome == "FAILED" { json!(["POSSIBLE_MATCH"]) } else { json!([]) };
        let state = if rng.bool() { json!(outcome) } else { json!(at + 1) };
        json!({"type": kind, "state": state, "data": {"country": "ES", "score": 97}, "reasons": reasons})
    };
    let checks: Vec<Value> = checks.iter().enumerate().map(check).collect();
    json!({"sessionId": id, user_id(generation): world.user, "entityType": "user", "checks": checks})
}

pub(super) fn related_party(world: &World) -> Value {
    let person = &world.person;
    json!({
        "businessUser": {"id": world.business, "name": world.company},
        "relatedParty": {
            "id": world.related_party, "roleType": "DIRECTOR", "name": person.name, "surname": person.surname,
            "email": person.email(),
        },
        "kycSession": {
            "id": world.related_session, "provider": "idv",
            "url": format!("https://idv.example.com/s/{}", world.related_session), "expiresAt": "2030-01-01T00:00:00.000Z",
        },
    })
}

pub(super) fn account(world: &World, generation: Generation) -> Value {
    json!({"accountId": world.account, user_id(generation): world.user})
}

pub(super) fn viban(world: &World, viban: &Viban, status: &str) -> Value {
    let mut data = json!({"vibanId": viban.id, "accountId": world.account, "rail": viban.rail, "status": status, "iban": viban.number});
    match status {
        "ACTIVE" => data["bic"] = json!("TESTESMMXXX"),
        "FAILED" => data["reason"] = json!("Rejected by the bank"),
        _ => data["reason"] = json!("Closed at the owner's wish"),
    }
    data
}
