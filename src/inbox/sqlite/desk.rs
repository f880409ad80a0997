//! Handing in jobs while another process holds the inbox.

use jiff::Timestamp;
use rusqlite::Connection;

use super::reader::{ReadError, check_schema, check_there};
use super::{altered, job, open};
use crate::inbox::{Config, NewJob};
use crate::model::{Digest, JobId, Seq};

/// A connection that writes nothing but new rows of `jobs`, and marks of altered bodies, each in a short transaction of its
/// own: what architecture allows beside the one writer.
pub struct Desk {
    connection: Connection,
}

impl Desk {
    /// Opens the inbox that another process holds; says so when that is from a version without jobs. Never makes one.
    pub fn open(config: &Config) -> Result<Self, ReadError> {
        check_there(config)?;
        let connection = open::open_desk(&config.path)?;
        check_schema(&connection)?;
        Ok(Self { connection })
    }

    /// Hands a job in; it is durable when this returns. Waits up to 15 s for a writer that has much to do.
    pub fn submit(&self, job: &NewJob) -> Result<JobId, ReadError> {
        Ok(job::insert(&self.connection, job)?)
    }

    /// Marks events whose bodies are not what came in, each with the SHA-256 of the body that was found.
    pub fn note_altered(&self, found: &[(Seq, Digest)]) -> Result<(), ReadError> {
        Ok(altered::note(&self.connection, found, Timestamp::now())?)
    }
}
