//! A child process whose output is kept, and who is gone when the test is.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// Lines as they come.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Reads to the end in a thread of its own.
    fn read(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let sink = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                sink.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    /// So far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A running process.
pub struct Process {
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, Stdio::null())
    }

    /// With this standard input.
    pub fn spawn_with(command: &mut Command, stdin: Stdio) -> Self {
        let piped = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let stdout = Lines::read(child.stdout.take().unwrap());
        let stderr = Lines::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        eventually("the process's end", async || self.child.try_wait().unwrap().ok_or("still running")).await
    }

    /// Ends it as a power cut would, as far as it can tell.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name, such as `TERM`. The shell's own `kill`: no package needed.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Processes that it has started and that still run.
    pub fn children(&self) -> Vec<u32> {
        let pid = self.pid().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        processes.filter(|&child: &u32| parent(child).is_some_and(|parent| parent == pid)).collect()
    }
}

fn parent(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_owned)
}

/// Sends a signal by name, such as `TERM`, to a process that somebody else holds.
pub fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &pid]).status().unwrap();
    assert!(status.success(), "cannot send {name} to {pid}");
}

/// Kills a process that somebody else holds, at once.
pub fn kill9(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

/// A line of `/proc/PID/status` about memory, in MiB; `None` when there is no such process.
pub fn memory(pid: u32, field: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')?.split_whitespace().next())?;
    Some(kib.parse::<f64>().unwrap() / 1024.0)
}

/// Whether a process runs (a zombie does not).
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- standard error of process {}\n{}", self.pid(), self.stderr.all().join("\n"));
        }
    }
}
