//! Sinks and routes, exchanged under a running relay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Add as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::fake_http::{Answer, FakeHttp, Recorded};
use crate::harness::{Ack, TestRelay, eventually, metrics, signed, text, write_secret};
use crate::operate_replay::{replay, replayed, replays};
use crate::reload::{READ, is_discreet, replace, said, says};

/// Nothing has been changed by a configuration that does not hold.
const BROKEN: &str = "the configuration does not hold: nothing has been changed";

/// Changes the configuration file.
fn edit(relay: &TestRelay, from: &str, to: &str) {
    let file = relay.settings().config_file();
    let before = fs::read_to_string(&file).unwrap();
    assert!(before.contains(from), "no {from:?} in\n{before}");
    replace(&file, &before.replace(from, to));
}

/// Has the relay read its configuration again, and waits until everything in it is in use.
async fn reload(relay: &TestRelay) {
    let times = said(relay, READ).len() + 1;
    relay.sighup();
    says(relay, times, READ).await;
}

/// Their event ids, in their order.
fn ids(requests: &[Recorded]) -> Vec<String> {
    requests.iter().map(|request| request.headers["ce-id"].to_str().unwrap().to_owned()).collect()
}

/// What `sinks list` says of a sink; null where it says nothing.
async fn listed(relay: &TestRelay, sink: &str) -> Value {
    let lines = relay.cli(&["sinks", "list", "--format", "json"]).await.success().json();
    lines.into_iter().find(|line| line["name"] == sink).unwrap_or_default()
}

async fn post(relay: &TestRelay, id: &str) {
    assert_eq!(relay.post(&signed::payin_completed(id)).await, Ack::FRESH);
}

/// Deliveries about a few orders, each order's one after the other, on connections that are kept; every answer is a 200.
struct Senders {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<u64>,
}

const ORDERS: u64 = 4;

impl Senders {
    fn start(relay: &Arc<TestRelay>) -> Self {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for order in 0..ORDERS {
            let (relay, stop) = (Arc::clone(relay), Arc::clone(&stop));
            tasks.spawn(async move {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    let id = format!("evt-{order}-{sent}");
                    let event = signed::payin_of(&id, "payin_processing", &format!("order-{order}"));
                    assert_eq!(relay.post(&event).await, Ack::FRESH, "{id}");
                    sent += 1;
                }
                sent
            });
        }
        Self { stop, tasks }
    }

    /// Ends them; how many each order has had.
    async fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = 0;
        while let Some(ended) = self.tasks.join_next().await {
            sent += ended.unwrap();
        }
        sent
    }
}

/// Every event is there, and those of each order in their order, apart from repetitions.
fn assert_whole(ids: &[String], sent: u64) {
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for id in ids.iter().filter(|id| seen.insert((*id).clone())) {
        let (order, number) = id.trim_start_matches("evt-").split_once('-').unwrap();
        let number: u64 = number.parse().unwrap();
        let expected = last.insert(order.to_owned(), number).map_or(0, |last| last + 1);
        assert_eq!(number, expected, "order {order} after {ids:?}");
    }
    assert_eq!(seen.len() as u64, sent, "sent and delivered");
}

async fn until_accepted(app: &FakeHttp, path: &str, more: usize) {
    let count = || app.accepted().iter().filter(|request| request.path == path).count();
    let before = count();
    eventually(&format!("{more} deliveries at {path}"), async || match count() - before {
        now if now >= more => Ok(()),
        now => Err(now),
    })
    .await;
}

