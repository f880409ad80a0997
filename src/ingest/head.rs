//! The heads of requests, before the HTTP server sees them: bounded in size, and without what it would refuse although
//! it has one meaning.
//!
//! The HTTP server refuses a second Content-Length, even of the same value (RFC 9110, section 8.6, allows to take both as
//! one), and more than 96 headers. A proxy may add either. Nothing else is changed, and nothing is guessed: a head is
//! rewritten only from what the HTTP server's own parser reads in it, and only where it is certain that a head begins.

// The fuzz target's property takes this file in from elsewhere, so the place of its tests is told.
#[cfg(test)]
#[path = "head/tests.rs"]
mod tests;

use bytes::Bytes;

/// The most headers that the HTTP server takes.
const MAX_HEADERS: usize = 96;

/// The longest path of a source is 256 bytes.
const MAX_PATH: usize = 260;

/// By how much the memory for a head grows at a time.
const HELD_STEP: usize = 4096;

/// Headers without which a request would mean something else, or that frame its body.
const ESSENTIAL: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "expect", "upgrade", "content-type"];

/// Why a connection is closed because of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("its head is larger than server.max_head")]
    TooLarge,
    #[error("its Content-Length headers differ")]
    DifferentLengths,
    #[error("it has more headers than can be taken")]
    TooManyHeaders,
    #[error("it is not valid HTTP")]
    Invalid,
}

/// What the HTTP server gets of the bytes that have arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// So many of them, from the first on; the others are held back.
    First(usize),
    /// These, instead of all of them.
    Instead(Vec<u8>),
}

/// Where in the stream of a connection the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// At the beginning of a head, or within one that is held back.
    Head,
    /// In a body of which so much is still to come.
    Body(u64),
    /// Behind a head whose body does not say how long it is. From here on nothing is changed, because where the next
    /// head begins is known to the HTTP server only; heads are still bounded.
    Unknown { since_pause: usize, line_is_empty: bool, head_is_whole: bool },
}

const UNKNOWN: At = At::Unknown { since_pause: 0, line_is_empty: false, head_is_whole: true };

/// The heads of one connection.
#[derive(Debug)]
pub(super) struct Heads {
    max: usize,
    at: At,
    held: Vec<u8>,
    path: Vec<u8>,
}

impl Heads {
    /// For heads of up to `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { max, at: At::Head, held: Vec::new(), path: Vec::new() }
    }

    /// The path of the last request whose request line has arrived, cut; empty where there is none.
    pub(super) fn path(&self) -> &[u8] {
        let line = self.held.iter().position(|&byte| byte == b'\n').and_then(|_| request_line(&self.held));
        line.map_or(&self.path, |(_, target)| path_of(target))
    }

    /// Takes what has arrived. `is_first` = the connection was idle before. `wanted` are the headers that are kept when
    /// there are too many, in lower case.
    pub(super) fn take(&mut self, bytes: &[u8], is_first: bool, wanted: &[String]) -> Result<Passed, Refusal> {
        if let At::Unknown { .. } = self.at {
            self.bound(bytes, is_first)?;
            return Ok(Passed::First(bytes.len()));
        }
        if self.held.is_empty() {
            return self.walk(bytes, wanted);
        }
        // A vector that doubles would hold twice of what may arrive.
        if self.held.capacity() - self.held.len() < bytes.len() {
            self.held.reserve_exact(bytes.len().max(HELD_STEP));
        }
        self.held.extend_from_slice(bytes);
        // Without the end of a line there is no end of a head.
        if self.held.len() <= self.max && !bytes.contains(&b'\n') {
            return Ok(Passed::First(0));
        }
        let all = std::mem::take(&mut self.held);
        Ok(Passed::Instead(match self.walk(&all, wanted)? {
            Passed::First(length) if length == all.len() => all,
            Passed::First(length) => all[..length].to_vec(),
            Passed::Instead(bytes) => bytes,
        }))
    }

    /// Goes through bytes of which none has been looked at.
    fn walk(&mut self, bytes: &[u8], wanted: &[String]) -> Result<Passed, Refusal> {
        let (mut place, mut instead) = (0, None::<Vec<u8>>);
        while place < bytes.len() {
            let rest = &bytes[place..];
            let passed = match self.at {
                At::Body(left) => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - length as u64;
                    self.at = if left == 0 { At::Head } else { At::Body(left) };
                    length
                }
                At::Unknown { .. } => rest.len(),
                At::Head => {
                    let head = Head::of(rest);
                    if head.as_ref().map_or(rest.len(), |head| head.length) > self.max {
                        self.note_path(rest);
                        return Err(Refusal::TooLarge);
                    }
                    let Some(head) = head else {
                        self.held = rest.to_vec();
                        break;
                    };
                    self.note_path(rest);
                    self.at = head.then()?;
                    if head.has_to_be_rewritten() {
                        let instead = instead.get_or_insert_with(|| bytes[..place].to_vec());
                        rewrite(&rest[..head.length], wanted, instead)?;
                        place += head.length;
                        continue;
                    }
                    head.length
                }
            };
            if let Some(instead) = &mut instead {
                instead.extend_from_slice(&rest[..passed]);
            }
            place += passed;
        }
        Ok(instead.map_or(Passed::First(place), Passed::Instead))
    }

    fn note_path(&mut self, head: &[u8]) {
        self.path.clear();
        self.path.extend_from_slice(request_line(head).map_or(&[], |(_, target)| path_of(target)));
    }

    /// Bounds a head behind a body of unknown length: a whole one ends with an empty line.
    fn bound(&mut self, bytes: &[u8], is_first: bool) -> Result<(), Refusal> {
        let At::Unknown { since_pause, line_is_empty, head_is_whole } = &mut self.at else { return Ok(()) };
        if is_first {
            (*since_pause, *line_is_empty, *head_is_whole) = (0, false, false);
        }
        for &byte in bytes {
            if *head_is_whole {
                return Ok(());
            }
            *since_pause += 1;
            *head_is_whole = byte == b'\n' && *line_is_empty;
            *line_is_empty = byte == b'\n' || (*line_is_empty && byte == b'\r');
            if *since_pause > self.max {
                return Err(Refusal::TooLarge);
            }
        }
        Ok(())
    }
}

