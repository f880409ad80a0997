//! One event into the log: the only statements of the acknowledging commit.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use super::index::{Found, Index, Keys, Sought, hash};
use super::rows::{self, category_code, headers_json, phase_code};
use crate::inbox::{AppendKind, Appended, NewAdmission, NewEvent, Unavailable, micros};
use crate::model::{Phase, Seq, SourceName};
use crate::verify::Fingerprint;

/// An append on its way to the writer.
pub(super) struct Append {
    pub(super) event: NewEvent,
    id_hash: i64,
    entity_hash: Option<i64>,
    headers: String,
    pub(super) reply: oneshot::Sender<Result<Appended, Unavailable>>,
}

impl Append {
    /// Hashes and encodes on the caller's thread: the writer's is the scarce one.
    pub(super) fn new(event: NewEvent, reply: oneshot::Sender<Result<Appended, Unavailable>>) -> Self {
        let source = event.delivery.source().as_str();
        let id_hash = hash(source, event.id.as_str());
        let entity_hash = event.envelope.key.as_ref().map(|key| hash(source, key.as_str()));
        let headers = headers_json(event.delivery.headers());
        Self { event, id_hash, entity_hash, headers, reply }
    }
}

/// The numbers that stand for names and secrets in rows. Emptied after a rollback, which may have taken new ones back.
#[derive(Default)]
pub(super) struct Names {
    sources: HashMap<SourceName, i64>,
    secrets: HashMap<Fingerprint, i64>,
}

impl Names {
    fn source_id(&mut self, connection: &Connection, source: &SourceName) -> rusqlite::Result<i64> {
        if let Some(&id) = self.sources.get(source) {
            return Ok(id);
        }
        let mut select = connection.prepare_cached("SELECT id FROM sources WHERE name = ?1")?;
        let id = match select.query_row([source.as_str()], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                connection.execute("INSERT INTO sources (name) VALUES (?1)", [source.as_str()])?;
                connection.last_insert_rowid()
            }
        };
        self.sources.insert(source.clone(), id);
        Ok(id)
    }

    fn secret_id(&mut self, connection: &Connection, secret: Fingerprint, first_at: i64) -> rusqlite::Result<i64> {
        if let Some(&id) = self.secrets.get(&secret) {
            return Ok(id);
        }
        let text = secret.to_string();
        let mut select = connection.prepare_cached("SELECT id FROM secrets WHERE fingerprint = ?1")?;
        let id = match select.query_row([&text], |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                let row = params![text, first_at];
                connection.execute("INSERT INTO secrets (fingerprint, first_at) VALUES (?1, ?2)", row)?;
                connection.last_insert_rowid()
            }
        };
        self.secrets.insert(secret, id);
        Ok(id)
    }

    pub(super) fn clear(&mut self) {
        self.sources.clear();
        self.secrets.clear();
    }
}

/// Stores one event as `seq`, unless it is there already. In the caller's transaction.
pub(super) fn append(
    connection: &Connection,
    index: &mut Index,
    names: &mut Names,
    append: &Append,
    seq: i64,
) -> rusqlite::Result<Appended> {
    let Append { event, id_hash, entity_hash, headers, .. } = append;
    let source_id = names.source_id(connection, event.delivery.source())?;
    let source = event.delivery.source().as_str();
    let sought = Sought { source, source_id, id: &event.id, id_hash: *id_hash, digest: &event.digest };
    let (kind, seq) = match index.find(connection, &sought)? {
        Found::Same(first) => (AppendKind::Duplicate, first),
        Found::Other => (AppendKind::Conflict, seq),
        Found::Nothing => (AppendKind::Fresh, seq),
    };
    if kind != AppendKind::Duplicate {
        let secret_id = names.secret_id(connection, event.delivery.secret(), micros(event.received_at))?;
        let row = Row { seq, source_id, secret_id, headers, conflict: kind == AppendKind::Conflict };
        insert(connection, event, &row)?;
        let body = (kind == AppendKind::Conflict).then(|| sought.body_hash());
        index.add(Keys { seq, id: *id_hash, entity: *entity_hash, body });
    }
    Ok(Appended { seq: Seq::new(seq).expect("places in the log are positive"), kind })
}

/// What a row holds besides what the event says itself.
struct Row<'a> {
    seq: i64,
    source_id: i64,
    secret_id: i64,
    headers: &'a str,
    conflict: bool,
}

fn insert(connection: &Connection, event: &NewEvent, row: &Row<'_>) -> rusqlite::Result<()> {
    let NewEvent { delivery, envelope, digest, id, received_at, peer, admission } = event;
    let phase = Phase::of(&envelope.event_type, envelope.state.as_deref());
    let verdict = if admission.is_some() { rows::ADMITTED } else { rows::VERIFIED };
    let mut insert = connection.prepare_cached(
        "INSERT INTO events (seq, source_id, event_id, type, category, entity_key, state, phase, event_time,
             received_at, size, body_sha256, signature, secret_slot, verdict, conflict, content_type, headers,
             secret_id, peer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?;
    insert.execute(params![
        row.seq,
        row.source_id,
        id.as_str(),
        envelope.event_type.as_str(),
        category_code(envelope.event_type.category()),
        envelope.key.as_ref().map(|key| key.as_str()),
        envelope.state,
        phase_code(phase),
        envelope.time.map(micros),
        micros(*received_at),
        delivery.body().len(),
        digest.as_bytes(),
        delivery.signature(),
        delivery.slot(),
        verdict,
        row.conflict,
        delivery.content_type(),
        row.headers,
        row.secret_id,
        peer,
    ])?;
    let mut insert = connection.prepare_cached("INSERT INTO bodies (seq, body) VALUES (?1, ?2)")?;
    insert.execute(params![row.seq, &delivery.body()[..]])?;
    if let Some(NewAdmission { at, job, request, refused }) = admission {
        connection
            .prepare_cached("INSERT INTO admissions (seq, at, job_id, request, refused) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![row.seq, micros(*at), job.get(), request, refused])?;
    }
    Ok(())
}
