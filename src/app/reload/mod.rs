//! Certificates and secrets, read again while the daemon runs: when their files change, every minute in case nobody told,
//! and with the whole configuration on SIGHUP, whose sinks are then taken too. What is broken changes nothing, and is told
//! once.

mod changes;
mod last;
mod parts;
mod switch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sd_notify::NotifyState;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{CLOSING, Gate, consumers};
use crate::clock::Clock;
use crate::config::{self, Effective, Env, Settings, SinkSettings, Tree};
use crate::ingest::{self, ServerTls, TlsError};
use crate::lifecycle::notify;
use crate::model::SinkName;
use changes::Changes;
pub(super) use last::LastReload;
pub(super) use parts::chain;
use parts::{Considered, Input, Look, Part, look, tls_inputs};
pub(super) use switch::SinkSwitch;
use switch::looked_at;

/// A file that has changed is looked at again after this long, and taken if it has not changed since. Whoever writes a
/// secret in place, slower than that, could have half of it taken for the whole.
const SETTLE: Duration = Duration::from_millis(250);

/// Of a sink whose files are broken.
const KEPT: &str = "a file of a sink has changed and cannot be used: what it held before stays in use";

/// Puts another `log.level` in use, which has been checked.
pub type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

/// What it takes to read the configuration again.
pub struct Reload {
    /// The files, as they were asked for at the start.
    pub files: Vec<PathBuf>,
    /// What was read from them at the start.
    pub effective: Effective,
    /// As it stood there.
    pub tree: Tree,
    /// Woken when the configuration is to be read again.
    pub asked: Arc<Notify>,
    /// Changes the level of the log.
    pub set_level: SetLevel,
}

impl Reload {
    /// Reads the certificate for the first time. What `settings` and the certificate hold is replaced from then on, in
    /// every clone of them, while the [`Reloader`] runs.
    pub(super) fn prepare(
        self,
        settings: &Settings,
        sinks: SinkSwitch,
        clock: &Arc<dyn Clock>,
        gate: watch::Receiver<Gate>,
        last: LastReload,
    ) -> Result<(Option<ServerTls>, Reloader), TlsError> {
        let tls = match &settings.ingest.tls {
            Some(files) => {
                // Looked at before it is read: what changes in between is seen as a change later.
                let seen = look(&tls_inputs(files));
                Some((ingest::load_tls(files)?, seen))
            }
            None => None,
        };
        let (tls, seen) = tls.unzip();
        let (clock, parts) = (Arc::clone(clock), Vec::new());
        let mut reloader = Reloader { reload: self, settings: settings.clone(), tls, sinks, parts, clock, gate, last };
        reloader.watch_parts(seen, looked_at(&settings.sinks));
        Ok((reloader.tls.clone(), reloader))
    }
}

/// Keeps certificates and secrets up to date.
pub(super) struct Reloader {
    reload: Reload,
    /// Those of the start, with the secrets and the certificate's files of now.
    settings: Settings,
    tls: Option<ServerTls>,
    sinks: SinkSwitch,
    parts: Vec<Part>,
    clock: Arc<dyn Clock>,
    gate: watch::Receiver<Gate>,
    last: LastReload,
}

/// A configuration that could be started with.
struct Fresh {
    settings: Settings,
    effective: Effective,
    tree: Tree,
    tls: Option<(ServerTls, Look)>,
    sinks: Vec<(SinkSettings, Look)>,
}

