//! How much came in when.

use jiff::{SignedDuration, Timestamp};
use rusqlite::OptionalExtension as _;

use super::{ReadError, Reader};
use crate::inbox::micros;

impl Reader {
    /// How many events came in at this time or after it. Found by halves, so that it takes the same time in every log;
    /// about right only, where the clock was set back.
    pub fn count_since(&self, at: Timestamp) -> Result<u64, ReadError> {
        let head = self.last_seq()?;
        Ok(u64::try_from(head - self.arrived_before(micros(at), head)?).unwrap_or(0))
    }

    /// [`Self::count_since`] for each of the last so many minutes of the clock, oldest first; the last one is the minute
    /// that `now` is in.
    pub fn arrivals_per_minute(&self, now: Timestamp, minutes: u32) -> Result<Vec<u64>, ReadError> {
        let head = self.last_seq()?;
        let begin = Timestamp::from_second(now.as_second().div_euclid(60) * 60).unwrap_or(now);
        let mut counts = Vec::new();
        let mut end = head;
        for ago in 0..minutes {
            let minute = begin.saturating_sub(SignedDuration::from_mins(ago.into())).unwrap_or(begin);
            let before = self.arrived_before(micros(minute), end)?;
            counts.push(u64::try_from(end - before).unwrap_or(0));
            end = before;
        }
        counts.reverse();
        Ok(counts)
    }

    /// When the last event came in.
    pub fn last_arrival(&self) -> Result<Option<Timestamp>, ReadError> {
        Ok(self.arrival(self.last_seq()?)?.map(crate::inbox::from_micros))
    }

    /// The last event, up to `high`, that came in before this time.
    fn arrived_before(&self, at: i64, mut high: i64) -> rusqlite::Result<i64> {
        let mut low = 0;
        while low < high {
            let middle = low + (high - low + 1) / 2;
            if self.arrival(middle)?.is_some_and(|arrival| arrival < at) {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    fn arrival(&self, seq: i64) -> rusqlite::Result<Option<i64>> {
        let mut row = self.connection.prepare_cached("SELECT received_at FROM events WHERE seq = ?1")?;
        row.query_row([seq], |row| row.get(0)).optional()
    }
}
