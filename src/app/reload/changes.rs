//! A hint that a watched file may have changed: from the system where it tells, otherwise every minute.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::timeout;

/// What the system does not tell (a network file system, a directory that was replaced) is seen after this long.
const POLL: Duration = Duration::from_secs(60);

/// The directories of some files, watched.
pub(super) struct Changes {
    seen: Arc<Notify>,
    /// Dropping it ends the watch.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Watches the directories, not the files: files are replaced by renaming others over them, and Kubernetes replaces
    /// only the symbolic link `..data` beside them.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a Path>) -> Self {
        let seen = Arc::new(Notify::new());
        let directories: BTreeSet<PathBuf> = files.map(directory).collect();
        let watcher = watch(&directories, Arc::clone(&seen))
            .inspect_err(|error| {
                tracing::warn!(%error, "files cannot be watched: certificates and secrets are looked at every minute");
            })
            .ok();
        Self { seen, _watcher: watcher }
    }

    /// Resolves when something may have changed, at the latest after a minute. Cancel-safe.
    pub(super) async fn next(&self) {
        _ = timeout(POLL, self.seen.notified()).await;
    }
}

fn directory(file: &Path) -> PathBuf {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

fn watch(directories: &BTreeSet<PathBuf>, seen: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // An error may have cost events.
        if event.is_ok_and(|event| is_reading(event.kind)) {
            return;
        }
        seen.notify_one();
    })?;
    for directory in directories {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

/// We read these files too: that must not be a reason to read them again.
fn is_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
