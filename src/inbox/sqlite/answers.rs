//! What far sides answered to attempts that failed: little of it, and no longer than the event's body is kept.

use rusqlite::{Connection, params};

/// Answers kept of one event at one sink. A far side that says something else each time has only its first answers kept,
/// and the latest.
const MAX_ANSWERS: usize = 10;

/// Keeps the answer to an attempt, in the caller's transaction: of the first attempt, of the latest one, and of those
/// at which the answer changed.
pub(super) fn keep(connection: &Connection, sink_id: i64, seq: i64, n: u32, answer: &str) -> rusqlite::Result<()> {
    let mut kept = connection
        .prepare_cached("SELECT n, answer FROM answers WHERE seq = ?1 AND sink_id = ?2 AND n < ?3 ORDER BY n")?;
    let kept = kept.query_map(params![seq, sink_id, n], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?)))?;
    let kept = kept.collect::<rusqlite::Result<Vec<_>>>()?;
    // The last row may be there only because its attempt was the latest so far.
    if let [.., (_, before), (latest, last)] = &kept[..]
        && (before == last || kept.len() >= MAX_ANSWERS)
    {
        connection
            .prepare_cached("DELETE FROM answers WHERE seq = ?1 AND sink_id = ?2 AND n = ?3")?
            .execute(params![seq, sink_id, latest])?;
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO answers (seq, sink_id, n, answer) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![seq, sink_id, n, answer])?;
    Ok(())
}

/// Drops every answer about an event: its body goes, too, and an answer may repeat it.
pub(super) fn drop_all(connection: &Connection, seq: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM answers WHERE seq = ?1")?.execute([seq]).map(drop)
}
