//! The admin API against what schemathesis makes of its description: data that fits it and data that does not, for every
//! operation. Nothing is answered 5xx, what does not fit is refused, and every answer is as described.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use tokio::process::Command;

use crate::harness::{Ack, Campaign, TOKEN, TestRelay, signed, skip};

#[tokio::test]
async fn the_api_is_what_its_description_says() {
    described(Campaign::brief("admin API, made from its description", 1), 5, 300).await;
}

/// Anybody who reaches the listener could fill the log, at the level that calls people.
#[tokio::test]
async fn what_is_no_request_is_no_error_of_ours() {
    let relay = TestRelay::with_file_sink("out").start().await;
    for bytes in ["GET / HTTP/1.1\r\nHost: localhost\r\nx\u{1}: y\r\n\r\n", "\u{16}\u{3}\u{1}\r\n\r\n"] {
        let mut socket = TcpStream::connect(relay.admin_url("").replace("http://", "")).unwrap();
        socket.write_all(bytes.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    assert_eq!(relay.readyz().await, 200);
    let errors: Vec<_> = relay.log().into_iter().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    assert!(errors.is_empty(), "{errors:?}");
    relay.shutdown().await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_api() {
    described(Campaign::whole("admin API, made from its description", 4), 150, 2500).await;
}

/// So many examples for each operation, and at least so many requests in a round.
async fn described(mut campaign: Campaign, examples: u32, at_least: u64) {
    let schemathesis = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/schemathesis");
    if !schemathesis.exists() {
        return skip("schemathesis");
    }
    while let Some(mut rng) = campaign.round() {
        let relay = TestRelay::with_file_sink("out").expect_errors().start().await;
        for n in 0..20 {
            assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
        }
        assert_eq!(relay.post(&signed::payin_completed("forged").signed_with("no")).await, Ack::refused(401));
        let spec = relay.client().get(relay.admin_url("/api/openapi.json")).bearer_auth(TOKEN).send().await.unwrap();
        let directory = relay.settings().directory();
        std::fs::write(directory.join("openapi.json"), spec.bytes().await.unwrap()).unwrap();
        let (examples, seed) = (examples.to_string(), rng.u32(..).to_string());
        let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,ignored_auth,unsupported_method";
        let mut command = Command::new(&schemathesis);
        command.args(["run", "openapi.json", "--url", &relay.admin_url(""), "--no-color", "--seed", &seed]);
        command.args(["-H", &format!("Authorization: Bearer {TOKEN}"), "--mode", "all", "--continue-on-failure"]);
        // A tail has no end.
        command.args(["--exclude-path", "/api/tail", "--phases", "coverage,fuzzing", "--max-examples", &examples]);
        command.args(["--checks", checks, "--suppress-health-check", "all", "--request-timeout", "20"]);
        let output = command.current_dir(directory).kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let requests = generated(&said);
        assert!(requests >= at_least, "only {requests} requests:\n{said}");
        campaign.count("requests", requests);
        let panics = relay.log().iter().filter(|line| line.contains("panicked")).count();
        assert_eq!(panics, 0, "{:?}", relay.log());
        assert_eq!(relay.readyz().await, 200);
        relay.kill9();
    }
}

/// `  1610 generated, 2 found ..`
fn generated(said: &str) -> u64 {
    let line = said.lines().find(|line| line.contains(" generated, "));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no number of test cases in {said}"))
}
