//! Sinks.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::inbox::SinkRecord;
use crate::model::SinkName;

/// What the configuration says of a sink, as far as a list shows it.
#[derive(Clone, Copy, Debug)]
pub struct Configured<'a> {
    /// Its name.
    pub name: &'a SinkName,
    /// Its type as written, such as `amqp`.
    pub kind: &'static str,
}

/// One line of `sinks list`.
#[derive(Serialize, ToSchema)]
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
    /// Dead letters that nobody has decided about.
    pub dead_letters: u64,
    /// `running`, `failing` (the last three attempts failed), `down` (it is only probed), `paused`, `unavailable` (it
    /// could not be built), `new` or `removed`.
    pub state: &'static str,
    /// Since when it is in this state; for one that runs, since it was registered.
    pub since: Option<Time>,
    /// Events delivered so far, first deliveries only.
    pub delivered: u64,
    /// Since when a person has paused it.
    pub paused_since: Option<Time>,
    /// Since when its breaker is open.
    pub breaker_open_since: Option<Time>,
}

impl<'a> Line<'a> {
    fn known(record: &'a SinkRecord, configured: Option<&Configured<'_>>, is_removed: bool) -> Self {
        let breaker = record.standing.breaker_open_since;
        Self {
            name: record.name.as_str(),
            r#type: configured.map(|sink| sink.kind),
            cursor: Some(record.cursor.get()),
            lag: Some(record.lag),
            parked: record.parked,
            dead_letters: record.dead_letters,
            state: if is_removed { "removed" } else { record.state().as_str() },
            since: Some(Time(record.paused_since.or(breaker).unwrap_or(record.created_at))),
            delivered: record.delivered,
            paused_since: record.paused_since.map(Time),
            breaker_open_since: breaker.map(Time),
        }
    }

    fn new_sink(sink: Configured<'a>) -> Self {
        Self {
            name: sink.name.as_str(),
            r#type: Some(sink.kind),
            cursor: None,
            lag: None,
            parked: 0,
            dead_letters: 0,
            state: "new",
            since: None,
            delivered: 0,
            paused_since: None,
            breaker_open_since: None,
        }
    }
}

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
    use crate::inbox::{ConsumerId, SinkHealth, Standing};
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
        let documented = r#"{"name":"bus","type":"amqp","cursor":40,"lag":2,"parked":3,"dead_letters":4,"state":"running","since":"2026-01-31T10:00:00.000000Z","delivered":33,"#;
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
