//! The acknowledgement table, row by row, as the provider would meet it.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use crate::harness::fake_http::FakeHttp;
use crate::harness::raw::{Raw, head};
use crate::harness::signed::{self, mac};
use crate::harness::{Ack, Delivery, SECRET, TestRelay, eventually, keys, text};

#[tokio::test]
async fn every_encoding_of_a_signature_is_accepted() {
    let relay = TestRelay::builder().start().await;
    for (n, encoding) in [HEXLOWER, HEXUPPER, BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD].iter().enumerate() {
        for prefix in ["", "sha256="] {
            let delivery = signed::payin_completed(&format!("evt-{n}{prefix}"));
            let signature = format!("{prefix}{}", encoding.encode(&mac(SECRET, &delivery.body)));
            assert_eq!(relay.post(&delivery.with_signature(&signature)).await, Ack::FRESH, "{signature}");
        }
    }
    assert_eq!(relay.events().await.len(), 12);
    relay.shutdown().await;
}

/// RFC 4231, test case 2: a witness for the tests' own signatures as well.
#[tokio::test]
async fn the_signature_is_hmac_sha256_of_the_raw_body() {
    let relay = TestRelay::builder().source("jefe", signed::PATH, &["Jefe"], "").start().await;
    let vector = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    let delivery = Delivery::of("what do ya want for nothing?").with_signature(vector);
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    relay.shutdown().await;
}

#[tokio::test]
async fn both_envelopes_and_both_spellings_become_one_canonical_type() {
    let relay = TestRelay::builder().start().await;
    let cases = [
        ("payin_completed", "payin.completed", "payin"),
        ("payin.completed", "payin.completed", "payin"),
        ("payout_processing", "payout.processing", "payout"),
        ("transfer.completed", "transfer.completed", "transfer"),
        ("kyc_state_updated", "kyc.state_updated", "kyc"),
        ("kyc.session_manual_review", "kyc.session_manual_review", "kyc"),
        ("kyb_state_updated", "kyb.state_updated", "kyc"),
        ("related_party_kyc_session_created", "related_party.kyc_session_created", "kyc"),
        ("account_activated", "account.activated", "account"),
        ("viban_deactivated", "viban.deactivated", "account"),
    ];
    for (n, (wire, _, _)) in cases.iter().enumerate() {
        let data = json!({"orderId": format!("order-{n}")});
        assert_eq!(relay.post(&Delivery::current(&format!("new-{n}"), wire, data.clone())).await, Ack::FRESH);
        assert_eq!(relay.post(&Delivery::legacy(&format!("old-{n}"), wire, data)).await, Ack::FRESH);
    }
    let events = relay.events().await;
    assert_eq!(events.len(), 2 * cases.len());
    for (pair, (wire, canonical, category)) in events.chunks(2).zip(cases) {
        for event in pair {
            assert_eq!((text(event, "type"), text(event, "category")), (canonical, category), "{wire}");
        }
        assert!(text(&pair[0], "time").starts_with("2026-02-26T22:02:28.766779"), "{wire}: {}", pair[0]);
        assert!(text(&pair[1], "time").starts_with("2025-06-19T16:04:13.123"), "{wire}: {}", pair[1]);
    }
    relay.shutdown().await;
}

