//! The first five minutes.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::commands::TYPES;
use crate::harness::process::Process;
use crate::harness::{eventually, run_in, text};

const BINARY: &str = env!("CARGO_BIN_EXE_ralio-relay");

/// `serve --dev` in this directory, on ports that nobody else has.
fn serve(directory: &Path) -> Process {
    serve_on(directory, &free_addresses())
}

/// What it prints must hold the port, so 0 will not do.
fn free_addresses() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

fn serve_on(directory: &Path, [server, admin]: &[String; 2]) -> Process {
    let mut command = Command::new(BINARY);
    command.args(["serve", "--dev"]).current_dir(directory);
    command.env("RALIO_RELAY__SERVER__LISTEN", server).env("RALIO_RELAY__ADMIN__LISTEN", admin);
    Process::spawn(&mut command)
}

/// The line to paste, once it is printed.
async fn printed_line(serve: &mut Process) -> String {
    eventually("a line to paste", async || {
        let printed = [serve.stderr.all(), serve.stdout.all()].concat();
        assert!(serve.ended().is_none(), "{}", printed.join("\n"));
        let line = printed.iter().map(|line| line.trim().trim_start_matches("$ "));
        let line = line.into_iter().find(|line| line.contains("ralio-relay simulate "));
        line.map(str::to_owned).ok_or_else(|| printed.clone())
    })
    .await
}

/// Waits until it listens, so that its signal handlers are there.
async fn listens(serve: &Process) {
    eventually("the public listener", async || {
        let log = serve.stderr.all();
        let listens = log.iter().any(|line| line.contains("listening listener=\"public\""));
        if listens { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn the_printed_line_fills_the_inbox() {
    let directory = tempfile::tempdir().unwrap();
    let mut serve = serve(directory.path());
    let line = printed_line(&mut serve).await;
    assert!(line.contains("--url https://127.0.0.1:") || line.contains("--url https://localhost:"), "{line}");

    let mut paste = Command::new("sh");
    let mut paste = Process::spawn(paste.args(["-c", &line]).current_dir(directory.path()));
    let status = paste.end().await;
    assert_eq!(status.code(), Some(0), "{line}\n{}", paste.stderr.all().join("\n"));

    let list = ["events", "list", "--format", "json", "--limit", "100000"];
    let events = run_in(directory.path(), &list, b"").await.success().json();
    let ids: BTreeSet<_> = events.iter().map(|event| text(event, "id")).collect();
    assert_eq!(ids.len(), events.len(), "each event once");
    let types: BTreeSet<_> = events.iter().map(|event| text(event, "type")).collect();
    assert_eq!(TYPES.iter().filter(|&&name| !types.contains(name)).collect::<Vec<_>>(), [&""; 0]);

    let printed = eventually("every event on standard output", async || {
        let lines: Vec<Value> = serve.stdout.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let events_printed: Vec<_> = lines.into_iter().filter(|line| line.get("specversion").is_some()).collect();
        if events_printed.len() == events.len() { Ok(events_printed) } else { Err(events_printed.len()) }
    })
    .await;
    let with = |member: &str| printed.iter().filter(|line| line["data"].get(member).is_some()).count();
    assert!(with("eventId") > 0 && with("event") > 0, "both envelopes");

    eventually("a counted duplicate, and the forged one in quarantine", async || {
        let events = run_in(directory.path(), &list, b"").await.success().json();
        let quarantine = ["quarantine", "list", "--format", "json"];
        let refused = run_in(directory.path(), &quarantine, b"").await.success().json().len();
        let repeated = events.iter().filter(|event| event["arrivals"].as_u64() > Some(1)).count();
        if repeated > 0 && refused > 0 { Ok(()) } else { Err((repeated, refused)) }
    })
    .await;
    serve.signal("TERM");
    assert_eq!(serve.end().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_start_keeps_secret_certificate_and_inbox() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = serve(directory.path());
    printed_line(&mut first).await;
    let made = |directory: &Path| {
        let home = directory.join(".ralio-relay");
        let mode = std::fs::metadata(&home).unwrap().permissions().mode() & 0o777;
        assert_eq!(format!("{mode:o}"), "700");
        let mut files: Vec<_> = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| !file.to_string_lossy().contains("inbox"));
        files.sort();
        files.into_iter().map(|file| (std::fs::read(&file).unwrap(), file)).collect::<Vec<_>>()
    };
    let before = made(directory.path());
    assert!(before.len() >= 3, "a secret, a certificate and its key: {before:?}");
    listens(&first).await;
    first.signal("TERM");
    assert_eq!(first.end().await.code(), Some(0));
    let mut second = serve(directory.path());
    printed_line(&mut second).await;
    assert_eq!(made(directory.path()), before);
    listens(&second).await;
    second.signal("TERM");
    assert_eq!(second.end().await.code(), Some(0));
}

/// The very same configuration twice on one machine: the second waits for its turn, addresses and all.
#[tokio::test]
async fn a_second_start_in_the_same_place_waits_and_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let addresses = free_addresses();
    let mut first = serve_on(directory.path(), &addresses);
    listens(&first).await;
    let mut second = serve_on(directory.path(), &addresses);
    eventually("a second process that waits", async || {
        let log = second.stderr.all();
        if log.iter().any(|line| line.contains("another process holds the inbox")) { Ok(()) } else { Err(log) }
    })
    .await;
    first.signal("TERM");
    assert_eq!(first.end().await.code(), Some(0));
    listens(&second).await;
    second.signal("TERM");
    assert_eq!(second.end().await.code(), Some(0), "{}", second.stderr.all().join("\n"));
}

/// Links that lead to somebody else's process are not printed; what to do is.
#[tokio::test]
async fn a_taken_address_is_told_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let [server, _] = free_addresses();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = taken.local_addr().unwrap();
    let mut serve = serve_on(directory.path(), &[server, admin.to_string()]);
    assert_eq!(serve.end().await.code(), Some(1));
    let told = serve.stderr.all().join("\n");
    let remedy = format!("ss -ltnp 'sport = :{}'", admin.port());
    assert!(told.contains(&remedy) && told.contains("admin.listen in ./.ralio-relay/relay.toml"), "{told}");
    assert!(!told.contains("simulate --url") && !told.contains("#token="), "{told}");
}
