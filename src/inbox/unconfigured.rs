//! Sinks of the inbox that the configuration does not have, though something waits for them: perhaps a sink was renamed in
//! the configuration only.

use super::SinkRecord;
use crate::model::SinkName;

/// A sink that is not configured, with events or dead letters that wait for it.
#[derive(Debug)]
pub struct Unconfigured<'a> {
    /// The sink.
    pub record: &'a SinkRecord,
    /// What may be its new name: the configured sinks that came after it.
    pub successors: Vec<Successor<'a>>,
}

/// A configured sink that came after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Successor<'a> {
    /// Its name.
    pub name: &'a SinkName,
    /// Whether it has a place in the log already.
    pub has_begun: bool,
}

/// The sinks of the inbox that none of these names means, and that something waits for.
pub fn unconfigured<'a>(records: &'a [SinkRecord], wanted: &'a [SinkName]) -> Vec<Unconfigured<'a>> {
    let record_of = |name: &SinkName| records.iter().find(|record| record.is_meant_by(name, wanted, records));
    let is_meant = |record: &SinkRecord| wanted.iter().any(|name| record.is_meant_by(name, wanted, records));
    let waits = |record: &&SinkRecord| record.undelivered() > 0 || record.dead_letters > 0;
    let successors = |of: &SinkRecord| {
        // What was there while the other delivered is not its new name.
        let last_sign = of.health.last_success_at.map_or(of.created_at, |at| at.max(of.created_at));
        let successor = |name: &'a SinkName| {
            let record = record_of(name);
            let came_after = record.is_none_or(|record| record.created_at > last_sign);
            came_after.then_some(Successor { name, has_begun: record.is_some() })
        };
        wanted.iter().filter_map(successor).collect()
    };
    let left = records.iter().filter(|record| !is_meant(record)).filter(waits);
    left.map(|record| Unconfigured { record, successors: successors(record) }).collect()
}

impl Unconfigured<'_> {
    /// What waits for it.
    pub fn what_waits(&self) -> String {
        let letters = match self.record.dead_letters {
            0 => String::new(),
            1 => ", 1 dead letter".to_owned(),
            count => format!(", {count} dead letters"),
        };
        format!("{} to go{letters}", self.record.undelivered())
    }

    /// What is found.
    pub fn finding(&self) -> String {
        let new: Vec<String> = self.successors.iter().map(|successor| format!("'{}'", successor.name)).collect();
        let new = match new.len() {
            0 => String::new(),
            1 => format!(", and {} is new", new[0]),
            _ => format!(", and {} are new", new.join(", ")),
        };
        format!("the inbox has a sink '{}' ({}) that is not configured{new}", self.record.name, self.what_waits())
    }

    /// What to do about it.
    pub fn advice(&self) -> String {
        let old = &self.record.name;
        let one = self.successors.first();
        let name = one.map_or_else(|| "NEW".to_owned(), |one| one.name.to_string());
        match one {
            None => format!(
                "write a sink with name = \"{old}\" again, or end it for good: `ralio-relay sinks forget {old}`"
            ),
            Some(Successor { has_begun: false, .. }) => format!(
                "if it was renamed, run `ralio-relay sinks rename {old} {name}` before the next start or reload: otherwise \
                 '{name}' begins anew"
            ),
            Some(Successor { has_begun: true, .. }) => format!(
                "if it was renamed: '{name}' has begun anew by now. `ralio-relay sinks rename {old} {name} --swap`, a reload \
                 (SIGHUP) and `ralio-relay sinks resume {name}` have it go on where '{old}' stood; what '{name}' has had in \
                 between comes again"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::{ConsumerId, SinkHealth, Standing};
    use crate::model::Seq;

    fn record(name: &str, day: u32) -> SinkRecord {
        SinkRecord {
            id: ConsumerId::new(1),
            name: SinkName::new(name).unwrap(),
            former_name: None,
            cursor: Seq::ZERO,
            lag: 40,
            parked: 1,
            parked_ahead: 0,
            dead_letters: 17,
            delivered: 0,
            paused_since: None,
            standing: Standing::default(),
            health: SinkHealth::default(),
            build_failure: None,
            created_at: format!("2026-01-{day:02}T10:00:00Z").parse().unwrap(),
            oldest_waiting: None,
        }
    }

    #[test]
    fn what_waits_for_a_sink_that_is_not_configured_is_told_with_the_command() {
        let names = |names: &[&str]| names.iter().map(|name| SinkName::new(name).unwrap()).collect::<Vec<_>>();
        let said = |records: &[SinkRecord], wanted: &[&str]| {
            let wanted = names(wanted);
            let found = unconfigured(records, &wanted);
            found.iter().map(|found| format!("{}: {}", found.finding(), found.advice())).collect::<Vec<_>>()
        };
        let (erp, other) = (record("erp", 5), record("other", 1));
        let told = said(&[erp.clone(), other.clone()], &["erpx", "other"]);
        let expected = "the inbox has a sink 'erp' (41 to go, 17 dead letters) that is not configured, and 'erpx' is new: \
                        if it was renamed, run `ralio-relay sinks rename erp erpx` before the next start or reload";
        assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
        let told = said(&[erp.clone(), other.clone(), record("erpx", 6)], &["erpx", "other"]);
        assert!(told[0].contains("and 'erpx' is new: ") && told[0].contains("rename erp erpx --swap`"), "{told:?}");
        let told = said(&[erp.clone(), other.clone()], &["other"]);
        assert!(told[0].contains("not configured: write a sink") && told[0].contains("name = \"erp\""), "{told:?}");
        // Nothing waits for it; it is configured; the configuration has not followed.
        let done = SinkRecord { lag: 0, parked: 0, dead_letters: 0, ..erp.clone() };
        assert_eq!(said(&[done, other.clone()], &["erpx"])[..], said(&[other], &["erpx"])[..]);
        assert_eq!(said(std::slice::from_ref(&erp), &["erp", "erpx"]), [""; 0]);
        let renamed = SinkRecord { former_name: SinkName::new("erp").ok(), name: SinkName::new("b").unwrap(), ..erp };
        assert_eq!(said(std::slice::from_ref(&renamed), &["erp"]), [""; 0]);
        assert_eq!(said(&[renamed], &["erp", "b"]), [""; 0]);
    }
}