/// What matters of a whole head.
struct Head<'a> {
    length: usize,
    headers: usize,
    content_length: Option<&'a [u8]>,
    /// There is more than one, and they are the same.
    is_repeated: bool,
    is_different: bool,
    /// The body's length is told in another way, or not at all.
    is_unknown: bool,
}

impl<'a> Head<'a> {
    /// The head that these bytes begin with; `None` where its end has not arrived. Says nothing about whether it is valid.
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (method, _) = request_line(bytes)?;
        let mut head = Self {
            length: 0,
            headers: 0,
            content_length: None,
            is_repeated: false,
            is_different: false,
            is_unknown: method == b"CONNECT",
        };
        let mut is_begun = false;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let text = line.strip_suffix(b"\n")?;
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            head.length += line.len();
            match (is_begun, text.is_empty()) {
                // Empty lines before a request are passed over (RFC 9112, section 2.2).
                (false, true) => {}
                (false, false) => is_begun = true,
                (true, true) => return Some(head),
                (true, false) => head.note(text),
            }
        }
        None
    }

    fn note(&mut self, line: &'a [u8]) {
        self.headers += 1;
        // Nearly every header is told apart by its first byte.
        if !matches!(line[0], b'C' | b'c' | b'T' | b't' | b'U' | b'u') {
            return;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade") {
            self.is_unknown = true;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            for length in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                match self.content_length {
                    None => self.content_length = Some(length),
                    Some(first) => {
                        self.is_repeated = true;
                        self.is_different |= first != length || !is_number(length);
                    }
                }
            }
        }
    }

    fn has_to_be_rewritten(&self) -> bool {
        self.headers > MAX_HEADERS || (self.is_repeated && !self.is_unknown)
    }

    /// What comes behind it.
    fn then(&self) -> Result<At, Refusal> {
        if self.is_different {
            return Err(Refusal::DifferentLengths);
        }
        let length = match self.content_length {
            None => Some(0),
            Some(length) if is_number(length) => std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()),
            Some(_) => None,
        };
        Ok(match length {
            Some(0) if !self.is_unknown => At::Head,
            Some(length) if !self.is_unknown => At::Body(length),
            // Without a valid length the HTTP server refuses it.
            Some(_) | None => UNKNOWN,
        })
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Method and target of the first line that is not empty.
fn request_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let line = lines.find(|line| !matches!(line, [] | [b'\r']))?;
    let mut words = line.split(|&byte| byte == b' ');
    Some((words.next()?, words.next().unwrap_or_default()))
}

/// The path in a target, which may be a whole URL (RFC 9112, section 3.2.2).
fn path_of(target: &[u8]) -> &[u8] {
    let authority = target.windows(3).position(|three| three == b"://").filter(|_| !target.starts_with(b"/"));
    let target = authority.map_or(target, |at| {
        let rest = &target[at + 3..];
        rest.iter().position(|&byte| byte == b'/').map_or(&[][..], |slash| &rest[slash..])
    });
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#' | b'\r')).unwrap_or(target.len());
    &target[..end.min(MAX_PATH)]
}

/// Writes a head anew: with one Content-Length, and, where there are too many headers, only with those that are needed.
fn rewrite(head: &[u8], wanted: &[String], into: &mut Vec<u8>) -> Result<(), Refusal> {
    let lines = head.iter().filter(|&&byte| byte == b'\n').count();
    let mut headers = vec![httparse::EMPTY_HEADER; lines];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        Ok(_) | Err(_) => return Err(Refusal::Invalid),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Refusal::Invalid);
    };
    into.extend_from_slice(format!("{method} {target} HTTP/1.{version}\r\n").as_bytes());
    let is_too_many = request.headers.len() > MAX_HEADERS;
    let (mut kept, mut has_length) = (0, false);
    for header in request.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let mut value = header.value;
        if is("content-length") {
            if std::mem::replace(&mut has_length, true) {
                continue;
            }
            // All members of the list are the same.
            value = value.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
        }
        if is_too_many && !ESSENTIAL.into_iter().any(is) && !wanted.iter().any(|name| is(name)) {
            continue;
        }
        kept += 1;
        into.extend_from_slice(header.name.as_bytes());
        into.extend_from_slice(b": ");
        into.extend_from_slice(value);
        into.extend_from_slice(b"\r\n");
    }
    into.extend_from_slice(b"\r\n");
    if kept > MAX_HEADERS { Err(Refusal::TooManyHeaders) } else { Ok(()) }
}

/// What has been held back and may go out, piece by piece.
#[derive(Debug, Default)]
pub(super) struct Pending(Bytes);

impl Pending {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// Takes up to so many bytes out.
    pub(super) fn take(&mut self, room: usize) -> Bytes {
        self.0.split_to(room.min(self.0.len()))
    }
}
