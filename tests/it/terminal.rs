//! How results look: times in a zone, colours, and JSON that knows neither.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{TestRelay, signed, text};

/// A command's standard output, with these variables only.
fn shown(settings: &Path, directory: &Path, args: &[&str], vars: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(args).arg("--config").arg(settings).current_dir(directory).env_clear();
    let output = command.envs(vars.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A zone without a file, so that it is there on every machine: half past five hours east.
const ZONE: (&str, &str) = ("TZ", "IST-5:30");

#[tokio::test]
async fn times_are_local_in_utc_on_demand_and_json_is_always_utc() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    let settings = relay.settings().clone();
    let shown = |args: &[&str], vars: &[(&str, &str)]| shown(&settings.config_file(), settings.directory(), args, vars);
    let commands: [&[&str]; 4] = [
        &["events", "list"],
        &["events", "show", "evt-1"],
        &["sinks", "show", "out"],
        &["events", "tail", "--follow=false"],
    ];
    for command in commands {
        let local = shown(command, &[ZONE]);
        assert!(local.contains("+05:30"), "{command:?}: {local}");
        let utc = shown(&[command, &["--utc"]].concat(), &[ZONE]);
        assert!(!utc.contains("+05:30") && utc.contains('Z'), "{command:?}: {utc}");
        assert_eq!(shown(command, &[ZONE, ("RALIO_RELAY_UTC", "1")]), utc);
        assert_eq!(shown(command, &[("TZ", "UTC")]), utc);
        let json = [command, &["--format", "json"]].concat();
        let plain = shown(&json, &[("TZ", "UTC")]);
        assert_eq!(shown(&json, &[ZONE, ("CLICOLOR_FORCE", "1")]), plain, "{command:?}");
        assert!(plain.contains("Z\"") && !plain.contains('\u{1b}'), "{plain}");
    }
    // What a table tells can be pasted into a filter.
    let event: Value = serde_json::from_str(&shown(&["events", "list", "--format", "json"], &[])).unwrap();
    let list = shown(&["events", "list"], &[ZONE]);
    let told = list.lines().nth(1).unwrap().split_whitespace().nth(1).unwrap();
    let found = shown(&["events", "list", "--since", told, "--format", "json"], &[ZONE]);
    assert_eq!(text(&serde_json::from_str(&found).unwrap(), "id"), text(&event, "id"));
    relay.shutdown().await;
}

#[tokio::test]
async fn colours_come_when_asked_for_and_never_into_pipes() {
    let relay = TestRelay::with_file_sink("out").start().await;
    relay.post(&signed::payin_completed("evt-1")).await;
    relay.settled().await;
    relay.cli(&["sinks", "pause", "out"]).await.success();
    let settings = relay.settings().clone();
    let shown = |args: &[&str], vars: &[(&str, &str)]| shown(&settings.config_file(), settings.directory(), args, vars);
    let force = ("CLICOLOR_FORCE", "1");
    for command in [&["sinks", "list"][..], &["events", "show", "evt-1"], &["check"]] {
        let piped = shown(command, &[]);
        assert!(!piped.contains('\u{1b}'), "{command:?}: {piped}");
        let coloured = shown(command, &[force]);
        assert!(coloured.contains("\u{1b}["), "{command:?}: {coloured}");
        assert_eq!(shown(command, &[force, ("NO_COLOR", "1")]), piped);
    }
    let delivered = shown(&["events", "show", "evt-1"], &[force]);
    assert!(delivered.lines().any(|line| line.contains("delivered") && line.contains("\u{1b}[")), "{delivered}");
    relay.shutdown().await;
}
