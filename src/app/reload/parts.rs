//! What is read again while the daemon runs, and how each part takes what is new.

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

use crate::admin::Token;
use crate::config::{Secret, Settings, SinkFile, SinkSettings};
use crate::ingest::{ServerTls, Tls};
use crate::model::SinkName;
use crate::verify::{Fingerprint, Keys};

/// Far more than any certificate chain.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Files that are taken together: the secrets of a source, a certificate with its key.
pub(super) struct Part {
    /// The name of a source, or the path of a key.
    name: String,
    inputs: Vec<Input>,
    target: Target,
    /// What was last taken, or refused: nothing is done about it twice.
    seen: Look,
    /// What was seen since, once. It is taken when it is seen again: a file that is being written changes in between.
    candidate: Option<Look>,
}

/// One thing to read.
#[derive(Clone)]
pub(super) enum Input {
    /// A secret, from a file or not.
    Secret(Secret),
    /// A file of any other kind.
    File(PathBuf),
}

/// Who takes what was read.
enum Target {
    /// A source.
    Keys(Keys),
    /// The admin listener.
    Token(Token),
    /// The public listener.
    Tls { files: Tls, tls: ServerTls },
    /// A sink, which is made anew.
    Sink(SinkName),
}

/// What becomes of what was seen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Considered {
    /// Nothing is left to do.
    Settled,
    /// It has to be looked at again soon.
    Unsettled,
    /// The files of this sink have changed.
    Sink(SinkName),
}

/// What the inputs of a part held when they were looked at, or why that cannot be told.
#[derive(Clone, Debug, Default)]
pub(super) struct Look(Vec<Result<SecretString, String>>);

impl PartialEq for Look {
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Result<SecretString, String>, &Result<SecretString, String>)| match (one, other) {
            (Ok(one), Ok(other)) => one.expose_secret() == other.expose_secret(),
            (Err(one), Err(other)) => one == other,
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Input {
    fn file(&self) -> Option<&Path> {
        match self {
            Self::Secret(secret) => secret.file(),
            Self::File(file) => Some(file),
        }
    }

    fn read(&self) -> Result<SecretString, String> {
        match self {
            Self::Secret(secret) => secret.read_again(),
            Self::File(file) => read(file).map_err(|error| format!("cannot read {}: {error}", file.display())),
        }
    }
}

fn read(file: &Path) -> std::io::Result<SecretString> {
    let mut content = Vec::new();
    File::open(file)?.take(MAX_PEM_BYTES).read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned().into())
}

/// Reads everything. Blocks.
pub(super) fn look(inputs: &[Input]) -> Look {
    Look(inputs.iter().map(Input::read).collect())
}

/// The two files of a certificate.
pub(super) fn tls_inputs(files: &Tls) -> Vec<Input> {
    vec![Input::File(files.cert.clone()), Input::File(files.key.clone())]
}

fn sink_inputs(settings: &SinkSettings) -> Vec<Input> {
    settings.files.iter().map(|file| Input::File(file.file.clone())).collect()
}

/// What the files of a sink hold: those that its settings have taken in, as they were then; the others, as they are now.
/// Blocks.
pub(super) fn look_at_sink(settings: &SinkSettings) -> Look {
    let look = |file: &SinkFile| match &file.read {
        Some(read) => Ok(read.clone()),
        None => Input::File(file.file.clone()).read(),
    };
    Look(settings.files.iter().map(look).collect())
}

impl Part {
    /// The secrets in use, as the settings have read them: what `settings` holds is taken by whoever uses it.
    pub(super) fn secrets(settings: &Settings) -> Vec<Self> {
        let sources = settings.ingest.sources.iter().zip(&settings.secrets.sources).map(|(source, secrets)| {
            Self::of_secrets(source.name.as_str(), secrets, Target::Keys(source.keys.clone()))
        });
        let token = settings.admin.as_ref().and_then(|admin| admin.token.clone());
        let token = token.zip(settings.secrets.token.clone());
        let token = token.map(|(token, secret)| Self::of_secrets("admin.token", &[secret], Target::Token(token)));
        sources.chain(token).collect()
    }

    fn of_secrets(name: &str, secrets: &[Secret], target: Target) -> Self {
        let seen = Look(secrets.iter().map(|secret| Ok(secret.text().clone())).collect());
        let inputs = secrets.iter().cloned().map(Input::Secret).collect();
        Self { name: name.to_owned(), inputs, target, seen, candidate: None }
    }

