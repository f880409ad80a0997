//! Compresses what has been set aside, on a thread of its own: deliveries never wait for it, nor does the end.
//!
//! What is to be done stands in the directory, not in memory: every plain file with the name of a rotated one. So there
//! is no queue, and the next start finishes what a crash has interrupted. At every moment the plain file or the whole
//! compressed one is there.

use std::fs;
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::files;

use super::log::sync_directory;
use super::rotated::{compressed, is_rotated, partial};

/// What is read at once; between two, the thread looks whether it should stop.
const BLOCK_BYTES: usize = 64 << 10;

/// The thread, to be woken. Dropping this stops it within a block, and leaves the rest to the next start.
pub(super) struct Compressor {
    wake: SyncSender<()>,
    stop: Arc<AtomicBool>,
}

impl Compressor {
    /// Starts the thread, which first does what is left over.
    pub(super) fn start(path: PathBuf) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("sink-compress".to_owned()).spawn(move || {
            loop {
                if let Err(error) = compress_all(&path, &stopped) {
                    tracing::warn!(path = %path.display(), %error, "a rotated file stays uncompressed for now");
                }
                if woken.recv().is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { wake, stop })
    }

    /// Something has been set aside.
    pub(super) fn wake(&self) {
        // Full means that it will look again in any case.
        let _ = self.wake.try_send(());
    }
}

impl Drop for Compressor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Each rotated file of this path; one that fails does not keep the others from being done.
fn compress_all(path: &Path, stop: &AtomicBool) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut result = Ok(());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if !is_rotated(path, &entry.file_name()) || !entry.file_type()?.is_file() {
            continue;
        }
        if let Err(error) = compress(&path.with_file_name(entry.file_name()), stop) {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            result = Err(error);
        }
    }
    result
}

/// The plain file goes when the compressed one is durable under its name and has been read back.
fn compress(plain: &Path, stop: &AtomicBool) -> io::Result<()> {
    let held = match fs::File::open(plain) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    // While a sink is exchanged there are two of us for a moment; the first one may have been told to stop half-way. Where
    // a file system has no locks, that is no reason to leave the file as it is.
    _ = held.lock();
    go_on(stop)?;
    if !plain.try_exists()? {
        return Ok(());
    }
    let target = compressed(plain);
    if !target.try_exists()? {
        let partial = partial(plain);
        write(plain, &partial, stop).and_then(|()| fs::rename(&partial, &target)).inspect_err(|_| {
            // What cannot be removed is written over the next time.
            let _ = fs::remove_file(&partial);
        })?;
        sync_directory(plain)?;
    }
    if !holds(&target, plain, stop)? {
        return Err(io::Error::other(format!("{} holds something else", target.display())));
    }
    fs::remove_file(plain)?;
    sync_directory(plain)
}

fn write(plain: &Path, partial: &Path, stop: &AtomicBool) -> io::Result<()> {
    let mut source = fs::File::open(plain)?;
    // What an earlier try has left.
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files::create(partial)?;
    let mut encoder = GzEncoder::new(file, Compression::default());
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        go_on(stop)?;
        match source.read(&mut block)? {
            0 => break,
            count => encoder.write_all(&block[..count])?,
        }
    }
    encoder.finish()?.sync_all()
}

/// Whether the compressed file holds exactly the plain one.
fn holds(compressed: &Path, plain: &Path, stop: &AtomicBool) -> io::Result<bool> {
    let mut unpacked = MultiGzDecoder::new(BufReader::new(fs::File::open(compressed)?));
    let mut plain = fs::File::open(plain)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        go_on(stop)?;
        for (from, into) in [(&mut plain as &mut dyn Read, &mut ours), (&mut unpacked, &mut theirs)] {
            into.clear();
            from.take(BLOCK_BYTES as u64).read_to_end(into)?;
        }
        if ours != theirs || ours.is_empty() {
            return Ok(ours == theirs);
        }
    }
}

fn go_on(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NAME: &str = "events.20261122T170005Z.ndjson";

    fn unpack(path: &Path) -> Vec<u8> {
        let mut bytes = Vec::new();
        MultiGzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn run(directory: &Path) -> io::Result<()> {
        compress_all(&directory.join("events.ndjson"), &AtomicBool::new(false))
    }

    #[test]
    fn what_is_set_aside_is_compressed_and_nothing_else_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let text: Vec<u8> = (0..60_000u32).flat_map(|n| format!("{{\"n\":{n}}}\n").into_bytes()).collect();
        fs::write(directory.path().join(NAME), &text).unwrap();
        let others =
            ["events.ndjson", "events.1.ndjson", "other.20261122T170005Z.ndjson", "events.20261122T170005Z.txt"];
        for other in others {
            fs::write(directory.path().join(other), "mine").unwrap();
        }
        fs::create_dir(directory.path().join("events.20261122T170006Z.ndjson")).unwrap();
        run(directory.path()).unwrap();
        let packed = directory.path().join(format!("{NAME}.gz"));
        assert_eq!(unpack(&packed), text);
        assert_eq!(fs::metadata(&packed).unwrap().permissions().mode() & 0o777, 0o600);
        let mut expected: Vec<_> = others.iter().map(|&other| other.to_owned()).collect();
        expected.extend([format!("{NAME}.gz"), "events.20261122T170006Z.ndjson".to_owned()]);
        expected.sort();
        assert_eq!(names(directory.path()), expected);
    }

    /// Killed while writing, before and after the rename: the next run ends the same.
    #[test]
    fn whatever_a_crash_leaves_is_finished() {
        for left in ["", "half", "both"] {
            let directory = tempfile::tempdir().unwrap();
            let plain = directory.path().join(NAME);
            fs::write(&plain, "line\n").unwrap();
            match left {
                "half" => fs::write(partial(&plain), "\x1f\u{8b}torn").unwrap(),
                "both" => write(&plain, &compressed(&plain), &AtomicBool::new(false)).unwrap(),
                _ => {}
            }
            run(directory.path()).unwrap();
            assert_eq!(names(directory.path()), [format!("{NAME}.gz")], "{left}");
            assert_eq!(unpack(&compressed(&plain)), b"line\n");
        }
    }

    #[test]
    fn nothing_is_removed_for_a_compressed_file_that_holds_something_else() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join(NAME);
        let later = directory.path().join("events.20261122T170006Z.ndjson");
        for (other, text) in [(&plain, "foreign"), (&later, "later")] {
            fs::write(other, text).unwrap();
        }
        write(&plain, &compressed(&plain), &AtomicBool::new(false)).unwrap();
        fs::write(&plain, "foreign and more\n").unwrap();
        assert!(run(directory.path()).unwrap_err().to_string().contains("something else"));
        assert_eq!(fs::read_to_string(&plain).unwrap(), "foreign and more\n");
        assert_eq!(unpack(&compressed(&plain)), b"foreign");
        assert_eq!(unpack(&compressed(&later)), b"later", "the others are done all the same");
        fs::write(compressed(&plain), "not gzip").unwrap();
        assert!(run(directory.path()).is_err() && plain.exists());
    }

    #[test]
    fn stopping_leaves_the_plain_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NAME), "line\n").unwrap();
        compress_all(&directory.path().join("events.ndjson"), &AtomicBool::new(true)).unwrap();
        assert_eq!(names(directory.path()), [NAME]);
    }
}
