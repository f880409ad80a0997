//! The admin API, each part used for what it is there for. The tail is in `api_tail`.

use serde_json::{Value, json};

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, SECRET, TOKEN, TestRelay, eventually, keys, signed, text, write_secret};

/// The status and the answer, with its form checked.
async fn ask(relay: &TestRelay, request: reqwest::RequestBuilder) -> (u16, Value) {
    let answer = request.bearer_auth(TOKEN).send().await.unwrap();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(header("x-content-type-options").as_deref(), Some("nosniff"));
    assert_eq!(header("referrer-policy").as_deref(), Some("no-referrer"));
    assert!(header("content-security-policy").is_some());
    let status = answer.status().as_u16();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    if status >= 400 {
        assert_eq!(keys(&answer), ["error", "message"], "{answer}");
    }
    assert!(relay.readyz().await == 200);
    (status, answer)
}

pub async fn get(relay: &TestRelay, path: &str) -> Value {
    let (status, answer) = ask(relay, relay.client().get(relay.admin_url(path))).await;
    assert_eq!(status, 200, "{path}: {answer}");
    answer
}

pub async fn refused(relay: &TestRelay, path: &str) -> (u16, String) {
    let (status, answer) = ask(relay, relay.client().get(relay.admin_url(path))).await;
    (status, answer["error"].as_str().unwrap_or_default().to_owned())
}

pub async fn post(relay: &TestRelay, path: &str, body: &Value) -> (u16, Value) {
    let request = relay.client().post(relay.admin_url(path));
    ask(relay, request.header("content-type", "application/json").body(body.to_string())).await
}

/// Asks for something to be done, by `ann` where the body names nobody, and waits until it is.
pub async fn done(relay: &TestRelay, path: &str, body: &Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().entry("who").or_insert_with(|| "ann".into());
    let body = &body;
    let (status, job) = post(relay, path, body).await;
    assert_eq!(status, 202, "{path}: {job}");
    eventually("the job's end", async || match get(relay, &format!("/api/jobs/{}", job["id"])).await {
        job if job["ended_at"].is_string() => Ok(job),
        job => Err(job),
    })
    .await
}

pub fn list<'a>(page: &'a Value, of: &str, member: &str) -> Vec<&'a Value> {
    page[of].as_array().unwrap().iter().map(|entry| &entry[member]).collect()
}

#[tokio::test]
async fn the_overview_says_how_the_relay_is_doing() {
    let relay = TestRelay::with_file_sink("out").start().await;
    for n in 1..=3 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    assert_eq!(relay.post(&signed::payin_completed("forged").signed_with("no")).await, Ack::refused(401));
    relay.settled().await;
    let overview = eventually("the refused request", async || {
        let overview = get(&relay, "/api/overview").await;
        if overview["quarantine"]["entries"] == 1 { Ok(overview) } else { Err(overview) }
    })
    .await;
    assert_eq!((&overview["ready"], &overview["head"], &overview["last_hour"]), (&json!(true), &json!(3), &json!(3)));
    let per_minute = overview["per_minute"].as_array().unwrap();
    assert_eq!((per_minute.len(), per_minute.iter().filter_map(Value::as_u64).sum::<u64>()), (60, 3));
    assert!(
        overview["certificate"]["seconds_left"].as_i64().unwrap() > 0 && overview["inbox_bytes"].as_u64() > Some(0)
    );
    let sink = &overview["sinks"][0];
    assert_eq!((&sink["name"], &sink["lag"], &sink["lag_seconds"]), (&json!("out"), &json!(0), &json!(0)));
    let config = &sink["config"];
    assert_eq!((&config["events"], &config["filter"], &config["ordering"]), (&json!([]), &json!(null), &json!("key")));
    let target = relay.settings().sink_file("out");
    assert_eq!((config["target"].as_str(), &config["concurrency"]), (target.to_str(), &json!(32)));
    let shown = get(&relay, "/api/sinks/out").await;
    for (name, value) in sink.as_object().unwrap().iter().filter(|(name, _)| *name != "lag_seconds") {
        assert_eq!(shown[name], *value, "{name}");
    }
    assert_eq!(
        (&shown["words"], &shown["undelivered_by_type"]),
        (&json!("It has got every event that is meant for it."), &json!([]))
    );
    let source = &overview["sources"][0];
    assert_eq!(
        (&source["name"], &source["path"], &source["events"]),
        (&json!("test"), &json!(signed::PATH), &json!(3))
    );
    assert_eq!((&source["secrets"][0]["events"], &source["secrets"][0]["last_used_seq"]), (&json!(3), &json!(3)));
    assert_eq!(get(&relay, "/api/sources").await["sources"][0], *source);
    relay.shutdown().await;
}

