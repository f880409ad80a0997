//! How values stand in rows, and how rows become values again.

use std::time::Duration;

use rusqlite::Row;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};

use crate::inbox::{AttemptState, JobState};
use crate::model::{self, Category, Digest, EntityKey, EventId, EventType, Phase, Seq, SinkName, SourceName};
use crate::verify::{Fingerprint, Header};

/// `events.verdict`: the signature held when the delivery came in.
pub(super) const VERIFIED: i64 = 1;
/// The same: it did not; the delivery was admitted from the quarantine later. An older version wrote 1 for these, too.
pub(super) const ADMITTED: i64 = 2;

pub(super) fn category_code(category: Category) -> i64 {
    match category {
        Category::Payin => 1,
        Category::Payout => 2,
        Category::Transfer => 3,
        Category::Kyc => 4,
        Category::Account => 5,
        Category::Other => 0,
    }
}

pub(super) fn phase_code(phase: Phase) -> i64 {
    match phase {
        Phase::None => 0,
        Phase::Open => 1,
        Phase::Final => FINAL,
    }
}

/// `events.phase` of an event that ends its entity's lifecycle.
pub(super) const FINAL: i64 = 2;
/// `events.phase` of an event that is stale when it comes after a final one.
pub(super) const OPEN: i64 = 1;

pub(super) fn outcome_code(state: AttemptState) -> i64 {
    match state {
        AttemptState::Delivered => DELIVERED,
        AttemptState::Transient => 2,
        AttemptState::Permanent => 3,
    }
}

/// `attempts.outcome` of a delivery.
pub(super) const DELIVERED: i64 = 1;

/// `jobs.state`; up to 2 it has not ended.
pub(super) fn job_state_code(state: JobState) -> i64 {
    match state {
        JobState::Queued => 1,
        JobState::Running => 2,
        JobState::Done => 3,
        JobState::Failed => 4,
        JobState::Cancelled => 5,
    }
}

pub(super) fn duration_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A place in the log; one that is out of range (a damaged row) reads as the start.
pub(super) fn seq(value: i64) -> Seq {
    Seq::new(value).unwrap_or(Seq::ZERO)
}

pub(super) fn headers_json(headers: &[Header]) -> String {
    serde_json::to_string(headers).expect("text is always JSON")
}

/// What a row should hold and does not is damage, told as such.
fn damaged<T>(value: Option<T>) -> FromSqlResult<T> {
    value.ok_or(FromSqlError::InvalidType)
}

pub(super) struct Stored<T>(pub(super) T);

impl FromSql for Stored<EventId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        damaged(EventId::new(value.as_str()?)).map(Stored)
    }
}

impl FromSql for Stored<EntityKey> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        damaged(EntityKey::new(value.as_str()?)).map(Stored)
    }
}

impl FromSql for Stored<EventType> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        damaged(EventType::stored(value.as_str()?)).map(Stored)
    }
}

impl FromSql for Stored<Digest> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let bytes: [u8; 32] = damaged(value.as_blob()?.try_into().ok())?;
        Ok(Self(Digest::from_bytes(bytes)))
    }
}

impl FromSql for Stored<Fingerprint> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        damaged(Fingerprint::parse(value.as_str()?)).map(Stored)
    }
}

impl FromSql for Stored<SinkName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        damaged(SinkName::new(value.as_str()?).ok()).map(Stored)
    }
}

impl FromSql for Stored<SourceName> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        damaged(SourceName::new(value.as_str()?).ok()).map(Stored)
    }
}

impl FromSql for Stored<JobState> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let code = value.as_i64()?;
        damaged(JobState::ALL.into_iter().find(|&state| job_state_code(state) == code)).map(Stored)
    }
}

impl FromSql for Stored<AttemptState> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let states = [AttemptState::Delivered, AttemptState::Transient, AttemptState::Permanent];
        let code = value.as_i64()?;
        damaged(states.into_iter().find(|&state| outcome_code(state) == code)).map(Stored)
    }
}

/// `Content-Encoding` in a column of headers: nearly always there is none, and nothing has to be parsed.
pub(super) fn content_encoding(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    if !has_encoding(row.get_ref(column)?.as_str()?) {
        return Ok(None);
    }
    json::<Vec<Header>>(row, column).map(|headers| model::content_encoding(&headers))
}

/// Whether headers as JSON may hold a `Content-Encoding`: their names are in lower case.
pub(super) fn has_encoding(headers: &str) -> bool {
    headers.contains("content-encoding")
}

/// A JSON column, such as `headers`.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, error.into()))
}
