//! What is kept for whoever looks into it later: bodies that are what came in, who decided what, and where events went.

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::api::{done, get, list, post};
use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, SECRET, TestRelay, eventually, signed, text};
use crate::operate::{state, typed_without_daemon};
use crate::reload::says;

/// Writes another body into the file, as somebody with rights to it might.
fn alter(relay: &TestRelay, seq: i64) {
    let raw = Connection::open(relay.settings().inbox()).unwrap();
    raw.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    raw.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    let altered = raw
        .execute("UPDATE bodies SET body = CAST(replace(CAST(body AS TEXT), '1', '9') AS BLOB) WHERE seq = ?1", [seq])
        .unwrap();
    assert_eq!(altered, 1);
}

/// It goes to nobody, neither live nor in a replay nor when it is tried again; everybody who looks is told.
#[tokio::test]
async fn an_altered_body_is_not_delivered_and_everybody_is_told() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).expect_errors().start().await;
    relay.cli(&["sinks", "pause", "app"]).await.success();
    for n in 1..=3 {
        // One order: the later events of its key go on.
        assert_eq!(relay.post(&signed::payin_of(&format!("evt-{n}"), "payin_completed", "order-1")).await, Ack::FRESH);
    }
    alter(&relay, 2);
    relay.cli(&["sinks", "resume", "app"]).await.success();
    relay.reaches(1, "dead_letters", &[("sink", "app")]).await;
    relay.settled().await;
    assert_eq!(app.accepted().len(), 2, "evt-1 and evt-3");
    let letter = get(&relay, "/api/dead-letters").await["dead_letters"][0].clone();
    assert_eq!((&letter["event_id"], &letter["attempts"]), (&json!("evt-2"), &json!(0)));
    assert!(text(&letter, "last_error").contains("is not what came in"), "{letter}");
    assert!(relay.metric("body_digest_mismatch_total", &[]).await > 0);
    says(&relay, 1, "the body of an event is not what came in").await;

    // Tried again, and replayed: it is looked at each time.
    let id = letter["id"].to_string();
    relay.cli(&["deadletters", "retry", &id]).await.success();
    relay.reaches(1, "dead_letters", &[("sink", "app")]).await;
    relay.cli(&["replay", "--sink", "app", "--reason", "a test", "--yes"]).await.code(1);
    assert_eq!(app.accepted().len(), 4, "the two good ones again");

    let shown = relay.cli(&["events", "show", "2", "--format", "json"]).await.code(1);
    assert!(shown.stderr.contains("is not what came in"), "{shown:?}");
    let shown = &shown.json()[0];
    assert_eq!((&shown["body_matches"], &shown["digest_mismatch"]), (&json!(false), &json!(true)));
    assert!(shown["mismatch_found_at"].is_string(), "{shown}");
    relay.cli(&["events", "show", "2", "--raw"]).await.code(1);
    relay.cli(&["events", "show", "1", "--raw"]).await.success();
    let table = relay.cli(&["events", "list"]).await.success().stdout;
    assert_eq!(table.matches("DIGEST MISMATCH").count(), 1, "{table}");
    assert_eq!(get(&relay, "/api/overview").await["altered_events"], 1);
    let body = relay.client().get(relay.admin_url("/api/events/2/body")).bearer_auth(crate::harness::TOKEN);
    assert_eq!(body.send().await.unwrap().status(), 409);

    let probe = relay.cli(&["check", "--probe"]).await.code(1);
    assert!(probe.stdout.contains("the stored body of one event is not what came in"), "{probe:?}");
    let copy = relay.settings().directory().join("copy.db");
    let backup = relay.cli(&["backup", copy.to_str().unwrap()]).await.code(1);
    assert!(backup.stderr.contains("of event 2 the SHA-256 differs") && copy.exists(), "{backup:?}");
    relay.shutdown().await;
}

