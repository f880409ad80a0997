//! The inbox in one SQLite file.

mod reader;

pub use reader::{Direction, ReadError, Reader};
