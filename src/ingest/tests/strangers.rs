//! Who has signed nothing never keeps out who has.

use std::time::Instant;

use super::*;

/// Places of these listeners.
const PLACES: usize = 8;

fn few_places() -> Config {
    Config { max_connections: PLACES, ..config() }
}

/// Senders of before, whose connections are proven.
async fn senders(relay: &Relay, count: usize) -> Vec<Client<TcpStream>> {
    let mut senders = Vec::new();
    for _ in 0..count {
        let mut sender = relay.connect().await;
        sender.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
        senders.push(sender);
    }
    senders
}

/// What a stranger may hold a connection with.
fn beginnings() -> [Vec<u8>; 4] {
    let large = Request::new(&format!("POST {PATH}"), &[b'x'; 1000]).bytes();
    [
        Vec::new(),
        b"POST /webhooks/ralio HTTP/1.1\r\nHost: a\r\nX: ".to_vec(),
        large[..200].to_vec(),
        b"\x16\x03".to_vec(),
    ]
}

#[tokio::test]
async fn held_connections_keep_no_sender_out() {
    let relay = Relay::with(&few_places());
    let mut known = senders(&relay, PLACES / 2).await;
    for beginning in beginnings() {
        let mut held = Vec::new();
        for _ in 0..2 * PLACES {
            let mut stranger = relay.connect().await;
            stranger.send(&beginning).await;
            held.push(stranger);
        }
        for _ in 0..3 {
            relay.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
            for sender in &mut known {
                sender.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
            }
        }
        drop(held);
    }
    assert!(relay.metrics.unproven_closed.with_label_values(&["connection"]).get() > 0);
}

#[tokio::test]
async fn every_answer_to_who_has_signed_nothing_closes_its_connection() {
    let relay = Relay::start();
    let requests = [
        (Request::new("GET /", b""), 404),
        (Request::new(&format!("GET {PATH}"), b""), 405),
        (Request::new(&format!("POST {PATH}"), BODY), 401),
        (Request::new(&format!("POST {PATH}"), &[b'x'; 1025]), 413),
        (Request::new("POST /else", BODY).header("X-Signature: abc"), 503),
    ];
    for (request, status) in requests {
        for proven in [false, true] {
            let mut client = relay.connect().await;
            if proven {
                client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
            }
            let answer = client.ask(&request).await;
            assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
            assert_eq!(client.rest().await, "");
        }
    }
    relay.gate.send(Gate::Starting).unwrap();
    let mut client = relay.connect().await;
    client.ask(&Request::signed(PATH, BODY)).await.is_refusal(503, "starting");
    assert_eq!(client.rest().await, "");
}

