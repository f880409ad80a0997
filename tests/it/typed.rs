//! What people type: filters that cannot match, days and times of their zone, ids by their beginnings, values with dashes.

use std::path::Path;
use std::process::Command;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, Builder, Delivery, Output, TestRelay, run_in, signed, text};
use crate::operate::typed_without_daemon;

/// A command with a time zone, and with nothing else of this machine's environment.
fn typed_in(zone: &str, settings: &Path, args: &[&str]) -> Output {
    typed_with(&[("TZ", zone)], settings, args)
}

fn typed_with(environment: &[(&str, &str)], settings: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(args).arg("--config").arg(settings).env_clear().envs(environment.iter().copied());
    let output = command.output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// An event whose sender chose id and key.
fn event(id: &str, key: &str, event_type: &str) -> Delivery {
    signed::payin_of(id, event_type, key)
}

async fn relay_with(events: &[Delivery]) -> TestRelay {
    let relay = TestRelay::with_file_sink("out").start().await;
    for event in events {
        assert_eq!(relay.post(event).await, Ack::FRESH);
    }
    relay.settled().await;
    relay
}

#[tokio::test]
async fn a_filter_that_cannot_match_is_an_error_that_says_what_there_is() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("ledger", &app).start().await;
    assert_eq!(relay.post(&event("evt-1", "order-1", "payin_completed")).await, Ack::FRESH);
    assert_eq!(relay.post(&event("evt-2", "order-1", "card_issued")).await, Ack::FRESH);
    relay.settled().await;
    let replay = ["replay", "--sink", "ledger", "--reason", "a test", "--dry-run"];
    let cases: [(&[&str], &str); 17] = [
        (&["events", "list", "--type", "payin"], "did you mean 'payin.*'?"),
        (&["events", "list", "--type", "payn.*"], "did you mean 'payin.*'?"),
        (&["events", "list", "--type", "payin.*", "--type", "PAYN.*"], "matches 'payn.*'; did you mean 'payin.*'?"),
        (&["events", "list", "--state", "COMPLTED"], "reports the state 'COMPLTED'; did you mean 'COMPLETED'?"),
        (&["events", "list", "--type", "payin.[completed"], "did you mean 'payin.completed'?"),
        (&["events", "list", "--source", "tst"], "there is no source 'tst'; did you mean 'test'?"),
        (&["events", "list", "--source", "prod"], "there is no source 'prod': there is test"),
        (&["events", "list", "--since", "5m", "--until", "10m"], "nothing is at or after "),
        (&["events", "list", "--sink", "ledgr", "--undelivered"], "did you mean 'ledger'?"),
        (&["events", "tail", "--source", "prod", "--follow=false"], "there is no source 'prod'"),
        (&["deadletters", "list", "--sink", "ledgr"], "did you mean 'ledger'?"),
        (&["deadletters", "retry", "--sink", "ledgr", "--yes"], "did you mean 'ledger'?"),
        (&["parked", "list", "--type", "payn.*"], "did you mean 'payin.*'?"),
        (&["parked", "retry", "--sink", "ledgr", "--yes"], "did you mean 'ledger'?"),
        (&["quarantine", "list", "--source", "prod"], "there is no source 'prod'"),
        (&["quarantine", "admit", "--source", "prod"], "there is no source 'prod'"),
        (&[&replay[..], &["--source", "prod"]].concat(), "there is no source 'prod'"),
    ];
    for (args, said) in cases {
        let output = relay.cli(args).await.code(2);
        assert!(output.stderr.contains(said) && output.stdout.is_empty(), "{args:?}: {output:?}");
    }
    // Legal, and there is none yet; and one that no documentation knows, but the inbox does.
    let legal = relay.cli(&["events", "list", "--type", "viban.failed"]).await.success();
    assert_eq!((legal.stdout.as_str(), legal.stderr.as_str()), ("", "no event matches\n"));
    assert_eq!(relay.events_where(&["--type", "card.*"]).await.len(), 1);
    assert!(relay.events_where(&["--type", "card.*", "--until", "2020-01-01"]).await.is_empty());
    // A sink and a source that are no longer configured have a past.
    let settings = relay.shutdown().await;
    let renamed = settings.directory().join("renamed.toml");
    let config = std::fs::read_to_string(settings.config_file()).unwrap();
    let config = config.replace("\"ledger\"", "\"erp\"").replace("\"test\"", "\"live\"");
    std::fs::write(&renamed, config).unwrap();
    for args in [["parked", "list", "--sink", "ledger"], ["events", "list", "--source", "test"]] {
        let told = typed_in("UTC", &renamed, &args).success().stderr;
        assert!(!told.contains("there is no"), "{args:?}: {told}");
    }
}

