//! What exit codes mean, what a command is given, and what is kept of its words.

use super::*;
use crate::model::EntityKey;
use crate::sink::fixtures::event;

fn config(command: &[&str], on_failure: OnFailure) -> Config {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    Config { command, env_allow: vec!["PATH".to_owned()], directory: None, on_failure, max_output: 100 }
}

fn shell(script: &str, on_failure: OnFailure) -> Exec {
    Exec::new(&config(&["sh", "-c", script], on_failure), Format::Raw).unwrap()
}

async fn outcome(script: &str, on_failure: OnFailure) -> Outcome {
    shell(script, on_failure).deliver(&event("{}")).await
}

#[tokio::test]
async fn the_exit_code_decides() {
    for (script, on_failure, expected) in [
        ("cat >/dev/null", OnFailure::Retry, Outcome::delivered("exit 0")),
        ("exit 0", OnFailure::DeadLetter, Outcome::delivered("exit 0")),
        ("exit 75", OnFailure::DeadLetter, Outcome::transient("exit 75")),
        ("echo ' no  db ' >&2; exit 1", OnFailure::Retry, Outcome::transient("exit 1: no  db")),
        ("exit 1", OnFailure::DeadLetter, Outcome::permanent("exit 1")),
        (
            "echo stored as 17; echo slow >&2",
            OnFailure::Retry,
            Outcome::delivered("exit 0: stored as 17; stderr: slow"),
        ),
        ("kill -9 $$", OnFailure::DeadLetter, Outcome::transient("signal: 9 (SIGKILL)")),
    ] {
        assert_eq!(outcome(script, on_failure).await, expected, "{script}");
    }
}

#[tokio::test]
async fn a_child_may_ignore_its_input_and_say_too_much() {
    let mut large = event("");
    large.body = vec![b'x'; 1 << 20].into();
    let script = "exec <&-; head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; echo end; echo why >&2";
    assert_eq!(
        shell(script, OnFailure::DeadLetter).deliver(&large).await,
        Outcome::delivered("exit 0: ...end; stderr: ...why")
    );
    let script = "yes 0123456789 | head -c 3000000 >&2; echo why >&2; exit 3";
    let Outcome::Permanent { reason } = shell(script, OnFailure::DeadLetter).deliver(&large).await else { panic!() };
    assert!(reason.as_str().starts_with("exit 3: ...") && reason.as_str().ends_with("why"), "{reason}");
    assert!((100..=110).contains(&reason.as_str().len()), "{reason}");
}

#[tokio::test]
async fn a_process_left_behind_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    // It keeps all three pipes open, and the body is more than a pipe takes.
    let script = format!("echo before; sleep 600 <&0 & echo $! >{}; exit 1", pid_file.display());
    let mut large = event("");
    large.body = vec![b'x'; 1 << 20].into();
    let reason = shell(&script, OnFailure::Retry).deliver(&large).await;
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
    assert_eq!(reason, Outcome::transient("exit 1: stdout: before"));
}

#[tokio::test]
async fn only_the_attributes_and_the_allowed_variables_are_passed_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("env");
    let sink = shell(&format!("env >{}", file.display()), OnFailure::Retry);
    assert_eq!(sink.deliver(&event("{}")).await.label(), "delivered");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut names: Vec<_> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    // The shell's own.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "CE_DATACONTENTTYPE",
            "CE_ID",
            "CE_RALIOCATEGORY",
            "CE_RALIORECEIVED",
            "CE_RALIOSEQ",
            "CE_RALIOSTALE",
            "CE_SOURCE",
            "CE_SPECVERSION",
            "CE_SUBJECT",
            "CE_TIME",
            "CE_TYPE",
            "PATH"
        ]
    );
    assert!(text.contains("CE_RALIOSEQ=17\n"));
}

#[tokio::test]
async fn shell_syntax_in_an_event_is_only_text() {
    let mut event = event("$(exit 3)");
    event.key = EntityKey::new("$(exit 3); `exit 4`").unwrap();
    assert_eq!(shell("cat >/dev/null", OnFailure::DeadLetter).deliver(&event).await.label(), "delivered");
}

#[test]
fn a_program_that_is_not_there_is_found_out_at_once() {
    for command in [&[][..], &["no-such-program-here"], &["/etc/passwd"]] {
        assert!(Exec::new(&config(command, OnFailure::Retry), Format::Raw).is_err());
    }
    let config = Config { directory: Some("/no/such/directory".into()), ..config(&["sh"], OnFailure::Retry) };
    assert!(Exec::new(&config, Format::Raw).is_err());
}
