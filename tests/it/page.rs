//! The page in a browser: a relay with real deliveries behind it, and the tests in `tests/browser`, which click through it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use crate::harness::{Builder, Delivery, SECRET, TOKEN, TestRelay, eventually, skip, write_secret};

const PATH: &str = "/webhooks/ralio";
/// A source that only hostile requests come to.
const HOSTILE_PATH: &str = "/webhooks/hostile";
const SCRIPT: &str = "<img src=x onerror=\"window.hacked=1\"><script>window.hacked=1</script>";

fn ours(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Two sinks: an archive that takes everything, and a ledger that refuses for good what asks to be refused, with a
/// script in its reason, until there is a file `accept`, and puts off what asks to be put off, until there is one `now`. The secret of its source is a stale one.
fn settings() -> Builder {
    // What was refused waits for a person.
    let builder = TestRelay::builder().env("RALIO_RELAY__INBOX__QUARANTINE__ADMIT", "manual");
    let builder = builder.source("test", PATH, &["a stale secret"], "");
    let builder = builder.source("hostile", HOSTILE_PATH, &["nobody knows it"], "").file_sink("archive", "");
    let directory = builder.directory().to_owned();
    let script = format!(
        "body=$(cat); case \"$body\" in *refuse-me*) test -e accept || {{ echo 'no such account {}'; exit 1; }};;
         *try-later*) test -e now || {{ echo 'come back later'; exit 75; }};; esac
         echo \"$CE_ID\" >> ledger.ids",
        SCRIPT.replace('\'', "")
    );
    let command = json!(["/bin/sh", "-c", script]);
    let exec =
        format!("command = {command}\nenv_allow = [\"PATH\"]\ndirectory = {directory:?}\non_failure = \"dead_letter\"");
    builder.sink("ledger", "exec", &format!("[sinks.exec]\n{exec}"))
}

/// Somebody, with everything that is personal.
fn people() -> Delivery {
    let data = json!({
        "status": "COMPLETED", "orderId": "order-people", "ip": "203.0.113.77",
        "source": {"accountNumber": "ES9121000418450200051332", "card": "4111 1111 1111 1111",
            "payer": {"name": "Zoë Quispe", "email": "zoe.quispe@example.com", "phone": "+34 600 111 222",
                "birthDate": "1987-06-05", "document": {"type": "DNI", "number": "X1234567L"},
                "address": {"street": "Calle Mayor 7", "city": "Madrid"}}},
        "amounts": {"receivedAmount": {"amount": 123_456, "currency": "EUR"}, "fx": {"pair": "EUR/USD", "rate": "RATE"}},
    });
    let body = json!({"eventId": "evt-people", "eventType": "payin_completed", "timestamp": "2026-02-26T17:02:28.766Z", "data": data});
    Delivery::of(body.to_string().replace("\"RATE\"", "1.10"))
}

/// Scripts in every field that Ralio could fill.
fn hostile() -> [Delivery; 3] {
    let data = |order: &str| json!({"status": SCRIPT, "orderId": order, "note": SCRIPT, "ownReference": "refuse-me", SCRIPT: [SCRIPT]});
    let in_ids = Delivery::current(SCRIPT, "payin.<img/src=x/onerror=window.hacked=1>", data(SCRIPT));
    let turned = Delivery::current("evt-hostile-2", "payin_failed", data("order-\u{202e}hostile"));
    [in_ids, turned, Delivery::of(format!("{SCRIPT} is no JSON"))]
}

/// Refused for their signature: everything that is kept of them is hostile.
fn refused() -> Delivery {
    let delivery = Delivery::of(json!({"eventId": SCRIPT, "data": {"x": SCRIPT}}).to_string()).to(HOSTILE_PATH);
    delivery.with_signature(SCRIPT).with_header("user-agent", SCRIPT).with_header("x-request-id", SCRIPT)
}

/// Genuine, and refused while the secret was stale; then the right secret is put in place.
async fn rotate(relay: &TestRelay) {
    let data = json!({"status": "COMPLETED", "orderId": "order-stale-secret"});
    let genuine = Delivery::current("evt-stale-secret", "payin_completed", data);
    assert_eq!(relay.post(&genuine).await.status, 401);
    write_secret(&relay.settings().directory().join("secret-test-0"), SECRET);
    let order = |id: &str, kind: &str| Delivery::current(id, kind, json!({"orderId": "order-of-two", "status": "x"}));
    eventually("the new secret in use", async || {
        match relay.post(&order("evt-order-1", "payin_processing")).await.status {
            200 => Ok(()),
            status => Err(status),
        }
    })
    .await;
    assert_eq!(relay.post(&order("evt-order-2", "payin_completed")).await.status, 200);
}

/// Realistic deliveries, with duplicates and forgeries, and those that single tests are about.
async fn fill(relay: &TestRelay) {
    rotate(relay).await;
    let directory = relay.settings().directory();
    let (secret, ca) = (directory.join("secret-test-0"), directory.join("tls.crt"));
    let (secret, ca, url) = (secret.to_str().unwrap(), ca.to_str().unwrap(), relay.url(PATH));
    let simulate =
        ["simulate", "--flow", "all", "--count", "80", "--duplicates", "20", "--bad-signature", "10", "--seed", "7"];
    let target = ["--url", &url, "--secret-file", secret, "--ca", ca];
    crate::harness::run(&[&simulate[..], &target].concat()).await.success();
    for delivery in hostile().iter().chain([&people()]) {
        assert_eq!(relay.post(delivery).await.status, 200);
    }
    // The quarantine takes so many a second.
    eventually("a hostile request in quarantine", async || {
        assert_eq!(relay.post(&refused()).await.status, 401);
        relay.quarantine().await.into_iter().find(|request| request["source"] == "hostile").ok_or("none")
    })
    .await;
    relay.settled().await;
}

/// Every view and everything that can be clicked, in a real Chromium; what is looked at is told in `tests/browser`.
#[tokio::test(flavor = "multi_thread")]
async fn works_in_a_browser() {
    let python = ours("target/tools/python/bin/python");
    let chromium = Path::new("/usr/bin/chromium");
    if let Some(missing) = [&*python, chromium].into_iter().find(|path| !path.exists()) {
        return skip(&missing.display().to_string());
    }
    let relay = settings().expect_errors().start().await;
    fill(&relay).await;

    let mut tests = tokio::process::Command::new(python);
    tests.arg("-B").arg(ours("tests/browser/run.py")).args(std::env::var("RALIO_RELAY_PAGE_TESTS").ok());
    tests.env("PAGE_URL", relay.admin_url("/")).env("PAGE_TOKEN", TOKEN).env("PAGE_SECRET", SECRET);
    tests.env("PAGE_WEBHOOK", relay.url(PATH)).env("PAGE_DIRECTORY", relay.settings().directory());
    tests.stdin(Stdio::null()).kill_on_drop(true);
    let output = tests.output().await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{told}");
    assert!(output.status.success(), "see what the browser's tests say above, and tests/browser/run.py");
    relay.shutdown().await;
}