/// Found by the API first: it is marked as well.
#[tokio::test]
async fn whoever_reads_an_altered_body_marks_it() {
    let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
    for n in 1..=2 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    alter(&relay, 1);
    assert_eq!(get(&relay, "/api/overview").await["altered_events"], 0, "nobody has read it");
    assert_eq!(get(&relay, "/api/events/1").await["events"][0]["body_matches"], false);
    assert_eq!(get(&relay, "/api/overview").await["altered_events"], 1);
    let settings = relay.shutdown().await;
    // And by the command line, with no daemon.
    let raw = Connection::open(settings.inbox()).unwrap();
    raw.execute("UPDATE bodies SET body = CAST(replace(CAST(body AS TEXT), '2', '9') AS BLOB) WHERE seq = 2", [])
        .unwrap();
    drop(raw);
    typed_without_daemon(&settings, &["events", "show", "2"]).await.code(1);
    let marked = typed_without_daemon(&settings, &["events", "list", "--format", "json"]).await.success().json();
    assert!(marked.iter().all(|event| event["digest_mismatch"] == true), "{marked:?}");
}

async fn with_dead_letters(count: u32) -> (TestRelay, FakeHttp) {
    let app = FakeHttp::answering([422]).await;
    let relay = TestRelay::with_sink("app", &app).expect_errors().start().await;
    for n in 1..=count {
        let payin = signed::payin_of(&format!("evt-{n}"), "payin_completed", &format!("order-{n}"));
        assert_eq!(relay.post(&payin).await, Ack::FRESH);
    }
    relay.reaches(count.into(), "dead_letters", &[("sink", "app")]).await;
    (relay, app)
}

/// The number of the dead letter of an event.
async fn letter_of(relay: &TestRelay, event: &str) -> String {
    let letters = relay.cli(&["deadletters", "list", "--event", event, "--format", "json"]).await.success().json();
    letters[0]["id"].to_string()
}

#[tokio::test]
async fn what_was_decided_about_dead_letters_is_found_by_number_state_and_record() {
    let (relay, app) = with_dead_letters(3).await;
    let (first, second) = (letter_of(&relay, "evt-1").await, letter_of(&relay, "evt-2").await);
    relay.cli(&["deadletters", "discard", &first, "--reason", "booked by hand"]).await.success();
    app.answer([200]);
    done(&relay, "/api/dead-letters/retry", &json!({"all": true, "event_id": "evt-2", "who": "bob"})).await;
    relay.settled().await;

    let again = relay.cli(&["deadletters", "retry", &first]).await.code(1);
    assert!(again.stderr.contains(&format!("dead letter {first} was discarded at ")), "{again:?}");

    let listed = async |state: &str| {
        let args = ["deadletters", "list", "--state", state, "--format", "json"];
        let letters = relay.cli(&args).await.success().json();
        let page = get(&relay, &format!("/api/dead-letters?state={state}")).await;
        let mut on_page = page["dead_letters"].as_array().unwrap().clone();
        // Amounts are read for people who look at the page.
        on_page.iter_mut().for_each(|letter| _ = letter.as_object_mut().unwrap().remove("amount"));
        assert_eq!(on_page, letters, "both say the same");
        letters
    };
    let of = |letters: &[Value]| letters.iter().map(|letter| text(letter, "event_id").to_owned()).collect::<Vec<_>>();
    assert_eq!(of(&listed("open").await), ["evt-3"]);
    assert_eq!(of(&listed("discarded").await), ["evt-1"]);
    assert_eq!(of(&listed("retried").await), ["evt-2"]);
    assert_eq!(listed("all").await.len(), 3);
    let retried = listed("retried").await.remove(0);
    assert_eq!(
        (text(&retried, "decided_by"), &retried["decided_reason"]),
        ("bob (admin API, 127.0.0.1)", &json!(null))
    );
    let shown = relay.cli(&["deadletters", "show", &first]).await.success().stdout;
    assert!(
        shown.contains("discarded at ") && shown.contains(": booked by hand (see `ralio-relay record show"),
        "{shown}"
    );
    let shown = relay.cli(&["deadletters", "show", &second, "--format", "json"]).await.success().json().remove(0);
    assert_eq!((&shown["state"], &shown["now"]["state"]), (&json!("retried"), &json!("delivered")));

    // The entry names the event, and the letter by the number that it had.
    let entry = get(&relay, &format!("/api/record/{}", retried["record"])).await;
    assert_eq!((text(&entry, "kind"), text(&entry, "about")), ("retry", "dead letters: event id 'evt-2'"));
    let item = json!({"number": second.parse::<i64>().unwrap(), "seq": 2, "event_id": "evt-2", "type": "payin.completed",
        "sink": "app", "body_sha256": null});
    assert_eq!((&entry["items"], &entry["items_total"]), (&json!([item]), &json!(1)));
    let said = relay.cli(&["record", "show", &retried["record"].to_string(), "--format", "json"]).await.success();
    assert_eq!(said.json(), [entry]);
    assert_eq!(state(&relay, "evt-2", "app").await["state"], "delivered");
    relay.shutdown().await;
}

