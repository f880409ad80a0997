//! The file sink as the daemon runs it: rotated files are compressed behind the deliveries, and through kill -9.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::harness::{Ack, Builder, TestRelay, eventually, signed};

fn archive(rotate_size: &str) -> Builder {
    let builder = TestRelay::builder();
    let path = builder.directory().join("archive/out.ndjson");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let file = format!("path = {path:?}\nrotate_size = {rotate_size:?}\ncompress = true");
    builder.sink("archive", "file", &format!("[sinks.file]\n{file}"))
}

fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// Files whose names end so.
fn ending(directory: &Path, end: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().ends_with(end)).collect()
}

/// Rotated files that are plain or half done.
fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let mut left = ending(directory, ".ndjson");
    left.retain(|path| path.file_name().unwrap() != "out.ndjson");
    left.extend(ending(directory, ".part"));
    left
}

/// A compression that takes its time delays no delivery and no end, and a kill in the middle of it costs nothing.
#[tokio::test]
async fn a_slow_compression_is_in_nobodys_way_and_survives_kill_9() {
    let settings = archive("1GiB");
    let directory = settings.directory().join("archive");
    let plain = directory.join("out.20260101T000000Z.ndjson");
    let mut text = String::new();
    for n in 0..1_000_000u64 {
        writeln!(text, "{{\"n\":\"{:016x}\"}}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap();
    }
    fs::write(&plain, &text).unwrap();
    let at_work = async || {
        eventually("a compression at work", async || {
            if ending(&directory, ".ndjson.gz.part").is_empty() { Err("none") } else { Ok(()) }
        })
        .await;
    };

    let relay = settings.start().await;
    at_work().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    assert!(ending(&directory, ".gz").is_empty(), "done already: nothing was shown");
    let settings = relay.kill9();
    assert!(plain.exists() && ending(&directory, ".gz").is_empty());

    let relay = settings.start().await;
    at_work().await;
    let settings = relay.shutdown().await;
    assert!(plain.exists() && ending(&directory, ".gz").is_empty(), "the end waited for it");

    let relay = settings.start().await;
    eventually("the end of the work", async || match unfinished(&directory) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    assert!(unpacked(&directory.join("out.20260101T000000Z.ndjson.gz")) == text);
    assert!(fs::read_to_string(directory.join("out.ndjson")).unwrap().contains("evt-1"));
    relay.shutdown().await;
}

/// Plain, compressed or in between: together the files hold every event.
#[tokio::test]
async fn every_event_is_in_one_of_the_files() {
    let mut relay = archive("8KiB").start().await;
    let directory = relay.settings().directory().join("archive");
    for round in 0..3 {
        let deliveries: Vec<_> = (0..100).map(|n| signed::payin_completed(&format!("evt-{round}-{n}"))).collect();
        for ack in futures_util::future::join_all(deliveries.iter().map(|delivery| relay.post(delivery))).await {
            assert_eq!(ack, Ack::FRESH);
        }
        relay = relay.restart().await;
    }
    relay.settled().await;
    eventually("nothing plain but the file itself", async || match unfinished(&directory) {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    let packed = ending(&directory, ".gz");
    assert!(packed.len() > 10, "{packed:?}");
    let mut text: String = packed.iter().map(|path| unpacked(path)).collect();
    text.push_str(&fs::read_to_string(directory.join("out.ndjson")).unwrap_or_default());
    let id = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["id"].as_str().unwrap().to_owned()
    };
    let ids: BTreeSet<String> = text.lines().map(id).collect();
    let sent = (0..3).flat_map(|round| (0..100).map(move |n| format!("evt-{round}-{n}")));
    assert_eq!(ids, sent.collect());
    relay.shutdown().await;
}
