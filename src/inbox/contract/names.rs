//! Which sink each name of a configuration means.

use std::collections::BTreeSet;

use super::*;
use crate::inbox::Change;

fn rename(from: &str, to: &str) -> Task {
    Task::Rename { from: sink(from), to: sink(to), swap: false }
}

/// The consumers of a configuration with these names.
async fn configured(inbox: &dyn Inbox, names: &[&str]) -> Vec<ConsumerId> {
    let sinks = names.iter().map(|name| (sink(name), Start::Earliest)).collect();
    inbox.register_sinks(sinks).await.unwrap().into_iter().map(|place| place.id).collect()
}

/// In whichever order they stand in the configuration.
pub(in crate::inbox) async fn a_name_means_the_sink_that_has_it_before_one_that_had_it(inbox: &dyn Inbox) {
    fill(inbox, 2).await;
    for round in 0..2 {
        let names = ["bus", "bus-old"].map(|name| format!("{name}-{round}"));
        let [bus, old] = names.each_ref().map(String::as_str);
        let first = configured(inbox, &[bus]).await[0];
        assert_eq!(configured(inbox, &[bus]).await, [first], "nothing has changed");
        carry_out(inbox, rename(bus, old)).await;
        assert_eq!(configured(inbox, &[bus]).await, [first], "the configuration has not followed");
        let (both, [was, new]) = match round {
            0 => (configured(inbox, &[bus, old]).await, [1, 0]),
            _ => (configured(inbox, &[old, bus]).await, [0, 1]),
        };
        assert_eq!(both[was], first);
        assert_ne!(both[new], first, "who has the former name now is new");
        assert_eq!(register(inbox, bus).await.id, both[new]);
    }
}

pub(in crate::inbox) async fn a_former_name_goes_when_the_configuration_has_followed(inbox: &dyn Inbox) {
    let first = configured(inbox, &["a"]).await[0];
    carry_out(inbox, rename("a", "b")).await;
    carry_out(inbox, rename("b", "a")).await;
    // There and back: by either name it is the sink, until the other one is another.
    assert_eq!(configured(inbox, &["b"]).await, [first]);
    let both = configured(inbox, &["b", "a"]).await;
    assert_eq!(both[1], first);
    assert_ne!(both[0], first);
    // Nothing is left of its former name.
    carry_out(inbox, rename("b", "c")).await;
    assert_eq!(configured(inbox, &["a", "c"]).await, [first, both[0]]);
    assert!(!configured(inbox, &["b"]).await.contains(&both[0]), "the configuration had followed");
}

pub(in crate::inbox) async fn two_names_are_exchanged_and_both_sinks_are_paused(inbox: &dyn Inbox) {
    let [one, other] = configured(inbox, &["a", "b"]).await[..] else { panic!("two") };
    let swap = |from: &str, to: &str| Task::Rename { from: sink(from), to: sink(to), swap: true };
    let paused = |consumer| Effect { consumer, change: Change::Paused };
    let (_, effects) = carry_out(inbox, swap("a", "b")).await;
    assert_eq!(effects, [paused(one), paused(other)]);
    assert_eq!(configured(inbox, &["a", "b"]).await, [other, one]);
    assert!(register(inbox, "a").await.paused && register(inbox, "b").await.paused);
    // Not while the configuration may still have one of them under another name, nor while a replay holds it.
    carry_out(inbox, rename("a", "c")).await;
    carry_out(inbox, swap("c", "b")).await;
    assert_eq!(configured(inbox, &["a", "b"]).await, [other, one]);
    assert_eq!(configured(inbox, &["c", "b"]).await, [other, one]);
    inbox.submit(job(replay("b", 1, 1))).await.unwrap();
    carry_out(inbox, swap("c", "b")).await;
    carry_out(inbox, swap("c", "nobody")).await;
    assert_eq!(configured(inbox, &["c", "b"]).await, [other, one]);
}

pub(in crate::inbox) async fn bodies_stay_for_a_new_sink_with_a_former_name(inbox: &dyn Inbox) {
    fill(inbox, 3).await;
    let bus = configured(inbox, &["bus"]).await[0];
    inbox.record(progress(bus, 3)).await.unwrap();
    carry_out(inbox, rename("bus", "bus-old")).await;
    let prune = |names: &[&str]| Task::Prune { before: now(), sinks: names.iter().map(|name| sink(name)).collect() };
    let bodies = || async {
        let events = inbox.read((1..=3).map(seq).collect()).await.unwrap();
        events.iter().filter(|event| event.body.is_some()).count()
    };
    // The new one has not begun, and may want them all.
    carry_out(inbox, prune(&["bus", "bus-old"])).await;
    assert_eq!(bodies().await, 3);
    carry_out(inbox, prune(&["bus"])).await;
    assert_eq!(bodies().await, 0, "the configuration has not followed, and there is one sink");
}

