//! The believed clock in the database.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use crate::clock::Uptime;
use crate::inbox::{BelievedClock, from_micros, micros};

/// What is believed at this time, without noting it.
pub(super) fn read(connection: &Connection, now: Timestamp, uptime: &Uptime) -> rusqlite::Result<BelievedClock> {
    let noted = connection
        .prepare_cached("SELECT at, allowance_us, boot, uptime_us FROM believed_clock")?
        .query_row([], |row| {
            Ok(BelievedClock {
                at: from_micros(row.get(0)?),
                allowance: Duration::from_micros(row.get(1)?),
                uptime: Uptime { boot: row.get(2)?, elapsed: Duration::from_micros(row.get(3)?) },
            })
        })
        .optional()?;
    let noted = match noted {
        Some(noted) => noted,
        None => BelievedClock::at(last_sign(connection)?.unwrap_or(now), uptime.clone()),
    };
    Ok(noted.advanced(now, uptime.clone()))
}

/// Notes what is believed at this time.
pub(super) fn note(connection: &Connection, now: Timestamp, uptime: &Uptime) -> rusqlite::Result<BelievedClock> {
    let believed = read(connection, now, uptime)?;
    write(connection, &believed)?;
    Ok(believed)
}

/// Believes a time that a person has confirmed. It is of the uptime at which the clock was last noted.
pub(super) fn confirm(connection: &Connection, at: Timestamp) -> rusqlite::Result<()> {
    let uptime = connection
        .prepare_cached("SELECT boot, uptime_us FROM believed_clock")?
        .query_row([], |row| Ok(Uptime { boot: row.get(0)?, elapsed: Duration::from_micros(row.get(1)?) }))
        .optional()?;
    write(connection, &BelievedClock::at(at, uptime.unwrap_or_else(Uptime::now)))
}

fn write(connection: &Connection, believed: &BelievedClock) -> rusqlite::Result<()> {
    let BelievedClock { at, allowance, uptime } = believed;
    let us = |duration: &Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO believed_clock (id, at, allowance_us, boot, uptime_us) VALUES (1, ?1, ?2, ?3, ?4)",
        )?
        .execute(params![micros(*at), us(allowance), uptime.boot, us(&uptime.elapsed)])
        .map(drop)
}

/// The last time that an inbox tells which has noted none yet: of its last event, or of its last job. Retention asks for a
/// job each day.
fn last_sign(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let last: Option<i64> = connection.query_row(
        "SELECT max(at) FROM (SELECT (SELECT received_at FROM events ORDER BY seq DESC LIMIT 1) AS at
                              UNION ALL SELECT (SELECT created_at FROM jobs ORDER BY id DESC LIMIT 1))",
        [],
        |row| row.get(0),
    )?;
    Ok(last.map(from_micros))
}
