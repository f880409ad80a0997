//! What a test relay is started with: a directory of its own, a configuration, a certificate, secrets.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::fake_http::FakeHttp;
use super::process::Process;
use super::{SECRET, TestRelay, signed};

/// The bearer token of the admin listener.
pub const TOKEN: &str = "canary-77b0-admin-token";

/// A relay that is not running: to be started, or to be started again.
#[derive(Clone)]
pub struct Builder {
    directory: Arc<TempDir>,
    /// Where the inbox and what file sinks write are, when not in the directory.
    data: Option<PathBuf>,
    plaintext: bool,
    server: String,
    sources: String,
    sinks: Vec<(String, String)>,
    wrapper: Vec<String>,
    environment: Vec<(String, String)>,
    /// The configuration, where it is not made of the rest.
    whole: Option<String>,
    /// What a service manager passes on.
    socket: Option<Arc<OwnedFd>>,
    /// Parked events at the end are no failure.
    pub(super) parked_is_fine: bool,
    /// Lines at level ERROR are no failure.
    pub(super) errors_are_fine: bool,
}

impl Builder {
    pub(super) fn new() -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        write_certificate(directory.path());
        write_secret(&directory.path().join("admin-token"), TOKEN);
        Self {
            directory,
            data: None,
            plaintext: false,
            server: String::new(),
            sources: String::new(),
            sinks: Vec::new(),
            wrapper: Vec::new(),
            environment: Vec::new(),
            whole: None,
            socket: None,
            parked_is_fine: false,
            errors_are_fine: false,
        }
    }

    /// The relay's directory, gone when the last user of it is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The database file; its directory does not exist before the first start.
    pub fn inbox(&self) -> PathBuf {
        self.data().join("inbox/inbox.db")
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory().join("relay.toml")
    }

    /// Where a file sink of this name writes.
    pub fn sink_file(&self, name: &str) -> PathBuf {
        self.data().join(format!("{name}.jsonl"))
    }

    fn data(&self) -> &Path {
        self.data.as_deref().unwrap_or(self.directory())
    }

    /// Keeps the inbox, and the file sinks that are added from here on, in another directory.
    pub fn data_in(mut self, directory: &Path) -> Self {
        self.data = Some(directory.to_owned());
        self
    }

    /// Plain HTTP on the public listener.
    pub fn plaintext(mut self) -> Self {
        self.plaintext = true;
        self
    }

    pub(super) fn is_plaintext(&self) -> bool {
        self.plaintext
    }

    /// The names of its sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &str> {
        self.sinks.iter().map(|(name, _)| name.as_str())
    }

    /// A line more in `[server]`.
    pub fn server(mut self, line: &str) -> Self {
        writeln!(self.server, "{line}").unwrap();
        self
    }

    /// A source; without any there is one, `test`, at [`signed::PATH`] with [`SECRET`].
    pub fn source(mut self, name: &str, path: &str, secrets: &[&str], more: &str) -> Self {
        let files = secrets.iter().enumerate().map(|(slot, secret)| {
            let file = self.directory().join(format!("secret-{name}-{slot}"));
            write_secret(&file, secret);
            format!("{{ file = {file:?} }}")
        });
        let secrets = files.collect::<Vec<_>>().join(", ");
        writeln!(self.sources, "[[sources]]\nname = {name:?}\npath = {path:?}\nsecrets = [{secrets}]\n{more}").unwrap();
        self
    }

    /// A sink: its type and the rest of its table. Retries are quick unless the rest says otherwise.
    pub fn sink(mut self, name: &str, kind: &str, rest: &str) -> Self {
        let retry = if rest.contains("retry") { "" } else { "retry = { initial = \"50ms\", max = \"500ms\" }\n" };
        let table = format!("[[sinks]]\nname = {name:?}\ntype = {kind:?}\n{retry}{rest}\n");
        self.sinks.push((name.to_owned(), table));
        self
    }

    /// A file sink; see [`TestRelay::lines`].
    pub fn file_sink(self, name: &str, rest: &str) -> Self {
        let path = self.sink_file(name);
        self.sink(name, "file", &format!("{rest}\nfile = {{ path = {path:?} }}"))
    }

    /// An HTTP sink.
    pub fn http_sink(self, name: &str, app: &FakeHttp, rest: &str) -> Self {
        self.sink(name, "http", &format!("{rest}\nhttp = {{ url = {:?} }}", app.url()))
    }

    /// The same sink under another name, with the destination that it has.
    pub fn renamed(mut self, from: &str, to: &str) -> Self {
        for (name, table) in self.sinks.iter_mut().filter(|(name, _)| name == from) {
            *table = table.replacen(&format!("name = {from:?}"), &format!("name = {to:?}"), 1);
            to.clone_into(name);
        }
        self
    }

    /// Without this sink; its place in the log stays.
    pub fn without(mut self, name: &str) -> Self {
        self.sinks.retain(|(known, _)| known != name);
        self
    }

    /// A variable in the daemon's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the daemon with this socket (or what should be one), as systemd passes it on: once for each of the names, which
    /// colons separate.
    pub fn passing(mut self, socket: impl Into<OwnedFd>, names: &str) -> Self {
        self.socket = Some(Arc::new(socket.into()));
        // The shell duplicates its standard input to 3 and so on, and becomes the daemon: its process id is the same.
        let descriptors: Vec<String> = (0..names.split(':').count()).map(|n| format!("{}<&0", n + 3)).collect();
        let script = format!(
            "exec {} </dev/null; export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names}; exec \"$@\"",
            descriptors.join(" "),
            descriptors.len()
        );
        self.wrapped(&["sh", "-c", &script, "sh"])
    }

    /// Starts the daemon through this command, which must `exec` it.
    pub fn wrapped(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Parked events at the end are part of the test.
    pub fn expect_parked(mut self) -> Self {
        self.parked_is_fine = true;
        self
    }

    /// Lines at level ERROR are part of the test.
    pub fn expect_errors(mut self) -> Self {
        self.errors_are_fine = true;
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> TestRelay {
        let mut relay = self.launch().await;
        relay.ready().await;
        relay
    }

    /// Like [`Self::start`], for a relay that may end before it is ready: gives its process back then.
    pub async fn try_start(self) -> Result<TestRelay, Process> {
        let process = self.spawn();
        let mut relay = TestRelay::try_over(self, process).await?;
        if relay.try_ready().await { Ok(relay) } else { Err(relay.into_process()) }
    }

    /// Starts it and waits until its admin listener answers, ready or not.
    pub async fn launch(self) -> TestRelay {
        let process = self.spawn();
        TestRelay::over(self, process).await
    }

    /// Starts it, and no more: for a relay that will not come up.
    pub fn spawn(&self) -> Process {
        self.write_config();
        let binary = env!("CARGO_BIN_EXE_ralio-relay").to_owned();
        let words: Vec<&String> = self.wrapper.iter().chain([&binary]).collect();
        let mut command = Command::new(words[0]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RALIO_RELAY")) {
            command.env_remove(name);
        }
        command.env_remove("NOTIFY_SOCKET").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(&words[1..]).args(["serve", "--config"]).arg(self.config_file()).current_dir(self.directory());
        let stdin = self.socket.as_ref().map_or_else(Stdio::null, |socket| socket.try_clone().unwrap().into());
        Process::spawn_with(&mut command, stdin)
    }

    /// Its configuration, instead of the one that it would write.
    pub fn configured_by(mut self, text: &str) -> Self {
        self.whole = Some(text.to_owned());
        self
    }

    /// Writes the configuration; `spawn` does it too.
    pub fn write_config(&self) {
        let (dir, inbox) = (self.directory().display(), self.inbox());
        let settings = match self.sources.as_str() {
            "" => self.clone().source("test", signed::PATH, &[SECRET], ""),
            _ => self.clone(),
        };
        let sinks: String = self.sinks.iter().map(|(_, table)| table.as_str()).collect();
        let tls = format!("[server.tls]\ncert = \"{dir}/tls.crt\"\nkey = \"{dir}/tls.key\"\n");
        let tls = if self.plaintext { "plaintext = true\n" } else { &tls };
        let toml = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n{}{tls}\
             [inbox]\nurl = \"sqlite://{}\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\ntoken = {{ file = \"{dir}/admin-token\" }}\n\
             [log]\nformat = \"json\"\nlevel = \"info\"\n\
             {}{sinks}",
            self.server,
            inbox.display(),
            settings.sources
        );
        std::fs::write(self.config_file(), self.whole.as_ref().unwrap_or(&toml)).unwrap();
    }
}

/// Writes `tls.crt` and `tls.key`, good for loopback and for ever.
pub fn write_certificate(directory: &Path) {
    write_certificate_until(directory, 4000);
}

/// The same, good until this year begins.
pub fn write_certificate_until(directory: &Path, year: i32) {
    let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    std::fs::write(directory.join("tls.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
    write_secret(&directory.join("tls.key"), &key.serialize_pem());
}

/// Writes a file that only its owner may read.
pub fn write_secret(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}
