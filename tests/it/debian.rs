//! The Debian package, made, installed, used and purged in a machine of its own, under systemd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{SECRET, TOKEN, booted, skip, write_certificate, write_secret};

/// What has to be seen, in this order: the steps of `tests/it/debian/drive`.
const STEPS: &[&str] = &[
    "dpkg -i",
    "the message says what to do",
    "not started",
    "not enabled",
    "user and state directory",
    "manual pages",
    "completions",
    "check names what is missing",
    "a start without secrets fails",
    "and says why",
    "nobody listens",
    "enable and start",
    "ready at once",
    "check is content",
    "a signed delivery is accepted",
    "a forged one is not",
    "it is stored",
    "its own user",
    "no new privileges",
    "no capabilities",
    "system calls are filtered",
    "no core dumps",
    "4096 connections fit",
    "home cannot be seen",
    "etc cannot be written",
    "usr cannot be written",
    "its state can be written",
    "tmp is its own",
    "devices are out of reach",
    "the daemon has the secret",
    "others do not",
    "nor does its user have root's",
    "reload",
    "it is read again",
    "the log names what needs a restart",
    "by the same process",
    "restart 1",
    "restart 1 is another process",
    "restart 2",
    "restart 2 is another process",
    "restart 3",
    "restart 3 is another process",
    "restart 4",
    "restart 4 is another process",
    "restart 5",
    "restart 5 is another process",
    "restart 6",
    "restart 6 is another process",
    "every delivery is accepted in the end",
    "hundreds of connections, none of them refused",
    "all are stored",
    "a connection waits while it is dead",
    "systemd starts it again",
    "without being asked",
    "nothing is lost",
    "stop",
    "it has ended in good order",
    "a delivery starts it",
    "it runs",
    "stop both",
    "refused",
    "start without the socket",
    "it listens by itself",
    "it does not start elsewhere than the socket",
    "and says what to write",
    "it is not tried again",
    "a connection",
    "does not try it for ever",
    "mended, both start",
    "and do so when they run",
    "upgrade",
    "upgraded, it has restarted",
    "the socket has not",
    "still enabled",
    "the configuration is kept",
    "the state is kept",
    "upgrade while stopped",
    "stopped it stays",
    "remove",
    "removed, it is stopped",
    "the program is gone",
    "configuration and secrets stay",
    "the state stays",
    "install again",
    "enabled as before",
    "start again",
    "everything is there",
    "purge",
    "nothing is left",
    "but its user",
    "and no unit has failed",
];

/// Of the binary under test, made once; `None`, and said so, where there is no Debian.
fn package() -> Option<&'static Path> {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    if Command::new("dpkg-shlibdeps").arg("--version").output().is_err() {
        skip("dpkg-shlibdeps");
        return None;
    }
    Some(MADE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut build = Command::new(root.join("deploy/debian/build"));
        let made = build.args([env!("CARGO_BIN_EXE_ralio-relay"), "--fast"]).output().unwrap();
        let said = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(made.status.success(), "{said}{}", String::from_utf8_lossy(&made.stderr));
        root.join(said.lines().last().expect("the name of the package"))
    }))
}

#[tokio::test]
async fn the_package_lives_under_systemd() {
    let Some(package) = package() else { return };
    let shared = tempfile::tempdir().unwrap();
    let here = shared.path();
    fs::copy(package, here.join("ralio-relay.deb")).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/debian/drive"), here.join("drive")).unwrap();
    write_certificate(here);
    write_secret(&here.join("webhook-secret"), SECRET);
    write_secret(&here.join("admin-token"), TOKEN);
    let Some(console) = booted::boot(here).await else { return };
    let read = |file: &str| String::from_utf8_lossy(&fs::read(here.join(file)).unwrap_or_default()).into_owned();
    let results = read("results");
    let told = [console, read("output"), read("journal")].join("\n---\n");
    let mut lines = results.lines();
    for step in STEPS {
        let line = lines.next().unwrap_or("nothing");
        assert_eq!(line, format!("ok {step}"), "failed: {:?}\n{told}", failed(&results));
    }
    assert_eq!(lines.next(), Some("end"), "a step that is not expected: see STEPS");
}

fn failed(results: &str) -> Vec<&str> {
    results.lines().filter(|line| line.starts_with("FAILED ")).collect()
}

/// Debian's own opinion. That it closes no bug of Debian's is so: it is no package of Debian's.
#[test]
fn lintian_finds_nothing() {
    let Some(package) = package() else { return };
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--suppress-tags", "initial-upload-closes-no-bugs"]);
    let Ok(output) = lintian.arg(package).output() else { return skip("lintian") };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
