//! What the guard lets in and out.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::task::TaskTracker;

use super::*;
use crate::listener::Admission;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

const HEAD: &[u8] = b"POST /a HTTP/1.1\r\nContent-Length: 0\r\n\r\n";
const MAX_HEAD: usize = 256;

type Stream = Guarded<tokio::io::DuplexStream, Told>;

/// What it was told of.
#[derive(Default)]
struct Told(Mutex<Vec<(String, Why)>>);

impl Witness for Told {
    fn wanted_headers(&self) -> &[String] {
        &[]
    }

    fn broken(&self, _: SocketAddr, path: &[u8], why: Why) {
        self.0.lock().unwrap().push((String::from_utf8_lossy(path).into_owned(), why));
    }
}

async fn guarded(patience: Duration, buffer: usize) -> (Stream, tokio::io::DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(buffer);
    let admission = Admission::new(1, |_| ());
    let admitted = admission.admit(SocketAddr::from(([127, 0, 0, 1], 1))).await;
    let conn = Conn::new(patience, Arc::new(admitted));
    (Guarded::new(ours, conn, MAX_HEAD, Arc::default(), TaskTracker::new().token()), theirs)
}

/// What the guard says when it is dropped.
fn told(guard: Stream) -> Vec<(String, Why)> {
    let witness = Arc::clone(&guard.witness);
    drop(guard);
    std::mem::take(&mut witness.0.lock().unwrap())
}

#[test]
fn only_foreign_answers_are_found() {
    assert_eq!(foreign_answer(OK), None);
    assert_eq!(foreign_answer(BAD), Some(0));
    assert_eq!(foreign_answer(&[OK, BAD].concat()), Some(OK.len()));
    assert_eq!(foreign_answer(&[OK, OK, BAD, OK].concat()), Some(2 * OK.len()));
    assert_eq!(foreign_answer(b"HTTP/1.0 431 Request Header Fields Too Large\r\n"), Some(0));
    assert_eq!(foreign_answer(b"HTTP/1.1 408 Request Timeout\r\n"), Some(0));
    for ours in ["100 Continue", "401 Unauthorized", "404 Not Found", "405 Method Not Allowed", "413 X", "503 X"] {
        assert_eq!(foreign_answer(format!("HTTP/1.1 {ours}\r\n\r\n").as_bytes()), None, "{ours}");
    }
    let id = b"HTTP/1.1 200 OK\r\n\r\n{\"id\":\"}HTTP/1.1 400 \",\"duplicate\":false}";
    assert_eq!(foreign_answer(id), None);
    assert_eq!(foreign_answer(&[id, OK].concat()), None);
    assert_eq!(foreign_answer(&[id, BAD].concat()), Some(id.len()));
    assert_eq!(foreign_answer(b"HTTP/1.1 400 \",\"duplicate\":false}"), None, "the rest of a body");
}