/// A day typed means the day that the table beside it shows.
#[tokio::test]
async fn days_and_times_are_those_of_the_table() {
    let relay = relay_with(&[event("evt-1", "order-1", "payin_completed")]).await;
    let at: Timestamp = text(&relay.events().await[0], "received_at").parse().unwrap();
    let config = relay.settings().config_file();
    for zone in ["America/Bogota", "Asia/Kolkata", "Pacific/Kiritimati", "UTC"] {
        let local = at.to_zoned(TimeZone::get(zone).unwrap());
        let (day, next) = (local.date().to_string(), local.date().tomorrow().unwrap().to_string());
        let begin = format!("{} {:02}:{:02}", day, local.hour(), local.minute());
        let list = |more: &[&str]| {
            let output = typed_in(zone, &config, &[&["events", "list"], more].concat()).success();
            output.stdout.lines().count().saturating_sub(1)
        };
        let shown = typed_in(zone, &config, &["events", "list"]).success();
        assert!(shown.stdout.contains(&format!("{day}T")) && shown.stderr.is_empty(), "{zone}: {shown:?}");
        assert_eq!(list(&["--since", &day]), 1, "{zone}: since {day}");
        assert_eq!(list(&["--since", &next]), 0, "{zone}: since {next}");
        assert_eq!(list(&["--until", &day]), 0, "{zone}: until {day}");
        assert_eq!(list(&["--since", &begin]), 1, "{zone}: since {begin}");
        assert_eq!(list(&["--until", &begin.replace(' ', "T")]), 0, "{zone}: until {begin}");
        assert_eq!(list(&["--since", "yesterday"]), 1, "{zone}");
        // The same filter in UTC is another one.
        let utc = typed_in(zone, &config, &["events", "list", "--utc", "--until", &local.date().to_string()]).success();
        let is_before = at < format!("{day}T00:00:00Z").parse::<Timestamp>().unwrap();
        assert_eq!(utc.stdout.contains("evt-1"), is_before, "{zone}");
    }
    let twice = ["events", "list", "--since", "2026-10-25 02:30"];
    let twice = typed_in("Europe/Berlin", &config, &twice).code(2);
    assert!(twice.stderr.contains("2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00"), "{twice:?}");
    let wrong = ["events", "list", "--since", "tomorrow"];
    assert!(typed_in("UTC", &config, &wrong).code(2).stderr.contains("today, yesterday, 24h"));
    // Whoever sets a zone that is none is told so, by every command that tells times.
    let commands: [&[&str]; 6] = [
        &["events", "list"],
        &["events", "show", "1"],
        &["sinks", "list"],
        &["deadletters", "list"],
        &["replay", "list"],
        &["quarantine", "list"],
    ];
    for args in commands {
        let told = typed_in("Europe/Berlim", &config, args).success();
        assert!(told.stderr.contains("TZ is 'Europe/Berlim'"), "{args:?}: {told:?}");
    }
    relay.shutdown().await;
}

