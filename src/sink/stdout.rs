//! JSON lines on standard output.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use async_trait::async_trait;

use crate::model::unseen::escape_json;
use crate::model::{Outcome, Outgoing};

use super::lines::{LineWriter, Target};
use super::{BuildError, Sink};

/// One CloudEvents JSON object a line. `Delivered` means that the line is in the pipe or terminal; what is behind that
/// promises nothing to the relay, so this sink is for people and for collectors that read at once.
pub struct Stdout {
    writer: LineWriter,
}

impl Stdout {
    /// The process's standard output.
    pub fn new() -> Result<Self, BuildError> {
        // Not `io::stdout()`: it buffers what a failed write left over, and takes a closed descriptor for success.
        let out = io::stdout().as_fd().try_clone_to_owned();
        Self::on(out.map_err(|error| BuildError(format!("standard output is not open: {error}")))?)
    }

    /// Any other open descriptor, such as a pipe.
    pub fn on(out: OwnedFd) -> Result<Self, BuildError> {
        let target = Output { out: File::from(out), torn: false };
        Ok(Self { writer: LineWriter::start(target, "standard output".to_owned(), "written")? })
    }
}

#[async_trait]
impl Sink for Stdout {
    async fn deliver(&self, event: &Outgoing) -> Outcome {
        self.writer.deliver(event).await
    }

    async fn probe(&self) -> Result<Option<String>, String> {
        // Open since it was made; whether somebody reads shows only with a line.
        Ok(None)
    }

    async fn close(&self) {
        self.writer.close().await;
    }
}

struct Output {
    out: File,
    /// The last write stopped in the middle of a line.
    torn: bool,
}

impl Target for Output {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        // It may be a terminal.
        let mut lines = lines.to_vec();
        escape_json(&mut lines);
        if self.torn {
            self.out.write_all(b"\n")?;
            self.torn = false;
        }
        let mut written = 0;
        while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
            match self.out.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    written += count;
                    self.torn = lines.get(written - 1) != Some(&b'\n');
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[tokio::test]
    async fn the_process_has_a_standard_output() {
        let sink = Stdout::new().unwrap();
        assert_eq!(sink.probe().await, Ok(None));
        sink.close().await;
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = Output { out: File::from(OwnedFd::from(writer)), torn: true };
        output.append(b"{}\n").unwrap();
        output.append(b"{}\n").unwrap();
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\n{}\n{}\n");
    }

    #[test]
    fn nothing_steers_a_terminal() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut output = Output { out: File::from(OwnedFd::from(writer)), torn: false };
        output.append("{\"a\":\"\u{9b}2J é\"}\n{\"b\":\"\u{202e}\u{e0041}\"}\n".as_bytes()).unwrap();
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "{\"a\":\"\\u009b2J é\"}\n{\"b\":\"\\u202e\\udb40\\udc41\"}\n");
    }
}