#[tokio::test]
async fn what_came_before_a_foreign_answer_still_gets_out() {
    let (mut guard, mut peer) = guarded(Duration::from_secs(5), 4096).await;
    let error = guard.write_all(&[OK, BAD].concat()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(told(guard), [(String::new(), Why::Refused(Refusal::Invalid))]);
    let mut got = Vec::new();
    peer.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, OK);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_given_up() {
    let (mut guard, _peer) = guarded(Duration::from_millis(30), 16).await;
    let error = guard.write_all(OK).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(guard.write(OK).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn silence_ends_in_good_order_but_half_a_head_does_not() {
    let mut buf = [0; 64];
    let (mut guard, _peer) = guarded(Duration::from_millis(30), 64).await;
    assert_eq!(guard.read(&mut buf).await.unwrap(), 0, "nothing sent: as if the peer had closed");

    let (mut guard, mut peer) = guarded(Duration::from_millis(30), 64).await;
    peer.write_all(b"POST").await.unwrap();
    assert_eq!(guard.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(told(guard), [(String::new(), Why::Slow)]);
}

#[tokio::test]
async fn a_peer_that_never_pauses_is_hurried_too() {
    let mut buf = [0; 4];
    for late in [Phase::Head, Phase::Body] {
        let (mut guard, mut peer) = guarded(Duration::from_secs(10), 64).await;
        peer.write_all(b"POST /there").await.unwrap();
        guard.conn.phase.set(late(Instant::now()));
        assert_eq!(guard.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}

#[tokio::test]
async fn a_head_and_its_body_have_one_deadline() {
    let (mut guard, mut peer) = guarded(Duration::from_secs(10), 64).await;
    peer.write_all(HEAD).await.unwrap();
    let deadline = guard.conn.deadline();
    assert_eq!(guard.read(&mut [0; 64]).await.unwrap(), HEAD.len());
    guard.conn.head_read();
    assert_eq!(guard.conn.deadline(), deadline);
}

#[tokio::test]
async fn only_a_request_under_way_is_hurried() {
    let mut buf = [0; 64];
    let (mut guard, mut peer) = guarded(Duration::from_millis(20), 64).await;
    peer.write_all(HEAD).await.unwrap();
    assert_eq!(guard.read(&mut buf).await.unwrap(), HEAD.len());
    guard.conn.head_read();
    guard.conn.body_read();
    let waited = tokio::time::timeout(Duration::from_millis(100), guard.read(&mut buf)).await;
    assert!(waited.is_err(), "a handler is at work");
    guard.conn.verified();
    guard.conn.answered();
    let waited = tokio::time::timeout(Duration::from_millis(100), guard.read(&mut buf)).await;
    assert!(waited.is_err(), "the connection is idle");
    peer.write_all(b"POST").await.unwrap();
    assert_eq!(guard.read(&mut buf).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_head_is_given_on_when_it_is_whole() {
    let mut buf = [0; 256];
    let (mut guard, mut peer) = guarded(Duration::from_secs(10), 64).await;
    peer.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(50), guard.read(&mut buf)).await;
    assert!(waited.is_err(), "the HTTP server holds no part of a head");
    peer.write_all(b"\r\nrest").await.unwrap();
    let read = guard.read(&mut buf).await.unwrap();
    assert_eq!(&buf[..read], b"POST /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(guard.heads.path(), b"/a");
}

/// As if the peer had closed: an answer that is under way still goes out.
#[tokio::test]
async fn a_head_that_is_too_large_ends_what_is_read() {
    let mut buf = [0; 512];
    let (mut guard, mut peer) = guarded(Duration::from_secs(10), 1024).await;
    peer.write_all(format!("POST /a HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD)).as_bytes()).await.unwrap();
    assert_eq!(guard.read(&mut buf).await.unwrap(), 0);
    assert_eq!(guard.read(&mut buf).await.unwrap(), 0);
    guard.write_all(OK).await.unwrap();
    assert_eq!(told(guard), [("/a".to_owned(), Why::Refused(Refusal::TooLarge))]);
}

/// So that the HTTP server looks at what it has before it buffers more.
#[tokio::test]
async fn no_more_than_a_portion_is_read_at_once() {
    let (mut guard, mut peer) = guarded(Duration::from_secs(10), 64 * 1024).await;
    peer.write_all(b"POST / HTTP/1.1\r\nContent-Length: 60000\r\n\r\n").await.unwrap();
    peer.write_all(&[b'x'; 40_000]).await.unwrap();
    let (mut buf, mut portions, mut all) = (vec![0; 8192], 0, 0);
    while all < 40_000 {
        let mut portion = 0;
        loop {
            let mut read = ReadBuf::new(&mut buf);
            match futures_util::poll!(std::future::poll_fn(|cx| Pin::new(&mut guard).poll_read(cx, &mut read))) {
                Poll::Ready(result) => result.unwrap(),
                Poll::Pending => break,
            }
            portion += read.filled().len();
        }
        assert!(portion < READ_AT_ONCE + 8192, "{portion}");
        (portions, all) = (portions + 1, all + portion);
    }
    assert!(portions >= 3, "{portions}");
}
