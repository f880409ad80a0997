//! `stdout`, on a named pipe, which can lose its reader and find another.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ralio_relay::sink::Sink;
use ralio_relay::sink::stdout::Stdout;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::task::JoinSet;

use super::{Bench, Body, Received, parse_line};
use crate::harness::eventually;

pub struct Pipe {
    path: PathBuf,
    text: Arc<Mutex<Vec<u8>>>,
    /// Reads until dropped.
    reader: JoinSet<()>,
    /// Holds the pipe open while nobody reads.
    idle: Option<pipe::Receiver>,
    _directory: TempDir,
}

impl Pipe {
    fn open(&self) -> pipe::Receiver {
        pipe::OpenOptions::new().open_receiver(&self.path).unwrap()
    }

    fn read(&mut self) {
        let mut receiver = self.open();
        let text = Arc::clone(&self.text);
        self.reader.spawn(async move {
            let mut block = vec![0; 64 << 10];
            while let Ok(count @ 1..) = receiver.read(&mut block).await {
                text.lock().unwrap().extend_from_slice(&block[..count]);
            }
        });
    }
}

#[async_trait(?Send)]
impl Bench for Pipe {
    /// Whether somebody reads shows only with a line.
    const PROBES: bool = false;

    async fn new(_breakable: bool) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (text, reader) = (Arc::default(), JoinSet::new());
        let mut this = Self { path, text, reader, idle: None, _directory: directory };
        this.read();
        // Opening the writing end waits for a reader.
        let path = this.path.clone();
        drop(tokio::task::spawn_blocking(move || OpenOptions::new().write(true).open(path)).await.unwrap());
        this.reader.shutdown().await;
        this.read();
        Some(this)
    }

    async fn sink(&self) -> Box<dyn Sink> {
        let pipe = OpenOptions::new().write(true).open(&self.path).unwrap();
        Box::new(Stdout::on(pipe.into()).unwrap())
    }

    async fn received(&self) -> Vec<Received> {
        let text = self.text.lock().unwrap();
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        let lines = std::str::from_utf8(&text[..whole]).unwrap();
        lines.lines().filter(|line| !line.is_empty()).map(parse_line).collect()
    }

    async fn break_it(&mut self) {
        self.reader.shutdown().await;
        // A child that another test is just starting holds a copy of the reading end until it runs its program.
        eventually("the end of the last reader", async || {
            pipe::OpenOptions::new().open_sender(&self.path).map_or(Ok(()), |_| Err("still read"))
        })
        .await;
    }

    async fn mend(&mut self) {
        self.read();
        self.idle = None;
    }

    async fn stall(&mut self) {
        self.idle = Some(self.open());
        self.reader.shutdown().await;
    }

    fn expected(body: &Body) -> Vec<u8> {
        // It may be a terminal.
        let mut line = body.line.to_vec();
        ralio_relay::model::unseen::escape_json(&mut line);
        line
    }
}
