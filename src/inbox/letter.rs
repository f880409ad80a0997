//! Dead letters as recorded, those that somebody has decided about included.

use jiff::Timestamp;

use super::ConsumerId;
use crate::model::{EntityKey, EventId, EventType, JobId, Seq, SinkName, SourceName};

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// It waits for somebody to decide.
    Open,
    /// Its event was delivered again, or is parked for it; given up once more, it has another number.
    Retried,
    /// Its event was given up for good.
    Discarded,
}

impl LetterState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Retried, Self::Discarded];

    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Retried => "retried",
            Self::Discarded => "discarded",
        }
    }
}

/// What somebody decided about a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// Who; `None` where nobody had to.
    pub who: Option<String>,
    /// Why; `None` where nobody said.
    pub reason: Option<String>,
    /// By which job; `None` where an older version noted it, or nobody had to.
    pub job: Option<JobId>,
}

/// One dead letter as recorded.
#[derive(Clone, Debug)]
pub struct DeadLetterRecord {
    /// Its number.
    pub id: i64,
    /// The number of the sink's own consumer.
    pub consumer: ConsumerId,
    /// At which sink.
    pub sink: SinkName,
    /// In which replay it was given up; `None` for the live delivery.
    pub replay: Option<JobId>,
    /// The event.
    pub seq: Seq,
    /// Its id.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// What it is about.
    pub key: EntityKey,
    /// Where it came in.
    pub source: SourceName,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// What the far side answered last, where it did and that is kept.
    pub answer: Option<String>,
    /// What became of it.
    pub state: LetterState,
    /// Who decided that; `None` while it is open.
    pub decision: Option<Decision>,
}
