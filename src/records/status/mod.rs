//! How the relay is doing, in one sentence and the findings behind it: made once, for the page and for the terminal.
//!
//! The sentence must be true. "Money is flowing." is said only when the daemon takes deliveries, events come in, and
//! every sink gets what is meant for it.

mod sink;
#[cfg(test)]
mod tests;

pub use sink::words;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::sink::{Line, NEW, REMOVED};
use super::words::{grouped, list, many, span};
use crate::inbox::{ClockAhead, QuarantineCounts, RefusedSource, Unconfigured};
use crate::model::SinkState;

/// From when on a sink that runs is behind.
const BEHIND_SECONDS: i64 = 300;
/// From when on the end of the certificate is told.
const CERTIFICATE_SECONDS: i64 = 14 * 86_400;
/// With fewer events a day, an hour without any says nothing.
const USUAL_A_DAY: u64 = 48;
/// A source counts as refused when so many deliveries in a row had a wrong signature, the first of them so long ago. What
/// fits no secret once or twice may be a stranger's.
const REFUSED_IN_A_ROW: u64 = 3;
const REFUSED_SECONDS: i64 = 300;
/// After so long without one more, refused deliveries are the quarantine's business only.
const REFUSED_OF_LATE_SECONDS: i64 = 86_400;

/// What is known of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// It takes deliveries.
    Ready,
    /// It runs, and takes none, for these reasons.
    NotReady(Vec<String>),
    /// Nobody answers where it should be.
    Away,
    /// It has no admin listener that could be asked.
    Unknown,
}

/// The configuration was to be read again, and could not be used: what was in use before stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadFailure {
    /// When.
    pub at: Timestamp,
    /// Why; empty where only the daemon knows.
    pub problems: Vec<String>,
}

/// What is known, for the sentence.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Of the daemon.
    pub daemon: Daemon,
    /// When the last event came in.
    pub last_event_at: Option<Timestamp>,
    /// Events in the last hour.
    pub last_hour: u64,
    /// Events in the last 24 hours.
    pub last_24h: u64,
    /// Every sink, configured or not.
    pub sinks: &'a [Line<'a>],
    /// Requests in quarantine.
    pub quarantine: QuarantineCounts,
    /// How many there may be.
    pub quarantine_most: u64,
    /// Sources at which no delivery of late had a right signature.
    pub refused: &'a [RefusedSource],
    /// Sinks of the inbox that the configuration does not have, and that something waits for.
    pub unconfigured: &'a [Unconfigured<'a>],
    /// Events whose stored body is not the one that was signed.
    pub altered_events: u64,
    /// The last reload, where it failed.
    pub reload_failure: Option<ReloadFailure>,
    /// When the certificate in use ends; `None` where a proxy terminates TLS, or where it is not known.
    pub certificate_ends: Option<Timestamp>,
    /// The clock is further ahead than retention believes; `None` also where nothing is dropped for its age.
    pub clock_ahead: Option<ClockAhead>,
    /// The time.
    pub now: Timestamp,
}

/// How serious something is; the worse ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Somebody has to act.
    Bad,
    /// Somebody has to look.
    Warn,
    /// All is well.
    Ok,
}

/// The overview's first sentence, and what it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Verdict)]
pub struct Verdict {
    /// Of the sentence. `bad`: somebody has to act; `warn`: somebody has to look; `ok`: all is well.
    pub level: Level,
    /// How it is doing.
    pub sentence: String,
    /// How much is still to be delivered.
    pub more: String,
    /// What needs a person, the worst first.
    pub findings: Vec<Finding>,
}

/// Something that needs a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Finding {
    /// `bad` or `warn`.
    pub level: Level,
    /// What it is.
    pub text: String,
    /// What to do; commands stand between backticks.
    pub todo: String,
    /// Where the page shows it, such as `#/sinks?name=bus`.
    pub page: Option<String>,
    /// The command that shows more of it, or that mends it.
    pub command: Option<String>,
}

