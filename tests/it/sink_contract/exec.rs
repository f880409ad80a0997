//! `exec`, with a script that keeps what it gets.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use ralio_relay::sink::exec::OnFailure;
use ralio_relay::sink::{self, Config, Format, Sink};
use tempfile::TempDir;

use super::{Bench, Received, event};
use crate::harness::eventually;

/// `refuse` and `hang` are files that change what it does.
const SCRIPT: &str = r#"#!/bin/sh
test -e "$1/refuse" && exit 1
into=$(mktemp -d "$1/in.XXXXXX") || exit 75
if test -e "$1/hang"; then
    sleep 600 &
    echo $! >"$into/pid" && mv "$into" "$1/hung.${into##*.}"
    wait
fi
env -0 >"$into/env" && cat >"$into/body" && mv "$into" "$1/done.${into##*.}"
"#;

pub struct Command {
    directory: TempDir,
}

impl Command {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Directories that the script has left.
    fn left(&self, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect()
    }
}

fn parse(directory: &Path) -> Received {
    let env = fs::read_to_string(directory.join("env")).unwrap();
    let variables = env.split('\0').filter_map(|variable| variable.split_once('='));
    let attributes: BTreeMap<_, _> = variables
        .filter_map(|(name, value)| Some((name.strip_prefix("CE_")?.to_lowercase(), value.to_owned())))
        .collect();
    Received { attributes, data: fs::read(directory.join("body")).unwrap(), signature: None }
}

#[async_trait(?Send)]
impl Bench for Command {
    async fn new(_breakable: bool) -> Option<Self> {
        let this = Self { directory: tempfile::tempdir().unwrap() };
        fs::write(this.path("text"), SCRIPT).unwrap();
        // Written by another process: a child that some test is just starting would hold a copy of our descriptor, and
        // a file that is open for writing cannot be run.
        let mut install = std::process::Command::new("install");
        let status = install.args(["-m", "700"]).args([this.path("text"), this.path("script")]).status().unwrap();
        assert!(status.success());
        Some(this)
    }

    async fn sink(&self) -> Box<dyn Sink> {
        let argument = |path: &Path| path.to_str().unwrap().to_owned();
        let config = sink::exec::Config {
            command: vec![argument(&self.path("script")), argument(self.directory.path())],
            env_allow: vec!["PATH".to_owned()],
            directory: None,
            on_failure: OnFailure::DeadLetter,
            max_output: 1024,
        };
        sink::build(&Config::Exec(config), Format::Raw).await.unwrap()
    }

    async fn received(&self) -> Vec<Received> {
        self.left("done.").iter().map(|directory| parse(directory)).collect()
    }

    async fn break_it(&mut self) {
        fs::rename(self.path("script"), self.path("away")).unwrap();
    }

    async fn mend(&mut self) {
        if self.path("away").exists() {
            fs::rename(self.path("away"), self.path("script")).unwrap();
        }
        for switch in ["refuse", "hang"] {
            if self.path(switch).exists() {
                fs::remove_file(self.path(switch)).unwrap();
            }
        }
    }

    async fn refuse(&mut self) -> bool {
        fs::write(self.path("refuse"), "").unwrap();
        true
    }

    async fn stall(&mut self) {
        fs::write(self.path("hang"), "").unwrap();
    }
}

/// Giving a delivery up kills the command and what it has started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_kills_the_whole_group() {
    let mut bench = Command::new(true).await.unwrap();
    bench.stall().await;
    let sink = bench.sink().await;
    let event = event(1, b"{}");
    let mut delivery = Box::pin(sink.deliver(&event));
    let pid = loop {
        let outcome = tokio::time::timeout(Duration::from_millis(20), &mut delivery).await;
        assert!(outcome.is_err(), "{outcome:?}");
        if let Some(hung) = bench.left("hung.").first() {
            break fs::read_to_string(hung.join("pid")).unwrap();
        }
    };
    assert!(is_alive(pid.trim()));
    drop(delivery);
    eventually("the end of the command's child", async || if is_alive(pid.trim()) { Err("alive") } else { Ok(()) })
        .await;
}

/// A zombie is dead: whether it is reaped is up to the first process of the machine.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
