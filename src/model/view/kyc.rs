//! Verification of users, businesses and their related parties.

use super::field::{Json, State, view};
use crate::model::EntityKey;

view! {
    /// The level of a user (`kyc.state_updated`) or a business (`kyb.state_updated`). It names at least one of the ids.
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("kyc_state_updated").unwrap();
    /// let view = |data: &str| View::of(&event_type, format!(r#"{{"data": {data}}}"#).as_bytes());
    ///
    /// let Some(View::KycState(current)) = view(r#"{"kycId": "k-1", "userId": "u-1", "state": "REGULAR"}"#) else { panic!() };
    /// let Some(View::KycState(older)) = view(r#"{"kyc_id": "k-1", "user_id": "u-1", "state": 2}"#) else { panic!() };
    /// assert_eq!(current.user_id, older.user_id);
    /// assert_eq!(current.state.unwrap().as_str(), "REGULAR");
    /// assert_eq!(older.state.unwrap().as_str(), "2");
    /// ```
    KycState {
        /// The verification of a business.
        kyb_id: Option<EntityKey> = "kybId",
        /// The verification of a user.
        kyc_id: Option<EntityKey> = "kycId" | "kyc_id",
        /// The user.
        user_id: Option<EntityKey> = "userId" | "user_id",
        /// `user` or `related-party`.
        entity_type: Option<String> = "entityType",
        /// The related party.
        related_party_id: Option<EntityKey> = "relatedPartyId",
        /// The level: `REGULAR`, `LIGHT`, or a number.
        state: Option<State> = "status" | "state",
    }
}

impl KycState {
    /// The first id present, in the order in which they name an event.
    pub(super) fn key(&self) -> Option<&EntityKey> {
        self.kyb_id.as_ref().or(self.kyc_id.as_ref()).or(self.user_id.as_ref())
    }
}

view! {
    /// One attempt at a verification (`kyc.session_*`).
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("kyc_session_failed").unwrap();
    /// let body = br#"{"eventId": "evt-1", "eventType": "kyc_session_failed", "data": {
    ///     "sessionId": "s-1", "userId": "u-1", "entityType": "user",
    ///     "checks": [{"type": "document", "state": "FAILED", "reasons": ["EXPIRED"]}, {"type": "liveness", "state": 3}]}}"#;
    /// let Some(View::KycSession(session)) = View::of(&event_type, body) else { panic!("it fits") };
    /// let checks = session.checks.unwrap();
    /// assert_eq!(checks[0].reasons.as_ref().unwrap().get(), r#"["EXPIRED"]"#);
    /// assert_eq!(checks[1].state.as_ref().unwrap().as_str(), "3");
    /// ```
    KycSession {
        /// The session.
        session_id: EntityKey = "sessionId",
        /// The user.
        user_id: Option<EntityKey> = "userId" | "user_id",
        /// The related party.
        related_party_id: Option<EntityKey> = "relatedPartyId",
        /// `user` or `related-party`.
        entity_type: Option<String> = "entityType",
        /// How it stands, where `data` says so too.
        status: Option<State> = "status" | "state",
        /// What was looked at.
        checks: Option<Vec<Check>> = "checks",
    }
}

view! {
    /// One check of a [`KycSession`].
    Check {
        /// Such as `document`.
        kind: Option<String> = "type",
        /// How it went: a name or a number.
        state: Option<State> = "state",
        /// What was found.
        data: Option<Json> = "data",
        /// Why it went so.
        reasons: Option<Json> = "reasons",
    }
}

view! {
    /// A verification that a related party of a business has to go through (`related_party.kyc_session_created`).
    ///
    /// ```
    /// use ralio_relay::model::EventType;
    /// use ralio_relay::model::view::View;
    ///
    /// let event_type = EventType::canonical("related_party_kyc_session_created").unwrap();
    /// let body = br#"{"eventId": "evt-1", "eventType": "related_party_kyc_session_created", "data": {
    ///     "businessUser": {"id": "b-1", "name": "Acme SL"}, "relatedParty": {"id": "p-1", "roleType": "DIRECTOR"},
    ///     "kycSession": {"id": "s-1", "provider": "idv", "expiresAt": "2026-03-01T00:00:00.000Z"}}}"#;
    /// let Some(View::RelatedParty(created)) = View::of(&event_type, body) else { panic!("it fits") };
    /// assert_eq!(created.kyc_session.id.as_str(), "s-1");
    /// assert_eq!(created.related_party.unwrap().role_type.as_deref(), Some("DIRECTOR"));
    /// ```
    RelatedParty {
        /// The business.
        business_user: Option<BusinessUser> = "businessUser",
        /// The person.
        related_party: Option<Party> = "relatedParty",
        /// The session to go through.
        kyc_session: SessionLink = "kycSession",
    }
}

view! {
    /// A business.
    BusinessUser {
        /// Its user id.
        id: Option<EntityKey> = "id",
        /// Its name.
        name: Option<String> = "name",
    }
}

view! {
    /// A related party of a business.
    Party {
        /// Its id.
        id: Option<EntityKey> = "id",
        /// What it is to the business, such as `DIRECTOR`.
        role_type: Option<String> = "roleType",
    }
}

view! {
    /// A session that waits for a person.
    SessionLink {
        /// The session.
        id: EntityKey = "id",
        /// Who carries it out.
        provider: Option<String> = "provider",
        /// Where the person goes. Whoever holds it can take the session.
        url: Option<String> = "url",
        /// Until when, as the provider writes it.
        expires_at: Option<String> = "expiresAt",
    }
}
