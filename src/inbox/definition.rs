//! What a sink is, as it is configured. Each change of it is a revision that is kept, so that it can be told later where a
//! delivery went.

use jiff::Timestamp;

use crate::model::Seq;

/// What a sink is, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkDefinition {
    /// The type as it is written in the configuration, such as `http`.
    pub kind: String,
    /// Where events go, for people.
    pub target: String,
    /// What the sink wants: its globs and its filter.
    pub route: String,
}

/// What made a revision known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The daemon started.
    Start,
    /// The daemon took another configuration while it ran.
    Reload,
    /// A command delivered, while no daemon ran.
    Command,
}

impl Because {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Start, Self::Reload, Self::Command];

    /// The word in JSON and in the inbox.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Command => "command",
        }
    }
}

/// What a sink was from some moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkRevision {
    /// From 1 on, for each sink.
    pub revision: u32,
    /// Since when.
    pub since: Timestamp,
    /// The first event after the sink's cursor then.
    pub from_seq: Seq,
    /// What it was.
    pub definition: SinkDefinition,
    /// What made it known.
    pub because: Because,
}
