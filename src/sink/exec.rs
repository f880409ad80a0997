//! A command for each event.

use std::path::PathBuf;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Variables that the child inherits; everything else is cleared.
    pub env_allow: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// What an exit code other than 0 and 75 means.
    pub on_failure: OnFailure,
}

/// What an exit code other than 0 and 75 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Try again later.
    #[default]
    Retry,
    /// Give up on this event.
    DeadLetter,
}
