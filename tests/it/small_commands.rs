//! `health`, `completions`, `man`, `--version`, and what `serve` says without a configuration.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::harness::fake_http::FakeHttp;
use crate::harness::{Output, TestRelay, run, run_in};

/// `health`, asking at this address.
pub async fn health(listen: &str, timeout: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    // The token's file is not there: it is none of this command's business.
    let config = format!("[admin]\nlisten = {listen:?}\ntoken = {{ file = \"/nowhere/token\" }}\n");
    std::fs::write(directory.path().join("relay.toml"), config).unwrap();
    run_in(directory.path(), &["health", "--config", "relay.toml", "--timeout", timeout], b"").await
}

#[tokio::test]
async fn health_is_readiness() {
    let first = TestRelay::builder().start().await;
    let address = |relay: &TestRelay| relay.admin_url("").trim_start_matches("http://").to_owned();
    let everywhere = address(&first).replace("127.0.0.1", "0.0.0.0");
    for listen in [address(&first), everywhere] {
        assert_eq!(health(&listen, "3s").await.success().stdout, "ready\n", "{listen}");
    }
    let second = first.settings().clone().launch().await;
    let waits = health(&address(&second), "3s").await.code(1);
    assert!(
        waits.stderr.contains("not ready: ") && waits.stderr.contains("another process holds the inbox"),
        "{waits:?}"
    );
    second.sigterm();
    first.shutdown().await;
}

#[tokio::test]
async fn health_says_why_there_is_no_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    assert!(health(&address, "200ms").await.code(1).stderr.contains("does not answer within 200ms"));
    drop(silent);
    assert!(health(&address, "3s").await.code(1).stderr.contains("is the daemon running?"));
    assert!(health("off", "3s").await.code(2).stderr.contains("admin.listen"));
    assert!(health("127.0.0.1:0", "3s").await.code(2).stderr.contains("port 0"));
    assert!(health(&address, "3").await.code(2).stderr.contains("add a unit"));
}

/// Another server at the daemon's port may answer 200 to anything.
#[tokio::test]
async fn a_stranger_at_its_port_is_not_the_daemon() {
    let stranger = FakeHttp::answering([200]).await;
    let url = stranger.url();
    let address = url.split('/').nth(2).unwrap();
    let said = health(address, "3s").await.code(1).stderr;
    assert!(said.contains("is it ralio-relay"), "{said}");
}

#[tokio::test]
async fn completions_are_for_every_shell_and_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]).await.success().stdout;
        for word in ["deadletters", "quarantine", "backup", "--reason"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell} does not know {word}");
        }
    }
    run(&["completions", "tcsh"]).await.code(2);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ralio-relay.bash");
    std::fs::write(&file, run(&["completions", "bash"]).await.success().stdout).unwrap();
    let ask = "source \"$0\"; by=$(complete -p ralio-relay); by=${by#*-F }; by=${by%% *}; \
               COMP_WORDS=(ralio-relay events l); COMP_CWORD=2; $by ralio-relay l events; echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash").args(["-c", ask]).arg(&file).stderr(Stdio::inherit()).output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap().trim(), "list");
}

#[tokio::test]
async fn there_is_a_manual_page_for_each_command() {
    let page = run(&["man"]).await.success().stdout;
    assert!(page.contains(".TH ralio") && page.contains("quarantine"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    run_in(directory.path(), &["man", "--dir", "a/man1"], b"").await.success();
    for name in ["", "-serve", "-events", "-events-list", "-deadletters-retry", "-backup", "-config-show"] {
        let page = std::fs::read_to_string(directory.path().join(format!("a/man1/ralio-relay{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}:\n{page}");
    }
    let page = std::fs::read_to_string(directory.path().join("a/man1/ralio-relay-backup.1")).unwrap();
    assert!(page.contains("To restore it"), "{page}");
}

#[tokio::test]
async fn the_version_names_the_commit() {
    let said = run(&["--version"]).await.success().stdout;
    let commit = said.trim().rsplit_once(" (").and_then(|(_, commit)| commit.strip_suffix(')')).unwrap_or_default();
    let is_hash = commit.len() == 12 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{said}");
}

#[tokio::test]
async fn without_a_configuration_serve_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let said = run_in(directory.path(), &["serve"], b"").await.code(2).stderr;
    for words in ["there is no configuration", "serve --dev", "ralio-relay init"] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
}