/// Everything that changes something is an entry, whoever asked for it and however.
#[tokio::test]
async fn the_record_holds_what_was_done_by_whom_and_why() {
    let (relay, _app) = with_dead_letters(1).await;
    relay.cli(&["sinks", "pause", "app", "--reason", "the move"]).await.success();
    relay.cli(&["sinks", "resume", "app", "--reason", "moved"]).await.success();
    done(&relay, "/api/sinks/app/try", &json!({"who": "bob"})).await;
    let letter = letter_of(&relay, "evt-1").await;
    relay.cli(&["deadletters", "discard", &letter, "--reason", "booked"]).await.success();
    assert_eq!(relay.post(&signed::payin_completed("forged").signed_with("no")).await, Ack::refused(401));
    relay.cli(&["quarantine", "purge", "--all", "--yes"]).await.code(2);
    relay.cli(&["quarantine", "purge", "--all", "--yes", "--reason", "forged"]).await.success();

    let entries = relay.cli(&["record", "list", "--format", "json"]).await.success().json();
    let kinds: Vec<_> = entries.iter().map(|entry| (text(entry, "kind"), text(entry, "reason"))).collect();
    let expected =
        [("purge", "forged"), ("discard", "booked"), ("try", ""), ("resume", "moved"), ("pause", "the move")];
    assert_eq!(kinds, expected);
    assert_eq!(get(&relay, "/api/record").await["record"].as_array().unwrap(), &entries, "both say the same");
    let count = async |filters: &[&str]| {
        let args = [&["record", "list", "--format", "json"], filters].concat();
        relay.cli(&args).await.success().json().len()
    };
    assert_eq!(count(&["--by", "BOB"]).await, 1);
    assert_eq!(count(&["--kind", "purge", "--kind", "try"]).await, 2);
    assert_eq!((count(&["--since", "1h"]).await, count(&["--until", "1h"]).await), (5, 0));
    relay.cli(&["record", "list", "--kind", "purges"]).await.code(2);
    let page = get(&relay, "/api/record?by=bob&kind=try").await;
    assert_eq!(list(&page, "record", "kind"), ["try"]);
    assert_eq!(crate::api::refused(&relay, "/api/record?kind=purges").await.0, 400);
    let purged = get(&relay, &format!("/api/record/{}", entries[0]["id"])).await;
    let digest = signed::payin_completed("forged").sha256();
    assert_eq!((&purged["items"][0]["body_sha256"], &purged["items_total"]), (&json!(digest), &json!(1)));
    relay.cli(&["record", "show", "77"]).await.code(1);
    for (path, body) in [
        ("/api/sinks/app/pause", json!({"reason": "why"})),
        ("/api/sinks/app/pause", json!({"who": " "})),
        ("/api/dead-letters/discard", json!({"all": true, "reason": "why"})),
        ("/api/parked/retry", json!({"all": true})),
        ("/api/quarantine/admit", json!({"all": true})),
    ] {
        let (status, answer) = post(&relay, path, &body).await;
        assert_eq!((status, text(&answer, "error")), (400, "name_missing"), "{path} {body}");
    }
    let (status, answer) = post(&relay, "/api/quarantine/purge", &json!({"all": true, "who": "bob"})).await;
    assert_eq!((status, text(&answer, "error")), (400, "reason_missing"));
    let by = post(&relay, "/api/sinks/app/pause", &json!({"by": "carol"})).await;
    assert_eq!((by.0, text(&by.1, "who")), (202, "carol (admin API, 127.0.0.1)"));
    relay.shutdown().await;
}