#[tokio::test]
async fn a_new_route_decides_from_the_cursor_on_and_is_recorded() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::builder().http_sink("app", &app, "events = [\"payin.*\"]").start().await;
    let transfer = |id: &str| signed::transfer_completed(id);
    post(&relay, "payin-1").await;
    assert_eq!(relay.post(&transfer("transfer-2")).await, Ack::FRESH);
    relay.settled().await;
    edit(&relay, "\"payin.*\"", "\"transfer.*\"");
    post(&relay, "payin-3").await;
    relay.settled().await;
    assert_eq!(ids(&app.accepted()), ["payin-1", "payin-3"], "not before SIGHUP");
    reload(&relay).await;
    post(&relay, "payin-4").await;
    assert_eq!(relay.post(&transfer("transfer-5")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(ids(&app.accepted()), ["payin-1", "payin-3", "transfer-5"]);
    let inbox = rusqlite::Connection::open(relay.settings().inbox()).unwrap();
    let mut revisions = inbox.prepare("SELECT from_seq, route FROM route_revisions ORDER BY from_seq").unwrap();
    let revisions = revisions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let revisions: Vec<(i64, String)> = revisions.map(Result::unwrap).collect();
    assert_eq!(revisions, [(1, "payin.*".to_owned()), (4, "transfer.*".to_owned())]);
    assert_eq!(said(&relay, "restart to apply it"), [Value::Null; 0]);
    relay.shutdown().await;
}

/// Nobody delivers to the new address before the last delivery to the old one has ended.
#[tokio::test]
async fn a_new_url_moves_deliveries_under_load_without_a_gap_or_an_overlap() {
    let app = FakeHttp::answering([200]).await;
    let relay = Arc::new(TestRelay::with_sink("app", &app).start().await);
    let senders = Senders::start(&relay);
    until_accepted(&app, "/hook", 20).await;
    let mut at = "/hook".to_owned();
    for round in 0..5 {
        let next = format!("/hook{round}");
        edit(&relay, &format!("{at}\""), &format!("{next}\""));
        reload(&relay).await;
        until_accepted(&app, &next, 20).await;
        at = next;
    }
    let sent = senders.stop().await;
    relay.settled().await;
    let requests = app.accepted();
    assert_whole(&ids(&requests), sent);
    let mut paths: Vec<_> = requests.iter().map(|request| request.path.clone()).collect();
    paths.dedup();
    assert_eq!(paths, ["/hook", "/hook0", "/hook1", "/hook2", "/hook3", "/hook4"]);
    assert_eq!(requests.len() as u64, sent, "nothing was in flight when the sink was exchanged");
}

/// What hangs at the old address is waited for no longer than at the end of the relay, and is then made again at the new.
#[tokio::test]
async fn a_delivery_that_hangs_does_not_hold_up_the_exchange() {
    let (old, new) = (FakeHttp::answering([Answer::Hang]).await, FakeHttp::answering([200]).await);
    let rest = "timeout = \"10m\"";
    let relay = TestRelay::builder().server("drain_timeout = \"1s\"").http_sink("app", &old, rest).start().await;
    post(&relay, "evt-1").await;
    old.requests_reach(1).await;
    edit(&relay, &old.url(), &new.url());
    reload(&relay).await;
    relay.settled().await;
    assert_eq!(ids(&new.accepted()), ["evt-1"]);
    relay.shutdown().await;
}

#[tokio::test]
async fn sinks_come_and_go_and_come_back_to_their_place() {
    let app = FakeHttp::answering([200]).await;
    let builder = TestRelay::builder().file_sink("stays", "");
    let [all, new] = ["all", "new"].map(|name| builder.sink_file(name));
    let relay = builder.http_sink("app", &app, "").start().await;
    post(&relay, "evt-1").await;
    relay.settled().await;
    let file = relay.settings().config_file();
    let first = fs::read_to_string(&file).unwrap();
    let table = |name: &str, path: &std::path::Path, start: &str| {
        format!("[[sinks]]\nname = {name:?}\ntype = \"file\"\nstart = {start:?}\nfile = {{ path = {path:?} }}\n")
    };
    let more = table("all", &all, "earliest") + &table("new", &new, "now");
    let without_app = first[..first.rfind("[[sinks]]").unwrap()].to_owned();
    assert!(!without_app.contains("/hook"), "{without_app}");
    replace(&file, &(without_app + &more));
    reload(&relay).await;
    post(&relay, "evt-2").await;
    eventually("both events", async || match relay.lines("all").len() {
        2 => Ok(()),
        lines => Err(lines),
    })
    .await;
    let line_ids = |sink| relay.lines(sink).iter().map(|line| text(line, "id").to_owned()).collect::<Vec<_>>();
    relay.reaches(0, "sink_lag_events", &[]).await;
    assert_eq!((line_ids("all"), line_ids("new")), (vec!["evt-1".into(), "evt-2".into()], vec!["evt-2".to_owned()]));
    assert_eq!(line_ids("stays").len(), 2);

    // The one that is gone: its place stays, its series do not.
    assert_eq!(app.count(), 1);
    let gone = listed(&relay, "app").await;
    assert_eq!(
        (gone["state"].as_str(), gone["cursor"].as_i64(), gone["lag"].as_i64()),
        (Some("removed"), Some(1), Some(1))
    );
    let text = relay.metrics().await;
    assert!(!text.contains("sink=\"app\""), "{text}");
    assert_eq!(metrics::values(&text, "sink_lag_events", &[("sink", "all")]), [0]);
    let refused = relay.cli(&replay(&["--yes"])).await;
    assert_ne!(refused.code, Some(0), "{refused:?}");

    replace(&file, &first);
    reload(&relay).await;
    app.requests_reach(2).await;
    relay.settled().await;
    assert_eq!(ids(&app.accepted()), ["evt-1", "evt-2"], "from where it was, and nothing twice");
    assert_eq!(listed(&relay, "app").await["state"], "running");
    assert_eq!(listed(&relay, "all").await["state"], "removed");
    relay.shutdown().await;
}

/// Whatever is wrong with it, and wherever.
#[tokio::test]
async fn a_configuration_that_does_not_hold_changes_no_sink() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).expect_errors().start().await;
    let good = fs::read_to_string(relay.settings().config_file()).unwrap();
    let directory = relay.settings().directory().display().to_string();
    let sink =
        |path: &str| format!("[[sinks]]\nname = \"b\"\ntype = \"file\"\nfile = {{ path = \"{directory}/{path}\" }}\n");
    let broken = [
        (good.replace("[server]\n", "[server]\nmax_bdy = \"2MiB\"\n"), "max_bdy"),
        (good.clone() + "events = [\"payin_*\"]\n", "sinks[0].events"),
        // Nothing is wrong with it but what there is in the world.
        (good.clone() + &sink("missing/b.jsonl"), "missing/b.jsonl"),
    ];
    for (times, (broken, why)) in (1..).zip(broken) {
        replace(&relay.settings().config_file(), &broken.replace("/hook\"", "/other\""));
        relay.sighup();
        let said = says(&relay, times, BROKEN).await.pop().unwrap();
        assert!(said["problem"].as_str().unwrap().contains(why), "{said}");
        post(&relay, &format!("evt-{times}")).await;
        relay.settled().await;
    }
    assert!(app.requests().iter().all(|request| request.path == "/hook"));
    // And a good one after it is taken.
    replace(&relay.settings().config_file(), &good.replace("/hook\"", "/other\"").add(&sink("b.jsonl")));
    reload(&relay).await;
    post(&relay, "evt-4").await;
    relay.settled().await;
    assert_eq!(app.requests().last().unwrap().path, "/other");
    assert_eq!(app.count(), 4);
    relay.shutdown().await;
}

