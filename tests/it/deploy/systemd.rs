//! `deploy/systemd`: units that systemd understands, and under which the daemon can do its work.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::faults::traced;
use crate::harness::{TestRelay, eventually, signed, skip};

fn unit() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/ralio-relay.service");
    std::fs::read_to_string(file).unwrap()
}

/// What systemd-analyze says, and whether it is content; `None`, and said so, where there is none.
fn analyze(args: &[&str], unit: Option<&Path>) -> Option<(bool, String)> {
    let mut analyze = Command::new("systemd-analyze");
    let Ok(output) = analyze.args(args).args(unit).env("SYSTEMD_COLORS", "0").output() else {
        skip("systemd-analyze");
        return None;
    };
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// The unit with the binary where it is in the tests.
fn with_our_binary(directory: &Path) -> PathBuf {
    let installed = "ExecStart=/usr/bin/ralio-relay ";
    let unit = unit();
    assert!(unit.contains(installed), "{unit}");
    let file = directory.join("ralio-relay.service");
    let ours = format!("ExecStart={} ", env!("CARGO_BIN_EXE_ralio-relay"));
    std::fs::write(&file, unit.replace(installed, &ours)).unwrap();
    let socket = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd/ralio-relay.socket");
    std::fs::copy(socket, directory.join("ralio-relay.socket")).unwrap();
    file
}

#[test]
fn systemd_understands_the_unit_and_finds_it_closed() {
    let directory = tempfile::tempdir().unwrap();
    let file = with_our_binary(directory.path());
    for unit in [&file, &file.with_extension("socket")] {
        let verify = ["verify", "--man=no", "--recursive-errors=yes"];
        let Some((understood, said)) = analyze(&verify, Some(unit)) else { return };
        assert!(understood && said.trim().is_empty(), "{said}");
    }
    // Tenths: the exposure is 1.5 at the most, of 10.
    let security = ["security", "--no-pager", "--offline=true", "--threshold=15"];
    let (closed, said) = analyze(&security, Some(&file)).unwrap();
    assert!(closed, "{said}");
}

/// The unit's secrets are those of the configuration that the README begins with.
#[test]
fn what_the_unit_loads_the_readme_names() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for credential in unit().lines().filter_map(|line| line.strip_prefix("LoadCredential=")) {
        let (name, file) = credential.split_once(':').unwrap();
        assert!(readme.contains(&format!("/run/credentials/ralio-relay.service/{name}")), "{name} is not in README.md");
        assert_eq!(file, format!("/etc/ralio-relay/{name}"));
    }
}

/// The system calls that a set of systemd's names, as its sets do, of sets.
fn members(set: &str) -> BTreeSet<String> {
    let (known, said) = analyze(&["syscall-filter", "--no-pager", set], None).unwrap();
    assert!(known, "{said}");
    let lines = said.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.flat_map(|line| if line.starts_with('@') { members(line) } else { [line.to_owned()].into() }).collect()
}

/// What `SystemCallFilter=` leaves, line by line, as systemd.exec(5) says.
fn allowed() -> BTreeSet<String> {
    let mut allowed = BTreeSet::new();
    for line in unit().lines().filter_map(|line| line.strip_prefix("SystemCallFilter=").map(str::to_owned)) {
        let denied = line.starts_with('~');
        for word in line.trim_start_matches('~').split(' ') {
            let calls = if word.starts_with('@') { members(word) } else { [word.to_owned()].into() };
            if denied { allowed.retain(|call| !calls.contains(call)) } else { allowed.extend(calls) }
        }
    }
    allowed
}

/// A filter that forbids one is first met in production, on the day when it is made.
#[tokio::test]
async fn the_unit_allows_every_system_call_that_the_daemon_makes() {
    if analyze(&["--version"], None).is_none() {
        return;
    }
    let trace = tempfile::NamedTempFile::new().unwrap();
    let Some(strace) = traced(&["-q", "-o", trace.path().to_str().unwrap()]) else { return };
    let words: Vec<&str> = strace.iter().map(String::as_str).collect();
    let relay = TestRelay::with_file_sink("out").sink("exec", "exec", "exec = { command = [\"/bin/cat\"] }");
    let relay = relay.wrapped(&words).start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.post(&signed::payin_completed("evt-2").signed_with("forged")).await;
    relay.settled().await;
    relay.shutdown().await;
    let ended = |line: &str| line.contains("exited with");
    let calls: BTreeSet<String> = eventually("the end of the trace", async || {
        let trace = std::fs::read_to_string(trace.path()).unwrap();
        let last = trace.lines().last().map(str::to_owned);
        if !last.as_deref().is_some_and(ended) {
            return Err(last);
        }
        // `1234 openat(AT_FDCWD, ..`; signals and ends begin otherwise.
        let call = |line: &str| line.split_whitespace().nth(1)?.split_once('(').map(|(call, _)| call.to_owned());
        Ok(trace.lines().filter_map(call).collect())
    })
    .await;
    assert!(calls.contains("fdatasync") && calls.contains("execve"), "{calls:?}");
    let mut allowed = allowed();
    // SQLite makes its files over to the owner of the database, but only where root runs it, as here perhaps.
    allowed.insert("fchown".to_owned());
    let forbidden: Vec<_> = calls.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "SystemCallFilter= forbids {forbidden:?}");
}
