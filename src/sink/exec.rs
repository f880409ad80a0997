//! A command for each event.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStderr, ChildStdin};

use crate::model::{Outcome, Outgoing};

use super::cloudevents::CloudEvent;
use super::{BuildError, Format, Sink};

/// `EX_TEMPFAIL` of sysexits.h: try again later.
const TEMPORARY_FAILURE: i32 = 75;

/// What is kept of a child's standard error, for the reason of a failure.
const STDERR_BYTES: usize = 1 << 10;

/// How long to go on after the child has exited: a process that it left behind may hold the pipes for ever.
const PIPE_GRACE: Duration = Duration::from_millis(100);

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Program and arguments; no shell.
    pub command: Vec<String>,
    /// Variables that the child inherits; everything else is cleared.
    pub env_allow: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// What an exit code other than 0 and 75 means.
    pub on_failure: OnFailure,
}

/// What an exit code other than 0 and 75 means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Try again later.
    #[default]
    Retry,
    /// Give up on this event.
    DeadLetter,
}

/// Runs a program for each event: the body on its standard input, the attributes in its environment. `Delivered`
/// means that it exited with 0. Dropping a delivery kills the program and everything in its process group.
pub struct Exec {
    program: PathBuf,
    config: Config,
    format: Format,
}

impl Exec {
    /// Looks the program up: by path, or in the relay's `PATH`, because the child's own may be cleared.
    pub fn new(config: &Config, format: Format) -> Result<Self, BuildError> {
        let name = config.command.first().map(String::as_str).unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find(name, &path).ok_or_else(|| {
            BuildError(format!(
                "'{name}' is not a program: name an executable file by path, or one in the relay's PATH"
            ))
        })?;
        if let Some(directory) = config.directory.as_deref().filter(|directory| !directory.is_dir()) {
            return Err(BuildError(format!("{} is not a directory: create it, or name another", directory.display())));
        }
        Ok(Self { program, config: config.clone(), format })
    }

    fn spawn(&self, event: &CloudEvent<'_>) -> io::Result<Group> {
        let mut command = CommandWrap::with_new(&self.program, |command| {
            command
                .args(self.config.command.iter().skip(1))
                .env_clear()
                .envs(self.config.env_allow.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
                .envs(environment(event))
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
            if let Some(directory) = &self.config.directory {
                command.current_dir(directory);
            }
        });
        let child = command.wrap(ProcessGroup::leader()).wrap(KillOnDrop).spawn()?;
        Ok(Group { child, exited: false })
    }

    async fn run(&self, event: &Outgoing) -> io::Result<(ExitStatus, String)> {
        let attributes = CloudEvent::new(event);
        let mut group = self.spawn(&attributes)?;
        let input = match self.format {
            Format::Raw => event.body.clone(),
            Format::CloudEvents => attributes.to_json().into(),
        };
        let stdin = group.child.stdin().take();
        let stderr = group.child.stderr().take();
        let mut said = Vec::new();
        let status = {
            let mut waiting = pin!(group.wait());
            let mut pumping = pin!(async { tokio::join!(feed(stdin, input), read(stderr, &mut said)) });
            let early = tokio::select! {
                status = &mut waiting => Some(status?),
                _ = &mut pumping => None,
            };
            match early {
                Some(status) => {
                    // Running out of time leaves what was read so far, which is enough for a reason.
                    let _ = tokio::time::timeout(PIPE_GRACE, pumping).await;
                    status
                }
                None => waiting.await?,
            }
        };
        Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
    }
}

#[async_trait]
impl Sink for Exec {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        match self.run(event).await {
            Ok((status, said)) => classify(status, &said, self.config.on_failure),
            Err(error) => Outcome::transient(format!("cannot run {}: {error}", self.program.display())),
        }
    }

    async fn probe(&self) -> Result<(), String> {
        if is_executable(&self.program) {
            Ok(())
        } else {
            Err(format!("{} is not an executable file", self.program.display()))
        }
    }

    async fn close(&self) {
        // Every delivery waits for its own child; nothing outlives it.
    }
}

/// A running child and its process group.
struct Group {
    child: Box<dyn ChildWrapper>,
    exited: bool,
}

impl Group {
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.exited = true;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // After the exit the number of the group may be somebody else's. Before it the child is there, if only as a
        // zombie; the runtime reaps it.
        if !self.exited {
            // The only error is that there is nobody left to kill.
            let _ = self.child.start_kill();
        }
    }
}