/// Twenty in a row, each with another configuration, while deliveries come in: nothing is lost, none is out of order, no line
/// of a file is torn, and nobody is refused.
#[tokio::test]
async fn a_storm_of_sighups_under_load_loses_nothing() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::builder().http_sink("app", &app, "concurrency = 7").file_sink("out", "concurrency = 7");
    let relay = Arc::new(relay.start().await);
    let senders = Senders::start(&relay);
    until_accepted(&app, "/hook", 20).await;
    for round in 0..20 {
        edit(&relay, &format!("concurrency = {}\n", 7 + round), &format!("concurrency = {}\n", 8 + round));
        relay.sighup();
        if round % 4 == 3 {
            until_accepted(&app, "/hook", 10).await;
        }
    }
    until_accepted(&app, "/hook", 50).await;
    let sent = senders.stop().await;
    relay.settled().await;
    assert_whole(&ids(&app.accepted()), sent);
    let lines: Vec<String> = relay.lines("out").iter().map(|line| text(line, "id").to_owned()).collect();
    assert_whole(&lines, sent);
    assert_eq!(relay.metric("requests_total", &[]).await as u64, sent);
    // Both were exchanged, and the last one is in use.
    assert!(said(&relay, "the sink is in use as it is configured now").len() >= 4);
    reload(&relay).await;
}

