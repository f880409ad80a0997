//! The file itself: torn lines, rotation, fsync.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::files;
use crate::sink::lines::Target;
use crate::throttle::Throttle;

use super::Config;
use super::compress::Compressor;
use super::rotated;

/// How every line begins; tells our own torn line from somebody else's text.
const LINE_START: &[u8] = b"{\"specversion\":";

/// A file of lines.
pub(super) struct Log {
    config: Config,
    /// `None` before the first batch, and after a failure: opened with the next one.
    current: Option<Current>,
    compressor: Option<Compressor>,
    /// A directory that takes no other name is one thing to know, however many batches find it so.
    refusals: Throttle,
}

struct Current {
    file: fs::File,
    born: SystemTime,
}

impl Log {
    /// Makes sure that the file can be appended to, or made. What it holds is not touched before the first batch: until then
    /// it may be another one's, who is about to close it.
    pub(super) fn open(config: Config) -> io::Result<Self> {
        check(&config.path)?;
        let compressor = config.compress.then(|| Compressor::start(config.path.clone())).transpose()?;
        Ok(Self { config, current: None, compressor, refusals: Throttle::default() })
    }

    /// The file that the path names now, and its length. Somebody may have renamed or removed the one that is open:
    /// lines written there would be lost.
    fn current(&mut self) -> io::Result<(&mut Current, u64)> {
        let current = match self.current.take() {
            Some(current) if is_same(&current.file, &self.config.path)? => current,
            _ => Current::open(&self.config.path)?,
        };
        let current = self.current.insert(current);
        let len = current.file.metadata()?.len();
        Ok((current, len))
    }

    /// A file that is too long is better than deliveries that stop: where it cannot be renamed, it goes on growing.
    fn rotate(&mut self) {
        match set_aside(&self.config.path) {
            Ok(()) => {
                if let Some(compressor) = &self.compressor {
                    compressor.wake();
                }
            }
            Err(error) => {
                if let Some(suppressed) = self.refusals.admit(Instant::now()) {
                    let path = self.config.path.display();
                    tracing::warn!(%path, %error, suppressed, "the file cannot be rotated, and goes on growing");
                }
            }
        }
    }

    fn try_append(&mut self, lines: &[u8]) -> io::Result<()> {
        let (rotate_size, rotate_every) = (self.config.rotate_size, self.config.rotate_every);
        let (mut current, mut len) = self.current()?;
        let too_long = rotate_size.is_some_and(|max| len.saturating_add(lines.len() as u64) > max);
        let too_old = rotate_every.is_some_and(|max| current.born.elapsed().is_ok_and(|age| age >= max));
        if len > 0 && (too_long || too_old) {
            self.rotate();
            (current, len) = self.current()?;
        }
        let file = &mut current.file;
        file.write_all(lines).and_then(|()| file.sync_data()).inspect_err(|_| {
            // Nobody was told that these lines are safe. Should this fail too, a torn line is cut when the file is
            // opened again, and a whole one is a repetition with the same id.
            let _ = file.set_len(len);
        })
    }
}

impl Target for Log {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.try_append(lines).inspect_err(|_| self.current = None)
    }
}

impl Current {
    fn open(path: &Path) -> io::Result<Self> {
        let is_new = match fs::metadata(path) {
            // Opening a pipe would wait for its reader.
            Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("it is not a regular file")),
            // Empty, it may have been made by a process that died before the directory was synced.
            Ok(metadata) => metadata.len() == 0,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        files::create_if_missing(path)?;
        match files::make_private(path) {
            Ok(false) => {}
            Ok(true) => {
                let path = path.display();
                tracing::warn!(%path, "others could read the file, which holds personal data: now its owner alone can");
            }
            Err(error) => {
                let (path, whose) = (path.display(), files::whose(path));
                tracing::warn!(%path, %error, whose, "others can read the file, which holds personal data: make its mode 0600");
            }
        }
        let mut file = OpenOptions::new().read(true).append(true).open(path)?;
        if is_new {
            sync_directory(path)?;
        } else {
            end_last_line(&mut file)?;
        }
        let born = file.metadata()?.created().unwrap_or_else(|_| SystemTime::now());
        Ok(Self { file, born })
    }
}

/// Whether lines could be appended, without writing any, and without making the file: whoever only looks may be another
/// user than the one who delivers.
pub(super) fn check(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => OpenOptions::new().append(true).open(path).map(drop),
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = files::directory(path);
            if !fs::metadata(&directory)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(accessat(CWD, &directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)?)
        }
        Err(error) => Err(error),
    }
}