pub(in crate::inbox) async fn a_sink_is_known_by_either_name(inbox: &dyn Inbox) {
    let bus = configured(inbox, &["bus"]).await[0];
    carry_out(inbox, rename("bus", "other")).await;
    for (name, is_known) in [("bus", true), ("other", true), ("another", false)] {
        assert_eq!(inbox.has_sink(sink(name)).await, Ok(is_known), "{name}");
    }
    // Whether it is built changes nothing else.
    for failure in [Some("no directory".to_owned()), Some("no disk".to_owned()), None] {
        inbox.note_built(bus, failure).await.unwrap();
        assert_eq!(configured(inbox, &["other"]).await, [bus]);
    }
}

/// A sink as a person thinks of it.
#[derive(Clone, Debug)]
struct Known {
    id: ConsumerId,
    name: String,
    /// The configuration may still have it under this name.
    former: Option<String>,
}

/// Renaming, exchanging, removing, adding and adding again, at random, in one inbox; `pool` are the names that there are.
struct History<'a> {
    inbox: &'a dyn Inbox,
    pool: Vec<String>,
    known: Vec<Known>,
    random: fastrand::Rng,
}

impl History<'_> {
    fn named(&self, name: &str) -> Option<usize> {
        self.known.iter().position(|known| known.name == name)
    }

    fn any_name(&mut self) -> String {
        let at = self.random.usize(..self.pool.len());
        self.pool[at].clone()
    }

    /// Everything that may stand in the way is that somebody could still mean another sink by one of the names.
    async fn rename(&mut self, swap: bool) {
        let (from, to) = (self.any_name(), self.any_name());
        if from == to {
            return;
        }
        carry_out(self.inbox, Task::Rename { from: sink(&from), to: sink(&to), swap }).await;
        let (Some(one), other) = (self.named(&from), self.named(&to)) else { return };
        match (swap, other) {
            (true, Some(other)) => {
                if self.known[one].former.is_none() && self.known[other].former.is_none() {
                    (self.known[one].name, self.known[other].name) = (to, from);
                }
            }
            (false, None) => {
                let is_meant_elsewhere = |(at, known): (usize, &Known)| at != one && known.former.as_ref() == Some(&to);
                let is_followed = self.known[one].former.as_ref().is_none_or(|former| *former == to);
                if is_followed && !self.known.iter().enumerate().any(is_meant_elsewhere) {
                    (self.known[one].name, self.known[one].former) = (to, Some(from));
                }
            }
            (true, None) | (false, Some(_)) => {}
        }
    }

    /// A configuration with some of the names, in any order.
    async fn configure(&mut self) {
        let mut names = self.pool.clone();
        self.random.shuffle(&mut names);
        names.truncate(self.random.usize(1..=self.pool.len()));
        let ids = configured(self.inbox, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), names.len(), "each name has a sink of its own");
        let before = self.known.clone();
        for (name, id) in names.iter().zip(ids) {
            let by_name = before.iter().find(|known| known.name == *name);
            let has_not_followed = |known: &&Known| known.former.as_ref() == Some(name) && !names.contains(&known.name);
            match by_name.or_else(|| before.iter().find(has_not_followed)) {
                Some(meant) => assert_eq!(id, meant.id, "{name} of {names:?} after {before:?}"),
                None => {
                    assert!(before.iter().all(|known| known.id != id), "{name} of {names:?} is new after {before:?}");
                    self.known.push(Known { id, name: name.clone(), former: None });
                }
            }
            if let Some(at) = self.named(name) {
                self.known[at].former = None;
            }
        }
    }
}

pub(in crate::inbox) async fn names_mean_the_same_sinks_after_any_history(inbox: &dyn Inbox) {
    for seed in 0..8 {
        let pool = (0..5).map(|n| format!("sink-{seed}-{n}")).collect();
        let mut history = History { inbox, pool, known: Vec::new(), random: fastrand::Rng::with_seed(seed) };
        for _ in 0..60 {
            match history.random.u32(..5) {
                0 | 1 => history.configure().await,
                2 => history.rename(true).await,
                _ => history.rename(false).await,
            }
        }
        assert!(history.known.len() >= 3, "it comes to something");
    }
}
