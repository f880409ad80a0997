//! Where a consumer begins.

use jiff::Timestamp;

/// Where a new sink begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With the first event in the inbox.
    Earliest,
    /// With the first event received at or after this time.
    At(Timestamp),
}
