//! From files and environment to checked settings.
//!
//! Files are read in order, later ones win, and the environment (`RALIO_RELAY__SECTION__KEY`) wins over them all. Lists
//! of tables (`[[sources]]`, `[[sinks]]`) are replaced as a whole by a later file; the environment reaches into them by
//! place: `RALIO_RELAY__SINKS__0__TIMEOUT`. A relative path in a value starts in the current directory of the daemon,
//! wherever the configuration file is.
//!
//! Two steps: `layers` merges (with the `config` crate) and keeps where each value came from; the readers, one file for
//! each part, ask for keys with `section`, which collects every problem instead of stopping at the first.

mod effective;
mod layers;
mod parse;
mod planned;
mod problem;
mod secret;
mod secret_rules;
mod section;
mod server;
mod sinks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::config::Value;
use secrecy::{ExposeSecret as _, SecretString};

pub use effective::{DEFAULT, Effective, REDACTED, Shown};
pub use layers::Env;
pub(crate) use parse::{address, duration, nearest, url};
pub use problem::{Problem, Problems};
pub(crate) use secret::STAND_IN;
pub use secret::Secret;
use section::{Report, Section};
pub(crate) use server::url_path;

use crate::model::{SinkName, SourceName};
use crate::route::Route;
use crate::{admin, consume, inbox, ingest, sink};

/// Everything that the daemon needs to know, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The public listener and its sources.
    pub ingest: ingest::Config,
    /// From SIGTERM to exit.
    pub drain_timeout: Duration,
    /// The log of events.
    pub inbox: inbox::Config,
    /// The sinks and their consumers.
    pub sinks: Vec<SinkSettings>,
    /// The admin listener; `None` = none.
    pub admin: Option<admin::Config>,
    /// Logging.
    pub log: Log,
    /// Where the secrets came from that are read again while the daemon runs.
    pub secrets: Secrets,
    /// What works, but should not stay so: a secret in the configuration itself, a key that everybody can read.
    pub warnings: Vec<String>,
}

/// The secrets of sources and of the admin listener, which may change while the daemon runs.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Those of each source, in the order of the sources.
    pub sources: Vec<Vec<Secret>>,
    /// That of the admin listener.
    pub token: Option<Secret>,
}

/// One `[[sinks]]` table.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// How it is fed.
    pub consumer: consume::Config,
    /// What it is.
    pub sink: sink::Config,
    /// What it is handed.
    pub format: sink::Format,
    /// The files that its table names: secrets and certificates.
    pub files: Vec<SinkFile>,
    /// Those of its certificate files that cannot be read: it cannot be built. That is no reason to receive nothing.
    pub unreadable: Vec<Problem>,
    /// What its keys hold: with the files, all that makes it differ from another.
    pub facts: BTreeMap<String, Shown>,
}

