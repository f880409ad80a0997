//! One event, with what became of it everywhere.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::index::Range;
use super::super::query::Query;
use super::super::rows::{DELIVERED, Stored, json};
use super::{Direction, ReadError, Reader};
use crate::inbox::{Admission, AttemptRecord, ConsumerId, EventDetail, EventFilter, Pair, PairState, from_micros};
use crate::model::{Digest, JobId, SinkName};

/// Events of one entity in `events show`.
const LIFECYCLE: usize = 100;
/// Events of one id in `events show`.
const UNDER_ONE_ID: usize = 20;

impl Reader {
    /// The events under an id (more than one when it has conflicts, or when two sources use it), and the one at a seq: an
    /// id may be a number, too. The first twenty of an id, fewer once their bodies pass 8 MiB: a list by id has all of them.
    pub fn event(&mut self, id_or_seq: &str) -> Result<Vec<EventDetail>, ReadError> {
        let seqs = self.seqs_of(id_or_seq)?;
        seqs.into_iter().filter_map(|seq| self.detail(seq).transpose()).collect()
    }

    /// How many bytes the bodies have of the events that [`Self::event`] finds. Reads none of them.
    pub fn body_bytes(&mut self, id_or_seq: &str) -> Result<u64, ReadError> {
        let seqs = self.seqs_of(id_or_seq)?;
        let mut size = self.connection.prepare_cached("SELECT length(body) FROM bodies WHERE seq = ?1")?;
        let sizes = seqs.iter().map(|seq| size.query_row([seq], |row| row.get::<_, Option<u64>>(0)).optional());
        Ok(sizes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().flatten().sum())
    }

    fn seqs_of(&mut self, id_or_seq: &str) -> Result<Vec<i64>, ReadError> {
        let by_id = EventFilter { id: Some(id_or_seq.to_owned()), ..EventFilter::default() };
        let mut seqs = self.first_candidates(&by_id, Range::ALL, UNDER_ONE_ID)?;
        let place = id_or_seq.parse::<i64>().ok().filter(|&seq| seq > 0);
        seqs.extend(place.filter(|seq| !seqs.contains(seq)));
        Ok(seqs)
    }

    fn detail(&mut self, at: i64) -> Result<Option<EventDetail>, ReadError> {
        let mut page = Vec::new();
        self.page(&Query::new(&EventFilter::default(), Direction::Forward), at, at, &mut page)?;
        let Some(summary) = page.pop() else { return Ok(None) };
        let entity = EventFilter {
            key: Some(summary.key.as_str().to_owned()),
            source: Some(summary.source.as_str().to_owned()),
            ..EventFilter::default()
        };
        // Where there are too many: those up to this one.
        let upto = Range { low: 1, high: at, is_backward: true };
        let mut seqs = self.first_candidates(&entity, upto, LIFECYCLE)?;
        seqs.reverse();
        let after = Range { low: at + 1, ..Range::ALL };
        seqs.extend(self.first_candidates(&entity, after, LIFECYCLE - seqs.len())?);
        let query = Query::new(&entity, Direction::Forward);
        let mut lifecycle = Vec::new();
        for seq in seqs {
            self.page(&query, seq, seq, &mut page)?;
            lifecycle.append(&mut page);
        }
        // At one moment: what leaves one table meanwhile must not be missed in the next.
        let now = self.connection.unchecked_transaction()?;
        let (attempts, sinks) = (attempts(&now, at)?, pair_states(&now, at)?);
        now.finish()?;
        let admission = admission(&self.connection, at)?;
        let detail = self.connection.query_row(
            "SELECT e.signature, e.secret_slot, e.headers, b.body, k.fingerprint, e.peer, w.found_at
             FROM events e LEFT JOIN bodies b ON b.seq = e.seq LEFT JOIN secrets k ON k.id = e.secret_id
                 LEFT JOIN altered_bodies w ON w.seq = e.seq
             WHERE e.seq = ?1",
            [at],
            |row| {
                let body = row.get::<_, Option<Vec<u8>>>(3)?.map(bytes::Bytes::from);
                Ok(EventDetail {
                    body_matches: body.as_deref().map(|body| Digest::of(body) == summary.body_sha256),
                    summary,
                    signature: row.get(0)?,
                    secret: row.get::<_, Option<Stored<_>>>(4)?.map(|Stored(secret)| secret),
                    secret_slot: row.get(1)?,
                    peer: row.get(5)?,
                    admission,
                    mismatch_found_at: row.get::<_, Option<i64>>(6)?.map(from_micros),
                    headers: json(row, 2)?,
                    body,
                    lifecycle,
                    attempts,
                    sinks,
                })
            },
        )?;
        Ok(Some(detail))
    }
}

