//! What `serve --dev` makes in `./.ralio-relay`: a certificate, a secret, and a configuration that can be edited.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::check::listener_remedy;
use super::errand::daemon_runs;
use crate::config::Settings;

const DIR: &str = ".ralio-relay";

const RELAY_TOML: &str = r#"# Made by `ralio-relay serve --dev`. Edit it, and start again: it is not written over.
[server]
listen = "127.0.0.1:8443"

[server.tls]
cert = "./.ralio-relay/tls.crt"
key = "./.ralio-relay/tls.key"

[[sources]]
name = "dev"
path = "/webhooks/ralio"
secrets = [{ file = "./.ralio-relay/secret" }]

[inbox]
url = "sqlite://./.ralio-relay/inbox.db"

[[sinks]]
name = "stdout"
type = "stdout"

[admin]
listen = "127.0.0.1:8081"
token = { file = "./.ralio-relay/admin-token" }
open_metrics = true

[log]
format = "text"
"#;

/// Makes what is missing; the answer is the configuration's files.
pub(super) fn prepare() -> anyhow::Result<Vec<PathBuf>> {
    let dir = Path::new(DIR);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(|| format!("cannot make ./{DIR}"))?;
    make(&dir.join("secret"), || Ok(format!("{}\n", random())))?;
    make(&dir.join("admin-token"), || Ok(format!("{}\n", random())))?;
    make_certificate(dir)?;
    let config = dir.join("relay.toml");
    make(&config, || Ok(RELAY_TOML.to_owned()))?;
    Ok(vec![config])
}

/// Says so, with what to do, where something else listens on an address: before anybody is told to go there. Another daemon
/// with this inbox is no stranger: this one waits for its turn.
pub(super) fn addresses_are_free(settings: &Settings) -> anyhow::Result<()> {
    if settings.inbox.path.with_extension("lock").exists() && daemon_runs(&settings.inbox.path) {
        return Ok(());
    }
    let admin = settings.admin.as_ref().map(|admin| ("admin.listen", admin.listen));
    for (key, address) in [("server.listen", settings.ingest.listen)].into_iter().chain(admin) {
        if let Err(error) = TcpListener::bind(address) {
            let remedy = listener_remedy(address, &error);
            bail!("cannot listen on {address}: {error}\n    -> {remedy} ({key} in ./{DIR}/relay.toml)");
        }
    }
    Ok(())
}

/// Says where everything is, and what to do next.
pub(super) fn introduce(settings: &Settings) {
    let secret = Path::new(DIR).join("secret");
    let path = settings.ingest.sources.first().map_or("/", |source| source.path.as_str());
    let url = format!("https://{}{path}", settings.ingest.listen);
    let program = std::env::args().next().unwrap_or_else(|| "ralio-relay".to_owned());
    to_stderr!(
        "ralio-relay, for trying out. Everything is in ./{DIR}: edit relay.toml there to go on from here.

  endpoint   {url}
  secret     {secret}
  events     on stdout below, and: {program} events list

Send it every type of event, in both envelopes, with duplicates and forged ones, from another terminal:

  {program} simulate --url {url} --secret-file {secret} --ca ./{DIR}/tls.crt --duplicates 20 --bad-signature 10
",
        secret = secret.display(),
    );
    if let Some(admin) = &settings.admin {
        // A browser sends what is behind the # to nobody; the page takes it out of the address.
        let token = settings.secrets.token.as_ref().map(|token| format!("#token={}", token.text().expose_secret()));
        to_stderr!(
            "Admin page: http://{0}/{1}\nHealth and metrics: http://{0}/readyz and http://{0}/metrics\n",
            admin.listen,
            token.unwrap_or_default()
        );
    }
}

/// A secret that nobody can guess: 244 random bits, in hex.
pub(super) fn random() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// A self-signed certificate for these names, and its key, as PEM.
pub(super) fn certificate(names: Vec<String>) -> anyhow::Result<(String, String)> {
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

/// A certificate and its key belong together: both are made when either is missing.
fn make_certificate(dir: &Path) -> anyhow::Result<()> {
    let (cert, key) = (dir.join("tls.crt"), dir.join("tls.key"));
    if cert.exists() && key.exists() {
        return Ok(());
    }
    let made = certificate(["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec())?;
    for (path, text) in [(cert, made.0), (key, made.1)] {
        remove(&path)?;
        make(&path, || Ok(text.clone()))?;
    }
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", path.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a file for the owner alone, unless it is there.
fn make(path: &PathBuf, content: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match file {
        Ok(mut file) => {
            file.write_all(content()?.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
}
