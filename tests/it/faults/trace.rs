//! Reading what strace has written down: the calls of every thread, in the order in which they began and ended.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use crate::harness::eventually;
use crate::harness::faults::traced;

/// A call begins or ends. The tracer sees both while the thread stands still, so that their order is that of causes.
pub struct Step<'a> {
    pub thread: u32,
    /// In seconds.
    pub at: f64,
    pub call: &'a str,
    /// What its first argument, a descriptor, stands for: a path, or an address.
    pub file: &'a str,
    /// The arguments as printed; when it ends on a line of its own, what was left to print of them.
    pub text: &'a str,
    /// `None` as it begins; then whether it succeeded.
    pub ended: Option<bool>,
}

/// Words that start a command under strace: these calls, with their data, go to `file`. `None`, and said so, where that
/// cannot be had.
pub fn traced_to(file: &Path, calls: &str, more: &[&str]) -> Option<Vec<String>> {
    let (file, calls) = (file.to_str().unwrap(), format!("trace={calls}"));
    // --seccomp-bpf: only the calls in question stop. It would keep strace from injecting signals.
    traced(&[&["--seccomp-bpf", "-ttt", "-yy", "-s", "16384", "-o", file, "-e", &calls], more].concat())
}

/// Waits until the whole of it is written down: the process has ended.
pub async fn is_complete(file: &Path, pid: u32) {
    let (exited, killed) = (format!("{pid} "), ["+++ exited with", "+++ killed by"]);
    eventually("the end of the trace", async || {
        let text = std::fs::read_to_string(file).unwrap();
        let last = text.lines().next_back().unwrap_or_default();
        let is_end = last.starts_with(&exited) && killed.iter().any(|end| last.contains(end));
        if is_end { Ok(()) } else { Err(last.chars().take(200).collect::<String>()) }
    })
    .await;
}

/// Goes through a trace, step by step. The process's end comes as a call `exit`.
pub fn read(file: &Path, mut take: impl FnMut(Step)) {
    let mut begun: HashMap<u32, (String, String)> = HashMap::new();
    for line in BufReader::new(File::open(file).unwrap()).lines() {
        let line = line.unwrap();
        let words = line.split_once(' ').and_then(|(thread, rest)| Some((thread, rest.trim_start().split_once(' ')?)));
        let (thread, (at, rest)) = words.unwrap_or_else(|| panic!("not a line of a trace: {line:.200}"));
        let (thread, at) = (thread.parse().unwrap(), at.parse().unwrap());
        if rest.starts_with("+++") {
            take(Step { thread, at, call: "exit", file: "", text: rest, ended: Some(true) });
        } else if let Some(resumed) = rest.strip_prefix("<... ") {
            let (call, file) = begun.remove(&thread).unwrap();
            take(Step { thread, at, call: &call, file: &file, text: resumed, ended: Some(has_succeeded(resumed)) });
        } else if let Some((call, text)) = rest.split_once('(') {
            let file = text.split_once('<').map_or("", |(_, file)| descriptor(file));
            take(Step { thread, at, call, file, text, ended: None });
            if text.ends_with("<unfinished ...>") {
                begun.insert(thread, (call.to_owned(), file.to_owned()));
            } else {
                take(Step { thread, at, call, file, text, ended: Some(has_succeeded(text)) });
            }
        }
    }
}

/// `TCP:[127.0.0.1:1->127.0.0.1:2]` holds what also ends a descriptor.
fn descriptor(text: &str) -> &str {
    let end = if text.starts_with("TCP") { text.find("]>").map(|end| end + 1) } else { text.find('>') };
    &text[..end.unwrap_or(text.len())]
}

fn has_succeeded(text: &str) -> bool {
    text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with(['-', '?']))
}

#[test]
fn lines_become_steps() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines = [
        r#"7 1.5 pwrite64(3</a/inbox.db-wal>, "x > = y", 7, 0 <unfinished ...>"#,
        "8     1.6 fdatasync(3</a/inbox.db-wal>) = -1 EIO (Input/output error) (INJECTED)",
        "7 1.7 <... pwrite64 resumed>) = 7",
        "9 1.8 listen(4<TCP:[127.0.0.1:80]>, 1024) = 0",
        "9 1.9 sendto(5<TCP:[1.2.3.4:1->1.2.3.4:2]>, \"a = -1\", 5, 0, NULL, 0) = 5",
        "7 2.0 --- SIGTERM {si_signo=SIGTERM} ---",
        "7 2.1 +++ exited with 0 +++",
    ];
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    let mut seen = Vec::new();
    read(file.path(), |step| seen.push(format!("{} {} {:?}", step.call, step.file, step.ended)));
    let wal = "/a/inbox.db-wal";
    let expected = [
        format!("pwrite64 {wal} None"),
        format!("fdatasync {wal} None"),
        format!("fdatasync {wal} Some(false)"),
        format!("pwrite64 {wal} Some(true)"),
        "listen TCP:[127.0.0.1:80] None".to_owned(),
        "listen TCP:[127.0.0.1:80] Some(true)".to_owned(),
        "sendto TCP:[1.2.3.4:1->1.2.3.4:2] None".to_owned(),
        "sendto TCP:[1.2.3.4:1->1.2.3.4:2] Some(true)".to_owned(),
        "exit  Some(true)".to_owned(),
    ];
    assert_eq!(seen, expected);
}
