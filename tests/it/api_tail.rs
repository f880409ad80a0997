//! The tail of the admin API: events as they come in.

use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Ack, TOKEN, TestRelay, eventually, signed, write_secret};

/// An open tail, and what it has said.
struct Tail {
    answer: reqwest::Response,
    text: String,
}

impl Tail {
    async fn open(relay: &TestRelay, query: &str, last_event_id: Option<i64>) -> Result<Self, u16> {
        let mut request = relay.client().get(relay.admin_url(&format!("/api/tail{query}"))).bearer_auth(TOKEN);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let answer = request.send().await.unwrap();
        match answer.status().as_u16() {
            200 => assert_eq!(answer.headers()["content-type"], "text/event-stream"),
            status => return Err(status),
        }
        Ok(Self { answer, text: String::new() })
    }

    /// The seqs of the events, once there are so many.
    async fn events(&mut self, count: usize) -> Vec<i64> {
        loop {
            let seqs = seqs(&self.text);
            if seqs.len() >= count {
                return seqs;
            }
            let more = tokio::time::timeout(Duration::from_secs(50), self.answer.chunk()).await;
            let more = more.expect("it says something").unwrap().expect("it goes on");
            self.text.push_str(std::str::from_utf8(&more).unwrap());
        }
    }
}

/// Each event has three lines, and the same number in two of them.
fn seqs(text: &str) -> Vec<i64> {
    let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
    let events = whole.split("\n\n").filter(|event| !event.is_empty() && !event.starts_with(':'));
    let seq = |event: &str| {
        let lines: Vec<&str> = event.lines().collect();
        assert_eq!((lines.len(), lines[1]), (3, "event: event"), "{event}");
        let id: i64 = lines[0].strip_prefix("id: ").unwrap().parse().unwrap();
        let data: Value = serde_json::from_str(lines[2].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["seq"], id);
        assert!(data["state"].is_string() && data["received_at"].is_string(), "{data}");
        id
    };
    events.map(seq).collect()
}

async fn send(relay: &TestRelay, from: i64, to: i64) {
    for n in from..=to {
        let event_type = if n % 2 == 0 { "payin_failed" } else { "payin_completed" };
        let payin = signed::payin_of(&format!("evt-{n}"), event_type, &format!("order-{n}"));
        assert_eq!(relay.post(&payin).await, Ack::FRESH);
    }
}

#[tokio::test]
async fn a_tail_follows_and_one_that_comes_back_misses_nothing() {
    let relay = TestRelay::with_file_sink("out").start().await;
    send(&relay, 1, 3).await;
    let mut tail = Tail::open(&relay, "", None).await.unwrap();
    let mut failed = Tail::open(&relay, "?type=payin.failed&after=1", None).await.unwrap();
    send(&relay, 4, 6).await;
    assert_eq!(tail.events(3).await, [4, 5, 6], "from now on");
    assert_eq!(failed.events(3).await, [2, 4, 6]);
    drop(tail);
    send(&relay, 7, 9).await;
    let mut again = Tail::open(&relay, "?after=1", Some(5)).await.unwrap();
    assert_eq!(again.events(4).await, [6, 7, 8, 9]);
    send(&relay, 10, 10).await;
    assert_eq!(again.events(5).await, [6, 7, 8, 9, 10]);
    assert_eq!(Tail::open(&relay, "?after=-1", None).await.err(), Some(400));
    assert_eq!(Tail::open(&relay, "?limit=1", None).await.err(), Some(400));
    relay.shutdown().await;
}

/// Sixteen at a time, whose end frees their places; and none holds up the end of the daemon.
#[tokio::test]
async fn tails_are_bounded_and_end_with_the_daemon() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let mut tails = Vec::new();
    for _ in 0..16 {
        tails.push(Tail::open(&relay, "", None).await.unwrap());
    }
    assert_eq!(Tail::open(&relay, "", None).await.err(), Some(503));
    assert_eq!(relay.readyz().await, 200);
    drop(tails.pop());
    eventually("the freed place", async || Tail::open(&relay, "", None).await.map(|tail| tails.push(tail))).await;
    let begun = std::time::Instant::now();
    relay.shutdown().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let last = tails.remove(0).answer.bytes().await.expect("an end in order, and no lost connection");
    assert!(last.starts_with(b":"), "{last:?}");
}

/// Whose token counts no more sees nothing more.
#[tokio::test]
async fn a_tail_ends_when_the_token_is_replaced() {
    let relay = TestRelay::with_file_sink("out").start().await;
    let mut tail = Tail::open(&relay, "", None).await.unwrap();
    let token = relay.settings().directory().join("admin-token");
    write_secret(&token, "canary-41c7-another-token");
    eventually("the new token in use", async || match Tail::open(&relay, "", None).await {
        Err(401) => Ok(()),
        other => Err(other.is_ok()),
    })
    .await;
    send(&relay, 1, 1).await;
    let more = async |tail: &mut Tail| tokio::time::timeout(Duration::from_secs(50), tail.answer.chunk()).await;
    while let Some(piece) = more(&mut tail).await.expect("it ends").unwrap() {
        tail.text.push_str(std::str::from_utf8(&piece).unwrap());
        assert!(seqs(&tail.text).is_empty(), "{}", tail.text);
    }
    write_secret(&token, TOKEN);
    eventually("the old token again", async || Tail::open(&relay, "", None).await.map(drop)).await;
    relay.shutdown().await;
}

/// A reader that takes nothing is let go, and nothing is read for it meanwhile.
#[tokio::test]
async fn a_reader_that_does_not_read_is_let_go() {
    use std::io::{Read as _, Write as _};
    let relay = TestRelay::with_file_sink("out").start().await;
    for batch in 0..20 {
        let posts = (0..100).map(|n| async move { signed::payin_completed(&format!("evt-{batch}-{n}")) });
        let deliveries: Vec<_> = futures_util::future::join_all(posts).await;
        let acks = deliveries.iter().map(|delivery| relay.post(delivery));
        assert!(futures_util::future::join_all(acks).await.iter().all(|ack| *ack == Ack::FRESH));
    }
    let address = relay.admin_url("").replace("http://", "");
    let mut stuck = Vec::new();
    for _ in 0..16 {
        let mut socket = TcpStream::connect(&address).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
        let request =
            format!("GET /api/tail?after=0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        // It has its place; a tail that is opened to see that, and dropped, would hold one for a while.
        let mut head = [0; 12];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        stuck.push(socket);
    }
    assert_eq!(Tail::open(&relay, "", None).await.err(), Some(503), "every place is taken");
    // The sockets stay open on this side.
    let mut tail = eventually("a free place", async || Tail::open(&relay, "?after=1999", None).await).await;
    assert_eq!(tail.events(1).await, [2000]);
    drop(stuck);
    relay.shutdown().await;
}
