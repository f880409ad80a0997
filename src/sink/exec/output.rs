//! What a child says, as far as it is kept.

use std::process::ExitStatus;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The end of a stream.
pub(super) struct Tail {
    limit: usize,
    kept: Vec<u8>,
    /// Whether there was more before.
    cut: bool,
}

/// Both streams of a child.
pub(super) struct Said {
    pub(super) stdout: Tail,
    pub(super) stderr: Tail,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: Vec::new(), cut: false }
    }

    /// Reads to the end, so that the child never blocks. Cancel-safe: what was read is kept.
    pub(super) async fn read(&mut self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut block = [0; 4096];
        // A pipe that cannot be read has nothing more to say.
        while let Ok(count @ 1..) = stream.read(&mut block).await {
            self.push(&block[..count]);
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
        let excess = self.kept.len().saturating_sub(self.limit);
        self.kept.drain(..excess);
        self.cut |= excess > 0;
    }

    /// The end of it as text of at most so many bytes, after dots where there was more.
    fn text(&self, limit: usize) -> String {
        const DOTS: &str = "...";
        let text = String::from_utf8_lossy(&self.kept).replace(char::is_control, " ");
        let text = text.trim();
        if text.len() <= limit && (!self.cut || text.is_empty()) {
            return text.to_owned();
        }
        let room = limit.saturating_sub(DOTS.len());
        let end = &text[text.ceil_char_boundary(text.len().saturating_sub(room))..];
        if end.is_empty() { String::new() } else { format!("{DOTS}{end}") }
    }
}

impl Said {
    /// `exit 3: words`. The stream that explains more comes first, and the other has the room that is left: both
    /// together are cut to `limit`.
    pub(super) fn note(&self, status: ExitStatus, limit: usize) -> String {
        let (first, second, label) = if status.success() {
            (&self.stdout, &self.stderr, "stderr")
        } else {
            (&self.stderr, &self.stdout, "stdout")
        };
        let mut note = status.code().map_or_else(|| status.to_string(), |code| format!("exit {code}"));
        let first = first.text(limit);
        let second = second.text(limit - first.len());
        if !first.is_empty() {
            note.push_str(": ");
            note.push_str(&first);
        }
        if !second.is_empty() {
            note.push_str(&format!("{} {label}: {second}", if first.is_empty() { ":" } else { ";" }));
        }
        note
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn tail(limit: usize, pushes: &[&[u8]]) -> Tail {
        let mut tail = Tail::new(limit);
        for bytes in pushes {
            tail.push(bytes);
            assert!(tail.kept.len() <= limit);
        }
        tail
    }

    fn note(code: i32, stdout: &[u8], stderr: &[u8], limit: usize) -> String {
        let said = Said { stdout: tail(limit, &[stdout]), stderr: tail(limit, &[stderr]) };
        said.note(ExitStatus::from_raw(code << 8), limit)
    }

    #[test]
    fn the_end_is_kept() {
        assert_eq!(tail(10, &[b"0123456789"]).text(10), "0123456789");
        assert_eq!(tail(10, &[b"0123456789", b"ab"]).text(10), "...56789ab");
        assert_eq!(tail(10, &[&[b'x'; 5000], b" end\n"]).text(10), "...xxx end");
        assert_eq!(tail(0, &[b"anything"]).text(0), "");
        assert_eq!(tail(4, &[b"\n\0\n\0\n\0"]).text(4), "");
        // Neither half a character nor more bytes than allowed, whatever they become as text.
        for limit in 0..40 {
            let text = tail(limit, &["\u{1F600}é".repeat(20).as_bytes(), &[0xff; 8]]).text(limit);
            assert!(text.len() <= limit, "{limit}: {text}");
        }
    }

    #[test]
    fn the_stream_that_explains_comes_first() {
        assert_eq!(note(0, b"", b"", 100), "exit 0");
        assert_eq!(note(0, b" stored as 17\n", b"", 100), "exit 0: stored as 17");
        assert_eq!(note(0, b"17", b"slow", 100), "exit 0: 17; stderr: slow");
        assert_eq!(note(3, b"17", b"no db", 100), "exit 3: no db; stdout: 17");
        assert_eq!(note(3, b"17", b"", 100), "exit 3: stdout: 17");
        assert_eq!(note(3, b"0123456789", b"no db", 9), "exit 3: no db; stdout: ...9");
        assert_eq!(note(3, b"0123456789", b"no db", 0), "exit 3");
    }
}
