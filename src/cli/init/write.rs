//! All of it, or nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::plan::{Plan, Sink, Tls};
use super::render;
use super::values::SinkUrl;
use crate::cli::dev::{certificate, random};
use crate::config::{Env, Problems, STAND_IN, read};

/// What there is now.
pub(super) struct Made {
    /// Names of secrets that were there, and stay.
    pub(super) kept: Vec<&'static str>,
    /// The webhook secret is a stand-in.
    pub(super) is_stand_in: bool,
    /// What works, but should not stay so.
    pub(super) warnings: Vec<String>,
}

/// Why nothing was written.
pub(super) enum Refused {
    /// `check` would not be content with it.
    Unfit(Problems),
    /// The system said no, or something is in the way.
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Files and directories made so far; taken back when dropped.
#[derive(Default)]
struct Undo {
    files: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Drop for Undo {
    fn drop(&mut self) {
        for file in &self.files {
            _ = std::fs::remove_file(file);
        }
        for directory in self.directories.iter().rev() {
            _ = std::fs::remove_dir(directory);
        }
    }
}

/// Writes the secrets, then the configuration that names them. `check` has then nothing to say against it.
pub(super) fn write(plan: &Plan) -> Result<Made, Refused> {
    let mut undo = Undo::default();
    make_directory(plan, &mut undo)?;
    let webhook = plan.dir.join("webhook-secret");
    let held = webhook.exists().then(|| std::fs::read_to_string(&webhook).unwrap_or_default());
    let is_stand_in = plan.secret.is_none() && held.as_ref().is_none_or(|held| held.starts_with(STAND_IN));
    let mut kept = Vec::new();
    let mut pair = None;
    for (name, is_given, content) in secrets(plan)? {
        let path = plan.dir.join(name);
        let is_there = path.symlink_metadata().is_ok();
        if is_there && is_given && std::fs::read_to_string(&path).ok().as_deref() != Some(content.as_str()) {
            return Err(Refused::Failed(anyhow::anyhow!(
                "{} is there already and holds something else, and secrets are never replaced: move it away",
                path.display()
            )));
        }
        // A certificate and its key belong together.
        let partner = ["tls.crt", "tls.key"].contains(&name).then(|| *pair.get_or_insert(is_there));
        if partner.is_some_and(|partner| partner != is_there) {
            return Err(Refused::Failed(anyhow::anyhow!(
                "of tls.crt and tls.key in {} only one is there: move it away, or give --cert and --key",
                plan.dir.display()
            )));
        }
        if is_there {
            kept.push(name);
        } else {
            make(&path, &content, 0o600).with_context(|| format!("cannot write {}", path.display()))?;
            undo.files.push(path);
        }
    }
    let draft = plan.dir.join("relay.toml.draft");
    undo.files.push(draft.clone());
    _ = std::fs::remove_file(&draft);
    let text = render::configuration(plan, is_stand_in);
    make(&draft, &text, 0o644).with_context(|| format!("cannot write {}", draft.display()))?;
    let settings = read(std::slice::from_ref(&draft), &Env::default()).strict().map_err(Refused::Unfit)?;
    put(&draft, &plan.dir.join("relay.toml"), plan.force).context("cannot write relay.toml")?;
    undo.files.retain(|file| *file == draft);
    undo.directories.clear();
    // Said below, in its place.
    let warnings = settings.warnings.into_iter().filter(|warning| !warning.contains("webhook-secret")).collect();
    Ok(Made { kept, is_stand_in, warnings })
}

/// The directory, and those on the way to it.
fn make_directory(plan: &Plan, undo: &mut Undo) -> anyhow::Result<()> {
    let missing: Vec<&Path> = plan.dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        // The system's configuration may be looked at: it holds no secrets, and each secret is its owner's alone.
        let mode = if plan.is_for_the_system() { 0o755 } else { 0o700 };
        DirBuilder::new().mode(mode).create(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        undo.directories.push(dir.to_owned());
    }
    Ok(())
}

/// Each secret's file, whether somebody has given it, and what it is to hold.
fn secrets(plan: &Plan) -> anyhow::Result<Vec<(&'static str, bool, String)>> {
    let line = |secret: &SecretString| format!("{}\n", secret.expose_secret());
    let mut files = vec![
        match &plan.secret {
            Some(secret) => ("webhook-secret", true, line(secret)),
            None => ("webhook-secret", false, format!("{STAND_IN}{}\n", random())),
        },
        ("admin-token", false, format!("{}\n", random())),
    ];
    if let Tls::SelfSigned = plan.tls {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let names = plan.host.iter().map(|host| host.bare()).chain(names);
        let (cert, key) = certificate(names.collect())?;
        files.extend([("tls.crt", false, cert), ("tls.key", false, key)]);
    }
    match &plan.sink {
        #[cfg(feature = "amqp")]
        Sink::Amqp { url: SinkUrl::Secret(url), .. } => files.push(("amqp-url", true, line(url))),
        #[cfg(feature = "amqp")]
        Sink::Amqp { url: SinkUrl::Open(_), .. } => {}
        Sink::Http { url, authorization } => {
            if let SinkUrl::Secret(url) = url {
                files.push(("http-url", true, line(url)));
            }
            files.extend(authorization.as_ref().map(|value| ("http-authorization", true, line(value))));
        }
        Sink::Stdout | Sink::File(_) | Sink::Exec(_) => {}
    }
    Ok(files)
}

/// A new file, on the disk.
fn make(path: &Path, content: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        _ = std::fs::remove_file(path);
    }
    written
}

/// Durable, under its own name. What is there goes with `force` only; the draft is left to its owner.
fn put(draft: &Path, name: &Path, force: bool) -> std::io::Result<()> {
    if force {
        std::fs::rename(draft, name)?;
    } else {
        std::fs::hard_link(draft, name)?;
    }
    let dir = name.parent().unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