/// A sender whose delivery cannot be stored keeps its connection, and its place.
#[tokio::test]
async fn a_503_to_a_signed_delivery_does_not_close() {
    let relay = Relay::with(&few_places()).that(Behaviour::Fail(Unavailable::Busy));
    let mut sender = relay.connect().await;
    let answer = sender.ask(&Request::signed(PATH, BODY)).await;
    answer.is_refusal(503, "overloaded");
    assert_eq!(answer.header("connection"), None);
    let mut held = Vec::new();
    for _ in 0..2 * PLACES {
        held.push(relay.connect().await);
    }
    tokio::time::timeout(PATIENCE, async {
        while relay.metrics.unproven_closed.with_label_values(&["connection"]).get() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    sender.ask(&Request::signed(PATH, BODY)).await.is_refusal(503, "overloaded");
}

/// A body that is held gives its memory to one that comes. 65 bodies of 1 MiB are more than there is memory for.
#[tokio::test]
async fn held_bodies_keep_no_sender_out() {
    const MIB: usize = 1024 * 1024;
    let relay = Relay::with(&Config { max_body: MIB, max_connections: 200, ..config() });
    let mut known = senders(&relay, 4).await;
    let held = Request::new(&format!("POST {PATH}"), &vec![b'x'; MIB]).bytes();
    let mut strangers = Vec::new();
    for _ in 0..70 {
        let mut stranger = relay.connect().await;
        // It may be closed while it still sends.
        let _ = stranger.0.write_all(&held[..held.len() - 1]).await;
        strangers.push(stranger);
    }
    let (small, large) = (Request::signed(PATH, BODY), Request::signed(PATH, &vec![b'y'; MIB]));
    for request in [&small, &large, &small, &large] {
        let began = Instant::now();
        relay.ask(request).await.is_stored(false);
        for sender in &mut known {
            sender.ask(request).await.is_stored(false);
        }
        assert!(began.elapsed() < PATIENCE);
    }
    assert!(relay.metrics.unproven_closed.with_label_values(&["body"]).get() > 0);
}

#[tokio::test]
async fn what_a_proxy_adds_costs_nothing() {
    let relay = Relay::start();
    let length = format!("Content-Length: {}", BODY.len());
    let many = (0..300).fold(Request::signed(PATH, BODY), |request, n| request.header(&format!("X-Cloud-{n}: v")));
    for request in [
        Request::signed(PATH, BODY).header(&length),
        Request::signed(PATH, BODY).header(&length).header(&length.to_uppercase()),
        many.clone().header("User-Agent: Ralio/1"),
        many.clone().header(&length),
    ] {
        let mut client = relay.connect().await;
        // Also in two pieces, and behind another request.
        client.ask(&request).await.is_stored(false);
        let bytes = request.bytes();
        client.send(&bytes[..bytes.len() / 2]).await;
        tokio::task::yield_now().await;
        client.send(&[&bytes[bytes.len() / 2..], &bytes].concat()).await;
        client.answer().await.is_stored(false);
        client.answer().await.is_stored(false);
    }
    for stored in relay.inbox.stored.lock().unwrap().iter() {
        assert_eq!(stored.delivery.body().as_ref(), BODY);
    }
    let stored = relay.inbox.stored.lock().unwrap().len();
    let agent = ("user-agent".to_owned(), "Ralio/1".to_owned());
    let with_agent =
        relay.inbox.stored.lock().unwrap().iter().filter(|stored| stored.delivery.headers().contains(&agent)).count();
    assert_eq!((stored, with_agent), (12, 3), "what is kept of a request is kept of this one, too");
}

/// Closed without an answer, and counted for the source that the request names.
#[tokio::test]
async fn what_has_two_meanings_or_is_too_large_is_closed_and_counted() {
    let relay = Relay::start();
    let lengths = |more: &str| Request::signed(PATH, BODY).header(&format!("Content-Length: {more}"));
    let large = Request::signed(PATH, BODY).header(&format!("X: {}", "x".repeat(16 * 1024)));
    let folded = (0..120)
        .fold(Request::signed(PATH, BODY), |request, n| request.header(&format!("X-{n}: v")))
        .header(" folded: 1");
    let cases =
        [lengths("5"), lengths(&format!("{}, 5", BODY.len())), lengths(&format!("+{}", BODY.len())), large, folded];
    let count = cases.len() as u64;
    for request in cases {
        relay.must_close(&request.bytes()).await;
    }
    assert_eq!((relay.outcome("test", "aborted"), relay.outcome("-", "aborted")), (count, 0));
    relay.must_close(format!("POST {PATH} HTTP/1.1\r\nX: {}", "x".repeat(20_000)).as_bytes()).await;
    assert_eq!(relay.outcome("test", "aborted"), count + 1);
}

#[tokio::test]
async fn a_trusted_proxy_says_whom_a_request_is_from() {
    let request = Request::new(&format!("POST {PATH}"), BODY).header("X-Forwarded-For: 192.0.2.1, 203.0.113.7");
    for (trusted, expected) in
        [(&["127.0.0.0/8"][..], "203.0.113.7"), (&[], "127.0.0.1"), (&["10.0.0.0/8"], "127.0.0.1")]
    {
        let trusted_proxies = trusted.iter().map(|network| network.parse().unwrap()).collect();
        let relay = Relay::with(&Config { trusted_proxies, ..config() });
        relay.ask(&request).await.is_refusal(401, "bad_signature");
        let refused = relay.inbox.refused.lock().unwrap().pop().unwrap();
        assert_eq!(refused.peer.to_string(), expected);
    }
}
