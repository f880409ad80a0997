//! Limits of size, memory, time and connections, and the end of the listener.

use super::*;

#[tokio::test]
async fn an_oversize_body_is_refused_for_good_only_when_it_is_not_signed() {
    let relay = Relay::start();
    for length in [1025, 5_000, 16 * 1024] {
        let body = vec![b'x'; length];
        let signed = Request::signed(PATH, &body);
        let unsigned = Request::new(&format!("POST {PATH}"), &body);
        for (signed, unsigned) in [(signed.clone(), unsigned.clone()), (signed.chunked(), unsigned.chunked())] {
            let forged = unsigned.clone().header(&format!("X-Signature: {}", sign(b"stale", &body)));
            let mut client = relay.connect().await;
            client.ask(&signed).await.is_refusal(503, "too_large_genuine");
            client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
            client.ask(&forged).await.is_refusal(503, "bad_signature_not_kept");
            assert_eq!(client.rest().await, "", "whose signature does not hold does not keep the connection");
            let mut client = relay.connect().await;
            client.ask(&unsigned).await.is_refusal(413, "too_large");
            assert_eq!(client.rest().await, "", "who has signed nothing does not keep the connection");
        }
    }
    assert_eq!((relay.outcome("test", "too_large"), relay.outcome("test", "too_large_genuine")), (6, 6));
    assert_eq!(relay.outcome("test", "bad_signature_not_kept"), 6);
    assert!(relay.inbox.refused.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_oversize_body_comes_again_where_the_source_wants_that() {
    let mut config = config();
    config.sources[0].on_bad_signature = OnBadSignature::Retry;
    let relay = Relay::with(&config);
    let unsigned = Request::new(&format!("POST {PATH}"), &[b'x'; 1025]);
    relay.ask(&unsigned).await.is_refusal(503, "bad_signature");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_stored() {
    let relay = Relay::start();
    let body = vec![b'x'; 1024];
    relay.ask(&Request::signed(PATH, &body)).await.is_stored(false);
    relay.ask(&Request::signed(PATH, &body).chunked()).await.is_stored(false);
}

#[tokio::test]
async fn a_body_too_large_to_be_checked_is_cut_off() {
    let relay = Relay::start();
    let body = vec![b'x'; 16 * 1024 + 1];
    relay.must_close(&Request::signed(PATH, &body).bytes()).await;
    relay.must_close(&Request::signed(PATH, &body).chunked().bytes()).await;
    relay
        .must_close(
            format!("POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551615\r\n\r\n").as_bytes(),
        )
        .await;
    assert_eq!(relay.outcome("test", "aborted"), 3);
}

/// What is still under way when a request is answered early is no request of its own.
#[tokio::test]
async fn an_early_answer_is_counted_once() {
    let relay = Relay::with(&Config { ack_deadline: Duration::from_millis(50), ..config() });
    let body = vec![b'x'; 8 * 1024];
    let elsewhere = Request::new("POST /elsewhere", &body).bytes();
    let slow = Request::signed(PATH, &[b'x'; 1024]).bytes();
    for (request, cut, status, error) in [(elsewhere, 6_000, 404, "not_found"), (slow, 600, 503, "deadline")] {
        let mut client = relay.connect().await;
        client.send(&request[..cut]).await;
        client.answer().await.is_refusal(status, error);
        client.send(&request[cut..]).await;
        client.0.shutdown().await.unwrap();
        assert_eq!(client.rest().await, "");
    }
    let aborted = relay.outcome("-", "aborted") + relay.outcome("test", "aborted");
    assert_eq!((relay.outcome("-", "not_found"), relay.outcome("test", "deadline"), aborted), (1, 1, 0));
}

fn hurried() -> Config {
    Config { read_timeout: Duration::from_millis(150), ..config() }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let relay = Relay::with(&hurried());
    relay.must_close(b"POST /webhooks/ral").await;
    relay.must_close(b"").await;
    assert_eq!(relay.outcome("-", "aborted"), 1, "a connection without a request is none");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_cut_off() {
    let relay = Relay::with(&hurried());
    let request = Request::signed(PATH, BODY).bytes();
    relay.must_close(&request[..request.len() - 1]).await;
    let chunked = Request::signed(PATH, BODY).chunked().bytes();
    relay.must_close(&chunked[..chunked.len() - 5]).await;
    assert_eq!((relay.outcome("test", "aborted"), relay.outcome("-", "aborted")), (2, 0));
}

/// A byte now and then does not buy more time: it is one for the whole request.
#[tokio::test]
async fn a_drip_is_cut_off() {
    let relay = Relay::with(&hurried());
    let long = Request::signed(PATH, &[b'x'; 1000]);
    let header = long.clone().header(&format!("X-Padding: {}", "x".repeat(1000)));
    let head_ends = long.bytes().len() - 1000;
    for (request, at_once) in [(&header, 10), (&long, head_ends)] {
        let (at_once, slowly) = (&request.bytes()[..at_once], &request.bytes()[at_once..]);
        let mut client = relay.connect().await;
        client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
        client.send(at_once).await;
        let (mut reads, mut writes) = client.0.into_split();
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        let drip = async {
            for byte in slowly {
                pace.tick().await;
                if writes.write_all(&[*byte]).await.is_err() {
                    // Cut off; the other half sees the same.
                    std::future::pending::<()>().await;
                }
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            () = drip => panic!("the whole request went through"),
            _ = reads.read_to_end(&mut answer) => assert_eq!(answer, b""),
        }
    }
    assert_eq!(relay.inbox.stored.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_request_may_take_its_time_once_it_is_read() {
    let permits = Arc::new(Semaphore::new(0));
    let relay = Relay::with(&hurried()).that(Behaviour::Wait(permits.clone()));
    let mut client = relay.connect().await;
    client.send(&Request::signed(PATH, BODY).bytes()).await;
    relay.appends(1).await;
    let early = tokio::time::timeout(Duration::from_millis(400), client.0.read_u8()).await;
    assert!(early.is_err(), "neither an answer nor an end yet");
    permits.add_permits(1);
    client.answer().await.is_stored(false);
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_their_turn() {
    let relay = Relay::with(&Config { max_connections: 1, ..config() });
    let mut first = relay.connect().await;
    first.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
    let mut second = relay.connect().await;
    second.send(&Request::signed(PATH, BODY).bytes()).await;
    first.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
    assert_eq!(relay.inbox.stored.lock().unwrap().len(), 2, "the second connection is not served yet");
    drop(first);
    second.answer().await.is_stored(false);
}

#[tokio::test]
async fn stopping_finishes_what_is_in_hand() {
    let permits = Arc::new(Semaphore::new(0));
    // An address of its own, so that no other test can take the port over.
    let relay = Relay::with(&Config { listen: "127.0.0.2:0".parse().unwrap(), ..config() });
    let mut idle = relay.connect().await;
    idle.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
    let relay = relay.that(Behaviour::Wait(permits.clone()));
    let mut busy = relay.connect().await;
    busy.send(&Request::signed(PATH, BODY).bytes()).await;
    relay.appends(2).await;

    let addr = relay.listener.addr();
    let stopping = relay.listener.stop(Duration::from_secs(60));
    let sender = async {
        assert_eq!(idle.rest().await, "", "an idle connection is closed");
        permits.add_permits(1);
        busy.answer().await.is_stored(false);
        assert_eq!(busy.rest().await, "", "and then the connection is closed");
    };
    tokio::time::timeout(PATIENCE, futures_util::future::join(stopping, sender)).await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn stopping_does_not_wait_longer_than_its_grace() {
    let relay = Relay::start().that(Behaviour::Wait(Arc::new(Semaphore::new(0))));
    let mut busy = relay.connect().await;
    busy.send(&Request::signed(PATH, BODY).bytes()).await;
    relay.appends(1).await;
    tokio::time::timeout(PATIENCE, relay.listener.stop(Duration::from_millis(50))).await.unwrap();
    assert_eq!(busy.rest().await, "");
}