impl Reloader {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep_up()).await;
    }

    async fn keep_up(&mut self) {
        let asked = Arc::clone(&self.reload.asked);
        let mut changes = self.watch();
        let mut unsettled = true;
        loop {
            tokio::select! {
                () = asked.notified() => {
                    self.read_configuration().await;
                    // Other files may be meant now.
                    changes = self.watch();
                    unsettled = true;
                }
                () = wait(&changes, unsettled) => unsettled = self.look_again().await,
            }
        }
    }

    fn watch(&self) -> Changes {
        Changes::of(self.parts.iter().flat_map(Part::files))
    }

    /// Takes what has changed. True when it has to be called again soon.
    async fn look_again(&mut self) -> bool {
        let Some(looks) = self.look().await else { return true };
        let now = self.clock.now();
        let considered: Vec<Considered> =
            self.parts.iter_mut().zip(looks).map(|(part, look)| part.consider(look, now)).collect();
        let unsettled = considered.contains(&Considered::Unsettled);
        let changed: Vec<SinkName> = considered
            .into_iter()
            .filter_map(|considered| match considered {
                Considered::Sink(name) => Some(name),
                Considered::Settled | Considered::Unsettled => None,
            })
            .collect();
        if !changed.is_empty() {
            self.renew_sinks(&changed).await;
        }
        unsettled
    }

    /// Makes sinks anew whose files have changed, each by itself; of the configuration nothing else is read.
    async fn renew_sinks(&self, changed: &[SinkName]) {
        let tree = self.reload.tree.clone();
        let Some((sinks, problems)) = blocking(move || tree.sinks(&Env::of_process())).await else { return };
        let known = self.sinks.sinks();
        for name in changed {
            let place = known.iter().position(|sink| sink.consumer.name == *name);
            let fresh = place.and_then(|place| sinks.get(place).cloned().flatten());
            let settings = match fresh {
                Some(settings) => settings,
                None => {
                    let key = format!("sinks[{}].", place.unwrap_or_default());
                    for problem in problems.iter().filter(|problem| problem.key.starts_with(&key)) {
                        tracing::error!(sink = %name, %problem, "{KEPT}");
                    }
                    continue;
                }
            };
            match consumers::build(&settings).await {
                Ok(_) => self.sinks.renew(settings),
                Err(error) => tracing::error!(sink = %name, problem = chain(&error), "{KEPT}"),
            }
        }
    }

    async fn look(&self) -> Option<Vec<Look>> {
        let inputs: Vec<Vec<Input>> = self.parts.iter().map(Part::inputs).collect();
        blocking(move || inputs.iter().map(|inputs| look(inputs)).collect()).await
    }

    /// Reads the whole configuration. Where it does not hold, nothing changes.
    async fn read_configuration(&mut self) {
        let is_ready = *self.gate.borrow() == Gate::Open;
        if is_ready && let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let (files, tls, now) = (self.reload.files.clone(), self.tls.clone(), self.clock.now());
        let fresh = match blocking(move || Fresh::read(&files, tls.as_ref(), now)).await {
            Some(Ok(fresh)) => Some(self.build_changed(fresh).await),
            other => other,
        };
        match fresh {
            Some(Ok(fresh)) => {
                self.take(fresh).await;
                self.last.succeeded();
            }
            Some(Err(problems)) => {
                for problem in &problems {
                    tracing::error!(problem, "the configuration does not hold: nothing has been changed");
                }
                self.last.failed(self.clock.now(), problems);
            }
            None => {}
        }
        if is_ready {
            notify(&[NotifyState::Ready]);
        }
    }

    /// What the files of each sink held when they were last taken, or refused.
    fn held(&self) -> BTreeMap<SinkName, Look> {
        self.parts.iter().filter_map(Part::of_sink).map(|(name, look)| (name.clone(), look.clone())).collect()
    }

    /// Itself, when every sink that is new or has changed can be made. The others are as good as they were.
    async fn build_changed(&self, fresh: Fresh) -> Result<Fresh, Vec<String>> {
        let (mut problems, held) = (Vec::new(), self.held());
        for sink in fresh.sinks.iter().filter(|sink| self.sinks.unchanged(sink, &held).is_none()) {
            let (settings, _) = sink;
            match settings.unreadable.as_slice() {
                [] => problems.extend(consumers::build(settings).await.err().map(|error| chain(&error))),
                unreadable => problems.extend(unreadable.iter().map(ToString::to_string)),
            }
        }
        if problems.is_empty() { Ok(fresh) } else { Err(problems) }
    }

    async fn take(&mut self, fresh: Fresh) {
        fresh.settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let needs_restart = self.needs_restart(&fresh);
        let own = &mut self.settings;
        for (source, secrets) in own.ingest.sources.iter().zip(&mut own.secrets.sources) {
            let fresh_sources = fresh.settings.ingest.sources.iter().zip(&fresh.settings.secrets.sources);
            if let Some((_, fresh)) = fresh_sources.into_iter().find(|(fresh, _)| fresh.name == source.name) {
                secrets.clone_from(fresh);
            }
        }
        if own.secrets.token.is_some() && fresh.settings.secrets.token.is_some() {
            own.secrets.token = fresh.settings.secrets.token;
        }
        let mut seen = None;
        if let (Some(tls), Some((renewed, look))) = (&self.tls, fresh.tls) {
            tls.replace(&renewed);
            own.ingest.tls = fresh.settings.ingest.tls;
            seen = Some(look);
        }
        let held = self.held();
        self.reload.tree = fresh.tree;
        self.watch_parts(seen, fresh.sinks.clone());
        let now = self.clock.now();
        self.parts.iter().for_each(|part| part.use_secrets(now));
        self.sinks.ask_for(fresh.sinks, &held);
        // Before, nobody carries it out: it is what the start begins with.
        let is_open = *self.gate.borrow() == Gate::Open;
        if is_open && !self.sinks.reached(self.settings.drain_timeout + 2 * CLOSING).await {
            tracing::warn!(
                "the sinks that have changed wait for the inbox, and are in use as soon as it can be written"
            );
        }
        tracing::info!("the configuration has been read again: its certificates, secrets and sinks are in use");
        if !needs_restart.is_empty() {
            let keys = needs_restart.into_iter().collect::<Vec<_>>().join(", ");
            tracing::warn!(keys, "something else has changed that is only read at the start: restart to apply it");
        }
        (self.reload.set_level)(&fresh.settings.log.level);
    }

    /// The keys that have changed since the start, and that a running daemon does not take.
    fn needs_restart(&self, fresh: &Fresh) -> BTreeSet<String> {
        let is_taken = |key: &String| {
            ["server.tls.cert", "server.tls.key", "admin.token", "log.level"].contains(&key.as_str())
                || key.starts_with("sources[") && key.ends_with("].secrets")
                || key.starts_with("sinks[")
        };
        let mut keys = self.reload.effective.differences(&fresh.effective);
        keys.retain(|key| !is_taken(key));
        if self.settings.secrets.token.is_some() != fresh.settings.secrets.token.is_some() {
            keys.insert("admin.token".to_owned());
        }
        keys
    }

    /// Secrets and certificates, with the places that they come from now.
    fn watch_parts(&mut self, tls_seen: Option<Look>, sinks: Vec<(SinkSettings, Look)>) {
        self.parts = Part::secrets(&self.settings);
        if let (Some(files), Some(tls)) = (&self.settings.ingest.tls, &self.tls) {
            self.parts.push(Part::tls(files, tls.clone(), tls_seen.unwrap_or_default()));
        }
        self.parts.extend(sinks.into_iter().map(|(settings, seen)| Part::sink(&settings, seen)));
    }
}

impl Fresh {
    /// Blocks. Every problem at once.
    fn read(files: &[PathBuf], in_use: Option<&ServerTls>, now: Timestamp) -> Result<Self, Vec<String>> {
        let reading = config::read(files, &Env::of_process());
        let settings =
            reading.settings.map_err(|problems| problems.0.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let tls = match (&settings.ingest.tls, in_use) {
            (Some(files), Some(in_use)) => {
                let seen = look(&tls_inputs(files));
                Some((in_use.renewed(files, now).map_err(|error| vec![chain(&error)])?, seen))
            }
            (Some(_), None) | (None, _) => None,
        };
        let sinks = looked_at(&settings.sinks);
        Ok(Self { settings, effective: reading.effective, tree: reading.tree, tls, sinks })
    }
}

/// Until something may have changed, or what was seen may have settled.
async fn wait(changes: &Changes, unsettled: bool) {
    if !unsettled {
        changes.next().await;
    }
    // Several files are often replaced together.
    sleep(SETTLE).await;
}

/// `None` where the process is about to end.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
