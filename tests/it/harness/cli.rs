//! Running a command to its end.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// What a command left.
#[derive(Debug)]
pub struct Output {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Itself, if it exited with 0.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Itself, if it exited with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Its results: one JSON value a line.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(read).collect()
    }
}

/// Runs the built binary with nothing of this machine's configuration.
pub async fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    run_in(Path::new("."), args, b"").await
}

/// Runs it in a directory, with this standard input.
pub async fn run_in<S: AsRef<OsStr>>(directory: &Path, args: &[S], stdin: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RALIO_RELAY")) {
        command.env_remove(name);
    }
    command.args(args).current_dir(directory).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A command that wants no input may have closed it already.
    let _ = input.write_all(stdin).await;
    drop(input);
    let output = tokio::time::timeout(super::DEADLINE, child.wait_with_output()).await.expect("it ends").unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