/// What the command line says and what the API says are the same, member for member.
#[tokio::test]
async fn one_event_is_shown_as_the_command_line_shows_it_and_its_body_is_given_back() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let delivery = signed::payin_completed("a/b ?");
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    relay.settled().await;
    for id in ["a%2Fb%20%3F", "1"] {
        let shown = get(&relay, &format!("/api/events/{id}")).await;
        assert_eq!(shown, json!({"events": [relay.event("1").await]}), "{id}");
    }
    let body = relay.client().get(relay.admin_url("/api/events/1/body")).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(body.headers()["content-disposition"], "attachment; filename=\"event-1\"");
    assert_eq!(body.headers()["content-type"], "application/octet-stream");
    assert_eq!(body.bytes().await.unwrap(), delivery.body);
    for absent in
        ["/api/events/2", "/api/events/2/body", "/api/events/x/body", "/api/jobs/1", "/api/jobs/-1", "/api/no"]
    {
        assert_eq!(refused(&relay, absent).await, (404, "not_found".to_owned()), "{absent}");
    }
    relay.shutdown().await;
}

/// Events that come in between two pages: none is lost, none comes twice, whichever way the list goes.
#[tokio::test]
async fn pages_neither_lose_nor_repeat_while_events_come_in() {
    let relay = TestRelay::with_file_sink("out").start().await;
    for n in 1..=20 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    let mut came = 20;
    // The newest when the list was begun, or what comes in meanwhile too.
    for (order, until, all) in
        [("newest", 24, (1..=20).rev().collect::<Vec<i64>>()), ("oldest", 30, (1..=30).collect())]
    {
        let (mut seqs, mut next, mut done) = (Vec::new(), String::new(), 0);
        loop {
            let page = get(&relay, &format!("/api/events?limit=7&order={order}{next}")).await;
            seqs.extend(list(&page, "events", "seq").into_iter().filter_map(Value::as_i64));
            let searched = page["searched"]["done"].as_u64().unwrap();
            assert!(searched >= done && searched <= page["searched"]["total"].as_u64().unwrap(), "{page}");
            done = searched;
            match page["next"].as_str() {
                Some(cursor) => next = format!("&cursor={cursor}"),
                None => break,
            }
            if came < until {
                for _ in 0..2 {
                    came += 1;
                    assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{came}"))).await, Ack::FRESH);
                }
            }
        }
        assert_eq!(seqs, all, "{order}");
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn events_are_found_by_every_filter_and_a_search_says_how_far_it_is() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let deliveries = [
        signed::payin_of("evt-1", "payin_completed", "order-1"),
        signed::payin_of("evt-2", "payin_failed", "order-2"),
        signed::transfer_completed("evt-3"),
        signed::kyc_session_verified("evt-4"),
    ];
    for delivery in &deliveries {
        assert_eq!(relay.post(delivery).await, Ack::FRESH);
    }
    for (query, expected) in [
        ("type=payin.*&type=kyc.*", &["evt-4", "evt-2", "evt-1"][..]),
        ("type=payin_failed", &["evt-2"]),
        ("category=payin&category=transfer&order=oldest", &["evt-1", "evt-2", "evt-3"]),
        ("key=order-2", &["evt-2"]),
        ("id=evt-3&source=test", &["evt-3"]),
        ("since=1h&search=order-1", &["evt-1"]),
        ("until=2020-01-01", &[]),
        ("state=failed", &["evt-2"]),
    ] {
        let page = get(&relay, &format!("/api/events?{query}")).await;
        assert_eq!(list(&page, "events", "id"), expected, "{query}");
        assert_eq!((&page["next"], &page["searched"]["done"]), (&json!(null), &page["searched"]["total"]), "{page}");
    }
    for wrong in [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=1&limit=2",
        "cursor=x",
        "cursor=o1-1",
        "cursor=n1-9223372036854775807",
        "since=never",
        "source=other",
        "type=payn.*",
        "type=payin.*&type=card.issued",
        "since=2026-01-02&until=2026-01-01",
        "category=no",
        "order=up",
        "what=1",
        "type=",
        "search=",
        "type=%00",
    ] {
        let (status, error) = refused(&relay, &format!("/api/events?{wrong}")).await;
        assert!(status == 400 && error.starts_with("invalid_"), "{wrong}: {status} {error}");
    }
    let many = "type=payin.*&".repeat(51);
    assert_eq!(refused(&relay, &format!("/api/events?{many}")).await.0, 400);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_paused_sink_stands_still_until_it_is_resumed_and_it_is_known_who_did_it() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).start().await;
    let job = done(&relay, "/api/sinks/app/pause", &json!({"who": "ann", "reason": "the move"})).await;
    assert_eq!((&job["task"], &job["sink"], &job["state"]), (&json!("pause"), &json!("app"), &json!("done")));
    assert_eq!((text(&job, "who"), text(&job, "reason")), ("ann (admin API, 127.0.0.1)", "the move"));
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    let sinks = get(&relay, "/api/sinks").await;
    assert_eq!((&sinks["sinks"][0]["state"], &sinks["sinks"][0]["lag"]), (&json!("paused"), &json!(1)));
    assert_eq!(app.count(), 0, "nothing goes to a paused sink");
    done(&relay, "/api/sinks/app/resume", &json!({})).await;
    relay.settled().await;
    assert_eq!(app.accepted().len(), 1);
    let jobs = get(&relay, "/api/jobs?limit=1").await;
    assert_eq!(
        (&jobs["jobs"][0]["task"], &jobs["jobs"][0]["who"]),
        (&json!("resume"), &json!("ann (admin API, 127.0.0.1)"))
    );
    let rest = get(&relay, &format!("/api/jobs?cursor={}", text(&jobs, "next"))).await;
    assert_eq!((list(&rest, "jobs", "task"), &rest["next"]), (vec![&json!("pause")], &json!(null)));
    assert_eq!(post(&relay, "/api/sinks/other/pause", &json!({})).await.0, 404);
    relay.shutdown().await;
}

