//! Canaries: secrets and personal data that must stay where they are.

use std::fs;

use serde_json::json;

use crate::harness::fake_http::FakeHttp;
use crate::harness::pki::Pki;
use crate::harness::raw::Raw;
use crate::harness::{Builder, Delivery, TestRelay, eventually, signed};

/// In every body.
const IBAN: &str = "ES9121000418450200051332";

/// Every secret of the harness begins with `canary`; so do those here.
const CANARY: &str = "canary";

/// Sinks with all kinds of secrets: one that works after a failure, over HTTP/1 and HTTP/2, a command, and a broker that
/// is not there.
fn relay(app: &FakeHttp, secure: &FakeHttp, pki: &Pki) -> Builder {
    let http = |url: String, more: String| {
        format!(
            "[sinks.http]\nurl = {url:?}\nsigning_secret = \"canary-signing-secret-of-some-length\"\n{more}\n\
             headers = {{ authorization = \"Bearer canary-header\" }}"
        )
    };
    let with_credentials = app.url().replace("http://", "http://canary-user:canary-password@") + "?token=canary-query";
    let relay = TestRelay::builder();
    let file = relay.directory().join("environment");
    let exec = json!(["/bin/sh", "-c", format!("cat >/dev/null; env >{}; echo done; exit 0", file.display())]);
    let relay = relay
        .sink("app", "http", &http(with_credentials, String::new()))
        .sink("secure", "http", &http(secure.url(), format!("ca = {:?}", pki.file("ca.crt"))))
        .sink("command", "exec", &format!("[sinks.exec]\ncommand = {exec}\nenv_allow = [\"PATH\"]"))
        .env("CANARY_IN_THE_ENVIRONMENT", "canary-in-the-environment");
    let url = "amqp://canary-broker-user:canary-broker-password@127.0.0.1:1/%2f";
    let broker = format!("[sinks.amqp]\nurl = {url:?}\nexchange = \"x\"");
    if cfg!(feature = "amqp") { relay.sink("bus", "amqp", &broker) } else { relay }
}

fn canary(id: &str, order: &str) -> Delivery {
    let person = json!({"name": "Canary Person", "accountNumber": IBAN});
    Delivery::current(id, "payin_completed", json!({"orderId": order, "source": person, "viban": {"iban": IBAN}}))
}

/// Everything that makes the relay say something: good, repeated, contradictory, forged, misdirected, broken. Gives what it
/// answered.
async fn provoke(relay: &TestRelay) -> String {
    let mut not_json = canary("evt-4", "c").body;
    not_json.pop();
    let deliveries = [
        canary("evt-1", "a"),
        canary("evt-1", "a"),
        canary("evt-1", "b"),
        canary("evt-2", "a").signed_with("canary-forger"),
        canary("evt-2", "a").with_signature("canary-signature"),
        canary("evt-3", "a").to("/mistyped"),
        Delivery::of(not_json),
    ];
    let mut answers = String::new();
    for delivery in &deliveries {
        answers += &relay.send(delivery).await.unwrap().text().await.unwrap();
    }
    for admin in ["/metrics", "/readyz", "/canary"] {
        let request = relay.client().get(relay.admin_url(admin)).bearer_auth("canary-guess");
        answers += &request.send().await.unwrap().text().await.unwrap().replace("/canary", "");
    }
    answers += &Raw::connect(relay).await.exchange(b"canary nonsense\r\n\r\n").await;
    answers
}

async fn stay_secret(format: &str) {
    let pki = Pki::new();
    let app = FakeHttp::answering([503, 200]).await;
    let secure = FakeHttp::over_tls(pki.server(&["h2", "http/1.1"], None), [500, 422, 200]).await;
    let builder = relay(&app, &secure, &pki).expect_errors().expect_parked();
    let relay = builder.env("RALIO_RELAY__LOG__FORMAT", format).env("RALIO_RELAY__LOG__LEVEL", "trace").start().await;
    let answers = provoke(&relay).await;
    app.requests_reach(3).await;
    secure.requests_reach(3).await;
    assert_eq!(secure.requests()[0].headers["authorization"], "Bearer canary-header", "it is in use");
    let environment = relay.settings().directory().join("environment");
    let environment = eventually("the command's environment", async || match fs::read_to_string(&environment) {
        Ok(text) if text.contains("CE_ID=") => Ok(text),
        other => Err(other),
    })
    .await;

    let key = fs::read_to_string(relay.settings().directory().join("tls.key")).unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    let shown = relay.cli(&["config", "show"]).await.success();
    let as_json = relay.cli(&["config", "show", "--format", "json"]).await.success();
    let checked = relay.cli(&["check"]).await.success();
    let probed = relay.cli(&["check", "--probe"]).await;
    let lists = relay.cli(&["events", "list"]).await.success();
    let sinks = relay.cli(&["sinks", "list"]).await.success();
    let (metrics, log) = (relay.metrics().await, relay.log().join("\n"));
    assert!(log.contains("TRACE"), "{log}");
    let outputs = [&shown, &as_json, &checked, &probed, &lists, &sinks];
    let outputs = outputs.map(|output| format!("{}\n{}", output.stdout, output.stderr)).join("\n");
    for (place, text) in [
        ("log", &log),
        ("metrics", &metrics),
        ("answers", &answers),
        ("commands", &outputs),
        ("a child's environment", &environment),
    ] {
        // The directory of the test and the names of variables are no secrets.
        for secret in [CANARY, IBAN, "Canary Person", &key] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} in {place}: {}", line.unwrap_or_default());
        }
    }
    drop(relay);
}

#[tokio::test]
async fn secrets_and_bodies_stay_out_of_everything_with_a_json_log() {
    stay_secret("json").await;
}

#[tokio::test]
async fn secrets_and_bodies_stay_out_of_everything_with_a_text_log() {
    stay_secret("text").await;
}

/// Whatever is wrong with a configuration, its values are not quoted.
#[tokio::test]
async fn a_wrong_configuration_is_told_without_its_secrets() {
    let relay = TestRelay::builder();
    relay.write_config();
    let good = fs::read_to_string(relay.config_file()).unwrap();
    for wrong in [
        "token = canary-1",
        "token = \"canary-1",
        "token = [\"canary-1\"]",
        "token = { text = \"canary-1\" }",
        "token = { env = \"NOT_SET\", file = \"canary-1\" }",
        "token = \"\"\"canary-1",
        "tokn = \"canary-1\"",
        "token = \"canary-1\"\ntoken = \"canary-2\"",
    ] {
        let text = good
            .replace("[admin]\n", &format!("[admin]\n{wrong}\nopen_metrics = \"canary-3\" #"))
            .replace("token = { file", "# {");
        fs::write(relay.config_file(), text).unwrap();
        for command in [&["check"][..], &["config", "show"], &["serve"], &["events", "list"]] {
            let config = relay.config_file();
            let output = crate::harness::run(&[command, &["--config", config.to_str().unwrap()]].concat()).await;
            let said = format!("{}{}", output.stdout, output.stderr);
            assert!(!said.contains(CANARY), "{wrong}: {command:?}: {said}");
            assert!(output.code != Some(0) || command == ["config", "show"], "{wrong}: {command:?}: {said}");
        }
    }
}

/// Nor does a crash leave a picture of the memory.
#[tokio::test]
async fn there_is_no_core_dump() {
    let mut relay = TestRelay::builder().wrapped(&["prlimit", "--core=unlimited:unlimited"]).start().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", relay.process().pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, crate::harness::Ack::FRESH);
    relay.shutdown().await;
}
