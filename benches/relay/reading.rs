//! `events list` against a bare loop over the same rows, and how long a page takes in a full inbox.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fill::RARE;
use crate::full::{count, full, open};
use crate::harness::Builder;
use crate::stats::{Table, median, thousands};
use crate::{Plan, daemon};

/// Rows that are read for the ratio: the newest.
const ROWS: u64 = 1_000_000;

/// Rows per second of `events list --format json`, and what each filter costs.
pub async fn all(plan: &Plan) {
    // A sink that is new to this inbox has no backlog; the daemon gives it its place in the log.
    let sink = format!("archive-{:08x}", fastrand::u32(..));
    let settings = full(plan).await.file_sink(&sink, "start = \"now\"").start().await.shutdown().await;
    settings.write_config();
    retain(&settings);
    rates(plan, &settings);
    pages(plan, &settings, &sink);
}

fn rates(plan: &Plan, settings: &Builder) {
    let rows = ROWS.min(count(settings));
    let limit = rows.to_string();
    let (mut ours, mut theirs, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..plan.runs {
        theirs.push(rows as f64 / bare(settings, rows));
        let ran = run(settings, &["events", "list", "--format", "json", "--limit", &limit], Stdio::null());
        ours.push(rows as f64 / ran.seconds);
        peak = peak.max(ran.memory);
    }
    let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
    let columns = ["relay", "bare cursor", "ratio", "peak memory, MiB"];
    let mut table = Table::new(&format!("events list --format json, {rows} events, rows/s"), &columns);
    let rate = |rates: Vec<f64>| thousands(median(rates));
    table.row(vec![rate(ours), rate(theirs), format!("{ratio:.2}"), format!("{peak:.0}")]);
    table.print();
}

/// How long until the first result, and until the end, of what people ask of a large inbox.
fn pages(plan: &Plan, settings: &Builder, sink: &str) {
    let at = |place: u64| -> (String, String, String) {
        let row = "SELECT event_id, entity_key, received_at FROM events WHERE seq = ?1";
        let found = open(settings).query_row(row, [place], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?)));
        let (id, key, micros) = found.unwrap();
        (id, key, jiff::Timestamp::from_microsecond(micros).unwrap().to_string())
    };
    let events = count(settings);
    let (id, key, middle) = at(events / 2);
    let (_, _, late) = at(events - events / 100);
    let cases = [
        ("events list, the newest 50", page(&[])),
        ("--type payin.*", page(&["--type", "payin.*"])),
        ("--since, the newest hundredth", page(&["--since", &late])),
        ("--since, the same, oldest first", page(&["--since", &late, "--oldest-first"])),
        ("--until, the older half", page(&["--until", &middle])),
        ("--since and --until, nothing between", list(&["--since", "2020-01-01", "--until", "2020-01-02"])),
        ("--key", list(&["--key", &key])),
        ("--id", list(&["--id", &id])),
        ("--id, nothing", list(&["--id", "nobody"])),
        ("--search, in all", page(&["--search", "winter-2026"])),
        ("--type, one in a million", list(&["--type", RARE])),
        ("prune --dry-run, half of it", vec!["prune", "--dry-run"]),
        ("replay --dry-run, everything", replay(sink, &[])),
        ("replay --dry-run --since, the newest hundredth", replay(sink, &["--since", &late])),
        ("sinks list", vec!["sinks", "list"]),
    ];
    let title = format!("Reading an inbox of {events} events, ms");
    let mut table = Table::new(&title, &["command", "first result", "end", "peak memory, MiB"]);
    for (name, arguments) in cases {
        let mut ran = vec![run(settings, &arguments, Stdio::piped())];
        // What walks over the whole log takes long, and differs little.
        let times = if ran[0].seconds > 1.0 { 1 } else { plan.runs };
        ran.extend((1..times).map(|_| run(settings, &arguments, Stdio::piped())));
        let millis = |of: fn(&Ran) -> f64| format!("{:.0}", median(ran.iter().map(of).collect()) * 1000.0);
        let memory = ran.iter().map(|ran| ran.memory).fold(0.0, f64::max);
        table.row(vec![name.to_owned(), millis(|ran| ran.first), millis(|ran| ran.seconds), format!("{memory:.0}")]);
    }
    table.print();
}

