//! Parked events, and a try of a sink, through the admin API.

use serde_json::json;

use crate::api::{done, get, list, post, refused};
use crate::harness::fake_http::FakeHttp;
use crate::harness::{Ack, TestRelay, signed};
use crate::operate::state;

const LATER: &str = "retry = { initial = \"1h\", max = \"1h\", jitter = false, probe_max = \"1h\" }";

#[tokio::test]
async fn parked_events_are_listed_page_by_page_retried_and_discarded_for_a_reason() {
    let app = FakeHttp::answering([503]).await;
    let builder = TestRelay::builder().http_sink("app", &app, LATER).http_sink("other", &app, LATER);
    let relay = builder.expect_parked().start().await;
    for n in 1..=3 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    for sink in ["app", "other"] {
        relay.reaches(3, "sink_parked", &[("sink", sink)]).await;
    }
    // What the command line says, member for member, over two sinks.
    let line = relay.cli(&["parked", "list", "--format", "json"]).await.success().json();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&relay, &format!("/api/parked?limit=2{cursor}")).await;
        seen.extend(page["parked"].as_array().unwrap().clone());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, line);
    for (query, expected) in [
        ("sink=app", 3),
        ("sink=app&event_id=evt-2", 1),
        ("type=payin.*", 6),
        ("type=kyc.*", 0),
        ("last_error=503", 6),
        ("last_error=422", 0),
    ] {
        let page = get(&relay, &format!("/api/parked?{query}")).await;
        assert_eq!(list(&page, "parked", "seq").len(), expected, "{query}");
    }
    for bad in ["limit=0", "colour=red", "sink=nobody", "sink=not%20a%20name", "type=payn.*"] {
        assert_eq!(refused(&relay, &format!("/api/parked?{bad}")).await, (400, "invalid_query".to_owned()), "{bad}");
    }
    for bad in ["cursor=x", "cursor=1", "cursor=1.x", "cursor=0.1", "cursor=1.1.1"] {
        assert_eq!(refused(&relay, &format!("/api/parked?{bad}")).await, (400, "invalid_cursor".to_owned()), "{bad}");
    }

    let unchosen = [
        json!({}),
        json!({"seqs": []}),
        json!({"seqs": [1], "all": true}),
        json!({"seqs": [1], "type": ["payin.*"]}),
        json!({"sink": "app"}),
    ];
    for body in &unchosen {
        let (status, answer) = post(&relay, "/api/parked/retry", body).await;
        assert_eq!((status, &answer["error"]), (400, &json!("nothing_chosen")), "{body}");
    }
    let (status, answer) = post(&relay, "/api/parked/discard", &json!({"seqs": [1], "sink": "app"})).await;
    assert_eq!((status, &answer["error"]), (400, &json!("reason_missing")));

    // One event at one sink: it stays parked at the other.
    let discard = json!({"seqs": [1], "sink": "app", "who": "ann", "reason": "booked by hand"});
    let job = done(&relay, "/api/parked/discard", &discard).await;
    assert_eq!((&job["task"], &job["sink"], &job["state"]), (&json!("discard_parked"), &json!("app"), &json!("done")));
    assert_eq!(job["message"], "1 parked event is discarded: 1 (by number, sink 'app')");
    let (here, there) = (state(&relay, "evt-1", "app").await, state(&relay, "evt-1", "other").await);
    assert_eq!((&here["state"], &here["reason"]), (&json!("discarded"), &json!("booked by hand")));
    assert_eq!(there["state"], "parked");
    let job = done(&relay, "/api/parked/retry", &json!({"all": true, "event_id": "evt-2"})).await;
    assert_eq!((&job["done"], &job["sink"]), (&json!(2), &json!(null)));
    relay.shutdown().await;
}

#[tokio::test]
async fn a_sink_is_tried_now() {
    let app = FakeHttp::answering([503, 200]).await;
    let relay = TestRelay::builder().http_sink("app", &app, LATER).expect_parked().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.reaches(1, "sink_parked", &[("sink", "app")]).await;
    let job = done(&relay, "/api/sinks/app/try", &json!({"who": "ann"})).await;
    assert_eq!((&job["task"], &job["message"]), (&json!("try"), &json!("sink 'app' is tried now")));
    relay.settled().await;
    assert_eq!(app.accepted().len(), 1);
    assert_eq!(post(&relay, "/api/sinks/nobody/try", &json!({})).await.0, 404);
    relay.shutdown().await;
}
