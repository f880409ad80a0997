//! Where the daemon's log lines go: to standard error, from a thread of its own. Whoever reads them may be gone, stuck or out
//! of disk: then lines are dropped and counted, and nothing waits.

use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus::IntCounter;
use tracing_subscriber::EnvFilter;

use super::output::visible;
use super::view::wants_colours;
use crate::app::SetLevel;
use crate::config::{Log, LogFormat};

/// Libraries whose everyday lines say nothing to an operator; with rustls and actix_http, which calls each malformed request
/// an error, anyone could write any number of them. lapin would log what the broker returns, body and all. notify says a line
/// for each change in a watched directory: where the log is a file in one, each line would make the next.
pub(super) const QUIET: &str =
    "actix_server=warn,actix_http=off,rusqlite_migration=warn,rustls=error,lapin=off,notify=info";

/// Lines that may wait to be written.
const MAX_LINES: usize = 2048;
/// Their bytes.
const MAX_BYTES: usize = 2 << 20;
/// How long the end of the process waits for the lines that are left.
const FLUSH: Duration = Duration::from_secs(1);
/// Between two tries to write to a standard error that takes nothing just now.
const AGAIN: Duration = Duration::from_millis(20);

/// The daemon's log. What waits is written when it is dropped, within a second.
pub(super) struct DaemonLog(Lines);

impl DaemonLog {
    /// From now on what is logged goes to standard error; a panic, too, is logged. `dropped` counts the lines that could not
    /// be written. The function that is given back changes the level. Fails where `log.level` is not understood, or no
    /// thread can be started.
    pub(super) fn begin(log: &Log, dropped: IntCounter) -> anyhow::Result<(Self, SetLevel)> {
        let first = filter(&log.level).context("log.level is not understood")?;
        let lines = Lines::begin(io::stderr(), dropped).context("the thread that writes the log could not start")?;
        let writer = lines.clone();
        let logs = tracing_subscriber::fmt().with_env_filter(first).log_internal_errors(false);
        let set_level: SetLevel = match log.format {
            LogFormat::Json => {
                let logs = logs.with_writer(move || writer.clone()).json().flatten_event(true).with_filter_reloading();
                let handle = logs.reload_handle();
                logs.init();
                Box::new(move |level| _ = filter(level).map(|filter| handle.reload(filter)))
            }
            LogFormat::Text => {
                let var = |name: &str| std::env::var_os(name);
                let is_terminal = io::stderr().is_terminal();
                let colours = wants_colours(is_terminal, var("NO_COLOR").as_deref(), var("CLICOLOR_FORCE").as_deref());
                let logs = logs.with_writer(move || Visible(writer.clone())).with_ansi(colours).with_filter_reloading();
                let handle = logs.reload_handle();
                logs.init();
                Box::new(move |level| _ = filter(level).map(|filter| handle.reload(filter)))
            }
        };
        // The standard hook writes to standard error by itself, and would wait there.
        std::panic::set_hook(Box::new(log_panic));
        Ok((Self(lines), set_level))
    }
}

impl Drop for DaemonLog {
    fn drop(&mut self) {
        self.0.flush(FLUSH);
    }
}

/// What comes later in the list wins, so that the configuration can still ask for what is quiet otherwise.
fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::try_new(format!("{QUIET},{level}"))
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let thread = thread::current();
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = (backtrace.status() == std::backtrace::BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        thread = thread.name(),
        location,
        backtrace,
        "a panic, please report it: {}",
        panic.payload_as_str().unwrap_or("no text")
    );
}

enum Message {
    Line(Vec<u8>),
    /// Everything before it has been written, or dropped.
    Flush(Sender<()>),
}

/// Takes lines, and never waits.
#[derive(Clone)]
struct Lines {
    messages: SyncSender<Message>,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
}