/// How an event came out of the quarantine, where it did.
fn admission(connection: &Connection, seq: i64) -> rusqlite::Result<Option<Admission>> {
    connection
        .prepare_cached(
            "SELECT a.at, a.job_id, coalesce(j.who, ''), a.request, a.refused
             FROM admissions a LEFT JOIN jobs j ON j.id = a.job_id WHERE a.seq = ?1",
        )?
        .query_row([seq], |row| {
            Ok(Admission {
                at: from_micros(row.get(0)?),
                job: JobId::new(row.get(1)?),
                who: row.get(2)?,
                request: row.get(3)?,
                refused: row.get(4)?,
            })
        })
        .optional()
}

/// A lookup for each consumer: CROSS keeps SQLite from walking over the whole ledger instead.
pub(in super::super) const ATTEMPTS: &str =
    "SELECT iif(coalesce(b.forgotten_at, s.forgotten_at) IS NULL, coalesce(b.name, s.name),
        coalesce(b.former_name, s.former_name)), s.job_id, a.n, a.at, a.latency_us, a.outcome, a.note,
        coalesce(b.id, s.id), w.answer, a.revision, r.target
    FROM sinks s LEFT JOIN sinks b ON b.id = s.replay_of
    CROSS JOIN attempts a ON a.sink_id = s.id AND a.seq = ?1
    LEFT JOIN answers w ON w.seq = a.seq AND w.sink_id = a.sink_id AND w.n = a.n
    LEFT JOIN sink_revisions r ON r.sink_id = coalesce(b.id, s.id) AND r.revision = a.revision
    ORDER BY 1, 8, s.job_id, a.n";

fn attempts(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<AttemptRecord>> {
    let mut rows = connection.prepare_cached(ATTEMPTS)?;
    let rows = rows.query_map([seq], |row| {
        Ok(AttemptRecord {
            consumer: ConsumerId::new(row.get(7)?),
            sink: row.get::<_, Stored<_>>(0)?.0,
            replay: row.get::<_, Option<i64>>(1)?.map(JobId::new),
            n: row.get(2)?,
            at: from_micros(row.get(3)?),
            latency: Duration::from_micros(row.get(4)?),
            outcome: row.get::<_, Stored<_>>(5)?.0,
            note: row.get(6)?,
            answer: row.get(8)?,
            revision: row.get(9)?,
            target: row.get(10)?,
        })
    })?;
    rows.collect()
}

/// A consumer, as far as the state of a pair hangs on it.
struct Sink {
    id: i64,
    name: SinkName,
    cursor: i64,
    first_seq: i64,
    created_at: i64,
    forgotten: Option<Forgotten>,
}

/// How a sink was ended.
struct Forgotten {
    at: i64,
    reason: String,
    who: String,
}

fn pair_states(connection: &Connection, seq: i64) -> rusqlite::Result<Vec<Pair>> {
    let mut rows = connection.prepare_cached(
        "SELECT s.id, iif(s.forgotten_at IS NULL, s.name, s.former_name), s.cursor, s.first_seq, s.created_at,
             s.forgotten_at, j.reason, j.who
         FROM sinks s LEFT JOIN jobs j ON j.id = s.forgotten_by
         WHERE s.job_id IS NULL AND (s.forgotten_at IS NULL OR s.last_seq >= ?1) ORDER BY 2, s.id",
    )?;
    let forgotten = |row: &Row<'_>| {
        let Some(at) = row.get(5)? else { return Ok(None) };
        Ok::<_, rusqlite::Error>(Some(Forgotten { at, reason: row.get(6)?, who: row.get(7)? }))
    };
    let sinks = rows.query_map([seq], |row| {
        Ok(Sink {
            id: row.get(0)?,
            name: row.get::<_, Stored<_>>(1)?.0,
            cursor: row.get(2)?,
            first_seq: row.get(3)?,
            created_at: row.get(4)?,
            forgotten: forgotten(row)?,
        })
    })?;
    let sinks = sinks.collect::<rusqlite::Result<Vec<_>>>()?;
    let pair = |sink: Sink| {
        let state = pair_state(connection, &sink, seq)?;
        let forgotten_at = sink.forgotten.map(|forgotten| from_micros(forgotten.at));
        Ok(Pair { sink: sink.name, consumer: ConsumerId::new(sink.id), forgotten_at, state })
    };
    sinks.into_iter().map(pair).collect()
}