fn is_same(file: &fs::File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::metadata(path) {
        Ok(named) => Ok(named.ino() == open.ino() && named.dev() == open.dev()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// After a crash the last line may be half there. Nobody was told that it is safe, so it is cut off. Text that is not
/// ours is kept, and ended with a newline.
fn end_last_line(file: &mut fs::File) -> io::Result<()> {
    let len = file.metadata()?.len();
    let start = start_of_last_line(file, len)?;
    if start == len {
        return Ok(());
    }
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.take(LINE_START.len() as u64).read_to_end(&mut head)?;
    if LINE_START.starts_with(&head) {
        file.set_len(start)?;
    } else {
        file.write_all(b"\n")?;
    }
    file.sync_data()
}

/// Where the text after the last newline begins; `len` when there is none.
fn start_of_last_line(file: &mut fs::File, len: u64) -> io::Result<u64> {
    const BLOCK_BYTES: u64 = 64 << 10;
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        let mut block = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|&b| b == b'\n') {
            return Ok(start + newline as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Renames the file to a name of its own, beside itself.
fn set_aside(path: &Path) -> io::Result<()> {
    fs::rename(path, rotated::unused(path, Timestamp::now())?)?;
    sync_directory(path)
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;

    fn config(directory: &Path) -> Config {
        Config { path: directory.join("events.jsonl"), rotate_size: None, rotate_every: None, compress: false }
    }

    /// The files of a directory with their text, by name.
    fn files(directory: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut files: Vec<_> = entries.map(|path| (name(&path), fs::read_to_string(&path).unwrap())).collect();
        files.sort();
        files
    }

    #[test]
    fn a_new_file_is_private() {
        let directory = tempfile::tempdir().unwrap();
        Log::open(config(directory.path())).unwrap().append(b"{}\n").unwrap();
        let mode = fs::metadata(directory.path().join("events.jsonl")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_torn_line_is_cut_and_foreign_text_is_kept() {
        let long = format!("{{\"specversion\":\"1.0\",\"data\":\"{}", "x".repeat(200_000));
        for (found, kept) in [
            ("", ""),
            ("a\n", "a\n"),
            ("a\n{\"specversion\":\"1.0\",\"id\":\"e", "a\n"),
            ("a\n{\"spe", "a\n"),
            ("{\"specversion\":", ""),
            ("a\nnot ours", "a\nnot ours\n"),
            ("not ours", "not ours\n"),
            (&format!("a\n{long}"), "a\n"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let config = config(directory.path());
            fs::write(&config.path, found).unwrap();
            Log::open(config.clone()).unwrap().append(b"new\n").unwrap();
            assert_eq!(fs::read_to_string(&config.path).unwrap(), format!("{kept}new\n"));
        }
    }

    #[test]
    fn rotation_by_size_keeps_every_line() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { rotate_size: Some(10), ..config(directory.path()) };
        let mut log = Log::open(config).unwrap();
        for line in ["one\n", "two\n", "three\n", "a line over the limit\n", "four\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let mut texts: Vec<_> = files(directory.path()).into_iter().map(|(_, text)| text).collect();
        texts.sort();
        assert_eq!(texts, ["a line over the limit\n", "four\n", "one\ntwo\n", "three\n"]);
    }

    #[test]
    fn rotation_by_age_goes_by_the_creation_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { rotate_every: Some(Duration::from_secs(3600)), ..config(directory.path()) };
        let mut log = Log::open(config).unwrap();
        log.append(b"old\n").unwrap();
        log.append(b"old too\n").unwrap();
        log.current.as_mut().unwrap().born -= Duration::from_secs(3601);
        log.append(b"new\n").unwrap();
        log.append(b"new too\n").unwrap();
        let texts: Vec<_> = files(directory.path()).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["old\nold too\n", "new\nnew too\n"]);
    }

    #[test]
    fn lines_follow_the_path_when_the_file_is_moved_away() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let mut log = Log::open(config.clone()).unwrap();
        log.append(b"one\n").unwrap();
        fs::rename(&config.path, directory.path().join("moved")).unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(&config.path).unwrap(), "two\n");
    }

    #[test]
    fn a_batch_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let mut log = Log::open(config.clone()).unwrap();
        log.append(b"one\n").unwrap();
        // A descriptor that cannot write stands in for a full disk.
        log.current.as_mut().unwrap().file = fs::File::open(&config.path).unwrap();
        assert!(log.append(b"two\n").is_err());
        log.append(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&config.path).unwrap(), "one\nthree\n");
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Log::open(Config { path: directory.path().to_owned(), ..config(directory.path()) }).is_err());
        assert!(Log::open(config(&directory.path().join("missing"))).is_err());
    }
}
