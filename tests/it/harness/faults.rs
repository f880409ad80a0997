//! What goes wrong beneath a relay: its disk, its system calls, the power.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;
use super::{eventually, skip, skip_for_good};

/// The database is whole.
pub fn integrity(inbox: &Path) {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(inbox, flags).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}

fn succeeds(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
}

#[track_caller]
fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|e| panic!("{words:?}: {e}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// Words that start a command with an empty file system of so many MiB of its own over `directory`, which is made.
/// `None`, and said so, where that cannot be had.
pub fn small_disk(directory: &Path, mebibytes: u32) -> Option<Vec<String>> {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    let rights: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    // The copy of a [`Disk`] of another test would keep that disk from being mounted anew after its power cut.
    let mount = format!(
        "grep -o '^/dev/loop[^ ]* [^ ]*' /proc/self/mounts | while read -r _ disk; do umount -l \"$disk\"; done
         mount -t tmpfs -o size={mebibytes}m,mode=700 none {directory:?} && exec \"$@\""
    );
    let words = [&["unshare"], rights, &["--mount", "sh", "-c", &mount, "sh"]].concat();
    if !succeeds(&[&words[..], &["true"]].concat()) {
        skip_for_good("the right to mount a tmpfs");
        return None;
    }
    Some(words.into_iter().map(str::to_owned).collect())
}

/// An ext4 file system of its own, whose power can be cut. Gone when dropped.
pub struct Disk {
    directory: TempDir,
}

impl Disk {
    /// An empty one; `None`, and said so, where that cannot be had.
    pub fn new(mebibytes: u64) -> Option<Self> {
        let disk = Self { directory: tempfile::tempdir().unwrap() };
        for tool in ["mkfs.ext4", "xfs_io", "mount"] {
            if Command::new(tool).arg("-V").output().is_err() {
                skip(tool);
                return None;
            }
        }
        File::create(disk.image()).unwrap().set_len(mebibytes << 20).unwrap();
        run(&["mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", disk.image().to_str().unwrap()]);
        fs::create_dir(disk.path()).unwrap();
        if !is_root() || !disk.try_mount() {
            skip_for_good("the right to mount a loop device");
            return None;
        }
        Some(disk)
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn try_mount(&self) -> bool {
        succeeds(&["mount", "-o", "loop", self.image().to_str().unwrap(), self.path().to_str().unwrap()])
    }

    /// From now on every write fails, and what was not synced is lost. `and_journal`: together with what the file
    /// system's journal holds in memory.
    pub async fn cut_power(&self, and_journal: bool) {
        let shutdown = if and_journal { "shutdown" } else { "shutdown -f" };
        let mut cut = tokio::process::Command::new("xfs_io");
        assert!(cut.args(["-x", "-c", shutdown]).arg(self.path()).status().await.unwrap().success());
    }

    /// Makes the file system find an error in itself, and go on read-only; `false` where the kernel cannot.
    pub fn fail(&self) -> bool {
        self.remount("errors=remount-ro");
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount =
            mounts.lines().find(|mount| mount.split(' ').nth(1).is_some_and(|path| self.path() == Path::new(path)));
        let device = mount.unwrap().split(' ').next().unwrap().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_ok()
    }

    /// With another option, such as `ro`.
    pub fn remount(&self, option: &str) {
        run(&["mount", "-o", &format!("remount,{option}"), self.path().to_str().unwrap()]);
    }

    /// Takes it away, and mounts it again as after a start of the machine. Nobody may use it.
    pub async fn mount_again(&self) {
        eventually("the umount", async || if self.umount(&[]) { Ok(()) } else { Err("busy") }).await;
        assert!(self.try_mount(), "it cannot be mounted again");
    }

    fn umount(&self, options: &[&str]) -> bool {
        succeeds(&[&["umount"], options, &[self.path().to_str().unwrap()]].concat())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !self.umount(&[]) {
            // Somebody still uses it, as after a test that has failed: it goes with them. Or it never came to be.
            self.umount(&["--lazy"]);
        }
    }
}

/// Words that start a command under strace with these options, as a process of its own right: it keeps its id. `None`,
/// and said so, where that cannot be had.
pub fn traced(options: &[&str]) -> Option<Vec<String>> {
    if Command::new("strace").arg("-V").output().is_err() {
        skip("strace");
        return None;
    }
    if !succeeds(&["strace", "-o", "/dev/null", "true"]) {
        skip_for_good("the right to trace a process");
        return None;
    }
    let words = [&["strace", "-D", "-f"], options].concat();
    Some(words.into_iter().map(str::to_owned).collect())
}

/// Makes system calls of a running process misbehave, from now until it is dropped.
pub async fn inject(pid: u32, what: &str) -> Option<Process> {
    if Command::new("strace").arg("-V").output().is_err() {
        skip("strace");
        return None;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", "/dev/null", "-p", &pid.to_string(), "-e", "trace=fsync,fdatasync", "-e"]);
    let mut tracer = Process::spawn(strace.arg(format!("inject=fsync,fdatasync:{what}")));
    let attached = eventually("strace at every thread", async || {
        if tracer.ended().is_some() {
            return Ok(false);
        }
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let is_traced = threads.all(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("status"));
            status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        });
        if is_traced { Ok(true) } else { Err(()) }
    });
    if !attached.await {
        skip_for_good("the right to trace a process");
        return None;
    }
    Some(tracer)
}