#[tokio::test]
async fn dead_letters_are_shown_retried_and_discarded_for_a_reason() {
    let app = FakeHttp::answering([422]).await;
    let relay = TestRelay::with_sink("app", &app).expect_errors().start().await;
    for n in 1..=4 {
        let payin = signed::payin_of(&format!("evt-{n}"), "payin_completed", &format!("order-{n}"));
        assert_eq!(relay.post(&payin).await, Ack::FRESH);
    }
    relay.reaches(4, "dead_letters", &[("sink", "app")]).await;
    let page = get(&relay, "/api/dead-letters?limit=3&sink=app&type=payin.*&last_error=422").await;
    let rest = get(&relay, &format!("/api/dead-letters?cursor={}", text(&page, "next"))).await;
    assert_eq!((list(&page, "dead_letters", "id").len(), list(&rest, "dead_letters", "id").len()), (3, 1));
    let found = get(&relay, "/api/dead-letters?key=order-2").await;
    assert_eq!(list(&found, "dead_letters", "event_id"), ["evt-2"]);
    assert!(list(&get(&relay, "/api/dead-letters?type=kyc.*").await, "dead_letters", "id").is_empty());
    for unknown in ["sink=other", "sink=no%20name", "type=payn.*"] {
        let refused = refused(&relay, &format!("/api/dead-letters?{unknown}")).await;
        assert_eq!(refused, (400, "invalid_query".to_owned()), "{unknown}");
    }
    let id = &found["dead_letters"][0]["id"];
    let shown = get(&relay, &format!("/api/dead-letters/{id}")).await;
    assert_eq!((&shown["now"]["state"], &shown["attempts"][0]["n"]), (&json!("dead_letter"), &json!(1)));

    for (path, body, error) in [
        ("discard", json!({"ids": [id]}), "reason_missing"),
        ("discard", json!({"ids": [id], "reason": " "}), "invalid_body"),
        ("discard", json!({"reason": "all of them?"}), "nothing_chosen"),
        ("discard", json!({"all": true, "type": [], "reason": "of no type"}), "invalid_body"),
        ("retry", json!({}), "nothing_chosen"),
        ("retry", json!({"ids": []}), "nothing_chosen"),
        ("retry", json!({"ids": [id], "all": true}), "nothing_chosen"),
        ("retry", json!({"sink": "app"}), "nothing_chosen"),
        ("retry", json!({"all": true, "who": "a\nb"}), "invalid_body"),
        ("retry", json!({"all": true, "sinks": "app"}), "invalid_body"),
        ("retry", json!([null]), "invalid_body"),
        ("retry", json!({"all": true, "sink": "other"}), "invalid_body"),
    ] {
        let (status, answer) = post(&relay, &format!("/api/dead-letters/{path}"), &body).await;
        assert_eq!((status, text(&answer, "error")), (400, error), "{path} {body}");
    }
    let job = done(&relay, "/api/dead-letters/discard", &json!({"ids": [id], "reason": "booked by hand"})).await;
    assert_eq!(job["done"], 1);
    app.answer([200]);
    let job = done(&relay, "/api/dead-letters/retry", &json!({"all": true, "sink": "app", "type": "payin.*"})).await;
    assert_eq!(job["done"], 3);
    relay.settled().await;
    assert_eq!(app.accepted().len(), 3);
    assert!(list(&get(&relay, "/api/dead-letters").await, "dead_letters", "id").is_empty());
    relay.shutdown().await;
}

