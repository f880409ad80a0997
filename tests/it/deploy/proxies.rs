//! TLS in front of the relay. Whatever happens between them, nothing that was signed is answered 4xx, and nothing 2xx that the
//! relay has not stored.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::held::Held;
use super::proxy::{Kind, Proxy};
use super::read;
use crate::harness::fake_http::{Answer, FakeHttp};
use crate::harness::raw::head;
use crate::harness::{Ack, Delivery, SECRET, TestRelay, signed};

const MAX_BODY: usize = 16 << 10;

async fn relay() -> TestRelay {
    // The other name is one that nginx drops unless told otherwise.
    let settings = TestRelay::with_file_sink("out").plaintext().source("test", signed::PATH, &[SECRET], "");
    let settings = settings.source("odd", "/webhooks/odd", &[SECRET], "signature_header = \"X_Ralio.Signature\"");
    settings.server(&format!("max_body = \"{MAX_BODY}B\"")).server("read_timeout = \"1s\"").start().await
}

fn upstream(relay: &TestRelay) -> String {
    relay.url("").trim_start_matches("http://").to_owned()
}

/// A payin with so many bytes of body.
fn of_size(id: &str, bytes: usize) -> Delivery {
    let frame = Delivery::current(id, "payin_completed", serde_json::json!({"orderId": id, "note": ""})).body.len();
    let note = "n".repeat(bytes - frame);
    Delivery::current(id, "payin_completed", serde_json::json!({"orderId": id, "note": note}))
}

/// To the source whose signature header has another name.
fn odd_header(id: &str) -> Delivery {
    let delivery = signed::payin_completed(id).unsigned().to("/webhooks/odd");
    let signature = signed::signature(SECRET, &delivery.body);
    delivery.with_header("x_ralio.signature", &signature)
}

