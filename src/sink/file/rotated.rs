//! Names of rotated files: `name.<UTC time>[.n].ext` beside the file itself, and `.gz` after it once compressed.
//! Nothing of an event is in them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// As many files may be set aside within one second.
const MAX_PER_SECOND: u32 = 100_000;

/// A name that no file has, compressed or not.
pub(super) fn unused(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    for n in 0..MAX_PER_SECOND {
        let name = rotated(path, now, n);
        if !name.try_exists()? && !compressed(&name).try_exists()? {
            return Ok(name);
        }
    }
    Err(io::Error::other("too many files of this second: is the clock standing still?"))
}

fn rotated(path: &Path, now: Timestamp, n: u32) -> PathBuf {
    let mut name = path.file_stem().map(OsString::from).unwrap_or_default();
    name.push(now.strftime(".%Y%m%dT%H%M%SZ").to_string());
    if n > 0 {
        name.push(format!(".{n}"));
    }
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// Whether a file of this name, in the same directory, is one that was set aside from `path` and is not compressed.
pub(super) fn is_rotated(path: &Path, name: &OsStr) -> bool {
    let stem = path.file_stem().unwrap_or_default().as_bytes();
    let middle = name.as_bytes().strip_prefix(stem).and_then(|rest| rest.strip_prefix(b"."));
    let middle = middle.and_then(|middle| match path.extension() {
        Some(extension) => middle.strip_suffix(extension.as_bytes())?.strip_suffix(b"."),
        None => Some(middle),
    });
    let Some((time, n)) = middle.and_then(|middle| middle.split_at_checked(16)) else { return false };
    let is_time = time.iter().enumerate().all(|(at, &byte)| match at {
        8 => byte == b'T',
        15 => byte == b'Z',
        _ => byte.is_ascii_digit(),
    });
    let is_number = |n: &[u8]| !n.is_empty() && n.iter().all(u8::is_ascii_digit);
    is_time && (n.is_empty() || n.strip_prefix(b".").is_some_and(is_number))
}

/// The name of a rotated file when it is compressed.
pub(super) fn compressed(plain: &Path) -> PathBuf {
    with(plain, ".gz")
}

/// Its name until then.
pub(super) fn partial(plain: &Path) -> PathBuf {
    with(plain, ".gz.part")
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T17:00:05.9Z".parse().unwrap()
    }

    #[test]
    fn names_sort_by_time_and_are_known_again() {
        assert_eq!(rotated(Path::new("/d/events.jsonl"), now(), 0), Path::new("/d/events.20261122T170005Z.jsonl"));
        assert_eq!(rotated(Path::new("events"), now(), 2), Path::new("events.20261122T170005Z.2"));
        for path in ["/d/events.jsonl", "events", "a.b.c", ".hidden", "x.20261122T170005Z.jsonl"] {
            let path = Path::new(path);
            for n in [0, 1, 99] {
                let name = rotated(path, now(), n);
                assert!(is_rotated(path, name.file_name().unwrap()), "{}", name.display());
                for other in [compressed(&name), partial(&name), path.to_owned()] {
                    assert!(!is_rotated(path, other.file_name().unwrap()), "{}", other.display());
                }
            }
        }
        for name in ["events.jsonl", "events.2026.jsonl", "events.20261122T170005Z.x.jsonl", "events.20261122T170005Z."]
        {
            assert!(!is_rotated(Path::new("events.jsonl"), OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_name_that_was_used_is_not_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("e.jsonl");
        let mut names = Vec::new();
        for n in 0..4 {
            let name = unused(&path, now()).unwrap();
            // As it is, or compressed.
            std::fs::write(if n % 2 == 0 { name.clone() } else { compressed(&name) }, "").unwrap();
            names.push(name.file_name().unwrap().to_owned());
        }
        let expected = ["", ".1", ".2", ".3"].map(|n| OsString::from(format!("e.20261122T170005Z{n}.jsonl")));
        assert_eq!(names, expected);
    }
}
