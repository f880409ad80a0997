//! Which sinks are wanted, as far as the configuration and the files that it names tell.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::parts::{Look, look_at_sink};
use crate::app::consumers::Wanted;
use crate::config::SinkSettings;
use crate::model::SinkName;

/// Says which sinks are wanted, and hears how far that is carried out.
pub(in crate::app) struct SinkSwitch {
    pub(in crate::app) wanted: watch::Sender<Wanted>,
    pub(in crate::app) reached: watch::Receiver<u64>,
}

impl SinkSwitch {
    /// Asks for these sinks. Which of them are new or have changed is told by their keys, and by what their files held when
    /// they were last taken.
    pub(super) fn ask_for(&self, sinks: Vec<(SinkSettings, Look)>, held: &BTreeMap<SinkName, Look>) {
        let (version, reloads) = {
            let wanted = self.wanted.borrow();
            (wanted.version + 1, wanted.reloads + 1)
        };
        let versions: Vec<u64> = sinks.iter().map(|sink| self.unchanged(sink, held).unwrap_or(version)).collect();
        let sinks = sinks.into_iter().map(|(settings, _)| settings).zip(versions).collect();
        self.wanted.send_replace(Wanted { version, reloads, sinks });
    }

    /// The version of a sink that is wanted already just as it is here, with files that hold what they held.
    pub(super) fn unchanged(
        &self,
        (settings, look): &(SinkSettings, Look),
        held: &BTreeMap<SinkName, Look>,
    ) -> Option<u64> {
        let (name, wanted) = (&settings.consumer.name, self.wanted.borrow());
        let (old, version) = wanted.sinks.iter().find(|(old, _)| old.consumer.name == *name)?;
        (old.facts == settings.facts && held.get(name) == Some(look)).then_some(*version)
    }

    /// Asks for one sink anew, because its files have changed.
    pub(super) fn renew(&self, settings: SinkSettings) {
        self.wanted.send_modify(|wanted| {
            wanted.version += 1;
            let version = wanted.version;
            if let Some(place) = wanted.sinks.iter_mut().find(|(old, _)| old.consumer.name == settings.consumer.name) {
                *place = (settings, version);
            }
        });
    }

    /// Waits until everything that was asked for is carried out, as far as it can be. False when it is not within `limit`.
    pub(super) async fn reached(&mut self, limit: Duration) -> bool {
        let version = self.wanted.borrow().version;
        // The inner error is a daemon that is about to end.
        timeout(limit, self.reached.wait_for(|reached| *reached >= version)).await.is_ok()
    }

    /// The sinks that were asked for last.
    pub(super) fn sinks(&self) -> Vec<SinkSettings> {
        self.wanted.borrow().sinks.iter().map(|(settings, _)| settings.clone()).collect()
    }
}

/// Each sink with what its files hold. Blocks.
pub(super) fn looked_at(sinks: &[SinkSettings]) -> Vec<(SinkSettings, Look)> {
    sinks.iter().map(|sink| (sink.clone(), look_at_sink(sink))).collect()
}