#[tokio::test]
async fn a_replay_goes_on_with_the_new_sink() {
    let app = FakeHttp::answering([200]).await;
    let relay = crate::operate_replay::with_events(&app, 15).await;
    let command = relay.cli(&replay(&["--yes", "--rate", "10", "--detach"])).await;
    assert_eq!(command.code, Some(0), "{command:?}");
    eventually("some of the replay", async || match replayed(&app).0.len() {
        count if count > 2 => Ok(()),
        count => Err(count),
    })
    .await;
    edit(&relay, "/hook\"", "/other\"");
    reload(&relay).await;
    let job = eventually("the end of the replay", async || {
        let job = replays(relay.settings()).await.remove(0);
        if job["state"] == "done" { Ok(job) } else { Err(job) }
    })
    .await;
    let delivered = replayed(&app).0;
    assert_eq!((job["done"].as_u64(), delivered.iter().collect::<BTreeSet<_>>().len()), (Some(30), 30));
    let paths: Vec<_> = app.accepted().into_iter().map(|request| request.path).collect();
    let moved = paths.iter().position(|path| path == "/other").expect("it goes on at the new one");
    assert!(moved > 32 && paths[moved..].iter().all(|path| path == "/other"), "{paths:?}");
    relay.shutdown().await;
}

/// Whoever carries out jobs talks to the consumer that is there now, and what it does not hear it reads from the inbox.
#[tokio::test]
async fn a_pause_holds_before_and_after_an_exchange() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).start().await;
    edit(&relay, "/hook\"", "/second\"");
    reload(&relay).await;
    relay.cli(&["sinks", "pause", "app"]).await.success();
    post(&relay, "evt-1").await;
    edit(&relay, "/second\"", "/third\"");
    reload(&relay).await;
    let paused = listed(&relay, "app").await;
    assert_eq!((paused["state"].as_str(), paused["lag"].as_i64()), (Some("paused"), Some(1)), "{paused}");
    post(&relay, "evt-2").await;
    assert_eq!(app.count(), 0);
    relay.cli(&["sinks", "resume", "app"]).await.success();
    relay.settled().await;
    assert_eq!(app.accepted().iter().map(|request| request.path.as_str()).collect::<Vec<_>>(), ["/third"; 2]);
    relay.shutdown().await;
}

/// A token is rotated through its file, without a signal.
#[tokio::test]
async fn files_of_a_sink_are_read_again_when_they_change() {
    let app = FakeHttp::answering([200]).await;
    let builder = TestRelay::builder().expect_errors();
    let token = builder.directory().join("token");
    write_secret(&token, "canary-first");
    let http = format!("http = {{ url = {:?}, headers = {{ x-token = {{ file = {token:?} }} }} }}", app.url());
    let relay = builder.sink("app", "http", &http).start().await;
    let sent = async |id: &str| {
        post(&relay, id).await;
        relay.settled().await;
        app.requests().last().unwrap().headers["x-token"].to_str().unwrap().to_owned()
    };
    assert_eq!(sent("evt-1").await, "canary-first");
    let in_use = "the sink is in use as it is configured now";
    // Nobody has asked for what else has changed.
    edit(&relay, "/hook\"", "/other\"");
    replace(&token, "canary-second\n");
    says(&relay, 1, in_use).await;
    assert_eq!(sent("evt-2").await, "canary-second");
    replace(&token, "\n");
    let error = says(&relay, 1, "a file of a sink has changed and cannot be used").await.remove(0);
    assert!(error["sink"] == "app" && error["problem"].as_str().unwrap().contains("empty"), "{error}");
    assert_eq!(sent("evt-3").await, "canary-second");
    replace(&token, "canary-third");
    says(&relay, 2, in_use).await;
    assert_eq!(sent("evt-4").await, "canary-third");
    assert!(app.requests().iter().all(|request| request.path == "/hook"));
    reload(&relay).await;
    assert_eq!(sent("evt-5").await, "canary-third");
    assert_eq!(app.requests().last().unwrap().path, "/other");
    is_discreet(&relay);
    relay.shutdown().await;
}