/// A file that a sink's table names.
#[derive(Clone, Debug)]
pub struct SinkFile {
    /// Its path.
    pub file: PathBuf,
    /// What it held, where the settings hold that; `None` for what is read when the sink is made.
    pub read: Option<SecretString>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Machine-readable lines, or lines for people.
    pub format: LogFormat,
    /// `tracing_subscriber` filter directives, such as `info` or `info,ralio_relay::consume=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// A configuration as read: settings or problems, and what every known key amounts to.
#[derive(Debug)]
pub struct Reading {
    /// What the daemon runs with, or why it cannot.
    pub settings: Result<Settings, Problems>,
    /// The certificates of sinks that cannot be read: those sinks cannot be built.
    pub unreadable: Vec<Problem>,
    /// Every key that was asked for; empty where the files could not be read at all.
    pub effective: Effective,
    /// What was read; empty where the files could not be read at all.
    pub tree: Tree,
}

impl Reading {
    /// The settings, where no file of any sink is missing either, and no two sources share a secret: for whoever checks a
    /// configuration before it is used.
    pub fn strict(self) -> Result<Settings, Problems> {
        match self.settings {
            Ok(settings) if self.unreadable.is_empty() => Ok(settings),
            Ok(_) => Err(Problems(self.unreadable)),
            Err(Problems(problems)) => Err(Problems(problems.into_iter().chain(self.unreadable).collect())),
        }
    }
}

/// A configuration as it stands in its files and in the environment, to be gone through again: the secrets and
/// certificates that it names may have changed.
#[derive(Clone, Default)]
pub struct Tree {
    files: String,
    table: HashMap<String, Value>,
}

impl Tree {
    /// The sinks in their order, `None` for each that is not right, and every problem with them. Blocks.
    pub fn sinks(&self, env: &Env) -> (Vec<Option<SinkSettings>>, Vec<Problem>) {
        let report = Report::new(env);
        let mut table = self.table.clone();
        table.retain(|key, _| key == "sinks");
        let (mut sinks, _) = section::root(&report, Some(self.files.clone()), table, sinks::sinks);
        let (problems, _) = report.into_parts();
        for (place, sink) in sinks.iter_mut().enumerate() {
            let inside = format!("sinks[{place}].");
            // What could be read around a problem is not what is configured.
            if problems.iter().any(|problem| problem.key.starts_with(&inside)) {
                *sink = None;
            }
        }
        (sinks, problems)
    }
}

/// What it holds may be secret.
impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Reads and checks the configuration from the given files (or the default place) and the process's environment.
/// Touches the world as far as secrets and certificates have to be readable, and no further. Certificates of a sink that
/// are not are noted with the sink.
pub fn load(files: &[PathBuf]) -> Result<Settings, Problems> {
    read(files, &Env::of_process()).settings
}

/// [`load`] with the environment as a value, and with what `config show` needs.
pub fn read(files: &[PathBuf], env: &Env) -> Reading {
    let report = Report::new(env);
    let (files, table) = match merged(files, env) {
        Ok(merged) => merged,
        Err(problems) => {
            let (unreadable, effective, tree) = Default::default();
            return Reading { settings: Err(problems), unreadable, effective, tree };
        }
    };
    let tree = Tree { files: files.clone(), table: table.clone() };
    let (settings, effective) = section::root(&report, Some(files), table, settings);
    let unreadable = report.all_unreadable();
    let (problems, warnings) = report.into_parts();
    let settings = match settings {
        Some(settings) if problems.is_empty() => Ok(Settings { warnings, ..settings }),
        _ => Err(Problems(problems)),
    };
    Reading { settings, unreadable, effective, tree }
}

/// Reads `[inbox]` only: browsing needs no secret, and works where the daemon's are not readable.
pub fn load_inbox(files: &[PathBuf]) -> Result<inbox::Config, Problems> {
    part(files, &Env::of_process(), &["inbox"], inbox)
}

/// Reads `admin.listen` only; `None` where there is to be no admin listener.
pub fn load_admin_address(files: &[PathBuf]) -> Result<Option<SocketAddr>, Problems> {
    let read = |root: &mut Section<'_>| {
        root.section("admin", |s| {
            let listen = admin_listen(s);
            s.take_rest();
            listen
        })
    };
    part(files, &Env::of_process(), &["admin"], read)
}

/// Reads `server.tls.cert` only; `None` where a proxy terminates TLS.
pub fn load_certificate(files: &[PathBuf]) -> Result<Option<PathBuf>, Problems> {
    let read = |root: &mut Section<'_>| {
        root.section("server", |s| {
            let cert = s.section("tls", |s| {
                let cert = s.text("cert", None, parse::path);
                s.take_rest();
                Some(cert)
            });
            s.take_rest();
            cert
        })
    };
    part(files, &Env::of_process(), &["server"], read)
}

