//! Sinks that are renamed, removed, and come back, by command and in the configuration: each event goes to the sink that was
//! meant, and is booked there.

use std::fs;

use serde_json::Value;

use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::{Ack, TestRelay, eventually, signed, text};
use crate::operate_replay::{replay, replays};
use crate::reload::{READ, replace, said, says};

/// How the configuration is taken.
#[derive(Clone, Copy, Debug)]
enum Way {
    Sighup,
    Restart,
}

fn table(name: &str, app: &FakeHttp) -> String {
    let retry = "retry = { initial = \"50ms\", max = \"500ms\" }";
    format!("[[sinks]]\nname = {name:?}\ntype = \"http\"\n{retry}\nhttp = {{ url = {:?} }}\n", app.url())
}

/// A relay with these sinks, in a configuration that can be written anew.
struct Case {
    relay: TestRelay,
    /// Of the configuration, without sinks.
    rest: String,
}

impl Case {
    async fn new(sinks: &[(&str, &FakeHttp)]) -> Self {
        let relay = TestRelay::builder().expect_errors().expect_parked().start().await;
        let rest = fs::read_to_string(relay.settings().config_file()).unwrap();
        let case = Self { relay, rest };
        case.configure(Way::Sighup, sinks).await
    }

    /// Has the relay take a configuration with these sinks.
    async fn configure(self, way: Way, sinks: &[(&str, &FakeHttp)]) -> Self {
        let Self { relay, rest } = self;
        let tables: String = sinks.iter().map(|(name, app)| table(name, app)).collect();
        let text = format!("{rest}{tables}");
        match way {
            Way::Sighup => {
                replace(&relay.settings().config_file(), &text);
                reload(&relay).await;
                Self { relay, rest }
            }
            Way::Restart => {
                let settings = relay.shutdown().await.configured_by(&text);
                Self { relay: settings.start().await, rest }
            }
        }
    }

    async fn post(&self, id: &str) {
        assert_eq!(self.relay.post(&signed::payin_completed(id)).await, Ack::FRESH);
    }

    async fn sinks(&self) -> Vec<Value> {
        self.relay.cli(&["sinks", "list", "--format", "json"]).await.success().json()
    }

    async fn sink(&self, name: &str) -> Value {
        self.sinks().await.into_iter().find(|line| line["name"] == name).unwrap_or_default()
    }

    /// Waits until every event is final at each of these.
    async fn settled(&self, names: &[&str]) {
        for name in names {
            eventually(&format!("{name} settled"), async || {
                let line = self.sink(name).await;
                if line["lag"] == 0 && line["parked"] == 0 { Ok(()) } else { Err(line) }
            })
            .await;
        }
    }

    /// What became of an event at a sink.
    async fn state(&self, id: &str, sink: &str) -> String {
        let event = self.relay.event(id).await;
        let sinks = event["sinks"].as_array().unwrap();
        let found = sinks.iter().find(|line| line["sink"] == sink);
        text(found.unwrap_or_else(|| panic!("no {sink} in {event}")), "state").to_owned()
    }
}

async fn reload(relay: &TestRelay) {
    let times = said(relay, READ).len() + 1;
    relay.sighup();
    says(relay, times, READ).await;
}

fn ids(app: &FakeHttp) -> Vec<String> {
    app.accepted().iter().map(|request| request.headers["ce-id"].to_str().unwrap().to_owned()).collect()
}

fn events(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| format!("evt-{n}")).collect()
}

/// A sink is renamed, and its name is given to a new one, whichever stands first in the file.
async fn a_name_is_reused(way: Way, new_one_first: bool) {
    let (old, new) = (FakeHttp::answering([503]).await, FakeHttp::answering([200]).await);
    let case = Case::new(&[("bus", &old)]).await;
    for id in events(1..=5) {
        case.post(&id).await;
    }
    case.relay.cli(&["sinks", "rename", "bus", "bus-old"]).await.success();
    let mut sinks = [("bus", &new), ("bus-old", &old)];
    if !new_one_first {
        sinks.reverse();
    }
    let case = case.configure(way, &sinks).await;
    case.post("evt-6").await;
    case.settled(&["bus"]).await;
    old.answer([200]);
    case.settled(&["bus-old"]).await;
    let mut got = ids(&old);
    got.sort();
    assert_eq!((got, ids(&new)), (events(1..=6), vec!["evt-6".to_owned()]), "{way:?}");
    assert_eq!([case.state("evt-1", "bus-old").await, case.state("evt-1", "bus").await], ["delivered", "before_start"]);
    case.relay.shutdown().await;
}

#[tokio::test]
async fn a_name_is_reused_by_sighup_in_any_order() {
    tokio::join!(a_name_is_reused(Way::Sighup, true), a_name_is_reused(Way::Sighup, false));
}