fn list<'a>(filter: &[&'a str]) -> Vec<&'a str> {
    [&["events", "list", "--format", "json"], filter].concat()
}

fn page<'a>(filter: &[&'a str]) -> Vec<&'a str> {
    [&list(filter)[..], &["--limit", "50"]].concat()
}

fn replay<'a>(sink: &'a str, filter: &[&'a str]) -> Vec<&'a str> {
    [&["replay", "--sink", sink, "--reason", "a benchmark", "--dry-run"], filter].concat()
}

/// Retention that lets the older half go.
fn retain(settings: &Builder) {
    let file = std::fs::OpenOptions::new().append(true).open(settings.config_file());
    file.unwrap().write_all(b"\n[inbox.retention]\nbodies = \"50d\"\n").unwrap();
}

/// One run of a command.
struct Ran {
    /// Until its first output, or its end.
    first: f64,
    seconds: f64,
    /// The largest that was seen, in MiB.
    memory: f64,
}

fn run(settings: &Builder, arguments: &[&str], out: Stdio) -> Ran {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(arguments).arg("--config").arg(settings.config_file());
    let mut child = command.stdout(out).stderr(Stdio::null()).spawn().unwrap();
    let reading = child.stdout.take().map(|mut out| {
        std::thread::spawn(move || {
            let (mut first, mut buffer) = (None, vec![0; 1 << 16]);
            while out.read(&mut buffer).unwrap() > 0 {
                first.get_or_insert_with(|| began.elapsed().as_secs_f64());
            }
            first
        })
    });
    let mut memory = 0.0;
    while child.try_wait().unwrap().is_none() {
        memory = f64::max(memory, daemon::memory(child.id(), "VmHWM"));
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let seconds = began.elapsed().as_secs_f64();
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 1)), "{arguments:?} ended with {code:?}");
    Ran { first: reading.and_then(|reading| reading.join().unwrap()).unwrap_or(seconds), seconds, memory }
}

/// The seconds of a loop over the newest rows that prints the same columns. It leaves out what is not in the row: whether
/// an event is stale and how often it came, the source's and the category's names, and times as RFC 3339.
fn bare(settings: &Builder, rows: u64) -> f64 {
    let began = Instant::now();
    let connection = open(settings);
    let mut statement = connection
        .prepare(
            "SELECT seq, event_id, type, category, source_id, entity_key, event_time, received_at, size, conflict,
                    body_sha256, phase FROM events ORDER BY seq DESC LIMIT ?1",
        )
        .unwrap();
    let mut rows = statement.query([rows]).unwrap();
    let mut out = std::io::BufWriter::new(std::fs::File::create("/dev/null").unwrap());
    while let Some(row) = rows.next().unwrap() {
        let digest = data_encoding::HEXLOWER.encode(row.get_ref(10).unwrap().as_blob().unwrap());
        let text = |column| row.get_ref(column).unwrap().as_str().unwrap_or_default();
        let number = |column| row.get_ref(column).unwrap().as_i64_or_null().unwrap().unwrap_or_default();
        writeln!(
            out,
            r#"{{"seq":{},"id":"{}","type":"{}","category":{},"source":{},"key":"{}","time":{},"received_at":{},"size":{},"conflict":{},"body_sha256":"{digest}"}}"#,
            number(0), text(1), text(2), number(3), number(4), text(5), number(6), number(7), number(8), number(9)
        )
        .unwrap();
    }
    out.flush().unwrap();
    began.elapsed().as_secs_f64()
}