#[tokio::test]
async fn an_unknown_type_is_an_ordinary_event() {
    let relay = TestRelay::with_file_sink("out").start().await;
    assert_eq!(relay.post(&Delivery::current("evt-1", "loyalty_points_granted", json!({}))).await, Ack::FRESH);
    assert_eq!(relay.post(&Delivery::legacy("evt-2", "payin_reversed", json!({}))).await, Ack::FRESH);
    relay.settled().await;
    let types = |lines: Vec<serde_json::Value>, category: &str| {
        let pair = |line: &serde_json::Value| (text(line, "type").to_owned(), text(line, category).to_owned());
        let mut pairs: Vec<_> = lines.iter().map(pair).collect();
        pairs.sort();
        pairs
    };
    let expected =
        [("loyalty.points_granted", "other"), ("payin.reversed", "payin")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(types(relay.events().await, "category"), expected);
    assert_eq!(types(relay.lines("out"), "raliocategory"), expected);
    relay.shutdown().await;
}

#[tokio::test]
async fn odd_content_types_and_old_timestamps_are_received() {
    let relay = TestRelay::builder().start().await;
    let old =
        json!({"eventId": "old", "eventType": "payin.completed", "timestamp": "1999-12-31T23:59:59Z", "data": {}});
    assert_eq!(relay.post(&Delivery::of(old.to_string())).await, Ack::FRESH);
    let mut bare = signed::payin_completed("bare");
    bare.headers.retain(|(name, _)| name == "x-signature");
    assert_eq!(relay.post(&bare).await, Ack::FRESH);
    let mut form = signed::payin_completed("form");
    form.headers[0].1 = "application/x-www-form-urlencoded".to_owned();
    assert_eq!(relay.post(&form).await, Ack::FRESH);
    let no_time = json!({"eventId": "no-time", "eventType": "payin.completed", "timestamp": "yesterday"});
    assert_eq!(relay.post(&Delivery::of(no_time.to_string())).await, Ack::FRESH);
    assert_eq!(relay.events().await.len(), 4);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_signed_body_that_is_no_event_is_kept_under_its_digest() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let not_json = Delivery::of(b"\xff\x00 not json".to_vec());
    let empty = Delivery::of("");
    let no_object = Delivery::of("[1, 2]");
    let no_id = Delivery::of(json!({"eventType": "payin_completed", "data": {"orderId": "o"}}).to_string());
    let null_id = Delivery::of(json!({"eventId": null, "eventType": "payin.failed"}).to_string());
    let all = [&not_json, &empty, &no_object, &no_id, &null_id];
    for delivery in all {
        assert!(delivery.stored_id().starts_with("sha256:"));
        assert_eq!(relay.post(delivery).await, Ack::FRESH, "{delivery:?}");
        assert_eq!(relay.post(delivery).await, Ack::DUPLICATE, "{delivery:?}");
    }
    let events = relay.events().await;
    let types: Vec<_> = events.iter().map(|event| text(event, "type")).collect();
    assert_eq!(types[..2], ["malformed", "malformed"]);
    assert_eq!(types[3..], ["payin.completed", "payin.failed"]);
    for (event, delivery) in events.iter().zip(all) {
        assert_eq!((text(event, "id"), text(event, "body_sha256")), (&*delivery.stored_id(), &*delivery.sha256()));
    }
    relay.settled().await;
    let lines = relay.lines("out");
    assert_eq!(lines.len(), 5, "malformed events are delivered like any other");
    let raw = lines.iter().find(|line| line["id"] == not_json.stored_id().as_str()).unwrap();
    assert_eq!(BASE64.decode(text(raw, "data_base64").as_bytes()).unwrap(), not_json.body);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_as_one_and_stored_once() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let delivery = signed::payin_completed("evt-1");
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
    let in_base64 = delivery.clone().with_signature(&BASE64.encode(&mac(SECRET, &delivery.body)));
    assert_eq!(relay.post(&in_base64).await, Ack::DUPLICATE, "the bytes count, not how they were signed");
    relay.settled().await;
    assert_eq!(relay.lines("out").len(), 1);
    // Arrivals are counted behind the acknowledgement.
    eventually("three arrivals", async || match relay.events().await.as_slice() {
        [event] if event["arrivals"] == 3 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(relay.metric("duplicates_total", &[("source", "test"), ("kind", "same")]).await, 2);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_conflict_is_stored_and_flagged_and_not_delivered() {
    let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
    let first = signed::payin_of("evt-1", "payin_completed", "order-1");
    let second = signed::payin_of("evt-1", "payin_completed", "order-2");
    assert_eq!(relay.post(&first).await, Ack::FRESH);
    assert_eq!(relay.post(&second).await, Ack::FRESH, "the sender can do nothing about it");
    assert_eq!(relay.post(&second).await, Ack::DUPLICATE, "each of the two is known now");
    assert_eq!(relay.post(&first).await, Ack::DUPLICATE);
    relay.settled().await;
    let events = relay.events().await;
    let flags: Vec<_> = events.iter().map(|e| (e["conflict"] == true, text(e, "body_sha256").to_owned())).collect();
    assert_eq!(flags, [(false, first.sha256()), (true, second.sha256())]);
    assert_eq!(relay.metric("duplicates_total", &[("kind", "conflict")]).await, 1);
    relay.reaches(1, "dead_letters", &[("sink", "out")]).await;
    let inbox = relay.settings().inbox();
    let reader = Connection::open_with_flags(inbox, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let dead = reader.query_row("SELECT seq, reason FROM dead_letters", [], |row| Ok((row.get(0)?, row.get(1)?)));
    let (seq, reason): (i64, String) = dead.unwrap();
    assert!(seq == 2 && reason.starts_with("conflict"), "a person decides: {seq} {reason}");
    drop(reader);
    let delivered: Vec<_> =
        relay.lines("out").iter().map(|line| text(&line["data"]["data"], "orderId").to_owned()).collect();
    assert_eq!(delivered, ["order-1"]);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_bad_signature_gets_401_and_is_kept_in_quarantine() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let delivery = signed::payin_completed("evt-1");
    let good = delivery.headers[1].1.clone();
    let refused = [
        (delivery.clone().unsigned(), "missing"),
        (delivery.clone().with_header("x-signature", &"0".repeat(64)), "repeated"),
        (delivery.clone().with_signature("not a signature"), "undecodable"),
        (delivery.clone().with_signature(&good[..62]), "undecodable"),
        (delivery.clone().signed_with("another secret"), "mismatch"),
    ];
    for (forged, reason) in &refused {
        assert_eq!(relay.post(forged).await, Ack::refused(401), "{reason}");
    }
    let list = eventually("the refused requests in quarantine", async || match relay.quarantine().await {
        list if list.len() == refused.len() => Ok(list),
        list => Err(list),
    })
    .await;
    for (entry, (forged, reason)) in list.iter().zip(&refused) {
        assert_eq!(keys(entry), ["answer", "body_sha256", "id", "reason", "received_at", "size", "source"]);
        assert_eq!((text(entry, "reason"), text(entry, "body_sha256")), (*reason, &*forged.sha256()));
        assert_eq!((text(entry, "source"), entry["size"].as_u64()), ("test", Some(forged.body.len() as u64)));
    }
    let id = list[0]["id"].to_string();
    let shown = relay.cli(&["quarantine", "show", &id, "--format", "json"]).await.success().json();
    assert_eq!(text(&shown[0], "body").as_bytes(), delivery.body, "a stale secret of ours loses nothing");
    relay.cli(&["quarantine", "show", "4711"]).await.code(1);
    assert_eq!(relay.events().await, [] as [serde_json::Value; 0]);
    assert!(relay.lines("out").is_empty());
    assert_eq!(relay.post(&delivery).await, Ack::FRESH, "a forgery does not occupy its id");
    relay.shutdown().await;
}

/// A proxy may copy a header, or join its values.
#[tokio::test]
async fn signatures_that_agree_are_one() {
    let relay = TestRelay::builder().start().await;
    let delivery = signed::payin_completed("evt-1");
    let good = delivery.headers[1].1.clone();
    assert_eq!(relay.post(&delivery.clone().with_header("x-signature", &good)).await, Ack::FRESH);
    assert_eq!(relay.post(&delivery.clone().with_signature(&format!("{good}, {good}"))).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&delivery.with_signature(&format!("{good}, 00"))).await, Ack::refused(401));
    relay.shutdown().await;
}

#[tokio::test]
async fn a_bad_signature_gets_503_where_the_source_asks_for_retries() {
    let retry = "on_bad_signature = \"retry\"";
    let relay = TestRelay::builder().source("careful", signed::PATH, &[SECRET], retry).start().await;
    let forged = signed::payin_completed("evt-1").signed_with("stale");
    assert_eq!(relay.post(&forged).await, Ack::refused(503));
    eventually("the request in quarantine", async || match relay.quarantine().await {
        list if list.len() == 1 => Ok(()),
        list => Err(list),
    })
    .await;
    relay.shutdown().await;
}

#[tokio::test]
async fn while_a_secret_rotates_both_are_good() {
    let relay = TestRelay::builder().source("test", signed::PATH, &["the-new", "the-old"], "").start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-1").signed_with("the-new")).await, Ack::FRESH);
    assert_eq!(relay.post(&signed::payin_completed("evt-2").signed_with("the-old")).await, Ack::FRESH);
    assert_eq!(relay.post(&signed::payin_completed("evt-1").signed_with("the-old")).await, Ack::DUPLICATE);
    assert_eq!(relay.post(&signed::payin_completed("evt-3").signed_with("the-next")).await, Ack::refused(401));
    assert_eq!(relay.metric("secret_used_total", &[("source", "test"), ("slot", "0")]).await, 1);
    assert_eq!(relay.metric("secret_used_total", &[("source", "test"), ("slot", "1")]).await, 2);
    relay.shutdown().await;
}

#[tokio::test]
async fn the_same_id_from_two_sources_is_two_events() {
    let relay = TestRelay::builder()
        .source("sandbox", "/hooks/sandbox", &["secret-of-sandbox"], "")
        .source("production", "/hooks/production", &["secret-of-production"], "signature_header = \"X-Other\"")
        .start()
        .await;
    let sandbox = signed::payin_completed("evt-1").to("/hooks/sandbox").signed_with("secret-of-sandbox");
    let mut production = signed::payin_completed("evt-1").to("/hooks/production").signed_with("secret-of-production");
    production.headers[1].0 = "X-OTHER".to_owned();
    assert_eq!(relay.post(&sandbox).await, Ack::FRESH);
    assert_eq!(relay.post(&production).await, Ack::FRESH);
    assert_eq!(relay.post(&sandbox.clone().to("/hooks/production")).await, Ack::refused(401), "secrets are not shared");
    let events = relay.events().await;
    let sources: Vec<_> = events.iter().map(|event| (text(event, "source"), event["conflict"] == true)).collect();
    assert_eq!(sources, [("sandbox", false), ("production", false)]);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_mistyped_url_loses_no_event() {
    let relay = TestRelay::builder().expect_errors().start().await;
    let delivery = signed::payin_completed("evt-1");
    assert_eq!(relay.post(&delivery.clone().to("/webhook/ralio")).await, Ack::refused(503), "sent again once mended");
    assert_eq!(relay.post(&delivery.clone().to("/")).await, Ack::refused(503));
    assert_eq!(relay.post(&delivery.clone().to("/webhook/ralio").unsigned()).await, Ack::refused(404));
    assert_eq!(
        relay.post(&delivery.clone().to("/webhooks/ralio/")).await,
        Ack::FRESH,
        "a trailing slash is no mistake"
    );
    assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);

    let get = relay.client().get(relay.url(signed::PATH)).send().await.unwrap();
    assert_eq!((get.status().as_u16(), get.headers()["allow"].to_str().unwrap()), (405, "POST"));
    let get = relay.client().get(relay.url("/metrics")).send().await.unwrap();
    assert_eq!(get.status(), 404, "nothing of the admin listener is public");
    assert!(relay.metric("requests_total", &[("source", "-")]).await >= 4);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_genuine_body_over_the_limit_is_not_lost() {
    let relay = TestRelay::builder().server("max_body = \"16KiB\"").expect_errors().start().await;
    let of_size = |size: usize| {
        let frame = Delivery::current("evt-1", "payin.completed", json!({"pad": ""})).body.len();
        Delivery::current("evt-1", "payin.completed", json!({"pad": "x".repeat(size - frame)}))
    };
    let over = of_size(16 * 1024 + 1);
    assert_eq!(over.body.len(), 16 * 1024 + 1);
    assert_eq!(relay.post(&over).await, Ack::refused(503), "sent again once the limit is raised");
    assert_eq!(
        relay.post(&over.clone().signed_with("forged")).await,
        Ack::refused(503),
        "it may be our secret that is wrong"
    );
    assert_eq!(relay.post(&over.unsigned()).await, Ack::refused(413));
    assert_eq!(relay.post(&of_size(200 * 1024)).await, Ack::refused(503));
    assert_eq!(relay.events().await.len(), 0);
    assert_eq!(relay.post(&of_size(16 * 1024)).await, Ack::FRESH);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_slow_request_is_closed_and_never_answered_4xx() {
    let relay = TestRelay::builder().server("read_timeout = \"400ms\"").start().await;
    let delivery = signed::payin_completed("evt-1");
    let length = format!("Content-Length: {}\r\n", delivery.body.len());
    let whole_head = head(&delivery, &length);
    let beginnings = [String::new(), whole_head[..40].to_owned(), whole_head.clone(), format!("{whole_head}{{\"")];
    for beginning in beginnings {
        let mut connection = Raw::connect(&relay).await;
        connection.write(&beginning).await;
        let answer = connection.read_to_close().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503"), "{beginning:?} got {answer:?}");
    }
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_chunked_body_is_received_like_any_other() {
    let relay = TestRelay::builder().start().await;
    let delivery = signed::payin_completed("evt-1");
    let mut connection = Raw::connect(&relay).await;
    connection.write(head(&delivery, "Transfer-Encoding: chunked\r\nConnection: close\r\n")).await;
    for chunk in delivery.body.chunks(7) {
        connection.write([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat()).await;
    }
    connection.write("0\r\n\r\n").await;
    let answer = connection.read_to_close().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(relay.post(&delivery).await, Ack::DUPLICATE);
    relay.shutdown().await;
}

#[tokio::test]
async fn the_body_is_kept_byte_for_byte() {
    let relay = TestRelay::builder().start().await;
    let body = "{ \"eventId\":\"evt-1\",\r\n \"eventType\":\"payin_completed\", \"eventId\":\"evt-1\",\
                \"data\":{\"rate\": 1.10, \"big\":12345678901234567890123, \"name\":\"Zo\\u00eb \u{e9}\"}}\n";
    let delivery = Delivery::of(body).with_header("x-request-id", "r-1");
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    let shown = relay.event("evt-1").await;
    assert_eq!(text(&shown, "body"), body);
    assert_eq!(text(&shown, "body_sha256"), delivery.sha256());
    assert_eq!(text(&shown, "signature"), delivery.headers[1].1, "as received");
    relay.shutdown().await;
}

/// Connections that do nothing leave files for the sinks, whatever the system allows.
#[tokio::test]
async fn connections_do_not_use_up_the_files_that_others_need() {
    let app = FakeHttp::answering([200]).await;
    let mut relay = TestRelay::with_sink("app", &app).wrapped(&["prlimit", "--nofile=160:160"]).start().await;
    let open_files = format!("/proc/{}/fd", relay.process().pid());
    let mut first = Raw::connect(&relay).await;
    let delivery = signed::payin_completed("evt-0");
    let length = format!("Content-Length: {}\r\n", delivery.body.len());
    first.write([head(&delivery, &length).as_bytes(), &delivery.body].concat()).await;
    assert!(first.read_until("\"duplicate\":false}").await.starts_with("HTTP/1.1 200 "));
    let address = relay.url("").trim_start_matches("https://").to_owned();
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    eventually("the connections are taken", async || {
        let open = std::fs::read_dir(&open_files).unwrap().count();
        if open > 100 { Ok(()) } else { Err(open) }
    })
    .await;
    let delivery = signed::payin_completed("evt-1");
    let length = format!("Content-Length: {}\r\n", delivery.body.len());
    first.write([head(&delivery, &length).as_bytes(), &delivery.body].concat()).await;
    assert!(first.read_until("\"duplicate\":false}").await.starts_with("HTTP/1.1 200 "));
    relay.settled().await;
    assert!(!relay.log().concat().contains("Too many open files"), "{:?}", relay.log());
    assert!(relay.log().concat().contains("LimitNOFILE"), "{:?}", relay.log());
    drop(idle);
    relay.shutdown().await;
}

/// The usual soft limit is too low for the default of `server.max_connections`.
#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    let mut relay = TestRelay::builder().wrapped(&["prlimit", "--nofile=1024:8192"]).start().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", relay.process().pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4608"), "{line}");
    assert!(!relay.log().concat().contains("LimitNOFILE"), "{:?}", relay.log());
    relay.shutdown().await;
}