#[tokio::test]
async fn a_name_is_reused_by_a_restart_in_any_order() {
    tokio::join!(a_name_is_reused(Way::Restart, true), a_name_is_reused(Way::Restart, false));
}

/// Between the command and the configuration nothing goes to the wrong place, also after a restart.
async fn two_names_are_exchanged(way: Way) {
    let (one, other) = (FakeHttp::answering([503]).await, FakeHttp::answering([200]).await);
    let case = Case::new(&[("a", &one), ("b", &other)]).await;
    case.post("evt-1").await;
    case.settled(&["b"]).await;
    case.relay.cli(&["sinks", "rename", "a", "tmp"]).await.success();
    let refused = case.relay.cli(&["sinks", "rename", "b", "a"]).await.code(1);
    assert!(refused.stderr.contains("--swap"), "{refused:?}");
    case.relay.cli(&["sinks", "rename", "tmp", "a"]).await.success();
    // Started once more: the name that it had in between is nobody's.
    let case = case.configure(Way::Restart, &[("a", &one), ("b", &other)]).await;
    let swapped = case.relay.cli(&["sinks", "rename", "a", "b", "--swap"]).await.success();
    assert!(swapped.stderr.contains("both are paused") || swapped.stdout.contains("both are paused"), "{swapped:?}");
    one.answer([200]);
    case.post("evt-2").await;
    let case = case.configure(Way::Restart, &[("a", &one), ("b", &other)]).await;
    assert_eq!([&case.sink("a").await["state"], &case.sink("b").await["state"]], ["paused"; 2]);
    let case = case.configure(way, &[("a", &other), ("b", &one)]).await;
    assert_eq!((one.accepted().len(), ids(&other)), (0, events(1..=1)));
    for name in ["a", "b"] {
        case.relay.cli(&["sinks", "resume", name]).await.success();
    }
    case.settled(&["a", "b"]).await;
    let mut got = ids(&one);
    got.sort();
    assert_eq!((got, ids(&other)), (events(1..=2), events(1..=2)), "{way:?}");
    case.relay.shutdown().await;
}

#[tokio::test]
async fn two_names_are_exchanged_by_sighup_and_by_restart() {
    tokio::join!(two_names_are_exchanged(Way::Sighup), two_names_are_exchanged(Way::Restart));
}

/// One renaming after the other, each taken by SIGHUP: no command but `rename` is needed, and nobody is paused.
#[tokio::test]
async fn two_names_are_exchanged_step_by_step() {
    let (one, other) = (FakeHttp::answering([200]).await, FakeHttp::answering([200]).await);
    let mut case = Case::new(&[("a", &one), ("b", &other)]).await;
    let steps = [("a", "tmp", ["tmp", "b"]), ("b", "a", ["tmp", "a"]), ("tmp", "b", ["b", "a"])];
    for (n, (from, to, [first, second])) in (1..).zip(steps) {
        case.post(&format!("evt-{n}")).await;
        case.relay.cli(&["sinks", "rename", from, to]).await.success();
        case = case.configure(Way::Sighup, &[(first, &one), (second, &other)]).await;
    }
    case.post("evt-4").await;
    case.settled(&["a", "b"]).await;
    assert_eq!((ids(&one), ids(&other)), (events(1..=4), events(1..=4)));
    assert_eq!(case.sinks().await.len(), 2);
    case.relay.shutdown().await;
}

/// There and back: the name that it had in between is free for a new sink, also where that one stands first.
#[tokio::test]
async fn a_sink_that_was_renamed_there_and_back_keeps_its_events() {
    let (old, new) = (FakeHttp::answering([503]).await, FakeHttp::answering([200]).await);
    let case = Case::new(&[("bus", &old)]).await;
    case.post("evt-1").await;
    for (from, to) in [("bus", "web"), ("web", "bus")] {
        case.relay.cli(&["sinks", "rename", from, to]).await.success();
    }
    let case = case.configure(Way::Sighup, &[("web", &new), ("bus", &old)]).await;
    case.post("evt-2").await;
    case.settled(&["web"]).await;
    old.answer([200]);
    case.settled(&["bus"]).await;
    let mut got = ids(&old);
    got.sort();
    assert_eq!((got, ids(&new)), (events(1..=2), vec!["evt-2".to_owned()]));
    case.relay.shutdown().await;
}

