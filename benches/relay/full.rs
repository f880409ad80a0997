//! The full inbox. It takes minutes to fill, so it is made once, and kept from one `cargo bench` to the next.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ralio_relay::model::Digest;
use rusqlite::{Connection, OpenFlags};

use crate::Plan;
use crate::fill::{fill, note_times};
use crate::harness::{Builder, TestRelay};

/// Loads add events. Grown beyond so many times its size, it is made anew.
const GROWN: u64 = 2;

/// A relay that is not running, with a directory of its own and the kept inbox.
pub async fn full(plan: &Plan) -> Builder {
    let settings = TestRelay::builder();
    let kept = kept(plan.events).await;
    let complete = kept.join("complete");
    symlink(&kept, settings.directory().join("inbox")).unwrap();
    if !complete.exists() || count(&settings) > plan.events * GROWN {
        if kept.exists() {
            fs::remove_dir_all(&kept).unwrap();
        }
        fs::create_dir_all(&kept).unwrap();
        eprintln!("making the full inbox, which is kept: {}", kept.display());
        fill(&settings, plan.events).await;
        fs::File::create(complete).unwrap();
    }
    note_times(&settings);
    settings
}

/// Its place: another number of events, or another schema, is another inbox.
async fn kept(events: u64) -> PathBuf {
    let fresh = TestRelay::builder();
    fill(&fresh, 0).await;
    let schema: String = open(&fresh)
        .query_row(
            "SELECT group_concat(sql, ';' ORDER BY name) || (SELECT user_version FROM pragma_user_version)
             FROM sqlite_schema",
            [],
            |row| row.get(0),
        )
        .unwrap();
    let schema = Digest::of(schema.as_bytes()).to_string();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("full-inbox-{events}-{}", &schema[..8]))
}

/// The inbox, for a look beside the relay.
pub fn open(settings: &Builder) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(settings.inbox(), flags).unwrap()
}

/// Events in an inbox.
pub fn count(settings: &Builder) -> u64 {
    open(settings).query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| row.get(0)).unwrap()
}
