//! What was aimed for, beside what was measured: the table of the README.

use crate::Plan;
use crate::stats::printed;

/// Which way a figure is good.
#[derive(Clone, Copy)]
enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// None was set: the figure is for information.
    Known,
}
use Goal::{AtLeast, AtMost, Known};

/// A line: what, against what, the goal, and where the figure stands: title, row, column.
type Line = (&'static str, &'static str, Goal, [&'static str; 3]);

const ACKS: &str = "Durable acknowledgements";
const TAIL: &str = "Acknowledgement at full load, 64";
const FULL_TAIL: &str = "Acknowledgement at full load, by";
const HALF: &str = "Half load";
const RESOURCES: &str = "Memory, disk, restart";
const READING: &str = "Reading an inbox";
const IDLE: &str = "p99 with an idle sink";

const LINES: [Line; 44] = [
    ("ceiling, 64 connections", "a bare actix-web HTTPS handler", AtLeast(0.7), [ACKS, "64", "ceiling / bare"]),
    ("the same, 16", "", AtLeast(0.7), [ACKS, "16", "ceiling / bare"]),
    ("the same, 256", "", AtLeast(0.7), [ACKS, "256", "ceiling / bare"]),
    (
        "durable acknowledgements/s, 64 connections, empty",
        "the ceiling",
        AtLeast(0.45),
        [ACKS, "64", "empty / ceiling"],
    ),
    ("the same, full", "the ceiling", AtLeast(0.4), [ACKS, "64", "full / ceiling"]),
    ("16 connections, empty", "the ceiling at 16", AtLeast(0.38), [ACKS, "16", "empty / ceiling"]),
    ("16 connections, full", "the ceiling at 16", Known, [ACKS, "16", "full / ceiling"]),
    ("256 connections, empty", "the ceiling at 256", AtLeast(0.42), [ACKS, "256", "empty / ceiling"]),
    ("256 connections, full", "the ceiling at 256", Known, [ACKS, "256", "full / ceiling"]),
    ("insert rate, full, 64 connections", "empty", AtLeast(0.9), [ACKS, "64", "full / empty"]),
    ("insert rate, full, 16 connections", "empty", AtLeast(0.9), [ACKS, "16", "full / empty"]),
    ("insert rate, full, 256 connections", "empty", AtLeast(0.9), [ACKS, "256", "full / empty"]),
    ("p99 at full load, 64 connections, ms", "", AtMost(10.0), [TAIL, "durable", "p99"]),
    ("p99.9 of the same, ms", "", AtMost(15.0), [TAIL, "durable", "p99.9"]),
    ("p99 of the same, full, ms", "", AtMost(10.0), [FULL_TAIL, "64, full", "p99"]),
    ("p99.9 of the same, full, ms", "", AtMost(15.0), [FULL_TAIL, "64, full", "p99.9"]),
    ("p99 at half load, a sink is dead", IDLE, AtMost(1.2), [HALF, "dead", "p99 / idle"]),
    ("p99 at half load, a sink hangs", IDLE, AtMost(1.2), [HALF, "hanging", "p99 / idle"]),
    ("p99 at half load, a sink catches up", IDLE, AtMost(2.0), [HALF, "catching up", "p99 / idle"]),
    ("AMQP deliveries/s from a backlog", "lapin alone", AtLeast(0.85), ["AMQP", "", "ratio"]),
    ("HTTP deliveries/s from a backlog", "reqwest alone", AtLeast(0.75), ["HTTP", "", "ratio"]),
    ("file sink, events/s from a backlog", "std::fs alone", AtLeast(0.75), ["File", "", "ratio"]),
    ("catching up while receiving at half load", "catching up when idle", AtLeast(0.5), ["Catching up", "", "ratio"]),
    ("`events list --format json`, rows/s", "a bare cursor loop", AtLeast(0.75), ["events list", "", "ratio"]),
    ("its memory, MiB", "", Known, ["events list", "", "peak memory, MiB"]),
    ("memory, idle, empty, MiB", "", AtMost(15.0), [RESOURCES, "memory, idle, empty", "figure"]),
    ("memory, idle, full, MiB", "", AtMost(40.0), [RESOURCES, "memory, idle, full", "figure"]),
    ("memory, peak at full load, MiB", "", AtMost(96.0), [RESOURCES, "memory, peak at full load, full", "figure"]),
    ("kill -9 to the first durable acknowledgement, full, s", "", AtMost(0.7), [RESOURCES, "kill -9", "figure"]),
    ("disk bytes", "bytes of bodies", AtMost(1.5), [RESOURCES, "disk bytes", "figure"]),
    ("a page of `events list`, ms", "", AtMost(200.0), [READING, "events list", "end"]),
    ("the same, `--type`", "", AtMost(200.0), [READING, "--type payin", "end"]),
    ("the same, `--since`", "", AtMost(200.0), [READING, "--since, the newest", "end"]),
    ("the same, `--since --oldest-first`", "", AtMost(200.0), [READING, "--since, the same", "end"]),
    ("the same, `--until`", "", AtMost(200.0), [READING, "--until", "end"]),
    ("the same, `--since --until`, nothing there", "", AtMost(200.0), [READING, "--since and", "end"]),
    ("the same, `--key`", "", AtMost(200.0), [READING, "--key", "end"]),
    ("the same, `--id`", "", AtMost(200.0), [READING, "--id", "end"]),
    ("the same, `--search`, first hit", "", AtMost(200.0), [READING, "--search", "first result"]),
    ("`--type` of one in a million, first result (streams)", "", Known, [READING, "--type, one", "first result"]),
    ("the same, to the end", "", Known, [READING, "--type, one", "end"]),
    ("`prune --dry-run`, ms", "", AtMost(200.0), [READING, "prune", "end"]),
    ("`replay --dry-run` of everything, ms (with progress)", "", Known, [READING, "replay --dry-run, ev", "end"]),
    ("`replay --dry-run --since`, a hundredth, ms", "", AtMost(200.0), [READING, "replay --dry-run --since", "end"]),
];

/// Prints what has been measured of it.
pub fn print(plan: &Plan) {
    let Plan { runs, seconds, events, .. } = plan;
    println!("\n## Summary\n\n{runs} runs of {seconds} s, medians; full = {events} events\n");
    println!("| what | against | goal | measured |\n| --- | --- | --- | --- |");
    for (what, against, goal, [title, row, column]) in LINES {
        let Some(figure) = printed(title, row, column) else { continue };
        let (goal, is_met) = match goal {
            AtLeast(least) => (format!("≥ {least:.2}"), figure >= least),
            AtMost(most) => (format!("≤ {most}"), figure <= most),
            Known => (String::new(), true),
        };
        // A ratio as it stands in its table.
        let figure = if figure.fract() == 0.0 { figure.to_string() } else { format!("{figure:.2}") };
        let figure = if is_met { figure } else { format!("**{figure}**") };
        println!("| {what} | {against} | {goal} | {figure} |");
    }
}
