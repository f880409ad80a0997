//! Certificates and secrets, replaced under a running relay.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::harness::raw::{Raw, head};
use crate::harness::signed::{self, Delivery, PATH};
use crate::harness::{
    Ack, SECRET, TOKEN, TestRelay, eventually, write_certificate, write_certificate_until, write_secret,
};

const NEW: &str = "canary-new-c2d1-secret";
const NEWER: &str = "canary-newer-9e0f-secret";

/// A secret is in use.
const TAKEN: &str = "a new secret is in use";

/// SIGHUP has been carried out.
pub const READ: &str = "the configuration has been read again";

fn secret_file(relay: &TestRelay, slot: usize) -> std::path::PathBuf {
    relay.settings().directory().join(format!("secret-test-{slot}"))
}

/// Its log lines that say this.
pub fn said(relay: &TestRelay, what: &str) -> Vec<Value> {
    let lines = relay.log().into_iter().filter(|line| line.contains(what));
    lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Waits until its log says this so many times.
pub async fn says(relay: &TestRelay, times: usize, what: &str) -> Vec<Value> {
    eventually(&format!("{times} x {what:?} in the log"), async || {
        let lines = said(relay, what);
        if lines.len() == times { Ok(lines) } else { Err(lines.len()) }
    })
    .await
}

/// The answer to a fresh delivery that is signed with this secret.
async fn status(relay: &TestRelay, secret: &str) -> u16 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let id = format!("evt-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    relay.post(&signed::payin_completed(&id).signed_with(secret)).await.status
}

/// Whether somebody who trusts nothing but the certificate in the file can connect.
async fn serves_the_certificate_in_the_file(relay: &TestRelay) {
    eventually("the certificate in the file", async || Raw::offering(relay, &[]).await.map(drop)).await;
}

/// No secret is ever in the log.
pub fn is_discreet(relay: &TestRelay) {
    let log = relay.log().join("\n");
    assert!(!log.contains("canary-"), "a secret is in the log:\n{log}");
}

/// Replaces a file as careful people do: at once.
pub fn replace(file: &Path, text: &str) {
    let beside = file.with_extension("new");
    write_secret(&beside, text);
    fs::rename(beside, file).unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections_and_leaves_open_ones_alone() {
    let relay = TestRelay::builder().server("read_timeout = \"60s\"").start().await;
    let directory = relay.settings().directory().to_owned();
    let begun = signed::payin_completed("evt-in-flight");
    let mut old = Raw::connect(&relay).await;
    let (first, rest) = begun.body.split_at(begun.body.len() / 2);
    old.write(head(&begun, &format!("Content-Length: {}\r\n", begun.body.len()))).await;
    old.write(first).await;
    let century = 100 * 365 * 24 * 3600;
    assert!(relay.metric("tls_cert_expiry_seconds", &[]).await > century);

    // The certificate first, then its key: in between they do not fit.
    write_certificate_until(&directory, 2100);
    serves_the_certificate_in_the_file(&relay).await;
    let left = relay.metric("tls_cert_expiry_seconds", &[]).await;
    assert!((0..century).contains(&left), "{left} s are left");

    old.write(rest).await;
    let answer = old.read_until("\"duplicate\":false").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // The connection is still good for another one.
    let next = signed::payin_completed("evt-next");
    old.write(head(&next, &format!("Content-Length: {}\r\n", next.body.len()))).await;
    old.write(&next.body).await;
    assert!(old.read_until("\"duplicate\":false").await.starts_with("HTTP/1.1 200"));
    relay.shutdown().await;
}

#[tokio::test]
async fn a_webhook_secret_is_rotated_through_its_file() {
    let relay = TestRelay::builder().source("test", PATH, &[NEW, SECRET], "").start().await;
    assert_eq!((status(&relay, NEW).await, status(&relay, SECRET).await), (200, 200));
    assert_eq!(status(&relay, NEWER).await, 401);
    let used = async |slot| relay.metric("secret_used_total", &[("source", "test"), ("slot", slot)]).await;
    assert_eq!((used("0").await, used("1").await), (1, 1));

    replace(&secret_file(&relay, 1), &format!("{NEWER}\n"));
    let line = says(&relay, 1, TAKEN).await.remove(0);
    assert_eq!((line["of"].as_str(), line["slot"].as_u64()), (Some("test"), Some(1)), "{line}");
    assert_eq!((status(&relay, NEW).await, status(&relay, NEWER).await), (200, 200));
    assert_eq!(status(&relay, SECRET).await, 401, "the old secret is gone");
    assert_eq!((used("0").await, used("1").await), (2, 2));
    // What came in before, signed with the next secret, is let in by it.
    eventually("the refused delivery among the events", async || match relay.events().await.len() {
        5 => Ok(()),
        count => Err(count),
    })
    .await;
    is_discreet(&relay);
    relay.shutdown().await;
}

/// Kubernetes puts new files into a new directory, and renames a symbolic link to it over `..data`. The files that are
/// named in the configuration are links through it, and are never touched.
#[tokio::test]
async fn files_that_kubernetes_swaps_are_seen() {
    let builder = TestRelay::builder().source("test", PATH, &[SECRET], "");
    let mount = builder.directory().to_owned();
    let names = ["tls.crt", "tls.key", "secret-test-0"];
    fs::create_dir(mount.join("..2026_01")).unwrap();
    for name in names {
        fs::rename(mount.join(name), mount.join("..2026_01").join(name)).unwrap();
        symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
    }
    symlink("..2026_01", mount.join("..data")).unwrap();
    let relay = builder.start().await;
    assert_eq!((status(&relay, SECRET).await, status(&relay, NEW).await), (200, 401));

    swap(&mount, "..2026_02", &[("secret-test-0", NEW)]);
    fs::remove_dir_all(mount.join("..2026_01")).unwrap();
    says(&relay, 1, TAKEN).await;
    serves_the_certificate_in_the_file(&relay).await;
    // The client of the harness trusts the first certificate only.
    let trusting = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
    let new = signed::payin_completed("evt-new").signed_with(NEW);
    assert_eq!(post(&trusting, &relay, &new).await, Ack::FRESH);
    assert_eq!(post(&trusting, &relay, &signed::payin_completed("evt-old")).await, Ack::refused(401));
    relay.shutdown().await;
}

/// What Kubernetes does, with a new certificate and these secrets.
fn swap(mount: &Path, version: &str, secrets: &[(&str, &str)]) {
    fs::create_dir(mount.join(version)).unwrap();
    write_certificate(&mount.join(version));
    secrets.iter().for_each(|(name, text)| write_secret(&mount.join(version).join(name), text));
    symlink(version, mount.join("..data_tmp")).unwrap();
    fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
}

#[tokio::test]
async fn a_broken_certificate_keeps_the_old_one_and_is_told_once() {
    let relay = TestRelay::builder().expect_errors().start().await;
    let directory = relay.settings().directory().to_owned();
    let [cert, key] = ["tls.crt", "tls.key"].map(|name| directory.join(name));
    let good = fs::read_to_string(&cert).unwrap();
    let kept = "the certificate cannot be read again";

    replace(&cert, "-----BEGIN CERTIFICATE-----\nnonsense");
    let error = says(&relay, 1, kept).await.remove(0);
    assert!(error["level"] == "ERROR" && error["error"].as_str().unwrap().contains("tls.crt"), "{error}");
    // Good, but made for another key.
    let other = tempfile::tempdir().unwrap();
    write_certificate(other.path());
    replace(&cert, &fs::read_to_string(other.path().join("tls.crt")).unwrap());
    let error = says(&relay, 2, kept).await.remove(1);
    assert!(error["error"].as_str().unwrap().contains("does not fit"), "{error}");
    write_certificate_until(other.path(), 2020);
    let expired = ["tls.crt", "tls.key"].map(|name| fs::read_to_string(other.path().join(name)).unwrap());
    let good_key = fs::read_to_string(&key).unwrap();
    replace(&key, &expired[1]);
    replace(&cert, &expired[0]);
    says(&relay, 1, "expired at 2020-01-01").await;

    // All the while the old one is served.
    replace(&key, &good_key);
    replace(&cert, &good);
    says(&relay, 1, "a new certificate is served").await;
    serves_the_certificate_in_the_file(&relay).await;
    assert_eq!(said(&relay, kept).len(), 3, "each once");
    relay.shutdown().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_keeps_the_old_one_and_is_told_once() {
    let relay = TestRelay::builder().source("test", PATH, &[NEW, SECRET], "").expect_errors().start().await;
    let kept = "a secret cannot be read again: the old one stays in use";
    fs::write(secret_file(&relay, 0), "\n").unwrap();
    let error = says(&relay, 1, kept).await.remove(0);
    assert!(error["level"] == "ERROR" && error["error"].as_str().unwrap().contains("secret-test-0"), "{error}");
    assert!(error["error"].as_str().unwrap().contains("empty"), "{error}");
    // The other one goes on as if nothing were; the first is not told again.
    replace(&secret_file(&relay, 1), NEWER);
    says(&relay, 1, TAKEN).await;
    assert_eq!((status(&relay, NEW).await, status(&relay, NEWER).await), (200, 200));
    fs::remove_file(secret_file(&relay, 1)).unwrap();
    let error = says(&relay, 2, kept).await.remove(1);
    assert!(error["error"].as_str().unwrap().contains("cannot be read"), "{error}");
    fs::create_dir(secret_file(&relay, 1)).unwrap();
    says(&relay, 3, kept).await;
    assert_eq!((status(&relay, NEW).await, status(&relay, NEWER).await), (200, 200));

    fs::remove_dir(secret_file(&relay, 1)).unwrap();
    replace(&secret_file(&relay, 1), NEWER);
    says(&relay, 1, "a secret can be read again, and is the same").await;
    replace(&secret_file(&relay, 0), SECRET);
    says(&relay, 2, TAKEN).await;
    assert_eq!((status(&relay, NEW).await, status(&relay, SECRET).await), (401, 200));
    assert_eq!(said(&relay, kept).len(), 3);
    is_discreet(&relay);
    relay.shutdown().await;
}

#[tokio::test]
async fn the_admin_token_is_replaced_through_its_file() {
    let relay = TestRelay::builder().start().await;
    let ask = async |token: &str| {
        let request = relay.client().get(relay.admin_url("/metrics")).bearer_auth(token);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((ask(TOKEN).await, ask(NEW).await), (200, 401));
    replace(&relay.settings().directory().join("admin-token"), NEW);
    says(&relay, 1, TAKEN).await;
    assert_eq!((ask(TOKEN).await, ask(NEW).await), (401, 200));
    replace(&relay.settings().directory().join("admin-token"), TOKEN);
    says(&relay, 2, TAKEN).await;
    relay.shutdown().await;
}

#[tokio::test]
async fn sighup_with_a_broken_configuration_changes_nothing_and_says_why() {
    let relay = TestRelay::builder().source("test", PATH, &[SECRET], "").expect_errors().start().await;
    let config = fs::read_to_string(relay.settings().config_file()).unwrap();
    let other = relay.settings().directory().join("other");
    write_secret(&other, NEW);
    let broken = config
        .replace(secret_file(&relay, 0).to_str().unwrap(), other.to_str().unwrap())
        .replace("[server]\n", "[server]\nmax_bdy = \"2MiB\"\n")
        .replace("level = \"info\"", "level = \"loud\"");
    fs::write(relay.settings().config_file(), broken).unwrap();
    relay.sighup();
    let problems = says(&relay, 2, "the configuration does not hold: nothing has been changed").await;
    for (problem, key) in problems.iter().zip(["max_bdy", "log.level"]) {
        assert_eq!(problem["level"], "ERROR");
        assert!(problems.iter().any(|line| line["problem"].as_str().unwrap().contains(key)), "{problem}");
    }
    assert_eq!((status(&relay, SECRET).await, status(&relay, NEW).await), (200, 401));

    // A certificate that could not be served is no configuration to start with either.
    let other = tempfile::tempdir().unwrap();
    write_certificate(other.path());
    let tls = config.replace(
        relay.settings().directory().join("tls.crt").to_str().unwrap(),
        other.path().join("tls.crt").to_str().unwrap(),
    );
    fs::write(relay.settings().config_file(), tls).unwrap();
    relay.sighup();
    let problems = says(&relay, 3, "the configuration does not hold: nothing has been changed").await;
    assert!(problems[2]["problem"].as_str().unwrap().contains("does not fit"), "{}", problems[2]);
    serves_the_certificate_in_the_file(&relay).await;
    is_discreet(&relay);
    relay.shutdown().await;
}

/// What can be taken is; of what else has changed the keys are named, and no value.
#[tokio::test]
async fn sighup_takes_secrets_and_names_what_needs_a_restart() {
    let http = |secret: &str| format!("http = {{ url = \"http://127.0.0.1:9\", signing_secret = {secret:?} }}");
    let builder = |secret| TestRelay::builder().source("test", PATH, &[SECRET], "").sink("app", "http", &http(secret));
    let relay = builder("canary-signing").start().await;
    relay.sighup();
    says(&relay, 1, READ).await;
    let needed = "only read at the start";
    assert_eq!(said(&relay, needed), [Value::Null; 0], "nothing has changed");

    let file = relay.settings().config_file();
    let config = fs::read_to_string(&file).unwrap();
    let (new, old) = (relay.settings().directory().join("added"), secret_file(&relay, 0));
    write_secret(&new, NEW);
    let both = format!("secrets = [{{ file = {new:?} }}, {{ file = {old:?} }}]");
    let changed = config
        .replace(&format!("secrets = [{{ file = {old:?} }}]"), &both)
        .replace("[server]\n", "[server]\nmax_body = \"3MiB\"\n")
        .replace("canary-signing", "canary-resigning");
    assert!(changed.contains(&both) && changed.contains("resigning"), "{changed}");
    fs::write(&file, changed).unwrap();
    relay.sighup();
    let line = says(&relay, 1, needed).await.remove(0);
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(line["keys"], "server.max_body", "the signing secret is taken: {line}");
    assert!(!line.to_string().contains("3MiB"), "{line}");
    assert_eq!((status(&relay, NEW).await, status(&relay, SECRET).await), (200, 200));
    // The files that are meant now are watched.
    replace(&new, NEWER);
    says(&relay, 1, TAKEN).await;
    assert_eq!((status(&relay, NEWER).await, status(&relay, NEW).await), (200, 401));
    is_discreet(&relay);
    drop(relay);
}

#[tokio::test]
async fn sighup_takes_the_level_of_the_log() {
    let relay = TestRelay::builder().source("test", PATH, &[SECRET], "").start().await;
    let file = relay.settings().config_file();
    let loud = fs::read_to_string(&file).unwrap();
    replace(&file, &loud.replace("level = \"info\"", "level = \"error\""));
    relay.sighup();
    says(&relay, 1, READ).await;
    replace(&secret_file(&relay, 0), NEW);
    eventually("the new secret", async || match status(&relay, NEW).await {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
    assert_eq!(said(&relay, TAKEN), [Value::Null; 0], "that is no error");
    replace(&file, &loud);
    eventually("the second time that this is said", async || {
        relay.sighup();
        if said(&relay, READ).len() > 1 { Ok(()) } else { Err(relay.log().pop()) }
    })
    .await;
    assert_eq!(said(&relay, "only read at the start"), [Value::Null; 0]);
    relay.shutdown().await;
}

/// A rotation a second, while deliveries come in on old and on new connections, each signed with the secret that the
/// sender has at that moment: nobody is refused, and no connection is lost.
#[tokio::test]
async fn twenty_rotations_under_load_refuse_nobody() {
    let builder = TestRelay::builder().source("test", PATH, &["canary-0", "canary-unused"], "");
    let mount = builder.directory().to_owned();
    swap(&mount, "..version-0", &[("secret-test-0", "canary-0"), ("secret-test-1", "canary-unused")]);
    for name in ["tls.crt", "tls.key", "secret-test-0", "secret-test-1"] {
        fs::remove_file(mount.join(name)).unwrap();
        symlink(Path::new("..data").join(name), mount.join(name)).unwrap();
    }
    let relay = Arc::new(builder.start().await);
    // Held while a request is on its way: the secret before the last one may be gone.
    let secret = Arc::new(RwLock::new("canary-0".to_owned()));
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = JoinSet::new();
    for sender in 0..6 {
        let (relay, secret, stop, sent) =
            (Arc::clone(&relay), Arc::clone(&secret), Arc::clone(&stop), Arc::clone(&sent));
        let client = || reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        senders.spawn(async move {
            let kept = client();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let secret = secret.read().await;
                let delivery = signed::payin_completed(&format!("evt-{sender}-{n}")).signed_with(&secret);
                let client = if n % 10 == 0 { client() } else { kept.clone() };
                let answer = post(&client, &relay, &delivery).await;
                assert_eq!(answer, Ack::FRESH, "evt-{sender}-{n}");
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    for round in 1..=20 {
        let [current, previous] = [round, round - 1].map(|n: u32| format!("canary-{n}"));
        swap(&mount, &format!("..version-{round}"), &[("secret-test-0", &current), ("secret-test-1", &previous)]);
        says(&relay, 2 * round as usize, TAKEN).await;
        says(&relay, round as usize, "a new certificate is served").await;
        *secret.write().await = current;
        let before = sent.load(Ordering::Relaxed);
        eventually("deliveries with it", async || match sent.load(Ordering::Relaxed) - before {
            0..20 => Err("none yet"),
            _ => Ok(()),
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = senders.join_next().await {
        ended.unwrap();
    }
    let sent = sent.load(Ordering::Relaxed);
    assert_eq!(relay.events().await.len() as u64, sent, "sent and stored");
    assert_eq!(relay.metric("requests_total", &[]).await as u64, sent);
}

async fn post(client: &reqwest::Client, relay: &TestRelay, delivery: &Delivery) -> Ack {
    let mut request = client.post(relay.url(&delivery.path)).body(delivery.body.clone());
    for (name, value) in &delivery.headers {
        request = request.header(name, value);
    }
    Ack::read(delivery, request.send().await.unwrap()).await.unwrap()
}