/// It is told before and after, each time with what mends it, and what is told does mend it.
#[tokio::test]
async fn a_name_changed_in_the_configuration_only_is_told_and_mended() {
    let app = FakeHttp::answering([503]).await;
    let case = Case::new(&[("erp", &app)]).await;
    for id in events(1..=3) {
        case.post(&id).await;
    }
    let tables = table("erpx", &app);
    replace(&case.relay.settings().config_file(), &format!("{}{tables}", case.rest));
    let found = "the inbox has a sink 'erp' (3 to go) that is not configured, and 'erpx' is new";
    let probed = case.relay.cli(&["check", "--probe"]).await.stdout;
    let line = probed.lines().position(|line| line.starts_with("WARNING") && line.contains(found)).expect(&probed);
    assert!(probed.lines().nth(line + 1).unwrap().contains("`ralio-relay sinks rename erp erpx`"), "{probed}");

    let case = case.configure(Way::Sighup, &[("erpx", &app)]).await;
    let told = said(&case.relay, "the inbox has a sink 'erp'").remove(0);
    assert_eq!((text(&told, "level"), text(&told, "sink")), ("WARN", "erp"));
    assert!(text(&told, "message").contains(found) && text(&told, "advice").contains("--swap"), "{told}");
    app.answer([200]);
    case.post("evt-4").await;
    case.settled(&["erpx"]).await;
    let overview: Value = {
        let request = case.relay.client().get(case.relay.admin_url("/api/overview")).bearer_auth(crate::harness::TOKEN);
        serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap()
    };
    let [removed] = &overview["removed_with_events"].as_array().unwrap()[..] else { panic!("{overview}") };
    assert_eq!((text(removed, "name"), &removed["undelivered"]), ("erp", &4.into()));
    assert_eq!(removed["perhaps_renamed_to"], serde_json::json!(["erpx"]));
    assert!(text(removed, "advice").contains("rename erp erpx --swap"), "{removed}");

    case.relay.cli(&["sinks", "rename", "erp", "erpx", "--swap"]).await.success();
    reload(&case.relay).await;
    case.relay.cli(&["sinks", "resume", "erpx"]).await.success();
    case.settled(&["erpx"]).await;
    let mut got = ids(&app);
    got.sort();
    got.dedup();
    assert_eq!(got, events(1..=4));
    assert_eq!(case.state("evt-1", "erpx").await, "delivered");
    case.relay.shutdown().await;
}

/// A configuration may be wrong for a moment.
#[tokio::test]
async fn a_replay_waits_for_a_sink_that_is_not_configured_for_a_moment() {
    let app = FakeHttp::answering([200]).await;
    let relay = crate::operate_replay::with_events(&app, 10).await;
    relay.cli(&replay(&["--yes", "--rate", "10", "--detach"])).await.success();
    app.requests_reach(22).await;
    let file = relay.settings().config_file();
    let whole = fs::read_to_string(&file).unwrap();
    replace(&file, &whole[..whole.find("[[sinks]]").unwrap()]);
    reload(&relay).await;
    let job = async |relay: &TestRelay| replays(relay.settings()).await.remove(0);
    eventually("the replay to wait", async || {
        let job = job(&relay).await;
        if text(&job, "message").contains("it waits") { Ok(()) } else { Err(job) }
    })
    .await;
    replace(&file, &whole);
    reload(&relay).await;
    let ended = eventually("the end of the replay", async || {
        let job = job(&relay).await;
        if job["state"] == "done" { Ok(job) } else { Err(job) }
    })
    .await;
    assert_eq!((ended["done"].as_u64(), ended["failed"].as_u64()), (Some(20), Some(0)));
    relay.shutdown().await;
}

/// A sink that has changed goes on as soon as its own old one has ended.
#[tokio::test]
async fn no_exchange_waits_for_another() {
    let [hangs, quick, next] =
        [FakeHttp::answering([Answer::Hang]).await, FakeHttp::answering([200]).await, FakeHttp::answering([200]).await];
    let sinks = |slow: &str, app: &FakeHttp| {
        let slow = table("slow", &hangs) + slow;
        slow + "timeout = \"10m\"\n" + &table("quick", app)
    };
    let relay = TestRelay::builder().server("drain_timeout = \"20s\"").start().await;
    let rest = fs::read_to_string(relay.settings().config_file()).unwrap();
    let file = relay.settings().config_file();
    replace(&file, &(rest.clone() + &sinks("", &quick)));
    reload(&relay).await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    hangs.requests_reach(1).await;
    replace(&file, &(rest + &sinks("concurrency = 7\n", &next)));
    relay.sighup();
    let in_use = "the sink is in use as it is configured now";
    says(&relay, 3, in_use).await;
    assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    next.requests_reach(1).await;
    let exchanged: Vec<_> = said(&relay, in_use)[2..].iter().map(|line| text(line, "sink").to_owned()).collect();
    assert_eq!(exchanged, ["quick"], "the slow one still waits for what is in flight");
}
