//! 200 is written after the fsync of its batch, and never before: seen from outside, in a trace of system calls.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::sender::Sender;
use super::trace::{Step, is_complete, read, traced_to};
use crate::harness::fake_http::FakeHttp;
use crate::harness::{Campaign, TestRelay};

#[tokio::test]
async fn no_200_is_written_before_the_fsync_of_its_batch() {
    order(Campaign::brief("a trace of every 200 and every fdatasync", 1), 400).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_trace() {
    order(Campaign::whole("a trace of every 200 and every fdatasync", 10), 1000).await;
}

async fn order(mut campaign: Campaign, requests: u64) {
    while let Some(mut rng) = campaign.round() {
        let app = FakeHttp::answering([200]).await;
        let settings = TestRelay::with_sink("app", &app).plaintext();
        let trace = settings.directory().join("trace");
        let Some(words) = traced_to(&trace, "pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg", &[]) else {
            return;
        };
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let mut relay = settings.wrapped(&words).start().await;
        let (pid, sender) = (relay.process().pid(), Sender::new(&mut rng));
        // Alone and in company: each batch has its fsync.
        sender.run(&relay, 1, requests / 10).await;
        sender.run(&relay, 64, requests - requests / 10).await;
        relay.settled().await;
        let _directory = relay.shutdown().await;
        is_complete(&trace, pid).await;
        let order = Order::of(&trace);
        assert!(order.too_early.is_empty(), "answered with 200 before the fsync: {:?}", order.too_early);
        assert_eq!(order.answered, requests, "each answer is in the trace");
        campaign.count("200s written after their fsync", order.answered);
        campaign.count("before it", 0);
        campaign.count("fsyncs", order.syncs);
    }
}

/// What a trace says of every event.
#[derive(Default)]
struct Order {
    /// By thread: what the page holds that is being written to the log.
    writing: HashMap<u32, Vec<String>>,
    /// Pages that were written to the log, by id, and not yet synced. An event has two: its row and its body.
    written: HashMap<String, u32>,
    /// By thread: what was written when its fdatasync began.
    syncing: HashMap<u32, HashMap<String, u32>>,
    durable: HashSet<String>,
    answered: u64,
    too_early: Vec<String>,
    syncs: u64,
}

impl Order {
    fn of(trace: &Path) -> Self {
        let mut order = Self::default();
        read(trace, |step| order.take(&step));
        order
    }

    fn take(&mut self, step: &Step) {
        let is_log = step.file.ends_with("inbox.db-wal");
        match (step.call, step.ended) {
            ("pwrite64", None) if is_log => _ = self.writing.insert(step.thread, ids(step.text)),
            ("pwrite64", Some(_)) if is_log => {
                let ids = self.writing.remove(&step.thread).into_iter().flatten();
                ids.for_each(|id| *self.written.entry(id).or_default() += 1);
            }
            ("fdatasync", None) if is_log => _ = self.syncing.insert(step.thread, self.written.clone()),
            ("fdatasync", Some(is_done)) if is_log => {
                let synced = self.syncing.remove(&step.thread).unwrap();
                let whole = synced.into_iter().filter(|(_, pages)| is_done && *pages > 1);
                self.syncs += 1;
                for (id, _) in whole {
                    self.written.remove(&id);
                    self.durable.insert(id);
                }
            }
            ("write" | "writev" | "sendto" | "sendmsg", None) if step.text.contains("HTTP/1.1 200") => {
                for id in ids(step.text) {
                    self.answered += 1;
                    if !self.durable.contains(&id) {
                        self.too_early.push(id);
                    }
                }
            }
            _ => {}
        }
    }
}

/// What [`Sender`] calls its events, each once for each place.
fn ids(text: &str) -> Vec<String> {
    const LENGTH: usize = "evt-000000".len();
    let ids = text.match_indices("evt-").filter_map(|(at, _)| text.get(at..at + LENGTH));
    ids.map(str::to_owned).collect()
}
