//! `events list` against a bare loop over the same rows.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use rusqlite::{Connection, OpenFlags};

use crate::fill::fill;
use crate::harness::{Builder, TestRelay};
use crate::stats::{Table, median, thousands};
use crate::{Plan, daemon};

/// Rows per second of `events list --format json`, and what a filter costs.
pub async fn events_list(plan: &Plan) {
    let settings = TestRelay::builder();
    fill(&settings, plan.events).await;
    settings.write_config();
    let (mut ours, mut theirs, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for _ in 0..plan.runs {
        theirs.push(plan.events as f64 / bare(&settings));
        let (seconds, memory) = list(&settings, &[]);
        ours.push(plan.events as f64 / seconds);
        peak = peak.max(memory);
    }
    let ratio = median(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
    let columns = ["relay", "bare cursor", "ratio", "peak memory, MiB"];
    let mut table = Table::new(&format!("events list --format json, {} events, rows/s", plan.events), &columns);
    let rate = |rates: Vec<f64>| thousands(median(rates));
    table.row(vec![rate(ours), rate(theirs), format!("{ratio:.2}"), format!("{peak:.0}")]);
    table.print();

    let mut table = Table::new("One page of events list, ms", &["filter", "ms"]);
    for filter in
        [&["--limit", "50"][..], &["--limit", "50", "--type", "payin.*"], &["--key", "nobody"], &["--id", "nobody"]]
    {
        let seconds = (0..plan.runs).map(|_| list(&settings, filter).0).collect();
        table.row(vec![filter.join(" "), format!("{:.0}", median(seconds) * 1000.0)]);
    }
    table.print();
}

/// The seconds that the command takes, and its largest memory.
fn list(settings: &Builder, filter: &[&str]) -> (f64, f64) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(["events", "list", "--format", "json", "--config"]).arg(settings.config_file()).args(filter);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0.0;
    while child.try_wait().unwrap().is_none() {
        peak = f64::max(peak, daemon::memory(child.id(), "VmHWM"));
        std::thread::park_timeout(std::time::Duration::from_millis(1));
    }
    (began.elapsed().as_secs_f64(), peak)
}

fn bare(settings: &Builder) -> f64 {
    let began = Instant::now();
    let connection = Connection::open_with_flags(settings.inbox(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT seq, event_id, type, category, source_id, entity_key, event_time, received_at, size, conflict,
                    body_sha256, phase FROM events ORDER BY seq DESC",
        )
        .unwrap();
    let mut rows = statement.query([]).unwrap();
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