/// Writes the body and closes the pipe. A child that does not read all of it says by its exit code whether it cares.
async fn feed(stdin: Option<ChildStdin>, input: Bytes) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(&input).await;
    }
}

/// Reads to the end, so that the child never blocks, and keeps the beginning.
async fn read(stderr: Option<ChildStderr>, kept: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut block = [0; 4096];
    // A pipe that cannot be read has nothing more to say.
    while let Ok(count @ 1..) = stderr.read(&mut block).await {
        let room = STDERR_BYTES.saturating_sub(kept.len());
        kept.extend(block.iter().take(count.min(room)));
    }
}

/// `CE_ID`, `CE_TYPE` and so on. An environment cannot hold NUL.
fn environment(event: &CloudEvent<'_>) -> Vec<(String, String)> {
    event
        .attributes()
        .map(|(name, value)| (format!("CE_{}", name.to_ascii_uppercase()), value.to_string().replace('\0', "\u{FFFD}")))
        .collect()
}

fn classify(status: ExitStatus, said: &str, on_failure: OnFailure) -> Outcome {
    let reason = if said.is_empty() { status.to_string() } else { format!("{status}: {said}") };
    match (status.code(), on_failure) {
        (Some(0), _) => Outcome::delivered("exit 0"),
        // Killed by a signal, by whomever: that says nothing about the event.
        (Some(TEMPORARY_FAILURE) | None, _) | (Some(_), OnFailure::Retry) => Outcome::transient(reason),
        (Some(_), OnFailure::DeadLetter) => Outcome::permanent(reason),
    }
}

/// The absolute path of a program: a name with a slash is a path, any other is looked up in `path`.
fn find(name: &str, path: &OsString) -> Option<PathBuf> {
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else if name.is_empty() {
        Vec::new()
    } else {
        std::env::split_paths(path).map(|directory| directory.join(name)).collect()
    };
    candidates.into_iter().filter_map(|path| std::path::absolute(path).ok()).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EntityKey;
    use crate::sink::fixtures::event;

    fn shell(script: &str, on_failure: OnFailure) -> Exec {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Exec::new(&Config { command, env_allow: vec!["PATH".to_owned()], directory: None, on_failure }, Format::Raw)
            .unwrap()
    }

    async fn outcome(script: &str, on_failure: OnFailure) -> Outcome {
        shell(script, on_failure).deliver(&event("{}")).await
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        for (script, on_failure, expected) in [
            ("cat >/dev/null", OnFailure::Retry, Outcome::delivered("exit 0")),
            ("exit 0", OnFailure::DeadLetter, Outcome::delivered("exit 0")),
            ("exit 75", OnFailure::DeadLetter, Outcome::transient("exit status: 75")),
            ("echo ' no  db ' >&2; exit 1", OnFailure::Retry, Outcome::transient("exit status: 1: no  db")),
            ("exit 1", OnFailure::DeadLetter, Outcome::permanent("exit status: 1")),
            ("kill -9 $$", OnFailure::DeadLetter, Outcome::transient("signal: 9 (SIGKILL)")),
        ] {
            assert_eq!(outcome(script, on_failure).await, expected, "{script}");
        }
    }

    #[tokio::test]
    async fn a_child_may_ignore_its_input_and_say_too_much() {
        let mut large = event("");
        large.body = vec![b'x'; 1 << 20].into();
        let sink = shell("exec <&-; head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero", OnFailure::DeadLetter);
        assert_eq!(sink.deliver(&large).await, Outcome::delivered("exit 0"));
    }

    #[tokio::test]
    async fn a_process_left_behind_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        // It keeps both pipes open, and the body is more than a pipe takes.
        let script = format!("sleep 600 <&0 & echo $! >{}; exit 1", pid_file.display());
        let mut large = event("");
        large.body = vec![b'x'; 1 << 20].into();
        let reason = shell(&script, OnFailure::Retry).deliver(&large).await;
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        assert!(std::process::Command::new("kill").arg(pid.trim()).status().unwrap().success());
        assert_eq!(reason, Outcome::transient("exit status: 1"));
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
        for command in [vec![], vec!["no-such-program-here".to_owned()], vec!["/etc/passwd".to_owned()]] {
            let config = Config { command, env_allow: vec![], directory: None, on_failure: OnFailure::Retry };
            assert!(Exec::new(&config, Format::Raw).is_err());
        }
        let config = Config {
            command: vec!["sh".to_owned()],
            env_allow: vec![],
            directory: Some("/no/such/directory".into()),
            on_failure: OnFailure::Retry,
        };
        assert!(Exec::new(&config, Format::Raw).is_err());
    }
}