/// A machine, such as a small container, may know no zone, or few.
#[tokio::test]
async fn the_data_of_all_zones_are_in_the_binary() {
    let relay = relay_with(&[event("evt-1", "order-1", "payin_completed")]).await;
    let few = relay.settings().directory().join("zones");
    std::fs::create_dir(&few).unwrap();
    // What is looked at to tell a file about a zone from another.
    std::fs::write(few.join("Elsewhere"), [&b"TZif"[..], &[0; 40]].concat()).unwrap();
    let few = few.to_str().unwrap();
    let list = |zone| typed_with(&[("TZ", zone), ("TZDIR", few)], &relay.settings().config_file(), &["events", "list"]);
    for zone in ["America/Bogota", ":America/Bogota"] {
        let told = list(zone).success();
        assert!(told.stdout.contains("-05:00") && told.stderr.is_empty(), "{zone}: {told:?}");
    }
    assert!(list("America/Bogotá").success().stderr.contains("TZ is 'America/Bogotá'"));
    relay.shutdown().await;
}

#[tokio::test]
async fn the_beginning_of_an_id_is_enough_where_only_one_begins_so() {
    let ids = ["53408e9f-6287-4b1e", "53408e9f-9999-4b1e", "a1b2c3d4-0000", "17"];
    let events: Vec<_> = ids.iter().map(|id| event(id, &format!("order-{id}"), "payin_completed")).collect();
    let relay = relay_with(&events).await;
    let settings = relay.shutdown().await;
    let typed = async |args: &[&str]| typed_without_daemon(&settings, args).await;
    let shown = async |id: &str| typed(&["events", "show", id, "--format", "json"]).await.success().json();
    for (beginning, id) in
        [("a1b2", ids[2]), ("53408e9f-6", ids[0]), ("53408e9f-9999…", ids[1]), ("17", ids[3]), ("2", ids[1])]
    {
        assert_eq!(text(&shown(beginning).await[0], "id"), id, "{beginning}");
    }
    let several = typed(&["events", "show", "5340"]).await.code(2);
    assert!(ids[..2].iter().all(|id| several.stderr.contains(id)) && !several.stderr.contains(ids[2]), "{several:?}");
    let none = typed(&["events", "show", "a1b"]).await.code(1);
    assert!(none.stderr.contains("the column SEQ"), "{none:?}");
    let found = typed(&["events", "list", "--id", "a1b2", "--format", "json"]).await.success();
    assert_eq!(text(&found.json()[0], "id"), ids[2]);
    assert!(found.stderr.contains(&format!("id 'a1b2' is {}", ids[2])), "{found:?}");
    let replay = ["replay", "--sink", "out", "--reason", "a test", "--dry-run", "--id"];
    let plan = typed(&[&replay[..], &["53408e9f-9"]].concat()).await.success();
    assert!(plan.stdout.contains(&format!("id {}", ids[1])), "{plan:?}");
    typed(&[&replay[..], &["5340"]].concat()).await.code(2);
    // The beginning of a key is for people who see what was found.
    let list = typed(&["events", "list", "--key", "order-a1b2"]).await.success();
    assert!(
        list.stdout.contains(ids[2]) && list.stderr.contains("key 'order-a1b2' is order-a1b2c3d4-0000"),
        "{list:?}"
    );
    let exact = typed(&["events", "list", "--key", "order-a1b2", "--format", "json"]).await.success();
    assert_eq!(exact.stdout, "");
    let replay = ["replay", "--sink", "out", "--reason", "a test", "--dry-run", "--key", "order-a1b2"];
    typed(&replay).await.code(1);
}

#[tokio::test]
async fn ids_and_keys_may_begin_with_a_dash() {
    let relay = relay_with(&[event("-x9", "-Kd8", "payin_completed"), event("--id", "order-2", "payin_failed")]).await;
    let found = async |args: &[&str]| -> Vec<String> {
        relay.events_where(args).await.iter().map(|event| text(event, "id").to_owned()).collect()
    };
    assert_eq!(found(&["--key", "-Kd8"]).await, ["-x9"]);
    assert_eq!(found(&["--id", "-x9", "--oldest-first"]).await, ["-x9"]);
    assert_eq!(found(&["--id", "--id"]).await, ["--id"]);
    assert_eq!(found(&["--search", "-Kd8"]).await, ["-x9"]);
    let shown = relay.cli(&["events", "show", "-x9", "--format", "json"]).await.success();
    assert_eq!(text(&shown.json()[0], "key"), "-Kd8");
    let raw = relay.cli(&["events", "show", "--raw", "-x9"]).await.success().stdout;
    assert!(raw.starts_with('{') && raw.contains("-Kd8"), "{raw}");
    let plan = ["replay", "--sink", "out", "--key", "-Kd8", "--reason", "a test", "--dry-run"];
    assert!(relay.cli(&plan).await.success().stdout.contains("key -Kd8"));
    for none in [["parked", "list", "--id", "-x9"], ["deadletters", "list", "--event", "-x9"]] {
        assert!(relay.cli(&none).await.success().stderr.contains("matches"), "{none:?}");
    }
    // What is no value is still told.
    relay.cli(&["events", "list", "--frobnicate"]).await.code(2);
    relay.shutdown().await;
}

