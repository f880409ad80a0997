//! Which sink a name means, and whether it is built.

use jiff::Timestamp;

use super::{Row, State, Whose, place};
use crate::inbox::{BuildFailure, ConsumerId, Registered};
use crate::model::{SinkName, Start};

impl State {
    /// A sink's own consumer, by the name that it has.
    pub(super) fn named(&self, name: &SinkName) -> Option<ConsumerId> {
        self.sink_where(|present, _| present == name)
    }

    /// A sink's own consumer, by the name that it has, or else had before it was renamed.
    pub(super) fn live(&self, name: &SinkName) -> Option<ConsumerId> {
        self.named(name).or_else(|| self.sink_where(|_, former| former == Some(name)))
    }

    /// The sink that a configuration with these names means by one of them.
    pub(super) fn meant(&self, name: &SinkName, wanted: &[SinkName]) -> Option<ConsumerId> {
        let has_followed = |present: &SinkName| wanted.contains(present);
        let former = || self.sink_where(|present, former| former == Some(name) && !has_followed(present));
        self.named(name).or_else(former)
    }

    fn sink_where(&self, is_it: impl Fn(&SinkName, Option<&SinkName>) -> bool) -> Option<ConsumerId> {
        let is_it = |row: &Row| match &row.whose {
            Whose::Sink { name, former } => is_it(name, former.as_ref()),
            Whose::Replay { .. } | Whose::Forgotten => false,
        };
        self.ids().zip(&self.consumers).find(|(_, row)| is_it(row)).map(|(id, _)| id)
    }

    pub(super) fn sink(&mut self, name: &SinkName, start: Start) -> ConsumerId {
        if let Some(id) = self.named(name) {
            self.row_mut(id).follow();
            return id;
        }
        self.live(name).unwrap_or_else(|| self.new_sink(name, start))
    }

    pub(super) fn register_sinks(&mut self, sinks: &[(SinkName, Start)]) -> Vec<Registered> {
        let wanted: Vec<SinkName> = sinks.iter().map(|(name, _)| name.clone()).collect();
        let found: Vec<_> = wanted.iter().map(|name| self.meant(name, &wanted)).collect();
        let sinks = sinks.iter().zip(found);
        sinks
            .map(|((name, start), found)| {
                let id = found.unwrap_or_else(|| self.new_sink(name, *start));
                if self.named(name) == Some(id) {
                    self.row_mut(id).follow();
                }
                Registered { id, cursor: self.row_mut(id).cursor }
            })
            .collect()
    }

    fn new_sink(&mut self, name: &SinkName, start: Start) -> ConsumerId {
        let first = match start {
            Start::Earliest => 1,
            Start::Now => self.events.len() + 1,
            Start::At(time) => 1 + self.events.iter().take_while(|entry| entry.stored.received_at < time).count(),
        };
        self.add(Row::new(Whose::Sink { name: name.clone(), former: None }, place(first)))
    }

    pub(super) fn note_built(&mut self, id: ConsumerId, failure: Option<String>, now: Timestamp) {
        let row = self.row_mut(id);
        let since = row.build_failure.as_ref().map_or(now, |known| known.since);
        row.build_failure = failure.map(|error| BuildFailure { error, since });
    }
}

impl Row {
    pub(super) fn is_named(&self, wanted: &SinkName) -> bool {
        matches!(&self.whose, Whose::Sink { name, .. } if name == wanted)
    }

    /// The configuration uses the name that it has: nobody means it by its former one any more.
    fn follow(&mut self) {
        if let Whose::Sink { former, .. } = &mut self.whose {
            *former = None;
        }
    }
}