#[tokio::test]
async fn quarantined_requests_are_shown_admitted_and_purged() {
    let relay = TestRelay::with_file_sink("out").start().await;
    for n in 1..=2 {
        let forged = signed::payin_completed(&format!("forged-{n}")).signed_with("nobody's secret");
        assert_eq!(relay.post(&forged).await, Ack::refused(401));
    }
    let page = eventually("two requests in quarantine", async || {
        let page = get(&relay, "/api/quarantine?source=test").await;
        if list(&page, "quarantine", "id").len() == 2 { Ok(page) } else { Err(page) }
    })
    .await;
    let id = &page["quarantine"][0]["id"];
    let shown = get(&relay, &format!("/api/quarantine/{id}")).await;
    assert_eq!((text(&shown, "peer"), text(&shown, "body_encoding")), ("127.0.0.1", "utf8"));
    assert_eq!(shown["signatures"].as_array().unwrap().len(), 1);
    let job = done(&relay, "/api/quarantine/admit", &json!({"all": true})).await;
    assert_eq!((&job["done"], &job["failed"]), (&json!(0), &json!(2)), "they are forged");
    assert_eq!(post(&relay, "/api/quarantine/purge", &json!({})).await.1["error"], "nothing_chosen");
    done(&relay, "/api/quarantine/purge", &json!({"ids": [id], "reason": "forged"})).await;
    assert_eq!(list(&get(&relay, "/api/quarantine").await, "quarantine", "id").len(), 1);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_replay_is_planned_delivered_and_cancelled() {
    let app = FakeHttp::answering([200]).await;
    let relay = crate::operate_replay::with_events(&app, 4).await;
    let asked = json!({"sink": "app", "filter": {"types": ["payin.*"]}, "from_seq": 3});
    let (status, plan) = post(&relay, "/api/replays/plan", &asked).await;
    assert_eq!(
        (status, &plan["matched"], &plan["deliver"], &plan["complete"]),
        (200, &json!(3), &json!(3), &json!(true))
    );
    assert_eq!((&plan["first"], &plan["last"], &plan["ends_at"]), (&json!(3), &json!(8), &json!("the last event")));
    assert_eq!(plan["searched"], json!({"done": 6, "total": 6}));

    let mut begun = asked.clone();
    assert_eq!(post(&relay, "/api/replays", &begun).await.0, 400, "it needs a reason");
    begun["reason"] = "the ledger was restored".into();
    let (status, answer) = post(&relay, "/api/replays", &begun).await;
    assert_eq!((status, text(&answer, "error")), (400, "name_missing"));
    begun["who"] = "ann".into();
    let job = done(&relay, "/api/replays", &begun).await;
    assert_eq!((&job["done"], &job["state"]), (&json!(3), &json!("done")));
    assert_eq!(crate::operate_replay::replayed(&app).0, ["payin-2", "payin-3", "payin-4"]);
    let replay = get(&relay, &format!("/api/replays/{}", job["id"])).await;
    let selection = &replay["selection"];
    assert_eq!((&selection["first"], &selection["filter"]["types"]), (&json!(3), &json!(["payin.*"])));
    assert_eq!(get(&relay, "/api/replays").await["replays"], json!([replay]));

    begun["rate"] = json!(0.001);
    let (_, slow) = post(&relay, "/api/replays", &begun).await;
    assert_eq!(get(&relay, &format!("/api/replays/{}", slow["id"])).await["rate"], json!(0.001));
    let cancel = format!("/api/replays/{}/cancel", slow["id"]);
    done(&relay, &cancel, &json!({"reason": "too slow"})).await;
    let ended = eventually("the end of the replay", async || {
        let replay = get(&relay, &format!("/api/replays/{}", slow["id"])).await;
        if replay["ended_at"].is_string() { Ok(replay) } else { Err(replay) }
    });
    assert_eq!(ended.await["state"], "cancelled");
    assert_eq!(post(&relay, &cancel, &json!({})).await.1["error"], "already_ended");
    for (change, status) in [
        (json!({"sink": "other"}), 404),
        (json!({"rate": 0}), 400),
        (json!({"from_seq": 0}), 400),
        (json!({"from_seq": 900}), 409),
        (json!({"filter": []}), 400),
        (json!({"filter": {"type": ["payin.*"]}}), 400),
    ] {
        let mut wrong = begun.clone();
        change.as_object().unwrap().iter().for_each(|(name, value)| wrong[name] = value.clone());
        assert_eq!(post(&relay, "/api/replays", &wrong).await.0, status, "{change}");
    }
    relay.shutdown().await;
}

/// Without the token nothing is told, not even what there is; bodies are JSON, small, and in one form.
#[tokio::test]
async fn nobody_is_answered_without_the_token_and_nothing_but_json_is_taken() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let spec = get(&relay, "/api/openapi.json").await;
    assert!(text(&spec, "openapi").starts_with("3.1"), "{}", spec["openapi"]);
    let paths = spec["paths"].as_object().unwrap();
    let mut asked = 0;
    for (path, item) in paths {
        let url = relay.admin_url(&path.replace("{id}", "1").replace("{seq}", "1").replace("{name}", "out"));
        for method in keys(item).into_iter().filter(|key| ["get", "post"].contains(key)) {
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            for token in [None, Some("wrong"), Some("")] {
                let request = relay.client().request(method.clone(), &url);
                let request = token.map_or(request.try_clone().unwrap(), |token| request.bearer_auth(token));
                let answer = request.send().await.unwrap();
                assert_eq!(
                    (answer.status().as_u16(), answer.headers()["www-authenticate"].to_str().unwrap()),
                    (401, "Bearer")
                );
                let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
                assert_eq!((keys(&answer), &answer["error"]), (vec!["error", "message"], &json!("unauthorized")));
                asked += 1;
            }
        }
    }
    assert!(asked >= 75, "{asked}");
    for path in ["/api", "/api/", "/api/no/such"] {
        assert_eq!(relay.client().get(relay.admin_url(path)).send().await.unwrap().status(), 401, "{path}");
    }
    let pause = || relay.client().post(relay.admin_url("/api/sinks/out/pause"));
    for kind in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data"] {
        assert_eq!(ask(&relay, pause().header("content-type", kind).body("{}")).await.0, 415, "{kind}");
    }
    let json = || pause().header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(ask(&relay, json().body(format!("{{\"reason\":\"{}\"}}", "x".repeat(70_000)))).await.0, 413);
    for body in
        ["", "{", "[]", "[null,null]", "null", "{\"who\":1}", "{\"reason\":\"a\",\"reason\":\"b\"}", "\u{feff}{}"]
    {
        assert_eq!(ask(&relay, json().body(body)).await.0, 400, "{body}");
    }
    assert!(get(&relay, "/api/jobs").await["jobs"].as_array().unwrap().is_empty(), "nothing of it was done");
    let (status, answer) = ask(&relay, relay.client().delete(relay.admin_url("/api/replays"))).await;
    assert_eq!((status, text(&answer, "error")), (405, "method_not_allowed"));
    for (header, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let foreign = relay.client().get(relay.admin_url("/api/overview")).header(header, value);
        assert_eq!(ask(&relay, foreign).await.0, 403, "{header}");
    }
    relay.shutdown().await;
}

