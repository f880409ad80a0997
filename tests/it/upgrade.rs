//! Inboxes that older versions have written, built from their schemas.

use data_encoding::HEXLOWER;
use rusqlite::{Connection, params};

use crate::harness::{Ack, Builder, Delivery, TestRelay, signed, text};

const SCHEMAS: [&str; 5] = [
    include_str!("../../src/inbox/sqlite/schema/001.sql"),
    include_str!("../../src/inbox/sqlite/schema/002.sql"),
    include_str!("../../src/inbox/sqlite/schema/003.sql"),
    include_str!("../../src/inbox/sqlite/schema/004.sql"),
    include_str!("../../src/inbox/sqlite/schema/005.sql"),
];

fn delivery(n: u32) -> Delivery {
    signed::payin_of(&format!("evt-{n}"), "payin_completed", &format!("order-{n}"))
}

/// As that version left it: three events, the first of which was delivered, the second is parked, the third not read.
fn written_by(version: usize, settings: &Builder) {
    std::fs::create_dir_all(settings.inbox().parent().unwrap()).unwrap();
    let old = Connection::open(settings.inbox()).unwrap();
    old.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    for schema in &SCHEMAS[..version] {
        old.execute_batch(schema).unwrap();
    }
    if version >= 3 {
        // Its migration moves what is in them.
        old.execute_batch("DROP TABLE id_index; DROP TABLE entity_index").unwrap();
    }
    old.pragma_update(None, "user_version", version).unwrap();
    old.execute("INSERT INTO sources VALUES (1, 'test')", []).unwrap();
    for n in 1..=3 {
        let delivery = delivery(n);
        let sha256 = HEXLOWER.decode(delivery.sha256().as_bytes()).unwrap();
        let signature = signed::signature(signed::SECRET, &delivery.body);
        old.execute(
            "INSERT INTO events VALUES
             (?1, 1, ?2, 'payin.completed', 1, ?3, 'COMPLETED', 2, NULL, 1000000, ?4, ?5, ?6, 0, 1, 0, NULL, '[]')",
            params![n, format!("evt-{n}"), format!("order-{n}"), delivery.body.len(), sha256, signature],
        )
        .unwrap();
        old.execute("INSERT INTO bodies VALUES (?1, ?2)", params![n, delivery.body]).unwrap();
    }
    old.execute_batch(
        "INSERT INTO sinks (id, name, cursor, first_seq, created_at) VALUES (1, 'out', 2, 1, 500000);
         INSERT INTO route_revisions VALUES (1, 1, 500000, '*');
         INSERT INTO attempts VALUES (1, 1, 1, 1100000, 9, 1, 'written'), (1, 2, 1, 1100000, 9, 2, 'down');
         INSERT INTO parked (sink_id, seq, attempts, first_attempt, next_attempt) VALUES (1, 2, 1, 1100000, 1200000);",
    )
    .unwrap();
}

#[tokio::test]
async fn what_each_version_has_stored_is_delivered_and_known() {
    for version in 1..=SCHEMAS.len() {
        let settings = TestRelay::with_file_sink("out");
        written_by(version, &settings);
        let relay = settings.start().await;
        for n in 1..=3 {
            assert_eq!(relay.post(&delivery(n)).await, Ack::DUPLICATE, "event {n} of version {version}");
        }
        assert_eq!(relay.post(&delivery(4)).await, Ack::FRESH);
        relay.settled().await;
        let mut ids: Vec<_> = relay.lines("out").iter().map(|line| text(line, "id").to_owned()).collect();
        ids.sort();
        assert_eq!(ids, ["evt-2", "evt-3", "evt-4"], "version {version}");
        let parked = relay.event("evt-2").await;
        assert_eq!(parked["attempts"].as_array().map(Vec::len), Some(2), "version {version}: {parked}");
        assert_eq!(relay.events_where(&["--key", "order-1"]).await.len(), 1);
        let relay = relay.shutdown().await.start().await;
        assert_eq!(relay.post(&delivery(1)).await, Ack::DUPLICATE);
        relay.shutdown().await;
    }
}

#[tokio::test]
async fn what_a_newer_version_has_written_is_refused_and_left_alone() {
    let relay = TestRelay::builder().start().await;
    relay.post(&delivery(1)).await;
    let settings = relay.shutdown().await;
    let version = |inbox: &Connection| inbox.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0)).unwrap();
    let newer = Connection::open(settings.inbox()).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    let mut serve = settings.spawn();
    assert_eq!(serve.end().await.code(), Some(1));
    crate::harness::eventually("what is said", async || {
        let said = serve.stderr.all().join("\n");
        if said.contains("written by a newer ralio-relay: run that version, or put a backup in its place") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    assert_eq!(version(&newer), 99);
    let config = settings.config_file();
    for command in [&["events", "list"][..], &["backup", "copy.db"]] {
        let args = [command, &["--config", config.to_str().unwrap()]].concat();
        let output = crate::harness::run_in(settings.directory(), &args, b"").await.code(1);
        assert!(output.stderr.contains("written by a newer ralio-relay"), "{output:?}");
    }
    assert!(!settings.directory().join("copy.db").exists());
}
