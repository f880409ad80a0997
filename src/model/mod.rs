//! What the relay talks about: ids, events, their types and views, attempts. Pure: no I/O, no clock, no other room.

mod attempt;
mod envelope;
mod event;
mod event_type;
mod ids;
mod json;
mod phase;
mod reading;
mod sink_state;
mod start;
mod time;
pub mod unseen;
pub mod view;

pub use attempt::{MAX_ANSWER_BYTES, Outcome, Reason, Receipt, told};
pub use envelope::Envelope;
pub use event::Outgoing;
pub use event_type::{Category, EventType};
pub use ids::{Digest, EntityKey, EventId, InvalidName, JobId, MAX_ID_BYTES, Seq, SinkName, SourceName};
pub use json::lossy_string;
pub use phase::Phase;
pub use reading::{Reading, Search, content_encoding};
pub use sink_state::SinkState;
pub use start::Start;