impl Finding {
    fn new(level: Level, text: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { level, text: text.into(), todo: todo.into(), page: None, command: None }
    }

    fn with(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }

    fn seen(self, page: impl Into<String>, command: impl Into<String>) -> Self {
        Self { page: Some(page.into()), command: Some(command.into()), ..self }
    }
}

/// Puts it into words.
pub fn verdict(facts: &Facts<'_>) -> Verdict {
    let mut findings: Vec<Finding> = daemon(facts).into_iter().collect();
    findings.extend(refused(facts).map(|source| refused_source(source, facts.now)));
    findings.extend(silence(facts));
    findings.extend(facts.sinks.iter().filter_map(|line| sink::finding(line, facts)));
    findings.extend(facts.unconfigured.iter().map(unconfigured));
    let last: [fn(&Facts<'_>) -> Option<Finding>; 7] =
        [no_sink, dead_letters, altered, quarantine, reload, clock, certificate];
    findings.extend(last.iter().filter_map(|finding| finding(facts)));
    findings.sort_by_key(|finding| finding.level);
    let (level, sentence) = sentence(facts, findings.is_empty());
    Verdict { level, sentence, more: more(facts, level), findings }
}

/// The first that holds.
fn sentence(facts: &Facts<'_>, is_well: bool) -> (Level, String) {
    let (bad, warn) = (|text: String| (Level::Bad, text), |text: String| (Level::Warn, text));
    if let Some(sentence) = not_taking(facts) {
        return bad(sentence);
    }
    let refused: Vec<&str> = refused(facts).map(|source| source.source.as_str()).collect();
    if !refused.is_empty() {
        return bad(format!("Every delivery to {} is refused for its signature.", list(&refused)));
    }
    let configured: Vec<&Line<'_>> = facts.sinks.iter().filter(|line| line.state != REMOVED).collect();
    let names = |lines: &[&Line<'_>]| list(&lines.iter().map(|line| line.name).collect::<Vec<_>>());
    let those = |is_meant: fn(&Line<'_>) -> bool| -> Vec<&Line<'_>> {
        configured.iter().copied().filter(|line| is_meant(line)).collect()
    };
    let stuck = those(sink::is_stuck);
    if facts.last_event_at.is_none() {
        return match &stuck[..] {
            [] => warn("Ready, but no event has arrived yet.".to_owned()),
            stuck => bad(format!("No event has arrived yet, and none would reach {}.", names(stuck))),
        };
    }
    if configured.is_empty() {
        return warn("Events come in, and go nowhere: no sink is configured.".to_owned());
    }
    if !stuck.is_empty() {
        let is_wanted = stuck.iter().all(|line| line.state == SinkState::Paused.as_str());
        let text = format!("Events come in, but do not reach {}.", names(&stuck));
        return if is_wanted { warn(text) } else { bad(text) };
    }
    let without = those(|line| line.delivered == 0 && (line.undelivered > 0 || line.dead_letters > 0));
    if !without.is_empty() {
        return warn(format!("Events come in, but none has reached {} yet.", names(&without)));
    }
    if configured.iter().all(|line| line.delivered == 0) {
        return warn("Events come in, but no sink has been given one yet.".to_owned());
    }
    if let Some(silent) = silent(facts) {
        return warn(format!("Nothing has arrived for {}.", span(silent)));
    }
    let paused = those(|line| line.state == SinkState::Paused.as_str());
    if !paused.is_empty() {
        return warn(format!("Events come in, and {} {} paused.", names(&paused), are(&paused)));
    }
    let behind: Vec<&Line<'_>> =
        configured.iter().copied().filter(|line| sink::waits(line, facts.now) > BEHIND_SECONDS).collect();
    if !behind.is_empty() {
        return warn(format!("Money is flowing, but {} {} behind.", names(&behind), are(&behind)));
    }
    if facts.altered_events > 0 {
        return bad("Money is flowing, but stored events were altered.".to_owned());
    }
    if facts.reload_failure.is_some() {
        return warn("Money is flowing, but the last reload of the configuration failed.".to_owned());
    }
    match is_well {
        true => (Level::Ok, "Money is flowing.".to_owned()),
        false => warn("Money is flowing, and something waits for a person.".to_owned()),
    }
}

fn are(lines: &[&Line<'_>]) -> &'static str {
    if lines.len() == 1 { "is" } else { "are" }
}

/// Why no delivery is taken, or why that is not known.
fn not_taking(facts: &Facts<'_>) -> Option<String> {
    let text = match &facts.daemon {
        Daemon::NotReady(_) => "Money is not flowing: the relay takes no deliveries.",
        Daemon::Away => "Money is not flowing: the daemon does not answer.",
        Daemon::Unknown => "Whether the daemon takes deliveries is not known: it has no admin listener to ask.",
        Daemon::Ready if certificate_left(facts).is_some_and(|left| left <= 0) => {
            "Money is not flowing: the TLS certificate has expired."
        }
        Daemon::Ready => return None,
    };
    Some(text.to_owned())
}

/// What stands below the sentence: how much is still to be delivered.
fn more(facts: &Facts<'_>, level: Level) -> String {
    let sinks = || facts.sinks.iter().filter(|line| line.state != REMOVED);
    if facts.last_event_at.is_none() {
        return match facts.daemon {
            Daemon::Ready => "The relay is ready to receive.".to_owned(),
            Daemon::NotReady(_) | Daemon::Away | Daemon::Unknown => String::new(),
        };
    }
    if sinks().all(|line| line.state == NEW) {
        return "Every event is stored.".to_owned();
    }
    let undelivered: u64 = sinks().map(|line| line.undelivered).sum();
    let parked: u64 = sinks().map(|line| line.parked).sum();
    let noun = if undelivered == 1 { "delivery" } else { "deliveries" };
    match (undelivered, parked) {
        (0, _) if sinks().any(|line| line.dead_letters > 0) => {
            "Every sink has got every stored event that is meant for it, but for the dead letters.".to_owned()
        }
        (0, _) if level == Level::Ok => "Up to date: every sink has got every event that is meant for it.".to_owned(),
        (0, _) => "Every sink has got every stored event that is meant for it.".to_owned(),
        (_, 0) => format!("{} {noun} to go.", grouped(undelivered)),
        (_, 1) => format!("{} {noun} to go; 1 of them waits for another attempt.", grouped(undelivered)),
        (_, _) => {
            format!("{} {noun} to go; {} of them wait for another attempt.", grouped(undelivered), grouped(parked))
        }
    }
}

fn daemon(facts: &Facts<'_>) -> Option<Finding> {
    let (level, text, todo) = match &facts.daemon {
        Daemon::Ready => return None,
        Daemon::NotReady(reasons) => {
            let reasons = if reasons.is_empty() { "no reason given".to_owned() } else { reasons.join("; ") };
            let todo = "Ralio gets 503 and sends again, so nothing is lost yet. The log (`journalctl -u ralio-relay`) says \
                        more at level ERROR.";
            (Level::Bad, format!("Not ready: {reasons}."), todo)
        }
        Daemon::Away => {
            let todo = "Ralio gets no answer and sends again, for a time. Start it: `systemctl start ralio-relay`.";
            (Level::Bad, "The daemon does not answer on its admin listener.".to_owned(), todo)
        }
        Daemon::Unknown => {
            let todo = "Give admin.listen an address, such as \"127.0.0.1:8081\", and restart the daemon.";
            (Level::Warn, "The daemon could not be asked: it has no admin listener.".to_owned(), todo)
        }
    };
    Some(Finding::new(level, text, todo).with("ralio-relay check --probe"))
}

/// The sources at which every delivery of late had a wrong signature.
fn refused<'a>(facts: &Facts<'a>) -> impl Iterator<Item = &'a RefusedSource> {
    let now = facts.now;
    let seconds = move |since: Timestamp| now.duration_since(since).as_secs();
    facts.refused.iter().filter(move |source| {
        source.refused >= REFUSED_IN_A_ROW
            && seconds(source.first) >= REFUSED_SECONDS
            && seconds(source.last) < REFUSED_OF_LATE_SECONDS
    })
}

fn refused_source(source: &RefusedSource, now: Timestamp) -> Finding {
    let RefusedSource { source, refused, first, .. } = source;
    let (count, ago) = (grouped(*refused), span(now.duration_since(*first).as_secs()));
    let text = format!(
        "{source}: {count} deliveries in a row, the first of them {ago} ago, had a signature that fits no secret here."
    );
    let todo = "Was the secret changed in the Ralio portal, or is the file here stale? Put the right secret in place: what is \
                genuine is then admitted. If these are no genuine deliveries, a stranger sends them.";
    let (page, command) =
        (format!("#/quarantine?source={source}"), format!("ralio-relay quarantine list --source {source}"));
    Finding::new(Level::Bad, text, todo).seen(page, command)
}

/// For how long nothing has arrived, where that is odd.
fn silent(facts: &Facts<'_>) -> Option<i64> {
    let last = facts.last_event_at?;
    let is_usual = facts.last_hour > 0 || facts.last_24h > 0 && facts.last_24h < USUAL_A_DAY;
    (!is_usual).then(|| facts.now.duration_since(last).as_secs())
}

fn silence(facts: &Facts<'_>) -> Option<Finding> {
    if facts.daemon != Daemon::Ready {
        return None;
    }
    let events = |finding: Finding| finding.seen("#/events", "ralio-relay events list");
    if facts.last_event_at.is_none() {
        let todo = "Register the endpoint in the Ralio portal, under the path of a source; or try it with `ralio-relay \
                    simulate`.";
        return Some(Finding::new(Level::Warn, "No event has ever arrived.", todo).with("ralio-relay check --probe"));
    }
    silent(facts)?;
    let text = match facts.last_24h {
        0 => "No event in the last 24 hours.".to_owned(),
        day => format!("No event in the last hour, while the last day had {}.", grouped(day)),
    };
    let todo = "Perhaps nothing was to be told. Else: is the endpoint still registered in the Ralio portal, and \
                reachable from the internet?";
    Some(events(Finding::new(Level::Warn, text, todo)))
}

fn no_sink(facts: &Facts<'_>) -> Option<Finding> {
    if facts.sinks.iter().any(|line| line.state != REMOVED) {
        return None;
    }
    let todo = "Add a [[sinks]] table to the configuration, and have it read again: `systemctl reload ralio-relay`.";
    let finding = Finding::new(Level::Warn, "No sink is configured: events are stored, and go nowhere.", todo);
    Some(finding.with("ralio-relay config show"))
}

/// Perhaps it was renamed in the configuration only: then one command brings its place in the log to the new name.
fn unconfigured(sink: &Unconfigured<'_>) -> Finding {
    let name = sink.record.name.as_str();
    let (text, todo) = (sentence_of(&sink.finding()), sentence_of(&sink.advice()));
    Finding::new(Level::Warn, text, todo).seen(format!("#/sinks?name={name}"), format!("ralio-relay sinks show {name}"))
}

/// With a capital and a full stop.
fn sentence_of(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| format!("{}{}.", first.to_uppercase(), letters.as_str())).unwrap_or_default()
}

fn reload(facts: &Facts<'_>) -> Option<Finding> {
    let ReloadFailure { at, problems } = facts.reload_failure.as_ref()?;
    let why = match &problems[..] {
        [] => ".".to_owned(),
        [problem] => format!(": {problem}"),
        [problem, more @ ..] => format!(": {problem} (and {})", many(more.len() as u64, "more problem")),
    };
    let ago = span(facts.now.duration_since(*at).as_secs());
    let todo = "What was in use before stays in use, but the next start would fail. Mend the configuration, then \
                `systemctl reload ralio-relay`.";
    let text = format!("The configuration was to be read again {ago} ago, and cannot be used{why}");
    Some(Finding::new(Level::Warn, text, todo).with("ralio-relay check --probe"))
}

fn dead_letters(facts: &Facts<'_>) -> Option<Finding> {
    let dead: u64 = facts.sinks.iter().map(|line| line.dead_letters).sum();
    if dead == 0 {
        return None;
    }
    let text = format!("{} {} for a person.", many(dead, "dead letter"), if dead == 1 { "waits" } else { "wait" });
    let todo = "Each was refused for good, or failed for too long. Mend the cause and retry, or discard with a reason.";
    Some(Finding::new(Level::Bad, text, todo).seen("#/dead-letters", "ralio-relay deadletters list"))
}

fn altered(facts: &Facts<'_>) -> Option<Finding> {
    let text = match facts.altered_events {
        0 => return None,
        1 => "The stored body of 1 event is not the one that was signed.".to_owned(),
        count => format!("The stored bodies of {} are not those that were signed.", many(count, "event")),
    };
    let todo = "Somebody or something has changed the inbox. Nothing is delivered of them: look for the true bodies in a backup.";
    Some(Finding::new(Level::Bad, text, todo).seen("#/events", "ralio-relay check --probe"))
}

/// Genuine ones may be among them, and then money is not flowing: only a person can tell.
fn quarantine(facts: &Facts<'_>) -> Option<Finding> {
    let (QuarantineCounts { entries, answered_401, not_kept, .. }, most) = (facts.quarantine, facts.quarantine_most);
    if entries == 0 && not_kept == 0 {
        return None;
    }
    let (is_nearly_full, is_full) = (most > 0 && entries > most - most / 5, most > 0 && entries >= most);
    let of = if is_nearly_full { format!(", of at most {}", grouped(most)) } else { String::new() };
    let full = if is_full { "The quarantine is full: " } else { "" };
    let level = if is_nearly_full || not_kept > 0 { Level::Bad } else { Level::Warn };
    let whose = if entries == 1 { "its" } else { "their" };
    let mut text = format!(
        "{full}{} refused for {whose} signature{of}; {} answered 401, and Ralio never sends these again.",
        many(entries, "request"),
        grouped(answered_401),
    );
    if not_kept > 0 {
        let (count, were, these) = (grouped(not_kept), was(not_kept), if not_kept == 1 { "it" } else { "these" });
        text += &format!(" {count} more {were} answered 503 and not kept, and Ralio sends {these} again.");
    }
    let todo = "An attack or a scanner, or genuine ones while a secret here was stale. Put the right secret in place: what is \
                genuine is then admitted. What strangers sent is removed by `ralio-relay quarantine purge`.";
    Some(Finding::new(level, text, todo).seen("#/quarantine", "ralio-relay quarantine list"))
}

fn was(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

fn clock(facts: &Facts<'_>) -> Option<Finding> {
    let ahead = facts.clock_ahead?;
    let todo = "Look at the clock. If it is right (the machine was off for days, say), confirm it. If it is wrong, set it \
                right: nothing has been dropped for its sake.";
    let finding = Finding::new(Level::Warn, format!("Retention is held back: {}.", ahead.text()), todo);
    Some(finding.with("ralio-relay prune --confirm-clock"))
}

fn certificate_left(facts: &Facts<'_>) -> Option<i64> {
    Some(facts.certificate_ends?.duration_since(facts.now).as_secs())
}

fn certificate(facts: &Facts<'_>) -> Option<Finding> {
    let left = certificate_left(facts).filter(|left| *left <= CERTIFICATE_SECONDS)?;
    let (level, text) = match left {
        ..=0 => (Level::Bad, "The TLS certificate has expired: Ralio cannot deliver.".to_owned()),
        1.. => (Level::Warn, format!("The TLS certificate expires in {}.", span(left))),
    };
    let todo = "Replace the files that server.tls names: they are read again without a restart.";
    Some(Finding::new(level, text, todo).with("ralio-relay check --probe"))
}