/// Exactly one state, whatever has been written: the first that holds.
fn pair_state(connection: &Connection, sink: &Sink, seq: i64) -> rusqlite::Result<PairState> {
    if seq < sink.first_seq {
        return Ok(PairState::BeforeStart);
    }
    let (letter, delivered) = (letter(connection, sink.id, seq)?, delivered(connection, sink.id, seq)?);
    match (letter, delivered) {
        // It was in flight when a person discarded it.
        (Some(PairState::Discarded { .. }), Some(delivered)) => return Ok(delivered),
        (Some(letter), _) => return Ok(letter),
        (None, Some(delivered)) => return Ok(delivered),
        (None, None) => {}
    }
    let parked = connection
        .prepare_cached("SELECT attempts, next_attempt FROM parked WHERE sink_id = ?1 AND seq = ?2")?
        .query_row([sink.id, seq], |row| {
            Ok(PairState::Parked { attempts: row.get(0)?, next_attempt: from_micros(row.get(1)?) })
        })
        .optional()?;
    if let Some(parked) = parked {
        return Ok(parked);
    }
    if seq > sink.cursor {
        return Ok(match &sink.forgotten {
            Some(Forgotten { at, reason, who, .. }) => {
                let (reason, who) = (reason.clone(), Some(who.clone()));
                PairState::Discarded { reason, who, at: from_micros(*at) }
            }
            None => PairState::Waiting,
        });
    }
    let route = connection
        .prepare_cached(ROUTE)?
        .query_row([sink.id, seq], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let (route, since) = route.unwrap_or_else(|| ("*".to_owned(), sink.created_at));
    Ok(PairState::Filtered { route, since: from_micros(since) })
}

/// The route in force when an event was decided.
pub(in super::super) const ROUTE: &str = "SELECT route, at FROM route_revisions
    WHERE sink_id = ?1 AND from_seq <= ?2 ORDER BY from_seq DESC, at DESC LIMIT 1";

fn letter(connection: &Connection, sink_id: i64, seq: i64) -> rusqlite::Result<Option<PairState>> {
    let state = |row: &Row<'_>| {
        let discarded_at: Option<i64> = row.get(3)?;
        Ok(match discarded_at {
            Some(at) => PairState::Discarded { reason: row.get(4)?, who: row.get(5)?, at: from_micros(at) },
            None => PairState::DeadLetter { id: row.get(0)?, reason: row.get(1)?, at: from_micros(row.get(2)?) },
        })
    };
    connection
        .prepare_cached(
            "SELECT id, reason, at, discarded_at, coalesce(discard_reason, reason), discarded_by
             FROM dead_letters WHERE sink_id = ?1 AND seq = ?2",
        )?
        .query_row([sink_id, seq], state)
        .optional()
}

fn delivered(connection: &Connection, sink_id: i64, seq: i64) -> rusqlite::Result<Option<PairState>> {
    connection
        .prepare_cached(
            "SELECT at, note FROM attempts WHERE sink_id = ?1 AND seq = ?2 AND outcome = ?3 ORDER BY n LIMIT 1",
        )?
        .query_row(params![sink_id, seq, DELIVERED], |row| {
            Ok(PairState::Delivered { at: from_micros(row.get(0)?), receipt: row.get(1)? })
        })
        .optional()
}
