//! One sink in words.

use jiff::Timestamp;

use super::{BEHIND_SECONDS, Facts, Finding, Level};
use crate::model::SinkState;
use crate::records::Time;
use crate::records::sink::{Line, NEW};
use crate::records::words::{grouped, many, span};

/// The state as the inbox tells it; `None` for one that is new or removed.
fn state(line: &Line<'_>) -> Option<SinkState> {
    SinkState::ALL.into_iter().find(|state| state.as_str() == line.state)
}

/// Whether events that come in do not get there: whatever the number of orders, and whether a person wanted it so.
pub(super) fn is_stuck(line: &Line<'_>) -> bool {
    match state(line) {
        Some(SinkState::Failing | SinkState::Down | SinkState::Unavailable) => true,
        Some(SinkState::Paused) => line.undelivered > 0,
        Some(SinkState::Running) => line.reading_stopped,
        None => false,
    }
}

/// For how many seconds the oldest event has waited; 0 where none does.
pub(super) fn waits(line: &Line<'_>, now: Timestamp) -> i64 {
    line.oldest_waiting.filter(|_| line.undelivered > 0).map_or(0, |since| ago(since, now))
}

fn ago(since: Time, now: Timestamp) -> i64 {
    now.duration_since(since.0).as_secs().max(0)
}

/// ` for 5 min`, where it is known since when.
fn lasting(since: Option<Time>, now: Timestamp) -> String {
    since.map(|since| format!(" for {}", span(ago(since, now)))).unwrap_or_default()
}

/// `: cannot connect`, where an error is known.
fn because(line: &Line<'_>) -> String {
    line.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default()
}

/// ` 3 events wait, the oldest for 5 min.`
fn waiting(line: &Line<'_>, now: Timestamp) -> String {
    match line.undelivered {
        0 => String::new(),
        1 => format!(" 1 event waits, for {}.", span(waits(line, now))),
        more => format!(" {} wait, the oldest for {}.", many(more, "event"), span(waits(line, now))),
    }
}

/// ` The next try is in 5 s.`
fn next(line: &Line<'_>, now: Timestamp) -> String {
    match line.next_try.map(|at| at.0.duration_since(now).as_secs()) {
        Some(seconds @ 1..) => format!(" The next try is in {}.", span(seconds)),
        Some(..=0) => " The next try is due.".to_owned(),
        None => String::new(),
    }
}

/// What it is doing and why, in a sentence or two.
pub fn words(line: &Line<'_>, now: Timestamp) -> String {
    let (because, waiting, next) = (because(line), waiting(line, now), next(line, now));
    let lasting = lasting(line.since, now);
    let said = match state(line) {
        Some(SinkState::Unavailable) => {
            format!("It has been unavailable{lasting}{because}.{waiting} It is tried again by itself.")
        }
        Some(SinkState::Down) => format!("It has been down{lasting}{because}.{next}{waiting}"),
        Some(SinkState::Failing) => {
            let first = line.since.map(|since| format!(", the first of them {} ago", span(ago(since, now))));
            let (failures, first) = (grouped(line.failures.into()), first.unwrap_or_default());
            format!("The last {failures} attempts failed{first}{because}.{next}{waiting}")
        }
        Some(SinkState::Paused) => {
            let when = line.since.map(|since| format!(" {} ago", span(ago(since, now)))).unwrap_or_default();
            format!("A person paused it{when}, and its replays with it.{waiting}")
        }
        Some(SinkState::Running) => running(line, now),
        None if line.state == NEW => "It gets its place in the log when the relay has started with it.".to_owned(),
        None => {
            format!("It has a place in the log, and is no longer in the configuration.{waiting}{}", letters(line))
        }
    };
    if line.reading_stopped && state(line).is_some() {
        return format!("{said} Nothing more is read for it: {} are parked.", many(line.parked, "event"));
    }
    said
}

fn running(line: &Line<'_>, now: Timestamp) -> String {
    if line.parked > 0 {
        let wait = if line.parked == 1 { "waits" } else { "wait" };
        let (events, because, next) = (many(line.parked, "event"), because(line), next(line, now));
        let rest = match line.undelivered > line.parked {
            true => waiting(line, now),
            false => format!(" The oldest has waited for {}.", span(waits(line, now))),
        };
        return format!(
            "{events} {wait} for another attempt{because}. What came later for the same orders waits, too; others go \
             on.{next}{rest}"
        );
    }
    match (line.undelivered, line.dead_letters, line.delivered) {
        (1.., _, _) => format!("Working through {}.", many(line.undelivered, "event")),
        (0, 1.., 0) => format!("Nothing has been delivered to it.{}", letters(line)),
        (0, 1.., 1..) => format!("Everything else is delivered.{}", letters(line)),
        (0, 0, 0) => "Nothing has been delivered to it yet, and nothing waits for it.".to_owned(),
        (0, 0, 1..) => "It has got every event that is meant for it.".to_owned(),
    }
}

fn letters(line: &Line<'_>) -> String {
    match line.dead_letters {
        0 => String::new(),
        1 => " 1 dead letter waits for a person.".to_owned(),
        more => format!(" {} dead letters wait for a person.", grouped(more)),
    }
}

/// What of a configured sink needs a person. Its dead letters are told with those of all.
pub(super) fn finding(line: &Line<'_>, facts: &Facts<'_>) -> Option<Finding> {
    let (level, todo) = match state(line) {
        Some(SinkState::Unavailable) => (
            Level::Bad,
            "Mend what the error names. Receiving goes on, and the sink is built again by itself.".to_owned(),
        ),
        Some(SinkState::Failing) if line.undelivered == 0 => {
            let todo = "Mend the far side. Nothing waits for it, so the next event shows whether it is mended; or have a dead \
                        letter tried again (`ralio-relay deadletters retry`).";
            (Level::Bad, todo.to_owned())
        }
        Some(SinkState::Down | SinkState::Failing) => {
            let todo =
                "Mend the far side. It is tried until it takes them, then it goes on by itself; nothing is lost.";
            (Level::Bad, format!("{todo} To have it tried at once: `ralio-relay sinks try {}`.", line.name))
        }
        Some(SinkState::Running) if line.reading_stopped => (
            Level::Bad,
            format!(
                "Mend the cause of what is parked, or discard it (`ralio-relay parked discard --sink {}`): retry.max_parked \
                 events are as many as there may be.",
                line.name
            ),
        ),
        Some(SinkState::Paused) => {
            let todo = "Somebody paused it: the record says who and why. When that is over:";
            (Level::Warn, format!("{todo} `ralio-relay sinks resume {}`.", line.name))
        }
        Some(SinkState::Running) if waits(line, facts.now) > BEHIND_SECONDS => (
            Level::Warn,
            "Is its far side slow, or failing for some orders? The attempts of the oldest waiting event tell."
                .to_owned(),
        ),
        Some(SinkState::Running) if line.delivered == 0 && line.parked > 0 => {
            (Level::Warn, "No event has ever reached it: mend what the error names.".to_owned())
        }
        Some(SinkState::Running) | None => return None,
    };
    let text = format!("{}: {}", line.name, words(line, facts.now));
    let page = format!("#/sinks?name={}", line.name);
    Some(Finding::new(level, text, todo).seen(page, format!("ralio-relay sinks show {}", line.name)))
}
