//! Jobs that go sink by sink: through the dead letters or the parked events of each, in order, a portion at a time. Each
//! sink has a place of its own, so that one that has no room for more holds up no other.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use super::super::fault::Fault;
use super::{PORTION, Stored};
use crate::inbox::ConfiguredSink;
use crate::model::{JobId, SinkName};

/// Numbers that a message names before it only counts.
const NAMED: usize = 20;

/// How far such a job is, and what it has to tell at its end. Kept with the job, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tally {
    /// By consumer: the last row that was looked at, see [`Rows`].
    pub(super) places: BTreeMap<i64, i64>,
    /// The first ones that were decided about, as a message names them.
    first: Vec<String>,
    /// How many were decided about.
    decided: u64,
    /// Dead letters whose bodies retention has dropped.
    pub(super) pruned: u64,
    /// By sink: left where they are, because the sink is not configured.
    pub(super) removed: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn load(connection: &Connection, job: JobId) -> Result<Self, Fault> {
        let text: Option<String> = connection
            .prepare_cached("SELECT tally FROM jobs WHERE id = ?1")?
            .query_row([job.get()], |row| row.get(0))
            .optional()?
            .flatten();
        let tally = text.map(|text| serde_json::from_str(&text)).transpose();
        Ok(tally
            .map_err(|error| Fault::Refused(format!("what is stored of job {job} cannot be read: {error}")))?
            .unwrap_or_default())
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and names are always JSON")
    }

    /// One more is decided about.
    pub(super) fn decide(&mut self, number: i64, sink: &Place, filter_names_sink: bool) {
        self.decided += 1;
        if self.first.len() < NAMED {
            let number = if filter_names_sink { number.to_string() } else { format!("{number} of '{}'", sink.name) };
            self.first.push(number);
        }
    }

    /// Such as `17, 19 and 3 more`.
    pub(super) fn named(&self) -> String {
        let more = self.decided - self.first.len() as u64;
        let first = self.first.join(", ");
        if more == 0 { first } else { format!("{first} and {more} more") }
    }

    /// One more is left, because its sink is not configured.
    pub(super) fn leave(&mut self, sink: &Place) {
        *self.removed.entry(sink.name.clone()).or_default() += 1;
    }

    /// What is left at sinks that are not configured, as the end of a message.
    pub(super) fn left(&self) -> String {
        self.removed
            .iter()
            .map(|(sink, count)| {
                format!(
                    "; {count} of sink '{sink}' {} left: it is not in the configuration, so nothing is delivered to it \
                     (discard them, or `ralio-relay sinks forget {sink}`)",
                    if *count == 1 { "is" } else { "are" }
                )
            })
            .collect()
    }
}

/// A sink's own consumer, as such a job sees it.
pub(super) struct Place {
    pub(super) id: i64,
    pub(super) name: String,
    /// What the configuration says of it; `None` where it is not in there.
    pub(super) configured: Option<ConfiguredSink>,
}

/// The sinks that the inbox knows, in the order in which they began.
pub(super) fn places(connection: &Connection, configured: &[ConfiguredSink]) -> rusqlite::Result<Vec<Place>> {
    let mut rows = connection.prepare_cached(
        "SELECT id, name, former_name FROM sinks WHERE job_id IS NULL AND forgotten_at IS NULL ORDER BY id",
    )?;
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows = rows.collect::<rusqlite::Result<Vec<(i64, String, Option<String>)>>>()?;
    let find = |wanted: &str| configured.iter().find(|sink| sink.name.as_str() == wanted);
    let place = |(id, name, former): &(i64, String, Option<String>)| {
        // Under its former name only while no other sink has that one.
        let is_taken = |former: &str| rows.iter().any(|(_, other, _)| other == former);
        let renamed = || former.as_deref().filter(|former| !is_taken(former)).and_then(find);
        Place { id: *id, name: name.clone(), configured: find(name).or_else(renamed).cloned() }
    };
    Ok(rows.iter().map(place).collect())
}

/// What a job does to the rows of a sink.
pub(super) trait Rows {
    type Row;

    /// Up to `limit` rows after a place, and up to the end that the job has, in order.
    fn page(&self, sink: &Place, after: i64, limit: usize) -> rusqlite::Result<Vec<Self::Row>>;

    /// A row's place.
    fn place(row: &Self::Row) -> i64;

    /// Whether the sink can take what is done to it now.
    fn has_room(&mut self, sink: &Place) -> rusqlite::Result<bool>;

    /// Does it. False where the sink had no room: the row is looked at again.
    fn visit(&mut self, sink: &Place, row: &Self::Row) -> Result<bool, Fault>;

    /// How far the job is.
    fn tally(&mut self) -> &mut Tally;
}

/// What one portion came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swept {
    /// There are more.
    More,
    /// What is left has to wait for room.
    Full,
    /// Every row of every sink was looked at.
    All,
}

/// Looks at the next rows: those of every sink, or of one.
pub(super) fn sweep<R: Rows>(
    rows: &mut R,
    sinks: &[Place],
    only: Option<&SinkName>,
    stored: &Stored,
) -> Result<Swept, Fault> {
    let (mut room, mut is_full, mut is_more) = (PORTION, false, false);
    for sink in sinks.iter().filter(|sink| only.is_none_or(|only| only.as_str() == sink.name)) {
        // A job of an older version has one place for all.
        let mut place = *rows.tally().places.get(&sink.id).unwrap_or(&stored.job.place);
        if place >= stored.job.upto {
            continue;
        }
        if room == 0 {
            return Ok(Swept::More);
        }
        if !rows.has_room(sink)? {
            is_full = true;
            continue;
        }
        let page = rows.page(sink, place, room)?;
        let (is_last, mut is_stopped) = (page.len() < room, false);
        for row in &page {
            if !rows.visit(sink, row)? {
                (is_full, is_stopped) = (true, true);
                break;
            }
            place = R::place(row);
            room -= 1;
        }
        if is_last && !is_stopped {
            place = stored.job.upto;
        }
        is_more |= place < stored.job.upto && !is_stopped;
        rows.tally().places.insert(sink.id, place);
    }
    Ok(match (is_more, is_full) {
        (true, _) => Swept::More,
        (false, true) => Swept::Full,
        (false, false) => Swept::All,
    })
}
