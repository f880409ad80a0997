//! What a sink is doing, in one word.

/// What a sink is doing. A person's pause goes before everything else, then what keeps it from being tried at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// It delivers, or waits for events.
    Running,
    /// The last three attempts failed, whatever events they were about.
    Failing,
    /// Its breaker is open: it is only probed.
    Down,
    /// A person has paused it.
    Paused,
    /// It could not be built from its configuration.
    Unavailable,
}

impl SinkState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Running, Self::Failing, Self::Down, Self::Paused, Self::Unavailable];

    /// What these facts amount to.
    pub fn of(is_paused: bool, is_unavailable: bool, is_down: bool, is_failing: bool) -> Self {
        match (is_paused, is_unavailable, is_down, is_failing) {
            (true, ..) => Self::Paused,
            (false, true, ..) => Self::Unavailable,
            (false, false, true, _) => Self::Down,
            (false, false, false, true) => Self::Failing,
            (false, false, false, false) => Self::Running,
        }
    }

    /// The word in JSON and in `sink_state{state}`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Down => "down",
            Self::Paused => "paused",
            Self::Unavailable => "unavailable",
        }
    }
}
