//! `file`, in a directory that can go away.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use ralio_relay::sink::{self, Config, Format, Sink};
use tempfile::TempDir;

use super::{Bench, Body, Received, deliver, event, parse_line};
use crate::harness::eventually;

pub struct Directory {
    directory: TempDir,
}

impl Directory {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self) -> sink::file::Config {
        sink::file::Config {
            path: self.path("there/events.jsonl"),
            rotate_size: None,
            rotate_every: None,
            compress: false,
        }
    }

    /// The lines of every file.
    fn lines(&self) -> Vec<Received> {
        let Ok(files) = fs::read_dir(self.path("there")) else { return Vec::new() };
        let texts = files.map(|file| text(&file.unwrap().path()));
        texts.flat_map(|text| text.lines().map(parse_line).collect::<Vec<_>>()).collect()
    }
}

/// Of a file, plain or compressed.
fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap();
    if path.extension().is_none_or(|extension| extension != "gz") {
        return String::from_utf8(bytes).unwrap();
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
    text
}

#[async_trait(?Send)]
impl Bench for Directory {
    async fn new(_breakable: bool) -> Option<Self> {
        let this = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(this.path("there")).unwrap();
        Some(this)
    }

    async fn sink(&self) -> Box<dyn Sink> {
        sink::build(&Config::File(self.config()), Format::Raw).await.unwrap()
    }

    async fn received(&self) -> Vec<Received> {
        self.lines()
    }

    async fn break_it(&mut self) {
        fs::rename(self.path("there"), self.path("away")).unwrap();
    }

    async fn mend(&mut self) {
        if self.path("away").exists() {
            fs::rename(self.path("away"), self.path("there")).unwrap();
        }
    }

    fn expected(body: &Body) -> Vec<u8> {
        body.line.to_vec()
    }
}

/// Twenty rounds of five events.
async fn deliver_a_hundred(sink: &dyn Sink) {
    for round in 0..20 {
        let events: Vec<_> = (1..=5).map(|n| event(round * 5 + n, b"{}")).collect();
        for outcome in futures_util::future::join_all(events.iter().map(|event| deliver(sink, event))).await {
            assert_eq!(outcome.label(), "delivered", "{outcome:?}");
        }
    }
}

fn assert_a_hundred(lines: &[Received]) {
    let mut seqs: Vec<i64> = lines.iter().map(|line| line.attributes["ralioseq"].parse().unwrap()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=100).collect::<Vec<_>>());
}

/// Rotation under load loses no line and repeats none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_loses_nothing() {
    let bench = Directory::new(false).await.unwrap();
    let rotating =
        sink::file::Config { rotate_size: Some(4000), rotate_every: Some(Duration::from_secs(3600)), ..bench.config() };
    let sink = sink::build(&Config::File(rotating), Format::Raw).await.unwrap();
    deliver_a_hundred(&*sink).await;
    sink.close().await;
    assert_a_hundred(&bench.lines());
    let files: Vec<_> = fs::read_dir(bench.path("there")).unwrap().map(|file| file.unwrap()).collect();
    assert!(files.len() > 5, "{}", files.len());
    assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 4000));
}

/// Neither does compressing what was rotated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_loses_nothing() {
    let bench = Directory::new(false).await.unwrap();
    let config = sink::file::Config { rotate_size: Some(4000), compress: true, ..bench.config() };
    let sink = sink::build(&Config::File(config.clone()), Format::Raw).await.unwrap();
    deliver_a_hundred(&*sink).await;
    let others = || {
        let names = fs::read_dir(bench.path("there")).unwrap().map(|file| file.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| !name.ends_with(".gz")).collect::<Vec<_>>()
    };
    eventually("nothing plain but the file itself", async || match others() {
        names if names == ["events.jsonl"] => Ok(()),
        names => Err(names),
    })
    .await;
    assert_a_hundred(&bench.lines());
    sink.close().await;
    assert_a_hundred(&bench.lines());
}

/// Where the file cannot get another name, it grows: deliveries are what counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_that_fails_stops_nothing() {
    let bench = Directory::new(false).await.unwrap();
    // As long as a name may be: any rotated one is too long.
    let path = bench.path("there").join("x".repeat(255));
    let config = sink::file::Config { path, rotate_size: Some(4000), compress: true, ..bench.config() };
    let sink = sink::build(&Config::File(config), Format::Raw).await.unwrap();
    deliver_a_hundred(&*sink).await;
    sink.close().await;
    assert_a_hundred(&bench.lines());
    assert_eq!(fs::read_dir(bench.path("there")).unwrap().count(), 1);
}

/// A directory that is not there is said so at once, with what to do.
#[tokio::test]
async fn a_missing_directory_is_an_error_of_building() {
    let bench = Directory::new(false).await.unwrap();
    let config = sink::file::Config { path: bench.path("missing/events.jsonl"), ..bench.config() };
    let error = sink::build(&Config::File(config), Format::Raw).await.err().unwrap().to_string();
    assert!(error.contains("missing/events.jsonl") && error.contains("create its directory"), "{error}");
}