/// Good deliveries that a proxy might take for something of its own, or change.
fn deliveries() -> Vec<Delivery> {
    let ordinary = |id: &str| signed::payin_completed(id);
    vec![
        ordinary("evt-1"),
        signed::kyc_session_verified("evt-2"),
        Delivery::of(
            "\r\n{ \"eventId\" :\"evt-3\",\t\"eventType\":\"payin_completed\", \"note\":\"\u{e9}\\u00e9\" }\n\n",
        ),
        Delivery::of(b"\0\x1f\x8b\xff not JSON, not UTF-8\n".to_vec()),
        Delivery::of(""),
        of_size("evt-4", MAX_BODY),
        ordinary("evt-5").to("/webhooks/ralio/"),
        ordinary("evt-6").to("/webhooks/ralio?a=%2e%2e&b=//"),
        odd_header("evt-odd"),
        ordinary("evt-7").with_header("content-encoding", "gzip"),
        ordinary("evt-8")
            .with_header("if-match", "\"other\"")
            .with_header("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ordinary("evt-9").with_header("range", "bytes=0-1").with_header("if-none-match", "*"),
        ordinary("evt-10").with_header("x_under_score", "1").with_header("accept", "image/png"),
        ordinary("evt-11")
            .with_header("authorization", "Basic b3BzOm9wcw==")
            .with_header("upgrade-insecure-requests", "1"),
    ]
}

#[tokio::test]
async fn deliveries_arrive_byte_for_byte() {
    for kind in Kind::ALL {
        let relay = relay().await;
        let Some(proxy) = Proxy::start(kind, &upstream(&relay)).await else { continue };
        let mut sent: Vec<_> = deliveries().iter().map(Delivery::sha256).collect();
        for delivery in deliveries() {
            assert_eq!(proxy.post(&delivery).await, Ack::FRESH, "{kind:?} {delivery:?}");
            assert_eq!(proxy.post(&delivery).await, Ack::DUPLICATE, "{kind:?} {delivery:?}");
        }
        for (id, more, body) in [
            ("evt-chunked", "Transfer-Encoding: chunked\r\n", chunked as fn(&[u8]) -> Vec<u8>),
            ("evt-expected", "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", chunked),
            ("evt-old", "Connection: close\r\n", <[u8]>::to_vec),
        ] {
            let delivery = signed::payin_completed(id);
            let length = format!("{more}Content-Length: {}\r\n", delivery.body.len());
            let more = if more.contains("chunked") { more } else { &length };
            let mut raw = proxy.raw().await;
            raw.write([head(&delivery, more).into_bytes(), body(&delivery.body)].concat()).await;
            let answer = raw.read_until(&format!("\"id\":\"{id}\"")).await;
            assert!(answer.contains("HTTP/1.1 200"), "{kind:?} {answer}");
            sent.push(delivery.sha256());
        }
        let mut stored: Vec<_> =
            relay.events().await.iter().map(|event| event["body_sha256"].as_str().unwrap().to_owned()).collect();
        sent.sort();
        stored.sort();
        assert_eq!(stored, sent, "{kind:?}");
        relay.settled().await;
        relay.shutdown().await;
    }
}

/// In chunks of 7 bytes.
fn chunked(body: &[u8]) -> Vec<u8> {
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    [body.chunks(7).flat_map(chunk).collect(), b"0\r\n\r\n".to_vec()].concat()
}

/// A signature that does not hold is the sender's business, and a wrong method or path too.
#[tokio::test]
async fn what_the_relay_answers_is_passed_on() {
    for kind in Kind::ALL {
        let relay = relay().await;
        let Some(proxy) = Proxy::start(kind, &upstream(&relay)).await else { continue };
        let (good, large) = (signed::payin_completed("evt-1"), of_size("evt-2", MAX_BODY + 1));
        for (delivery, status) in [
            (good.clone().signed_with("forged"), 401),
            (good.clone().with_header("x-signature", "second"), 401),
            (good.clone().unsigned().to("/elsewhere"), 404),
            (good.clone().to("/elsewhere"), 503),
            (large.clone().signed_with("forged"), 503),
            (large.clone().unsigned(), 413),
            (large.clone(), 503),
        ] {
            let [through, straight] = [proxy.send(&delivery).await, relay.send(&delivery).await].map(Result::unwrap);
            assert_eq!(through.status(), status, "{kind:?} {delivery:?}");
            assert_eq!(through.text().await.unwrap(), straight.text().await.unwrap(), "{kind:?}");
        }
        let get = proxy.client().get(proxy.url(signed::PATH)).send().await.unwrap();
        assert_eq!((get.status().as_u16(), &get.headers()["allow"]), (405, &"POST".parse().unwrap()), "{kind:?}");
        assert_eq!(relay.events().await.len(), 0);
        relay.kill9();
    }
}

/// Neither 2xx nor 4xx: Ralio sends again. No answer at all is fine too.
#[track_caller]
fn comes_again(kind: Kind, answer: &str) {
    let last = answer.rsplit("HTTP/1.1 ").next().unwrap();
    assert!(last.is_empty() || last.starts_with('5'), "{kind:?} answered {answer}");
}

#[tokio::test]
async fn who_is_cut_off_or_too_slow_is_not_told_4xx_and_can_send_again() {
    for kind in Kind::ALL {
        let relay = relay().await;
        let Some(proxy) = Proxy::impatient(kind, &upstream(&relay), "3s").await else { continue };
        let delivery = signed::payin_completed("evt-1");
        let begun = |length: &str, body: &[u8]| [head(&delivery, length).as_bytes(), body].concat();
        let length = format!("Content-Length: {}\r\n", delivery.body.len());
        let half = &delivery.body[..delivery.body.len() / 2];
        // Too slow: the relay loses patience after a second.
        for (length, body) in
            [(length.as_str(), half), (&length, b""), ("Transfer-Encoding: chunked\r\n", b"7\r\n{\"even")]
        {
            let mut raw = proxy.raw().await;
            raw.write(begun(length, body)).await;
            comes_again(kind, &raw.read_to_close().await);
        }
        // Cut off: nobody is there to read an answer, but one may come.
        comes_again(kind, &proxy.raw().await.exchange(&begun(&length, half)).await);
        drop(proxy.raw().await);
        // Larger than the relay reads: it closes the connection.
        let endless = of_size("evt-2", 150 * MAX_BODY);
        match proxy.send(&endless).await {
            Ok(answer) => assert_eq!(answer.status(), 503, "{kind:?}"),
            Err(cut) => assert!(cut.is_request() || cut.is_body(), "{kind:?}: {cut:?}"),
        }
        assert_eq!(relay.events().await.len(), 0, "{kind:?}");
        // They came as far as the relay: no proxy gathers them first, in memory or on a disk.
        let aborted = relay.metric("requests_total", &[("outcome", "aborted")]).await;
        assert!(aborted >= 3, "{kind:?}: {aborted}");
        assert_eq!(proxy.post(&delivery).await, Ack::FRESH, "{kind:?}");
        relay.settled().await;
        relay.shutdown().await;
    }
}

/// Accepts connections, says this on each, and closes it.
async fn cutting(word: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _ = connection.write_all(word).await;
        }
    });
    (address, server)
}

