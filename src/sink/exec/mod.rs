//! A command for each event.

mod output;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::io::AsyncWriteExt as _;
use tokio::process::ChildStdin;

use crate::model::{Outcome, Outgoing};

use super::cloudevents::CloudEvent;
use super::{BuildError, Format, Sink};
use output::{Said, Tail};

/// `EX_TEMPFAIL` of sysexits.h: try again later.
const TEMPORARY_FAILURE: i32 = 75;

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
    /// Bytes kept of what the child prints, for the ledger: the end of it, because that explains a failure. At most
    /// 4 KiB. More than that is read and dropped.
    pub max_output: usize,
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
/// means that it exited with 0. Dropping a delivery kills the program and everything in its process group (a process
/// that made a session of its own has left that group). A process that outlives a program which has exited is left
/// alone. The program starts without any descriptor of the relay but its own three, and with the default signal mask.
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
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            if let Some(directory) = &self.config.directory {
                command.current_dir(directory);
            }
        });
        let child = command.wrap(ProcessGroup::leader()).wrap(KillOnDrop).spawn()?;
        Ok(Group { child, exited: false })
    }

    async fn run(&self, event: &Outgoing) -> io::Result<(ExitStatus, Said)> {
        let attributes = CloudEvent::new(event);
        let mut group = self.spawn(&attributes)?;
        let input = match self.format {
            Format::Raw => event.body.clone(),
            Format::CloudEvents => attributes.to_json().into(),
        };
        let stdin = group.child.stdin().take();
        let (stdout, stderr) = (group.child.stdout().take(), group.child.stderr().take());
        let mut said = Said { stdout: Tail::new(self.config.max_output), stderr: Tail::new(self.config.max_output) };
        let status = {
            let mut waiting = pin!(group.wait());
            let mut pumping =
                pin!(async { tokio::join!(feed(stdin, input), said.stdout.read(stdout), said.stderr.read(stderr)) });
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
        Ok((status, said))
    }
}

#[async_trait]
impl Sink for Exec {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        match self.run(event).await {
            Ok((status, said)) => classify(status, &said.note(status, self.config.max_output), self.config.on_failure),
            Err(error) => Outcome::transient(format!("cannot run {}: {error}", self.program.display())),
        }
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        if is_executable(&self.program) {
            Ok(None)
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
        // Of the program alone: the group's own `wait` goes on until nobody in it is a child of the relay, and as the
        // first process of a container the relay inherits what the program has left behind.
        let status = self.child.inner_mut().wait().await?;
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

/// `CE_ID`, `CE_TYPE` and so on. An environment cannot hold NUL.
fn environment(event: &CloudEvent<'_>) -> Vec<(String, String)> {
    event
        .attributes()
        .map(|(name, value)| (format!("CE_{}", name.to_ascii_uppercase()), value.to_string().replace('\0', "\u{FFFD}")))
        .collect()
}

fn classify(status: ExitStatus, note: &str, on_failure: OnFailure) -> Outcome {
    match (status.code(), on_failure) {
        (Some(0), _) => Outcome::delivered(note),
        // Killed by a signal, by whomever: that says nothing about the event.
        (Some(TEMPORARY_FAILURE) | None, _) | (Some(_), OnFailure::Retry) => Outcome::transient(note),
        (Some(_), OnFailure::DeadLetter) => Outcome::permanent(note),
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