impl Lines {
    /// Starts the thread that writes to `out`.
    fn begin(out: impl Write + Send + 'static, dropped: IntCounter) -> io::Result<Self> {
        let (messages, received) = sync_channel(MAX_LINES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let thread = LogThread { out, waiting: waiting.clone(), dropped: dropped.clone(), works: true, told: 0 };
        thread::Builder::new().name("log".to_owned()).spawn(move || thread.run(&received))?;
        Ok(Self { messages, waiting, dropped })
    }

    /// Waits until what was logged so far is written, or for so long.
    fn flush(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let (done, is_done) = channel();
        while self.messages.try_send(Message::Flush(done.clone())).is_err() {
            if Instant::now() > until {
                return;
            }
            thread::park_timeout(AGAIN);
        }
        // An error is the end of the patience.
        _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let before = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before == 0 || before + line.len() <= MAX_BYTES;
        if !fits || self.messages.try_send(Message::Line(line.to_owned())).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.dropped.inc();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes one line after the other.
struct LogThread<W> {
    out: W,
    waiting: Arc<AtomicUsize>,
    dropped: IntCounter,
    /// Whether the last line could be written.
    works: bool,
    /// Dropped lines that a line has told of.
    told: u64,
}

impl<W: Write> LogThread<W> {
    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let message = match messages.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.tell();
                    messages.recv().map_err(|_| TryRecvError::Disconnected)
                }
                message => message,
            };
            match message {
                Ok(Message::Line(line)) => {
                    self.works = self.write(&line).is_ok();
                    self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    if !self.works {
                        self.dropped.inc();
                    }
                }
                // Whoever asked may have lost patience.
                Ok(Message::Flush(done)) => _ = done.send(()),
                Err(_) => return,
            }
        }
    }

    /// Waits where standard error is a pipe that is full; a descriptor that does not block by itself is asked again.
    fn write(&mut self, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            match self.out.write(line) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::park_timeout(AGAIN),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says how many lines are missing, once there is room again. This line comes back to this thread, like any other.
    fn tell(&mut self) {
        let missing = self.dropped.get() - self.told;
        if missing > 0 && self.works {
            self.told += missing;
            tracing::warn!(missing, "log lines were dropped: standard error was full, closed or too slow");
        }
    }
}

/// Log lines for people: what somebody else has written into an id or a name must not hide in them. The library itself
/// escapes control characters.
struct Visible<W>(W);

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(visible(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn counter() -> IntCounter {
        IntCounter::new("dropped", "dropped").unwrap()
    }

    #[test]
    fn nothing_hides_in_a_line_for_people() {
        let mut bytes = Vec::new();
        let line = "\u{1b}[32mINFO\u{1b}[0m id=user\u{202e}gpj\u{2028}x é\n";
        Visible(&mut bytes).write_all(line.as_bytes()).unwrap();
        let shown = "\u{1b}[32mINFO\u{1b}[0m id=user\\u{202e}gpj\\u{2028}x é\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), shown);
    }

    /// Takes nothing while somebody else holds the lock.
    struct Stuck(Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn while_nobody_reads_lines_are_dropped_by_number_and_bytes_and_counted() {
        for line in [b"a line\n".to_vec(), vec![b'x'; 64 << 10]] {
            let (written, dropped) = (Arc::new(Mutex::new(Vec::new())), counter());
            let mut lines = Lines::begin(Stuck(written.clone()), dropped.clone()).unwrap();
            let stuck = written.lock().unwrap();
            let all = 2 * MAX_LINES;
            for _ in 0..all {
                lines.write_all(&line).unwrap();
            }
            // One may be with the thread that waits.
            let most = (MAX_BYTES / line.len()).min(MAX_LINES + 1);
            assert!(dropped.get() >= (all - most) as u64, "{} of {all} were dropped", dropped.get());
            drop(stuck);
            lines.flush(Duration::from_secs(60));
            assert_eq!(written.lock().unwrap().len() + dropped.get() as usize * line.len(), all * line.len());
            assert_eq!(lines.waiting.load(Ordering::Relaxed), 0);
        }
    }

    /// Fails for some time, and takes lines by halves, with pauses.
    struct Moody {
        written: Arc<Mutex<Vec<u8>>>,
        calls: usize,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls {
                1 | 2 => Err(ErrorKind::StorageFull.into()),
                3 => Err(ErrorKind::WouldBlock.into()),
                4 => Err(ErrorKind::Interrupted.into()),
                _ => self.written.lock().unwrap().write(&bytes[..bytes.len().div_ceil(2)]),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_the_next_is_tried() {
        let (written, dropped) = (Arc::default(), counter());
        let mut lines = Lines::begin(Moody { written: Arc::clone(&written), calls: 0 }, dropped.clone()).unwrap();
        for line in ["one\n", "two\n", "three\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        lines.flush(Duration::from_secs(60));
        assert_eq!(*written.lock().unwrap(), b"three\n");
        assert_eq!(dropped.get(), 2);
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_is_stuck() {
        let written: Arc<Mutex<Vec<u8>>> = Arc::default();
        let mut lines = Lines::begin(Stuck(written.clone()), counter()).unwrap();
        let stuck = written.lock().unwrap();
        lines.write_all(b"a line\n").unwrap();
        lines.flush(Duration::from_millis(10));
        drop(stuck);
    }
}
