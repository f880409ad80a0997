//! TLS handshakes that fail: each reason is counted, and told once with what to do.

use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::harness::load::address;
use crate::harness::{Ack, TestRelay, eventually, signed, skip};

/// Says this, and nothing more, and waits for the end.
async fn say(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// A sender that trusts nobody.
async fn distrust(address: &str) {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), tcp).await;
    assert!(connected.is_err());
}

async fn failures(relay: &TestRelay, reason: &str) -> i64 {
    relay.metric("tls_handshake_failures_total", &[("reason", reason)]).await
}

/// The lines that tell of a reason: at least one.
async fn lines(relay: &TestRelay, reason: &str) -> Vec<String> {
    let is_it = |line: &String| line.contains("TLS handshake failed") && line.contains(&format!("\"{reason}\""));
    eventually("a line about the failure", async || {
        let told: Vec<_> = relay.log().into_iter().filter(is_it).collect();
        if told.is_empty() { Err(reason) } else { Ok(told) }
    })
    .await
}

#[tokio::test]
async fn each_reason_is_counted_and_told_once_with_a_remedy() {
    let relay = TestRelay::builder().server("read_timeout = \"1s\"").start().await;
    let address = address(&relay);
    for round in 1..=2 {
        distrust(&address).await;
        say(&address, b"PROXY TCP4 203.0.113.7 192.0.2.1 51234 443\r\n").await;
        say(&address, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c").await;
        say(&address, b"GET / HTTP/1.1\r\n\r\n").await;
        say(&address, b"\x00\x01\x02\x03\x04\x05\x06\x07").await;
        say(&address, b"\x16\x03\x01\x00\x80").await;
        let mut silent = TcpStream::connect(&address).await.unwrap();
        let _ = silent.read_to_end(&mut Vec::new()).await;
        for (reason, times, remedy) in [
            ("unknown_ca", 1, "server.tls.cert"),
            ("proxy_line", 2, "turn it off"),
            ("plain_http", 1, "https://"),
            ("not_tls", 1, ""),
            ("closed", 1, ""),
            ("timeout", 1, ""),
        ] {
            eventually("the failure is counted", async || match failures(&relay, reason).await {
                count if count == times * round => Ok(()),
                count => Err((reason, count)),
            })
            .await;
            let told = lines(&relay, reason).await;
            assert!(told.len() == 1 && told[0].contains(remedy) && told[0].contains("127.0.0.1"), "{reason}: {told:?}");
        }
    }
    assert_eq!(failures(&relay, "other").await + failures(&relay, "no_shared_cipher").await, 0);
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.shutdown().await;
}

#[tokio::test]
async fn a_sender_with_other_ciphers_or_versions_is_told_of() {
    let relay = TestRelay::builder().start().await;
    for (arguments, reason) in [
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"][..], "no_shared_cipher"),
        (&["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "no_shared_version"),
    ] {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &address(&relay)]).args(arguments);
        let Ok(said) = client.stdin(Stdio::null()).output() else { return skip("openssl") };
        eventually("the failure is counted", async || match failures(&relay, reason).await {
            1 => Ok(()),
            other => Err((reason, other, String::from_utf8_lossy(&said.stderr).into_owned(), relay.log())),
        })
        .await;
        assert_eq!(lines(&relay, reason).await.len(), 1);
    }
    relay.shutdown().await;
}
