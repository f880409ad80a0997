//! Bytes that are no HTTP, or barely: the connection is closed, and no client error appears that is not in the table.

use super::*;

#[tokio::test]
async fn what_is_no_http_is_cut_off() {
    let relay = Relay::start();
    let signature = sign(SECRET, BODY);
    let post = format!("POST {PATH} HTTP/1.1\r\n");
    let many: String = (0..10_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let requests = [
        "nonsense\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(),
        format!("POST {PATH}\r\n\r\n"),
        format!("POST {PATH} HTTP/3.0\r\nHost: a\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("{post}\r\n"),
        format!("{post}Host: a\r\nHost: b\r\n\r\n"),
        format!("{post}Host: a\r\nno colon\r\n\r\n"),
        format!("{post}Host: a\r\n{many}\r\n"),
        format!("{post}Host: a\r\nX: {}\r\n\r\n", "x".repeat(200_000)),
        format!("{post}Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{{}}"),
        format!("{post}Host: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{post}Host: a\r\nContent-Length: -1\r\n\r\n"),
        format!("{post}Host: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("POST {PATH} HTTP/1.0\r\nX-Signature: {signature}\r\n\r\n"),
    ];
    let count = requests.len() as u64;
    for request in requests {
        relay.must_close(request.as_bytes()).await;
    }
    // Those of a request line that names the source's path count for it.
    assert_eq!((relay.outcome("-", "aborted"), relay.outcome("test", "aborted")), (3, count - 3));
    relay.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
}

#[tokio::test]
async fn a_broken_body_is_cut_off() {
    let relay = Relay::start();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n");
    for body in ["zz\r\n", "2\r\n{}X", "ffffffffffffffffffff\r\n", "2;\n\r\n{}"] {
        for signature in ["", "X-Signature: 00\r\n"] {
            relay.must_close(format!("{head}{signature}\r\n{body}").as_bytes()).await;
        }
    }
    assert_eq!((relay.outcome("test", "aborted"), relay.outcome("-", "aborted")), (8, 0));
    assert!(relay.inbox.refused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_sender_that_breaks_off_gets_nothing_stored() {
    let relay = Relay::start();
    let request = Request::signed(PATH, BODY).bytes();
    for length in [20, request.len() - 1] {
        let mut client = relay.connect().await;
        client.send(&request[..length]).await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "");
    }
    assert_eq!((relay.outcome("-", "aborted"), relay.outcome("test", "aborted")), (1, 1));
    assert!(relay.inbox.stored.lock().unwrap().is_empty());
}

/// Whoever adds garbage to a good request still learns that it was stored.
#[tokio::test]
async fn garbage_after_a_request_does_not_cost_its_answer() {
    let permits = Arc::new(Semaphore::new(0));
    let relay = Relay::start().that(Behaviour::Wait(permits.clone()));
    let mut client = relay.connect().await;
    client.send(&[Request::signed(PATH, BODY).bytes().as_slice(), b"garbage\r\n\r\n"].concat()).await;
    relay.appends(1).await;
    permits.add_permits(1);
    client.answer().await.is_stored(false);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn odd_but_valid_requests_get_answers_of_the_table() {
    let relay = Relay::start();
    for (request, status) in [
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 404),
        ("CONNECT relay.test:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 404),
        (format!("HEAD {PATH} HTTP/1.1\r\nHost: a\r\n\r\n"), 405),
        (format!("GET {PATH} HTTP/1.0\r\n\r\n"), 405),
        (format!("POST {PATH} HTTP/1.1\r\nHost: a\r\n\r\n"), 401),
        (format!("GET {PATH} HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), 405),
    ] {
        let mut client = relay.connect().await;
        client.send(request.as_bytes()).await;
        let mut line = [0; 12];
        tokio::time::timeout(PATIENCE, client.0.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(line[9..], *status.to_string().as_bytes(), "{request}");
    }
}

/// A proxy in front may ask for a WebSocket with every request. The HTTP server then takes all that follows for the
/// body; a delivery is still as long as it says.
#[tokio::test]
async fn an_upgrade_that_nobody_wants_does_not_hold_up_a_delivery() {
    let relay = Relay::start();
    for upgrade in ["websocket", "h2c"] {
        for length in [0, 1, 1024] {
            let body = vec![b'x'; length];
            let request = Request::signed(PATH, &body).header("Connection: upgrade");
            relay.ask(&request.header(&format!("Upgrade: {upgrade}"))).await.is_stored(false);
            let stored = relay.inbox.stored.lock().unwrap().pop().unwrap();
            assert_eq!(stored.delivery.body().as_ref(), body);
        }
        let oversize = Request::signed(PATH, &[b'x'; 1025]).header(&format!("Upgrade: {upgrade}"));
        relay.ask(&oversize).await.is_refusal(503, "too_large_genuine");
        let misdirected = Request::signed("/else", BODY).header(&format!("Upgrade: {upgrade}"));
        relay.ask(&misdirected).await.is_refusal(503, "misdirected");
    }
}

#[tokio::test]
async fn what_is_kept_of_a_request_is_bounded() {
    let relay = Relay::with(&Config { max_head: 64 * 1024, ..config() });
    let mut request = Request::new(&format!("POST {PATH}"), BODY);
    for n in 0..20 {
        request = request.header(&format!("User-Agent: {}", "é".repeat(600)));
        request = request.header(&format!("X-Signature: {n}{}", "0".repeat(1100)));
    }
    relay.ask(&request).await.is_refusal(401, "bad_signature");
    let refused = relay.inbox.refused.lock().unwrap().pop().unwrap().rejected;
    assert_eq!(refused.delivery.headers.len(), 16);
    assert!(refused.delivery.headers.iter().all(|(_, value)| (1..=1026).contains(&value.len())));
    assert!(refused.delivery.signatures.len() <= 4 && refused.delivery.signatures[0].len() == 1024);
}
