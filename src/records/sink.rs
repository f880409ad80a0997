//! Sinks.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::inbox::SinkRecord;
use crate::model::{SinkName, SinkState, told};

/// What the configuration says of a sink, as far as a list shows it.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// Its name.
    pub name: &'a SinkName,
    /// Its type as written, such as `amqp`.
    pub kind: &'static str,
}

/// One line of `sinks list`.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SinkLine)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its type, such as `amqp`; null where the configuration has no such sink.
    pub r#type: Option<&'static str>,
    /// Every event up to here is final or parked; null for a new one.
    pub cursor: Option<i64>,
    /// Events after the cursor.
    pub lag: Option<u64>,
    /// Events set aside for a later attempt.
    pub parked: u64,
    /// Events that it has still to get: after the cursor and parked.
    pub undelivered: u64,
    /// Events delivered so far, first deliveries only.
    pub delivered: u64,
    /// Dead letters that nobody has decided about.
    pub dead_letters: u64,
    /// `running`, `failing` (the last three attempts failed), `down` (it is only probed), `paused`, `unavailable` (it
    /// could not be built), `new` or `removed`.
    pub state: &'static str,
    /// Since when it is paused, unavailable, down or failing; null in every other state: that is not recorded.
    pub since: Option<Time>,
    /// Why the last failed attempt failed, or why it could not be built: at most 120 characters, those of the far side
    /// among them. Attempts may have succeeded since: see `failing_since`.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Time>,
    /// Attempts that failed since the last success.
    pub failures: u32,
    /// When the first of these ended; null while the last attempt succeeded.
    pub failing_since: Option<Time>,
    /// When the last successful attempt ended.
    pub last_success_at: Option<Time>,
    /// When the next attempt is due; null while nothing waits for a time, and where no attempt is made.
    pub next_try: Option<Time>,
    /// Whether nothing more is read for it, because `retry.max_parked` events are parked.
    pub reading_stopped: bool,
    /// Since when a person has paused it.
    pub paused_since: Option<Time>,
    /// Since when its breaker is open.
    pub breaker_open_since: Option<Time>,
    /// When the oldest event that waits came in.
    pub oldest_waiting: Option<Time>,
    /// When it got its place in the log; null for a new one.
    pub registered_at: Option<Time>,
}

impl<'a> Line<'a> {
    fn known(record: &'a SinkRecord, configured: Option<&Configured<'_>>, is_removed: bool) -> Self {
        let SinkRecord { health, build_failure, paused_since, .. } = record;
        let breaker = record.standing.breaker_open_since;
        let state = record.state();
        let since = match state {
            _ if is_removed => None,
            SinkState::Running => None,
            SinkState::Failing => health.failing_since,
            SinkState::Down => breaker,
            SinkState::Paused => *paused_since,
            SinkState::Unavailable => build_failure.as_ref().map(|failure| failure.since),
        };
        let is_tried = !is_removed && matches!(state, SinkState::Running | SinkState::Failing | SinkState::Down);
        // What keeps it from being tried at all goes before what an attempt met.
        let (last_error, last_error_at) = match build_failure.as_ref().filter(|_| state == SinkState::Unavailable) {
            Some(failure) => (Some(failure.error.as_str()), Some(failure.since)),
            None => (health.last_error.as_deref(), health.last_error_at),
        };
        Self {
            name: record.name.as_str(),
            r#type: configured.map(|sink| sink.kind),
            cursor: Some(record.cursor.get()),
            lag: Some(record.lag),
            parked: record.parked,
            undelivered: record.undelivered(),
            delivered: record.delivered,
            dead_letters: record.dead_letters,
            state: if is_removed { REMOVED } else { state.as_str() },
            since: since.map(Time),
            last_error: last_error.map(|error| told(error, None)),
            last_error_at: last_error_at.map(Time),
            failures: health.failures,
            failing_since: health.failing_since.map(Time),
            last_success_at: health.last_success_at.map(Time),
            next_try: health.next_try.filter(|_| is_tried).map(Time),
            reading_stopped: health.reading_stopped,
            paused_since: paused_since.map(Time),
            breaker_open_since: breaker.map(Time),
            oldest_waiting: record.oldest_waiting.map(Time),
            registered_at: Some(Time(record.created_at)),
        }
    }