/// Lists tell what one needs to copy, whole where there is no terminal.
#[tokio::test]
async fn lists_and_events_show_what_is_asked_of_them() {
    let (id, key) = ("0b6a2f0e-6a5c-4a8e-9c2e-3f1f2d9b7a10", "9f1d6f7e-52a3-47bb-a6c1-25d7a1c7a001");
    let relay = relay_with(&[event(id, key, "payin_completed")]).await;
    let list = relay.cli(&["events", "list"]).await.success().stdout;
    assert!(list.contains(id) && list.contains(key), "{list}");
    assert_eq!(text(&relay.events().await[0], "state"), "COMPLETED");
    let shown = relay.cli(&["events", "show", "1"]).await.success().stdout;
    let count = |text: &str| shown.matches(text).count();
    assert_eq!((count("orderId"), count("Reads as")), (1, 0), "{shown}");
    assert!(shown.find("Attempts").unwrap() < shown.find("Body").unwrap(), "{shown}");
    relay.shutdown().await;
}

/// Without a daemon nothing runs, whatever the inbox says.
#[tokio::test]
async fn a_replay_waits_for_a_daemon_where_none_runs() {
    let relay = relay_with(&[event("evt-1", "order-1", "payin_completed")]).await;
    relay.cli(&["sinks", "pause", "out"]).await.success();
    let begun = ["replay", "--sink", "out", "--reason", "a test", "--yes", "--detach"];
    relay.cli(&begun).await.success();
    let settings: Builder = relay.shutdown().await;
    let list = typed_without_daemon(&settings, &["replay", "list"]).await.success();
    assert!(list.stdout.contains("waiting for a daemon"), "{list:?}");
    let json: Value = typed_without_daemon(&settings, &["replay", "list", "--format", "json"]).await.json().remove(0);
    let id = json["id"].to_string();
    assert!(["queued", "running"].contains(&text(&json, "state")), "{json}");
    let cancelled = typed_without_daemon(&settings, &["replay", "cancel", &id]).await.success();
    assert_eq!(cancelled.stdout, format!("replay {id} is cancelled\n"));
    typed_without_daemon(&settings, &["sinks", "resume", "out"]).await.success();
}

/// What is wrong with an address is told once, and at once where no other attempt can be better.
#[tokio::test]
async fn simulate_says_what_is_wrong_with_the_address() {
    let relay = TestRelay::builder().expect_errors().start().await;
    let secret = relay.settings().directory().join("secret-test-0");
    let simulate = async |url: &str| {
        let args = ["simulate", "payin.completed", "--attempts", "2", "--count", "2", "--insecure", "--url", url];
        run_in(Path::new("."), &[&args[..], &["--secret-file", secret.to_str().unwrap()]].concat(), b"").await
    };
    let elsewhere = simulate(&relay.url("/elsewhere")).await.code(1).stderr;
    let again = "503 Service Unavailable: no webhook is configured at this path; trying again";
    assert_eq!(elsewhere.matches(again).count(), 1, "{elsewhere}");
    let plain = simulate(&relay.url(signed::PATH).replace("https://", "http://")).await.code(1).stderr;
    assert!(plain.contains("write https://") && !plain.contains("trying again"), "{plain}");
    relay.shutdown().await;
}
