//! The acknowledgement table, row by row.

use super::*;
use crate::verify::Rejection;

#[tokio::test]
async fn a_signed_delivery_is_stored_as_it_came() {
    let relay = Relay::start();
    let request = Request::signed(PATH, BODY)
        .header("Content-Type: text/plain; charset=latin1")
        .header("User-Agent: Ralio/1")
        .header("X-Request-Id: r-1")
        .header("Cookie: private=1");
    let answer = relay.ask(&request).await;
    answer.is_stored(false);
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let stored = relay.inbox.stored.lock().unwrap().pop().unwrap();
    assert_eq!(answer.body, format!(r#"{{"received":true,"id":"{}","duplicate":false}}"#, stored.id));
    let delivery = &stored.delivery;
    assert_eq!((delivery.body().as_ref(), delivery.signature()), (BODY, sign(SECRET, BODY).as_str()));
    assert_eq!(delivery.content_type(), Some("text/plain; charset=latin1"));
    assert_eq!(
        delivery.headers(),
        [("user-agent".to_owned(), "Ralio/1".to_owned()), ("x-request-id".to_owned(), "r-1".to_owned())]
    );
    assert_eq!(relay.outcome("test", "accepted"), 1);
    assert_eq!(relay.metrics.secret_used.with_label_values(&["test", "1"]).get(), 1);
    assert_eq!(relay.metrics.ack_seconds.with_label_values(&["test"]).get_sample_count(), 1);
    let category = stored.envelope.event_type.category();
    assert_eq!(relay.metrics.events.with_label_values(&["test", category.as_str()]).get(), 1);
}

#[tokio::test]
async fn a_duplicate_and_a_conflict_are_acknowledged_and_counted() {
    let relay = Relay::start().that(Behaviour::Store(AppendKind::Duplicate));
    relay.ask(&Request::signed(PATH, BODY)).await.is_stored(true);
    *relay.inbox.behaviour.lock().unwrap() = Behaviour::Store(AppendKind::Conflict);
    relay.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
    assert_eq!((relay.outcome("test", "duplicate"), relay.outcome("test", "conflict")), (1, 1));
    let duplicates = |kind| relay.metrics.duplicates.with_label_values(&["test", kind]).get();
    assert_eq!((duplicates("same"), duplicates("conflict")), (1, 1));
}

#[tokio::test]
async fn what_is_signed_is_stored_whatever_it_is() {
    let relay = Relay::start();
    let bodies: [&[u8]; 4] = [b"", b"not JSON", b"{}", b"\x1f\x8b\x08\x00 gzip or so"];
    for body in bodies {
        let request = Request::signed(PATH, body).header("Content-Encoding: gzip");
        relay.ask(&request).await.is_stored(false);
        relay.ask(&Request::signed(PATH, body).chunked()).await.is_stored(false);
        for stored in relay.inbox.stored.lock().unwrap().drain(..) {
            assert_eq!(stored.delivery.body().as_ref(), body);
        }
    }
}

#[tokio::test]
async fn what_no_sink_wants_and_what_has_no_time_is_counted() {
    let relay = Relay::start();
    let unrouted = |category| relay.metrics.events_unrouted.with_label_values(&["test", category]).get();
    let timeless = || relay.metrics.event_time_missing.with_label_values(&["test"]).get();
    let ask = async |event_type: &str, time: &str| {
        let body = format!(r#"{{"eventId":"a","eventType":"{event_type}","timestamp":"{time}"}}"#);
        relay.ask(&Request::signed(PATH, body.as_bytes())).await.is_stored(false);
    };
    ask("payin_completed", "2026-02-26T17:02:28.1234567891Z").await;
    assert_eq!((unrouted("payin"), unrouted("other"), timeless()), (0, 0, 0));
    ask("card_issued", "2026-02-26T17:02:28").await;
    ask("card_issued", "").await;
    assert_eq!((unrouted("payin"), unrouted("other"), timeless()), (0, 2, 2));
    *relay.inbox.behaviour.lock().unwrap() = Behaviour::Store(AppendKind::Duplicate);
    let body = br#"{"eventId":"a","eventType":"card_issued"}"#;
    relay.ask(&Request::signed(PATH, body)).await.is_stored(true);
    assert_eq!((unrouted("other"), timeless()), (2, 2), "it is no event of its own");
}

#[tokio::test]
async fn an_encoding_is_kept_before_all_other_headers() {
    let relay = Relay::start();
    let agents = "User-Agent: x".to_owned() + &"\r\nUser-Agent: x".repeat(20);
    relay.ask(&Request::signed(PATH, BODY).header(&agents).header("Content-Encoding: gzip")).await.is_stored(false);
    let stored = relay.inbox.stored.lock().unwrap().pop().unwrap();
    assert_eq!(stored.delivery.headers()[0], ("content-encoding".to_owned(), "gzip".to_owned()));
}

#[tokio::test]
async fn a_trailing_slash_and_a_query_make_no_difference() {
    let relay = Relay::start();
    for path in ["/webhooks/ralio/", "/webhooks/ralio?x=1", "/webhooks/ralio/?x=/", "http://relay.test/webhooks/ralio"]
    {
        relay.ask(&Request::signed(path, BODY)).await.is_stored(false);
    }
}

fn badly_signed() -> [(Request, Rejection); 4] {
    let unsigned = Request::new(&format!("POST {PATH}"), BODY);
    [
        (unsigned.clone(), Rejection::Missing),
        (Request::signed(PATH, BODY).header(&format!("X-Signature: {}", sign(b"other", BODY))), Rejection::Repeated),
        (unsigned.clone().header("X-Signature: nonsense"), Rejection::Undecodable),
        (unsigned.header(&format!("X-Signature: {}", sign(b"stale", BODY))), Rejection::Mismatch),
    ]
}

#[tokio::test]
async fn a_bad_signature_is_refused_and_kept() {
    let relay = Relay::start();
    for (request, reason) in badly_signed() {
        let answer = relay.ask(&request).await;
        answer.is_refusal(401, "bad_signature");
        assert!(answer.header("www-authenticate").is_some());
        let refused = relay.inbox.refused.lock().unwrap().pop().unwrap();
        assert_eq!(refused.rejected.reason, reason);
        assert_eq!(refused.rejected.delivery.body.as_ref(), BODY);
        assert!(refused.peer.is_loopback());
    }
    assert_eq!(relay.outcome("test", "bad_signature"), 4);
    assert!(relay.inbox.stored.lock().unwrap().is_empty());
}

/// What is answered 401 never comes again: whatever could not be kept must come again.
#[tokio::test]
async fn a_bad_signature_that_is_not_kept_is_not_refused_for_good() {
    let relay = Relay::start();
    for why in [NoRoom::Full, NoRoom::Share, NoRoom::TooLarge, NoRoom::Rate, NoRoom::Busy] {
        *relay.inbox.keeping.lock().unwrap() = Ok(QuarantineOutcome::NotKept(why));
        for (request, _) in badly_signed() {
            relay.ask(&request).await.is_refusal(503, "bad_signature_not_kept");
        }
    }
    for (why, label) in [
        (Unavailable::Storage("full".to_owned()), "unavailable"),
        (Unavailable::Closed, "unavailable"),
        (Unavailable::Busy, "overloaded"),
    ] {
        *relay.inbox.keeping.lock().unwrap() = Err(why);
        for (request, _) in badly_signed() {
            relay.ask(&request).await.is_refusal(503, label);
        }
    }
    assert_eq!(relay.outcome("test", "bad_signature"), 0);
    assert_eq!(relay.outcome("test", "bad_signature_not_kept"), 20);
}

#[tokio::test]
async fn the_inbox_is_told_what_a_bad_signature_is_answered() {
    for (policy, answer) in
        [(OnBadSignature::Reject, RefusalAnswer::Unauthorized), (OnBadSignature::Retry, RefusalAnswer::Unavailable)]
    {
        let mut config = config();
        config.sources[0].on_bad_signature = policy;
        let relay = Relay::with(&config);
        relay.ask(&Request::new(&format!("POST {PATH}"), BODY)).await;
        assert_eq!(relay.inbox.refused.lock().unwrap()[0].answer, answer);
    }
}

#[tokio::test]
async fn a_bad_signature_can_be_asked_for_again() {
    let mut config = config();
    config.sources[0].on_bad_signature = OnBadSignature::Retry;
    let relay = Relay::with(&config);
    for (request, _) in badly_signed() {
        relay.ask(&request).await.is_refusal(503, "bad_signature");
    }
    assert_eq!(relay.inbox.refused.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_signed_delivery_on_an_unknown_path_is_not_lost() {
    let relay = Relay::start();
    for path in ["/webhook/ralio", "/", "/webhooks/ralio//", "/webhooks/RALIO", "/webhooks%2Fralio"] {
        relay.ask(&Request::signed(path, BODY)).await.is_refusal(503, "misdirected");
        relay.ask(&Request::new(&format!("POST {path}"), BODY)).await.is_refusal(404, "not_found");
        relay
            .ask(&Request::new(&format!("GET {path}"), b"").header("X-Signature: x"))
            .await
            .is_refusal(404, "not_found");
    }
    assert_eq!((relay.outcome("-", "misdirected"), relay.outcome("-", "not_found")), (5, 10));
}

/// Only who knows a secret says that a delivery is lost; a stranger gets the same status, and nobody is called.
#[tokio::test]
async fn a_forgery_on_an_unknown_path_is_not_misdirected() {
    let relay = Relay::start();
    let forged = |signature: &str| Request::new("POST /else", BODY).header(&format!("X-Signature: {signature}"));
    for request in [
        forged("abc"),
        forged(&sign(b"stranger", BODY)),
        forged("abc").chunked(),
        Request::signed("/else", &[b'x'; 1025]),
    ] {
        let mut client = relay.connect().await;
        client.ask(&request).await.is_refusal(503, "not_found");
        assert_eq!(client.rest().await, "");
    }
    let mut client = relay.connect().await;
    client.ask(&Request::signed("/else", BODY).chunked()).await.is_refusal(503, "misdirected");
    client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
    assert_eq!((relay.outcome("-", "misdirected"), relay.outcome("-", "not_found")), (1, 4));
}

/// A proxy that doubles the header costs nothing, and the sinks get one signature.
#[tokio::test]
async fn a_doubled_signature_is_one() {
    let relay = Relay::start();
    let signature = sign(SECRET, BODY);
    let unsigned = Request::new(&format!("POST {PATH}"), BODY);
    let list = unsigned.clone().header(&format!("X-Signature: {signature}, {signature}"));
    let mut lines = unsigned;
    for _ in 0..9 {
        lines = lines.header(&format!("X-Signature: {signature}"));
    }
    for request in [list, lines] {
        relay.ask(&request).await.is_stored(false);
        let stored = relay.inbox.stored.lock().unwrap().pop().unwrap();
        assert_eq!(stored.delivery.signature(), signature);
    }
}

#[tokio::test]
async fn another_method_on_a_known_path_is_told_which() {
    let relay = Relay::start();
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "post", "BREW"] {
        let answer = relay.ask(&Request::new(&format!("{method} {PATH}"), b"{}")).await;
        answer.is_refusal(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    assert_eq!(relay.outcome("test", "method_not_allowed"), 7);
}

#[tokio::test]
async fn a_closed_gate_asks_to_come_back() {
    let relay = Relay::start();
    let mut client = relay.connect().await;
    relay.gate.send(Gate::Starting).unwrap();
    client.ask(&Request::signed(PATH, BODY)).await.is_refusal(503, "starting");
    relay.gate.send(Gate::Open).unwrap();
    let mut client = relay.connect().await;
    client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
    relay.gate.send(Gate::Stopping).unwrap();
    let answer = client.ask(&Request::signed(PATH, BODY)).await;
    answer.is_refusal(503, "stopping");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.rest().await, "");
    assert_eq!(relay.inbox.stored.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_inbox_that_cannot_store_is_a_503() {
    let relay = Relay::start();
    for (why, error) in [
        (Unavailable::Busy, "overloaded"),
        (Unavailable::Closed, "unavailable"),
        (Unavailable::Storage("disk full at /var/secret".to_owned()), "unavailable"),
    ] {
        *relay.inbox.behaviour.lock().unwrap() = Behaviour::Fail(why);
        let answer = relay.ask(&Request::signed(PATH, BODY)).await;
        answer.is_refusal(503, error);
        assert!(!answer.body.contains("secret"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_append_that_takes_too_long_is_a_503() {
    let config = Config { ack_deadline: Duration::from_millis(50), ..config() };
    let relay = Relay::with(&config).that(Behaviour::Wait(Arc::new(Semaphore::new(0))));
    let mut client = relay.connect().await;
    client.ask(&Request::signed(PATH, BODY)).await.is_refusal(503, "deadline");
    assert_eq!(relay.outcome("test", "deadline"), 1);
    *relay.inbox.behaviour.lock().unwrap() = Behaviour::Store(AppendKind::Fresh);
    client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
}

#[tokio::test]
async fn a_panic_is_a_500_and_nothing_else_suffers() {
    let relay = Relay::start().that(Behaviour::Panic);
    let mut client = relay.connect().await;
    client.ask(&Request::signed(PATH, BODY)).await.is_refusal(500, "error");
    assert_eq!((relay.outcome("test", "error"), relay.outcome("test", "aborted")), (1, 0));
    // The panic left its mark on the lock, as it may.
    relay.inbox.behaviour.clear_poison();
    *relay.inbox.behaviour.lock().unwrap() = Behaviour::Store(AppendKind::Fresh);
    client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
}

#[tokio::test]
async fn one_connection_carries_many_requests_also_at_once() {
    let relay = Relay::start();
    let mut client = relay.connect().await;
    let (good, bad) = (Request::signed(PATH, BODY), Request::new(&format!("POST {PATH}"), BODY));
    for _ in 0..3 {
        client.ask(&good).await.is_stored(false);
    }
    client.send(&[good.bytes(), good.bytes(), bad.bytes(), good.bytes()].concat()).await;
    client.answer().await.is_stored(false);
    client.answer().await.is_stored(false);
    client.answer().await.is_refusal(401, "bad_signature");
    client.answer().await.is_stored(false);
    assert_eq!(client.rest().await, "", "after a forgery the connection ends with what had been sent");
}

#[tokio::test]
async fn a_sender_that_waits_for_100_continue_gets_it() {
    let relay = Relay::start();
    let mut client = relay.connect().await;
    let request = Request::signed(PATH, BODY).header("Expect: 100-continue").bytes();
    let (head, body) = request.split_at(request.len() - BODY.len());
    client.send(head).await;
    assert_eq!(client.answer().await.status, 100);
    client.send(body).await;
    client.answer().await.is_stored(false);
}

#[tokio::test]
async fn a_sender_that_closes_its_side_early_still_gets_its_answer() {
    let permits = Arc::new(Semaphore::new(0));
    let relay = Relay::start().that(Behaviour::Wait(permits.clone()));
    let mut client = relay.connect().await;
    client.send(&Request::signed(PATH, BODY).bytes()).await;
    client.0.shutdown().await.unwrap();
    relay.appends(1).await;
    permits.add_permits(1);
    client.answer().await.is_stored(false);
}