/// Behind a proxy it is the sender's address; an event that was admitted later says so, with both times.
#[tokio::test]
async fn an_event_says_who_sent_it_with_which_secret_and_how_it_came_in() {
    const STALE: &str = "a secret that is stale by now";
    let builder = TestRelay::with_file_sink("out").server("trusted_proxies = [\"127.0.0.0/8\"]");
    let relay = builder.source("test", signed::PATH, &[STALE], "").start().await;
    let mut refused = signed::payin_completed("evt-1");
    refused.headers.push(("x-forwarded-for".to_owned(), "203.0.113.9".to_owned()));
    assert_eq!(relay.post(&refused).await, Ack::refused(401));
    crate::reload::replace(&relay.settings().directory().join("secret-test-0"), SECRET);
    eventually("the event that was admitted", async || match relay.events().await.len() {
        1 => Ok(()),
        count => Err(count),
    })
    .await;
    let mut genuine = signed::payin_completed("evt-2");
    genuine.headers.push(("x-forwarded-for".to_owned(), "10.9.9.9, 198.51.100.7".to_owned()));
    assert_eq!(relay.post(&genuine).await, Ack::FRESH);
    relay.settled().await;

    let (admitted, direct) = (relay.event("evt-1").await, relay.event("evt-2").await);
    assert_eq!((text(&admitted, "peer"), text(&direct, "peer")), ("203.0.113.9", "198.51.100.7"));
    assert_eq!((&admitted["admitted"], &direct["admitted"]), (&json!(true), &json!(false)));
    assert_eq!(direct["admission"], json!(null));
    let admission = &admitted["admission"];
    assert_eq!((text(admission, "who"), text(admission, "refused")), ("ralio-relay", "mismatch"));
    assert!(text(admission, "at") > text(&admitted, "received_at"), "{admitted}");
    let entry = get(&relay, &format!("/api/record/{}", admission["record"])).await;
    assert_eq!((text(&entry, "kind"), &entry["items"][0]["event_id"]), ("admit", &json!("evt-1")));
    let table = relay.cli(&["events", "show", "evt-1"]).await.success().stdout;
    assert!(table.contains("request 1 was refused when it came in (mismatch)"), "{table}");

    // One name for the secret, wherever it is named.
    let secret = text(&direct, "secret").to_owned();
    assert_eq!((secret.len(), text(&admitted, "secret")), (16, &*secret));
    let sources = get(&relay, "/api/sources").await;
    let source = &sources["sources"][0];
    assert_eq!((text(&source["secrets"][0], "fingerprint"), &source["secrets"][0]["events"]), (&*secret, &json!(2)));
    let signed_with = &source["signed_with"][0];
    assert_eq!((text(signed_with, "fingerprint"), &signed_with["in_use"]), (&*secret, &json!(true)));
    assert_eq!((&signed_with["first_seq"], &signed_with["last_seq"]), (&json!(1), &json!(2)));
    for args in [&["check"][..], &["config", "show"], &["config", "show", "--format", "json"]] {
        let output = relay.cli(args).await.success().stdout;
        assert!(output.contains(&secret), "{args:?}: {output}");
        assert!(!output.contains(SECRET), "{args:?}: {output}");
    }
    relay.shutdown().await;
}

/// A sink that is given another destination: each delivery says where it went.
#[tokio::test]
async fn a_delivery_says_where_it_went_also_after_the_destination_has_changed() {
    let (one, other) = (FakeHttp::answering([200]).await, FakeHttp::answering([200]).await);
    let relay = TestRelay::with_sink("app", &one).start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.settled().await;
    let config = std::fs::read_to_string(relay.settings().config_file()).unwrap();
    let target = |app: &FakeHttp| app.url().split('/').take(3).collect::<Vec<_>>().join("/");
    let (before, after) = (target(&one), target(&other));
    assert!(config.contains(&before), "{config}");
    std::fs::write(relay.settings().config_file(), config.replace(&before, &after)).unwrap();
    relay.sighup();
    says(&relay, 1, crate::reload::READ).await;
    assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!((one.accepted().len(), other.accepted().len()), (1, 1));
    for (event, revision, target) in [("evt-1", 1, &before), ("evt-2", 2, &after)] {
        let attempt = relay.event(event).await["attempts"][0].clone();
        assert_eq!((&attempt["revision"], text(&attempt, "target")), (&json!(revision), &**target), "{attempt}");
    }
    let shown = relay.cli(&["sinks", "show", "app", "--format", "json"]).await.success().json().remove(0);
    let known: Vec<_> =
        list(&shown, "revisions", "because").into_iter().map(|because| because.as_str().unwrap()).collect();
    assert_eq!(known, ["reload", "start"]);
    relay.shutdown().await;
}
