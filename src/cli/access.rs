//! What to do when the inbox cannot be opened, or not for writing.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::anyhow;

use crate::config::Problems;

/// The error with a line about what to do, where rights or a read-only file system may be behind it.
pub(crate) fn with_advice(error: anyhow::Error, inbox: &Path) -> anyhow::Error {
    // What is wrong with a configuration says so itself, and decides the exit code.
    if error.chain().any(|cause| cause.is::<Problems>()) {
        return error;
    }
    let me = rustix::process::geteuid().as_raw();
    let owner = std::fs::metadata(inbox).ok().map(|file| file.uid());
    match advice(&error, inbox, me, owner) {
        Some(advice) => anyhow!("{error:#}\n    -> {advice}"),
        None => error,
    }
}

fn advice(error: &anyhow::Error, inbox: &Path, me: u32, owner: Option<u32>) -> Option<String> {
    let inbox = inbox.display();
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    // SQLite's own words: what it says of rights and of read-only disks is the same.
    let text = format!("{error:#}");
    let sqlite = ["unable to open database file", "readonly database"].iter().any(|words| text.contains(words));
    if io == Some(io::ErrorKind::ReadOnlyFilesystem) {
        return Some(format!("the file system of {inbox} is read-only: mount it writable, or run this where it is"));
    }
    if ["not a database", "malformed"].iter().any(|words| text.contains(words)) {
        return Some(format!(
            "{inbox} is no inbox, or it is damaged: name another file in inbox.url, or stop the daemon and put a backup in \
             its place (`ralio-relay backup --help`)"
        ));
    }
    if io != Some(io::ErrorKind::PermissionDenied) && !sqlite {
        return None;
    }
    Some(match owner {
        Some(owner) if owner != me => {
            format!("run it as the daemon's user, who owns {inbox}: sudo -u '#{owner}' ralio-relay ...")
        }
        Some(_) => format!("{inbox} is yours: its directory must be too, and on a file system that is writable"),
        None => format!("check that inbox.url means {inbox}, and run it as the daemon's user"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: anyhow::Error, owner: Option<u32>) -> String {
        advice(&error.context("the inbox could not be opened"), Path::new("/i.db"), 1000, owner).unwrap_or_default()
    }

    #[test]
    fn rights_and_read_only_disks_come_with_what_to_do() {
        let io = |kind: io::ErrorKind| anyhow::Error::new(io::Error::from(kind));
        assert!(said(io(io::ErrorKind::PermissionDenied), Some(999)).contains("sudo -u '#999' ralio-relay"));
        assert!(said(io(io::ErrorKind::PermissionDenied), Some(1000)).contains("is yours"));
        assert!(said(io(io::ErrorKind::ReadOnlyFilesystem), Some(1000)).contains("mount it writable"));
        assert!(said(anyhow!("attempt to write a readonly database"), Some(0)).contains("'#0'"));
        assert!(said(anyhow!("unable to open database file: /i.db"), None).contains("inbox.url"));
        assert!(said(anyhow!("database disk image is malformed"), Some(999)).contains("a backup"));
        assert_eq!(said(anyhow!("disk I/O error"), Some(999)), "");
    }

    #[test]
    fn problems_of_the_configuration_stay_what_they_are() {
        let error = anyhow::Error::new(Problems(Vec::new())).context("unable to open database file");
        let same = with_advice(error, Path::new("/nowhere/i.db"));
        assert!(same.chain().any(|cause| cause.is::<Problems>()));
    }
}