#[tokio::test]
async fn when_the_relay_is_away_the_answer_is_503() {
    let delivery = signed::payin_completed("evt-1");
    let length = format!("Connection: close\r\nContent-Length: {}\r\n", delivery.body.len());
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (closing, _closing) = cutting(b"").await;
    let (cut, _cut) = cutting(b"HTTP/1.1 200 OK\r\nContent-Le").await;
    let (broken, _broken) = cutting(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n{").await;
    let (garbled, _garbled) = cutting(b"220 mail.example.com ESMTP\r\n").await;
    let hanging = FakeHttp::answering([Answer::Hang]).await;
    let hangs: SocketAddr = reqwest::Url::parse(&hanging.url()).unwrap().socket_addrs(|| None).unwrap()[0];
    for kind in Kind::ALL {
        for upstream in [gone, closing, cut, hangs] {
            let Some(proxy) = Proxy::impatient(kind, &upstream.to_string(), "1s").await else { continue };
            // Twice: a proxy might remember.
            for _ in 0..2 {
                assert_eq!(proxy.post(&delivery).await, Ack::refused(503), "{kind:?} before {upstream}");
            }
        }
        // A sender that falls silent, or closes its half of the connection, and one that waits: nothing is stored of any.
        let Some(proxy) = Proxy::impatient(kind, &hangs.to_string(), "1s").await else { continue };
        let begun = [head(&delivery, &length).as_bytes(), &delivery.body].concat();
        for sent in [begun.len(), begun.len() - 1] {
            let mut silent = proxy.raw().await;
            silent.write(&begun[..sent]).await;
            comes_again(kind, &silent.read_to_close().await);
            comes_again(kind, &proxy.raw().await.exchange(&begun[..sent]).await);
        }
        // What breaks in the middle of an answer, or is none, breaks here too; it is not made into an error of the sender.
        for upstream in [broken, garbled] {
            let Some(proxy) = Proxy::impatient(kind, &upstream.to_string(), "1s").await else { continue };
            if let Ok(answer) = proxy.send(&delivery).await {
                assert_eq!(answer.status(), 503, "{kind:?} before {upstream}");
            }
        }
    }
}

/// What the relay is configured to take, no proxy refuses.
#[tokio::test]
async fn a_large_delivery_and_one_in_pieces_are_taken() {
    for kind in Kind::ALL {
        let relay = TestRelay::with_file_sink("out").plaintext().server("max_body = \"8MiB\"").start().await;
        let Some(proxy) = Proxy::start(kind, &upstream(&relay)).await else { continue };
        assert_eq!(proxy.post(&of_size("evt-large", 8 << 20)).await, Ack::FRESH, "{kind:?}");
        let delivery = signed::payin_completed("evt-1");
        let mut raw = proxy.raw().await;
        raw.write(head(&delivery, &format!("Content-Length: {}\r\n", delivery.body.len()))).await;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        for piece in delivery.body.chunks(10) {
            tick.tick().await;
            raw.write(piece).await;
        }
        let answer = raw.read_until("\"duplicate\":false").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{kind:?} {answer}");
        relay.settled().await;
        relay.shutdown().await;
    }
}

/// Signed requests that are no proper HTTP/1.1, or more of it than a proxy takes; what Caddy answers them, as its comment says.
fn odd() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let delivery = signed::payin_completed("evt-odd");
    let length = format!("Connection: close\r\nContent-Length: {}\r\n", delivery.body.len());
    let with = |more: &str| [head(&delivery, more).as_bytes(), &delivery.body].concat();
    let changed = |from: &str, to: &str| {
        let head = head(&delivery, &length);
        assert!(head.contains(from));
        [head.replace(from, to).as_bytes(), &delivery.body].concat()
    };
    vec![
        ("no Host", changed("Host: localhost\r\n", ""), "400"),
        ("two Hosts", changed("Host: localhost\r\n", "Host: localhost\r\nHost: localhost\r\n"), "400"),
        ("a Host that is none", changed("Host: localhost", "Host: /%"), "400"),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2\r\n"), "400"),
        ("a length that is none", with("Content-Length: many\r\n"), "400"),
        ("a header that is none", changed("x-signature", "no header\r\nx-signature"), "400"),
        ("a line that is folded", changed("x-signature", "a: b\r\n c\r\nx-signature"), ""),
        ("a path that is none", changed("POST /webhooks/ralio", "POST /webhooks/ralio%zz"), "400"),
        ("a path that leads out", changed("POST /webhooks/ralio", "POST /../../webhooks/ralio"), ""),
        ("an unknown Expect", with(&format!("{length}Expect: the-best\r\n")), "417"),
        ("a coding that nobody knows", with("Transfer-Encoding: zip\r\n"), ""),
        ("a large header", with(&format!("{length}X-Large: {}\r\n", "n".repeat(60_000))), ""),
        ("a head of 2 MiB", with(&format!("{length}{}", "X-Large: 0123456789\r\n".repeat(100_000))), "431"),
        ("a long path", changed("POST /webhooks/ralio", &format!("POST /{}", "n".repeat(60_000))), ""),
        ("HTTP/1.0", changed("HTTP/1.1", "HTTP/1.0"), ""),
        ("HTTP/9.9", changed("HTTP/1.1", "HTTP/9.9"), ""),
        ("another name", changed("Host: localhost", "Host: 192.0.2.1"), ""),
    ]
}

#[tokio::test]
async fn odd_requests_get_no_4xx_that_the_comments_do_not_name() {
    for kind in Kind::ALL {
        let relay = relay().await;
        let Some(proxy) = Proxy::start(kind, &upstream(&relay)).await else { continue };
        for (what, request, exception) in odd() {
            let mut raw = proxy.raw().await;
            raw.write_some(&request).await;
            let answer = raw.read_to_close().await;
            let status = answer.strip_prefix("HTTP/1.1 ").or(answer.strip_prefix("HTTP/1.0 ")).unwrap_or(&answer);
            let status = &status[..status.len().min(3)];
            let excepted = kind == Kind::Caddy && !exception.is_empty();
            if excepted {
                assert_eq!(status, exception, "{kind:?} {what}");
                assert!(read(kind.file()).contains(exception), "{exception} is not in the comment");
            } else if status == "200" {
                assert_eq!(relay.events().await.len(), 1, "{kind:?} {what}: 200, and nothing is stored");
            } else {
                assert!(status.is_empty() || status.starts_with('5'), "{kind:?} {what}: {answer}");
            }
        }
        relay.kill9();
    }
}

/// HTTP where HTTPS is meant, and another name: each a mistake in the portal.
#[tokio::test]
async fn a_url_that_is_not_quite_right_loses_nothing() {
    let delivery = signed::payin_completed("evt-1");
    for kind in Kind::ALL {
        let relay = relay().await;
        let Some(proxy) = Proxy::start(kind, &upstream(&relay)).await else { continue };
        // The signature is over the bytes as sent, and fewer parts are fewer answers of their own.
        assert_eq!(proxy.raw_offering(&["h2", "http/1.1"]).await.protocol().as_deref(), Some("http/1.1"), "{kind:?}");
        let other = delivery.clone().with_header("host", "webhooks.example.net");
        let answer = proxy.send(&other).await.unwrap();
        match kind {
            Kind::Nginx => assert_eq!(Ack::read(&other, answer).await.unwrap(), Ack::FRESH),
            Kind::Caddy => assert_eq!(Ack::read(&other, answer).await.unwrap(), Ack::refused(503)),
        }
        let plain = format!("http://{}{}", proxy.address(), delivery.path);
        let answer = proxy.client().post(plain).header("x-signature", "none").body(delivery.body.clone()).send().await;
        match (kind, answer) {
            (Kind::Nginx, answer) => assert_eq!(answer.unwrap().status(), 503),
            (Kind::Caddy, Ok(answer)) => assert_eq!(answer.status(), 400, "Go's own, as its comment says"),
            (Kind::Caddy, Err(_)) => {}
        }
        relay.kill9();
    }
}

/// The lines for relay.toml in the comments are right, and lead to where the proxy goes.
#[tokio::test]
async fn the_comments_configure_the_relay_that_the_proxy_asks() {
    for kind in Kind::ALL {
        let file = read(kind.file());
        let lines: String = file
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .filter(|l| !l.starts_with('-'))
            .map(|l| format!("{l}\n"))
            .collect();
        let lines = lines
            .lines()
            .take_while(|line| line.starts_with('[') || line.contains(" = "))
            .collect::<Vec<_>>()
            .join("\n");
        let rest = "\n[[sources]]\nname = \"a\"\npath = \"/a\"\nsecrets = [{ file = \"/run/secrets/a\" }]\n\
                    [inbox]\nurl = \"sqlite:///var/lib/ralio-relay/inbox.db\"\n[[sinks]]\nname = \"a\"\ntype = \"stdout\"\n";
        let held = Held::read(&format!("{lines}{rest}"), &["/run/secrets/a".to_owned()]).await;
        assert_eq!(held.value("server.plaintext"), true);
        let listen = held.value("server.listen").as_str().unwrap();
        assert!(listen.starts_with("127.0.0.1:"), "plain HTTP leaves the machine");
        let asked = match kind {
            Kind::Nginx => format!("server {listen} max_fails=0;"),
            Kind::Caddy => format!("reverse_proxy {listen} {{"),
        };
        assert!(file.contains(&asked), "{asked}");
    }
}