    /// A certificate in use, which was read when its files held this, or later.
    pub(super) fn tls(files: &Tls, tls: ServerTls, seen: Look) -> Self {
        let target = Target::Tls { files: files.clone(), tls };
        Self { name: "server.tls".to_owned(), inputs: tls_inputs(files), target, seen, candidate: None }
    }

    /// The files of a sink in use, which was made when they held this, or later.
    pub(super) fn sink(settings: &SinkSettings, seen: Look) -> Self {
        let name = settings.consumer.name.clone();
        let inputs = sink_inputs(settings);
        Self { name: format!("sink '{name}'"), inputs, target: Target::Sink(name), seen, candidate: None }
    }

    /// Whose files these are, where it is a sink, and what they held when they were last taken, or refused.
    pub(super) fn of_sink(&self) -> Option<(&SinkName, &Look)> {
        match &self.target {
            Target::Sink(name) => Some((name, &self.seen)),
            Target::Keys(_) | Target::Token(_) | Target::Tls { .. } => None,
        }
    }

    /// Its files.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.inputs.iter().filter_map(Input::file)
    }

    /// What to look at.
    pub(super) fn inputs(&self) -> Vec<Input> {
        self.inputs.clone()
    }

    /// Takes what is new once it was seen twice, apart from a sink's, which is for the caller.
    pub(super) fn consider(&mut self, look: Look, now: Timestamp) -> Considered {
        if look == self.seen {
            self.candidate = None;
            return Considered::Settled;
        }
        if self.candidate.as_ref() != Some(&look) {
            self.candidate = Some(look);
            return Considered::Unsettled;
        }
        self.candidate = None;
        let before = std::mem::replace(&mut self.seen, look);
        match &self.target {
            Target::Keys(_) | Target::Token(_) => self.take_secrets(&before, now),
            Target::Tls { files, tls } => take_tls(files, tls, now),
            Target::Sink(name) => return Considered::Sink(name.clone()),
        }
        Considered::Settled
    }

    /// Each secret by itself: one that cannot be read keeps its old text, and holds up no other.
    fn take_secrets(&mut self, before: &Look, now: Timestamp) {
        let (mut changed, of) = (false, &self.name);
        let is_webhook = matches!(self.target, Target::Keys(_));
        for (slot, (input, look)) in self.inputs.iter_mut().zip(&self.seen.0).enumerate() {
            let Input::Secret(secret) = input else { continue };
            let file = secret.file().map(Path::display).map(tracing::field::display);
            match (look, before.0.get(slot)) {
                (Err(error), Some(Err(known))) if error == known => {}
                (Err(error), _) => {
                    tracing::error!(of, slot, error, "a secret cannot be read again: the old one stays in use");
                }
                (Ok(text), _) if text.expose_secret() != secret.text().expose_secret() => {
                    let fingerprint = is_webhook.then(|| Fingerprint::of(text.expose_secret().as_bytes()).to_string());
                    tracing::info!(of, slot, file, fingerprint, "a new secret is in use");
                    secret.renew(text.clone());
                    changed = true;
                }
                (Ok(_), Some(Err(_))) => tracing::info!(of, slot, file, "a secret can be read again, and is the same"),
                (Ok(_), _) => {}
            }
        }
        if changed {
            self.use_secrets(now);
        }
    }

    /// Hands the secrets to whoever uses them.
    pub(super) fn use_secrets(&self, now: Timestamp) {
        let secret = |input: &Input| match input {
            Input::Secret(secret) => Some(secret.text().clone()),
            Input::File(_) => None,
        };
        let secrets: Vec<SecretString> = self.inputs.iter().filter_map(secret).collect();
        let texts: Vec<&str> = secrets.iter().map(|secret| secret.expose_secret()).collect();
        match &self.target {
            Target::Keys(keys) => keys.replace(&texts, now).expect("there were secrets, and none is empty"),
            Target::Token(token) => texts.iter().for_each(|text| token.replace(text)),
            Target::Tls { .. } | Target::Sink(_) => {}
        }
    }
}

/// Certificate and key may be replaced one after the other: only a pair that fits together is taken.
fn take_tls(files: &Tls, tls: &ServerTls, now: Timestamp) {
    match tls.renewed(files, now) {
        Ok(renewed) => {
            tls.replace(&renewed);
            let (cert, not_after) = (files.cert.display(), tls.not_after());
            tracing::info!(%cert, %not_after, "a new certificate is served");
        }
        Err(error) => {
            let error = chain(&error);
            tracing::error!(error, "the certificate cannot be read again: the old one stays in use");
        }
    }
}

/// An error, and why.
pub(in crate::app) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