/// Whoever is told that it failed asks for the same again.
#[tokio::test]
async fn a_job_that_is_stored_is_told_of_even_where_it_cannot_be_read_back() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let inbox = rusqlite::Connection::open(relay.settings().inbox()).unwrap();
    let unreadable = "CREATE TRIGGER unreadable AFTER INSERT ON jobs
                      BEGIN UPDATE jobs SET task = '{}' WHERE id = new.id; END";
    inbox.execute_batch(unreadable).unwrap();
    let (status, job) = post(&relay, "/api/dead-letters/retry", &json!({"ids": [1], "who": "ann"})).await;
    assert_eq!((status, &job["id"], &job["state"]), (202, &json!(1), &json!("queued")), "{job}");
    assert_eq!(list(&get(&relay, "/api/jobs").await, "jobs", "id"), Vec::<&Value>::new());
    let stored: Vec<i64> = inbox
        .prepare("SELECT id FROM jobs")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(stored, [1]);
    relay.shutdown().await;
}

/// A relay that waits for another one's inbox tells of nothing yet, and takes nothing.
#[tokio::test]
async fn while_the_inbox_is_not_open_everybody_is_asked_to_come_again() {
    let first = TestRelay::with_file_sink("out").start().await;
    let waiting = first.settings().clone().launch().await;
    let (client, mut asked) = (waiting.client(), 0);
    let spec = client.get(waiting.admin_url("/api/openapi.json")).bearer_auth(TOKEN).send().await.unwrap();
    let spec: Value = serde_json::from_slice(&spec.bytes().await.unwrap()).unwrap();
    for (path, item) in spec["paths"].as_object().unwrap().iter().filter(|(path, _)| *path != "/api/openapi.json") {
        let url = waiting.admin_url(&path.replace("{id}", "1").replace("{seq}", "1").replace("{name}", "out"));
        let body = match path.as_str() {
            "/api/replays" => json!({"sink": "out", "reason": "why"}),
            "/api/replays/plan" => json!({"sink": "out"}),
            "/api/parked/retry" | "/api/parked/discard" => json!({"all": true, "reason": "why"}),
            path if path.starts_with("/api/dead-letters") || path.starts_with("/api/quarantine") => {
                json!({"all": true, "reason": "why"})
            }
            _ => json!({}),
        };
        for method in keys(item).into_iter().filter(|key| ["get", "post"].contains(key)) {
            let request = if method == "get" { client.get(&url) } else { client.post(&url).body(body.to_string()) };
            let request = request.bearer_auth(TOKEN).header("content-type", "application/json");
            let answer = request.send().await.unwrap();
            let again = answer.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
            let (status, answer) = (answer.status(), answer.text().await.unwrap());
            assert_eq!((status.as_u16(), again.as_deref()), (503, Some("1")), "{method} {path}: {answer}");
            assert!(answer.contains("\"starting\""), "{method} {path}: {answer}");
            asked += 1;
        }
    }
    assert!(asked >= 24, "{asked}");
    waiting.sigterm();
    first.shutdown().await;
}

/// Of two secrets one is replaced in its file: that one is in use since then, the other as long as before.
#[tokio::test]
async fn a_secret_that_was_replaced_is_in_use_since_then() {
    let relay = TestRelay::builder().source("test", signed::PATH, &[SECRET, "the next one"], "").start().await;
    let since = async || {
        let sources = get(&relay, "/api/sources").await;
        list(&sources["sources"][0], "secrets", "in_use_since")
            .into_iter()
            .map(|since| since.as_str().unwrap().parse::<jiff::Timestamp>().unwrap())
            .collect::<Vec<_>>()
    };
    let before = since().await;
    assert_eq!((before.len(), before[0]), (2, before[1]), "both since the start");
    let replaced = jiff::Timestamp::now();
    write_secret(&relay.settings().directory().join("secret-test-1"), "another one");
    let after = eventually("the new secret in use", async || match since().await {
        after if after != before => Ok(after),
        before => Err(before),
    })
    .await;
    assert_eq!((after.len(), after[0]), (2, before[0]));
    assert!(after[1] >= replaced && after[1] <= jiff::Timestamp::now(), "{after:?}, replaced at {replaced}");
    relay.shutdown().await;
}
