//! JSON lines in a file.

use std::path::PathBuf;
use std::time::Duration;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that is appended to.
    pub path: PathBuf,
    /// Rotate when the file holds this many bytes.
    pub rotate_size: Option<u64>,
    /// Rotate when the file is this old.
    pub rotate_every: Option<Duration>,
}