    fn new_sink(sink: Configured<'a>) -> Self {
        Self {
            name: sink.name.as_str(),
            r#type: Some(sink.kind),
            cursor: None,
            lag: None,
            parked: 0,
            undelivered: 0,
            delivered: 0,
            dead_letters: 0,
            state: NEW,
            since: None,
            last_error: None,
            last_error_at: None,
            failures: 0,
            failing_since: None,
            last_success_at: None,
            next_try: None,
            reading_stopped: false,
            paused_since: None,
            breaker_open_since: None,
            oldest_waiting: None,
            registered_at: None,
        }
    }

    /// Whether its last error is about something that still waits.
    pub fn has_trouble(&self) -> bool {
        self.failures > 0 || self.parked > 0 || self.state == SinkState::Unavailable.as_str()
    }
}

/// The state of a sink that has no place in the log yet.
pub const NEW: &str = "new";
/// The state of a sink that has a place in the log, and is not configured.
pub const REMOVED: &str = "removed";

/// The inbox's sinks and the configuration's, by name. Without a configuration nothing is known to be new or removed.
pub fn lines<'a>(records: &'a [SinkRecord], configured: Option<&[Configured<'a>]>) -> Vec<Line<'a>> {
    let sinks = configured.unwrap_or_default();
    let names: Vec<SinkName> = sinks.iter().map(|sink| sink.name.clone()).collect();
    let is_known = |sink: &&Configured<'_>| records.iter().any(|record| record.is_meant_by(sink.name, &names, records));
    let new = sinks.iter().filter(|sink| !is_known(sink));
    let mut lines: BTreeMap<&str, Line<'a>> = new.map(|sink| (sink.name.as_str(), Line::new_sink(*sink))).collect();
    for record in records {
        let sink = sinks.iter().find(|sink| record.is_meant_by(sink.name, &names, records));
        let line = Line::known(record, sink, configured.is_some() && sink.is_none());
        lines.insert(record.name.as_str(), line);
    }
    lines.into_values().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jiff::Timestamp;

    use crate::inbox::{BuildFailure, ConsumerId, SinkHealth, Standing};
    use crate::model::Seq;

    fn name(name: &str) -> SinkName {
        SinkName::new(name).unwrap()
    }

    fn outline(name: &SinkName) -> Configured<'_> {
        Configured { name, kind: "amqp" }
    }

    pub(crate) fn record(name: &str) -> SinkRecord {
        SinkRecord {
            id: ConsumerId::new(1),
            name: SinkName::new(name).unwrap(),
            former_name: None,
            cursor: Seq::new(40).unwrap(),
            lag: 2,
            parked: 3,
            parked_ahead: 0,
            dead_letters: 4,
            delivered: 33,
            paused_since: None,
            standing: Standing::default(),
            health: SinkHealth::default(),
            build_failure: None,
            created_at: "2026-01-31T10:00:00Z".parse().unwrap(),
            oldest_waiting: None,
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let (record, name) = (record("bus"), name("bus"));
        let line = serde_json::to_string(&Line::known(&record, Some(&outline(&name)), false)).unwrap();
        let documented = r#"{"name":"bus","type":"amqp","cursor":40,"lag":2,"parked":3,"undelivered":5,"delivered":33,"dead_letters":4,"state":"running","since":null,"last_error":null,"last_error_at":null,"failures":0,"failing_since":null,"last_success_at":null,"next_try":null,"reading_stopped":false,"#;
        assert!(line.starts_with(documented), "{line}");
        let line = serde_json::to_value(Line::new_sink(outline(&name))).unwrap();
        assert_eq!((&line["state"], &line["cursor"], &line["lag"]), (&"new".into(), &().into(), &().into()));
    }

    #[test]
    fn new_and_removed_are_told_by_comparing() {
        let paused = SinkRecord { paused_since: Some("2026-02-01T10:00:00Z".parse().unwrap()), ..record("b") };
        let open = Standing { breaker_open_since: paused.paused_since, ..Standing::default() };
        let records = [record("a"), paused, SinkRecord { standing: open, ..record("c") }];
        let names = ["b", "c", "d"].map(name);
        let configured = names.each_ref().map(outline);
        let states = |configured: Option<&[Configured<'_>]>| {
            lines(&records, configured).iter().map(|line| (line.name.to_owned(), line.state)).collect::<Vec<_>>()
        };
        let state = |name: &str, state| (name.to_owned(), state);
        let all = [state("a", "removed"), state("b", "paused"), state("c", "down"), state("d", "new")];
        assert_eq!(states(Some(&configured)), all);
        assert_eq!(states(None), [state("a", "running"), state("b", "paused"), state("c", "down")]);
        assert_eq!(serde_json::to_value(lines(&records, None)[1].since).unwrap(), "2026-02-01T10:00:00.000000Z");
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Each state has the time at which it began, and the error that is behind it; what is not tried has no next try.
    #[test]
    fn each_state_says_since_when_and_why() {
        let health = SinkHealth {
            failures: 3,
            failing_since: Some(at(10)),
            last_error: Some("HTTP 503: overload".to_owned()),
            last_error_at: Some(at(30)),
            last_success_at: Some(at(5)),
            next_try: Some(at(40)),
            reading_stopped: false,
        };
        let failing = SinkRecord { health, ..record("bus") };
        let standing = Standing { breaker_open_since: Some(at(20)), ..Standing::default() };
        let down = SinkRecord { standing, ..failing.clone() };
        let build_failure = Some(BuildFailure { error: format!("no directory {}", "x".repeat(200)), since: at(50) });
        let unavailable = SinkRecord { build_failure, ..down.clone() };
        let paused = SinkRecord { paused_since: Some(at(60)), ..unavailable.clone() };
        let told = |record: &SinkRecord, is_removed| {
            let line = Line::known(record, None, is_removed);
            let error: String = line.last_error.unwrap().chars().take(12).collect();
            let seconds = |time: Option<Time>| time.map(|time| time.0.as_second());
            (line.state, seconds(line.since), error, seconds(line.last_error_at), seconds(line.next_try))
        };
        let answer = |state, since, next| (state, since, "HTTP 503: ov".to_owned(), Some(30), next);
        assert_eq!(told(&failing, false), answer("failing", Some(10), Some(40)));
        assert_eq!(told(&down, false), answer("down", Some(20), Some(40)));
        let cannot = ("unavailable", Some(50), "no directory".to_owned(), Some(50), None);
        assert_eq!(told(&unavailable, false), cannot);
        assert_eq!(told(&paused, false), answer("paused", Some(60), None));
        assert_eq!(told(&down, true), answer("removed", None, None));
        assert_eq!(Line::known(&unavailable, None, false).last_error.unwrap().chars().count(), 120);
    }

    /// Until the configuration has followed, both names are one sink's; unless a new one has the former name.
    #[test]
    fn a_renamed_sink_is_neither_new_nor_removed() {
        let renamed = SinkRecord { former_name: SinkName::new("old").ok(), ..record("web") };
        let said = |records: &[SinkRecord], configured: &[&str]| {
            let names: Vec<_> = configured.iter().copied().map(name).collect();
            let configured: Vec<_> = names.iter().map(outline).collect();
            let lines = lines(records, Some(&configured));
            lines
                .iter()
                .map(|line| format!("{} {} {}", line.name, line.state, line.r#type.is_some()))
                .collect::<Vec<_>>()
        };
        let records = [renamed, record("bus")];
        assert_eq!(said(&records, &["old", "bus"]), ["bus running true", "web running true"]);
        assert_eq!(said(&records, &["web", "bus"]), ["bus running true", "web running true"]);
        let records = [records[0].clone(), record("old")];
        assert_eq!(said(&records, &["old"]), ["old running true", "web removed false"]);
    }
}