/// Reads some tables only.
fn part<R>(
    files: &[PathBuf],
    env: &Env,
    tables: &[&str],
    read: impl FnOnce(&mut Section<'_>) -> Option<R>,
) -> Result<R, Problems> {
    let report = Report::new(env);
    let (files, mut table) = merged(files, env)?;
    table.retain(|key, _| tables.contains(&key.as_str()));
    let (part, _) = section::root(&report, Some(files), table, read);
    let (problems, _) = report.into_parts();
    part.filter(|_| problems.is_empty()).ok_or(Problems(problems))
}

/// What commands over the inbox need: no secret, and nothing that would have to be readable beside the files themselves.
#[derive(Clone, Debug)]
pub struct Outline {
    /// The log of events.
    pub inbox: inbox::Config,
    /// The sinks.
    pub sinks: Vec<SinkOutline>,
}

/// What one `[[sinks]]` table says of itself.
#[derive(Clone, Debug)]
pub struct SinkOutline {
    /// Its name.
    pub name: SinkName,
    /// Its type as written, such as `amqp`.
    pub kind: &'static str,
    /// What it wants.
    pub route: Route,
    /// How many events may be parked for it.
    pub max_parked: usize,
}

/// Reads `[inbox]`, and of each sink its name, its type, its route and how many events may be parked for it.
pub fn load_outline(files: &[PathBuf]) -> Result<Outline, Problems> {
    outline(files, &Env::of_process())
}

fn outline(files: &[PathBuf], env: &Env) -> Result<Outline, Problems> {
    part(files, env, &["inbox", "sinks"], |root| {
        let (inbox, sinks) = (inbox(root), sinks::outlines(root));
        Some(Outline { inbox: inbox?, sinks: sinks? })
    })
}

/// The names in a configuration.
#[derive(Clone, Debug)]
pub struct Names {
    /// Of its sources.
    pub sources: Vec<SourceName>,
    /// Of its sinks.
    pub sinks: Vec<SinkName>,
}

/// Reads the names of sources and sinks, and nothing else of them.
pub fn load_names(files: &[PathBuf]) -> Result<Names, Problems> {
    part(files, &Env::of_process(), &["sources", "sinks"], |root| {
        let (sources, sinks) = (server::source_names(root), sinks::names(root));
        Some(Names { sources: sources?, sinks: sinks? })
    })
}

/// The names of the files, and the merged tree.
fn merged(files: &[PathBuf], env: &Env) -> Result<(String, HashMap<String, Value>), Problems> {
    let places = [Path::new("/etc/ralio-relay/relay.toml"), Path::new("./.ralio-relay/relay.toml")];
    let files = layers::discover(files, env, &places).map_err(|problem| Problems(vec![problem]))?;
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let table = layers::merge(&files, env).map_err(Problems)?;
    Ok((names.join(", "), table))
}

fn settings(root: &mut Section<'_>) -> Option<Settings> {
    let server = server::server(root);
    let sources = server::sources(root);
    if let Some(sources) = &sources {
        secret_rules::are_distinct(root, sources);
    }
    let inbox = inbox(root);
    let sinks: Option<Vec<SinkSettings>> = sinks::sinks(root).into_iter().collect();
    let admin = admin(root);
    let log = log(root);
    if let (Some((server, _)), Some((Some(admin), _))) = (&server, &admin) {
        check_listeners(root, server.listen, admin.listen);
    }
    if let (Some((server, _)), Some(inbox)) = (&server, &inbox)
        && inbox.quarantine.max_bytes < server.max_body as u64
    {
        let hint = "make inbox.quarantine.max_bytes at least as large as server.max_body";
        root.wrong("inbox.quarantine.max_bytes", "is too small to hold one body", hint);
    }
    if let (Some(inbox), Some(sinks)) = (&inbox, &sinks) {
        check_files(root, &inbox.path, sinks);
    }
    let (ingest, drain_timeout) = server?;
    let (sources, source_secrets) = sources?.into_iter().unzip();
    let (admin, token) = admin?;
    Some(Settings {
        ingest: ingest::Config { sources, ..ingest },
        drain_timeout,
        inbox: inbox?,
        sinks: sinks?,
        admin,
        log: log?,
        secrets: Secrets { sources: source_secrets, token },
        warnings: Vec::new(),
    })
}

/// Two listeners on one port fail at start, the second one with an error that does not name the first.
fn check_listeners(root: &Section<'_>, public: SocketAddr, admin: SocketAddr) {
    let same_address = public.ip() == admin.ip() || public.ip().is_unspecified() || admin.ip().is_unspecified();
    if public.port() == admin.port() && public.port() != 0 && same_address {
        let hint = format!("give admin another port, such as \"{}:8081\"", admin.ip());
        root.wrong("admin.listen", format!("{admin} is taken by server.listen ({public})"), hint);
    }
}

/// A file has one writer: each sink cuts off what looks like a torn line of its own, and the inbox is no text at all.
fn check_files(root: &Section<'_>, inbox: &Path, sinks: &[SinkSettings]) {
    let inbox = real_path(inbox);
    let beside = |suffix: &str| {
        let mut name = inbox.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    let mut taken = vec![beside("-wal"), beside("-shm"), inbox];
    for (index, sink) in sinks.iter().enumerate() {
        if let sink::Config::File(file) = &sink.sink {
            let path = real_path(&file.path);
            if taken.contains(&path) {
                let message = format!("{} is written by another sink or by the inbox", file.path.display());
                root.wrong(&format!("sinks[{index}].file.path"), message, "give each sink a file of its own");
            }
            taken.push(path);
        }
    }
}

/// The same for every spelling of a path whose directory is there.
fn real_path(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (directory.canonicalize(), path.file_name()) {
        (Ok(directory), Some(name)) => directory.join(name),
        (Err(_), _) | (_, None) => path.to_owned(),
    }
}

fn inbox(root: &mut Section<'_>) -> Option<inbox::Config> {
    root.section("inbox", |s| {
        let path = s.text("url", Some("sqlite:///var/lib/ralio-relay/inbox.db"), parse::sqlite);
        let quarantine = s.section("quarantine", |s| {
            let max_entries = s.integer("max_entries", 10_000, [1, 10_000_000]);
            let max_bytes = s.size("max_bytes", Some("64MiB"), ["1KiB", "1TiB"]);
            let max_age = s.duration("max_age", Some("30d"), ["1d", "36500d"]);
            let admits_by_itself = s.word("admit", Some("auto"), &[("auto", true), ("manual", false)], &[]);
            Some(inbox::QuarantineLimits {
                max_entries: max_entries?,
                max_bytes: max_bytes?,
                max_age: max_age?,
                admits_by_itself: admits_by_itself?,
            })
        });
        let dedup_memory = s.size("dedup_memory", Some("64MiB"), ["64KiB", "64GiB"]);
        let retention = s.section("retention", |s| {
            // Deleting is for the merchant to ask for.
            Some(s.duration("bodies", None, ["1d", "36500d"]))
        });
        Some(inbox::Config { path: path?, quarantine: quarantine?, dedup_memory: dedup_memory?, retention: retention? })
    })
}

/// The admin listener, where there is to be one, and its token's secret.
fn admin(root: &mut Section<'_>) -> Option<(Option<admin::Config>, Option<Secret>)> {
    root.section("admin", |s| {
        let listen = admin_listen(s);
        let had_token = s.has("token");
        let token = s.secret("token");
        let open_metrics = s.bool("open_metrics", false);
        let hosts = s.strings("hosts").unwrap_or_default();
        let is_name = |host: &str| {
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if let Some(bad) = hosts.iter().find(|host| !is_name(host)) {
            let hint = "write hosts = [\"relay.internal\"]: names alone, without a port";
            s.wrong("hosts", format!("{bad:?} is not the name of a host"), hint);
        }
        let Some(listen) = listen? else { return Some((None, None)) };
        if !listen.ip().is_loopback() && !had_token {
            let hint = "write admin.token = { file = \"/run/secrets/ralio-relay-admin\" }, or listen on 127.0.0.1";
            s.wrong("listen", format!("{listen} can be reached from other machines, and there is no token"), hint);
        }
        if let Some(token) = &token {
            secret_rules::warn_of_short(s.report, &s.path("token"), token);
        }
        let own = token.as_ref().map(|secret| admin::Token::new(secret.text().expose_secret()));
        Some((Some(admin::Config { listen, token: own, open_metrics: open_metrics?, hosts }), token))
    })
}

fn admin_listen(s: &mut Section<'_>) -> Option<Option<SocketAddr>> {
    s.text("listen", Some("127.0.0.1:8081"), |text| match text {
        "off" => Ok(None),
        _ => parse::address(text).map(Some),
    })
}

fn log(root: &mut Section<'_>) -> Option<Log> {
    root.section("log", |s| {
        let words = [("json", LogFormat::Json), ("text", LogFormat::Text)];
        let format = s.word("format", Some("json"), &words, &[]);
        let level = s.text("level", Some("info"), parse::log_level);
        Some(Log { format: format?, level: level? })
    })
}
