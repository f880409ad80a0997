//! What is to be written: from options, then from answers, then from defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::SecretString;

use super::ask::{self, Stopped};
use super::values::{self, Host, Inputs, SinkUrl, absolute};
use super::{Args, Environment, SinkArgs, SinkKind, TlsFrom};
use crate::ingest;

const SYSTEM: &str = "/etc/ralio-relay";
const PATH: &str = "/webhooks/ralio";
pub(super) const ADMIN_PORT: u16 = 8081;

/// Options that do not fit together, or what they name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unfit(String);

fn unfit(text: impl Into<String>) -> anyhow::Error {
    Unfit(text.into()).into()
}

/// Everything that is asked for.
pub(super) struct Plan {
    /// Absolute.
    pub(super) dir: PathBuf,
    pub(super) environment: Environment,
    pub(super) host: Option<Host>,
    pub(super) tls: Tls,
    pub(super) listen: SocketAddr,
    pub(super) path: String,
    /// `None` while nobody knows it.
    pub(super) secret: Option<SecretString>,
    pub(super) sink: Sink,
    /// Absolute.
    pub(super) inbox: PathBuf,
    /// A configuration that is there may go.
    pub(super) force: bool,
}

/// Where HTTPS comes from.
pub(super) enum Tls {
    SelfSigned,
    Files(ingest::Tls),
    Proxy,
}

/// Where events go first.
pub(super) enum Sink {
    Stdout,
    File(PathBuf),
    #[cfg(feature = "amqp")]
    Amqp {
        url: SinkUrl,
        exchange: String,
        queue: Option<String>,
    },
    Http {
        url: SinkUrl,
        authorization: Option<SecretString>,
    },
    Exec(Vec<String>),
}

/// The directory of a configuration, absolute.
pub(super) fn directory(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let default = if rustix::process::geteuid().is_root() { SYSTEM } else { "./ralio-relay" };
    let dir = given.unwrap_or(Path::new(default));
    // Said in every path that is written: a configuration must not depend on where the daemon is started.
    let dir = std::path::absolute(dir).with_context(|| format!("where is {}?", dir.display()))?;
    anyhow::ensure!(!dir.exists() || dir.is_dir(), "{} is not a directory", dir.display());
    Ok(dir.components().collect())
}

impl Plan {
    pub(super) fn is_for_the_system(&self) -> bool {
        self.dir == Path::new(SYSTEM)
    }

    /// The URL to register in the portal; a placeholder where the host is not known.
    pub(super) fn public_url(&self) -> String {
        let own = if matches!(self.tls, Tls::Proxy) { 443 } else { self.listen.port() };
        let (name, port) = match &self.host {
            Some(host) => (host.name.as_str(), host.port.unwrap_or(own)),
            None => ("<public host name>", own),
        };
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        format!("https://{name}{port}{}", self.path)
    }

    pub(super) fn new(args: Args, dir: PathBuf, asks: bool) -> anyhow::Result<Self> {
        let mut inputs = Inputs::new();
        if asks {
            to_stderr!(
                "This writes a configuration into {}. Nothing is written before the end; Ctrl-C stops.\n",
                dir.display()
            );
        }
        let environment = match args.environment {
            Some(environment) => environment,
            None if asks => ask::choice(
                "Which of Ralio's environments sends?",
                [(Environment::Sandbox, "sandbox: no real money"), (Environment::Production, "production")],
            )?,
            None => Environment::Sandbox,
        };
        let host = host(args.host, asks)?;
        let tls = tls(args.tls, args.cert.zip(args.key), asks)?;
        let listen = match args.listen {
            Some(listen) => listen,
            None => listen(&tls, asks)?,
        };
        let path = match args.path {
            Some(path) => path,
            None if asks => {
                ask::text("Path of the webhook:", "what comes after the host in the URL", Some(PATH), super::path)?
            }
            None => PATH.to_owned(),
        };
        let secret = secret(args.secret_file.as_deref(), &mut inputs, asks)?;
        let system = dir == Path::new(SYSTEM);
        let data = if system { Path::new("/var/lib/ralio-relay") } else { &dir };
        let sink = sink(args.sink, args.sink_args, data, &mut inputs, asks)?;
        let inbox = data.join("inbox.db");
        if asks && !ask::confirm(&format!("Write {}?", dir.join("relay.toml").display()))? {
            return Err(Stopped.into());
        }
        Ok(Self { environment, host, tls, listen, path, secret, sink, inbox, dir, force: args.force })
    }
}

fn host(given: Option<Host>, asks: bool) -> anyhow::Result<Option<Host>> {
    if given.is_some() || !asks {
        return Ok(given);
    }
    let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let own = own.contains('.').then_some(own);
    let optional = |text: &str| if text.is_empty() { Ok(None) } else { Host::new(text).map(Some) };
    let help = "as in relay.example.com; empty if it is not known yet";
    ask::text("Under which name does Ralio reach this machine?", help, own.as_deref(), optional)
}

fn tls(given: Option<TlsFrom>, files: Option<(PathBuf, PathBuf)>, asks: bool) -> anyhow::Result<Tls> {
    let from = match (given, &files) {
        (Some(TlsFrom::Files) | None, Some(_)) => TlsFrom::Files,
        (Some(TlsFrom::SelfSigned | TlsFrom::Proxy), Some(_)) => {
            return Err(unfit("--cert and --key go with --tls files"));
        }
        (Some(from), None) => from,
        (None, None) if asks => ask::choice(
            "Where does HTTPS come from?",
            [
                (TlsFrom::Files, "a certificate and its key that are there"),
                (TlsFrom::SelfSigned, "self-signed, made now: for a first try"),
                (TlsFrom::Proxy, "a proxy in front of it, which terminates TLS"),
            ],
        )?,
        (None, None) => TlsFrom::SelfSigned,
    };
    match from {
        TlsFrom::SelfSigned => Ok(Tls::SelfSigned),
        TlsFrom::Proxy => Ok(Tls::Proxy),
        TlsFrom::Files => Ok(Tls::Files(match files {
            Some((cert, key)) => pair(absolute_of(&cert)?, absolute_of(&key)?).map_err(unfit)?,
            None if asks => asked_pair()?,
            None => return Err(unfit("--tls files needs --cert FILE and --key FILE")),
        })),
    }
}

fn absolute_of(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("where is {}?", path.display()))
}

/// A certificate and its key, which must belong together.
fn pair(cert: PathBuf, key: PathBuf) -> Result<ingest::Tls, String> {
    let files = ingest::Tls { cert, key };
    ingest::load_tls(&files).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    Ok(files)
}

fn asked_pair() -> anyhow::Result<ingest::Tls> {
    let file = |text: &str| {
        let path = absolute(text)?;
        std::fs::File::open(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(path)
    };
    let cert = ask::text("Certificate:", "PEM file: the certificate, then its intermediates", None, file)?;
    let own = cert.clone();
    ask::text("Private key:", "PEM file", None, move |text| pair(own.clone(), file(text)?))
}

fn listen(tls: &Tls, asks: bool) -> anyhow::Result<SocketAddr> {
    let (default, help) = match tls {
        Tls::Proxy => ("127.0.0.1:8443", "plain HTTP: an address that the proxy alone reaches"),
        Tls::SelfSigned | Tls::Files(_) => ("0.0.0.0:8443", "0.0.0.0 is every address of this machine"),
    };
    if asks {
        return ask::text("Address to listen on:", help, Some(default), super::listen);
    }
    super::listen(default).map_err(anyhow::Error::msg)
}

fn secret(file: Option<&Path>, inputs: &mut Inputs, asks: bool) -> anyhow::Result<Option<SecretString>> {
    let known = |text: &str| values::secret(text).map_err(|why| unfit(format!("--secret-file: {why}")));
    if let Some(file) = file {
        return known(&inputs.read(file, "--secret-file")?).map(Some);
    }
    if !asks {
        return Ok(None);
    }
    #[derive(Clone, Copy)]
    enum From {
        Later,
        Typed,
        File,
    }
    let answers = [
        (From::Later, "not known yet: the portal shows it after the registration"),
        (From::Typed, "paste it now (it is not shown)"),
        (From::File, "it is in a file"),
    ];
    match ask::choice("The webhook secret?", answers)? {
        From::Later => Ok(None),
        From::Typed => ask::hidden("Webhook secret:", "Ctrl-R shows it", values::secret).map(Some),
        From::File => ask::text("Its file:", "it is copied", None, |text| {
            let text = std::fs::read_to_string(absolute(text)?).map_err(|error| error.to_string())?;
            values::secret(&text)
        })
        .map(Some),
    }
}

fn sink(kind: Option<SinkKind>, args: SinkArgs, data: &Path, inputs: &mut Inputs, asks: bool) -> anyhow::Result<Sink> {
    let kind = match kind {
        Some(kind) => kind,
        None if asks => ask::choice(
            "Where do events go first?",
            [
                (SinkKind::Stdout, "standard output: to see them"),
                (SinkKind::File, "a file, one JSON object a line"),
                #[cfg(feature = "amqp")]
                (SinkKind::Amqp, "RabbitMQ, or another AMQP broker"),
                (SinkKind::Http, "your service, by HTTP POST"),
                (SinkKind::Exec, "a command, once for each event"),
            ],
        )?,
        None => SinkKind::Stdout,
    };
    misplaced(kind, &args)?;
    Ok(match kind {
        SinkKind::Stdout => Sink::Stdout,
        SinkKind::File => {
            let default = data.join("events.ndjson").display().to_string();
            Sink::File(match args.file {
                Some(file) => absolute_of(&file)?,
                None if asks => {
                    ask::text("File:", "it grows; relay.toml can have it rotated", Some(&default), absolute)?
                }
                None => PathBuf::from(default),
            })
        }
        #[cfg(feature = "amqp")]
        SinkKind::Amqp => amqp(args, inputs, asks)?,
        SinkKind::Http => http(args, inputs, asks)?,
        SinkKind::Exec => Sink::Exec(match args.command {
            none if none.is_empty() && asks => {
                let help = "the program and its arguments, between spaces; no shell";
                ask::text("Command:", help, None, command)?
            }
            none if none.is_empty() => return Err(unfit("--sink exec needs a command, after --: -- /usr/bin/handler")),
            command => command,
        }),
    })
}

#[cfg(feature = "amqp")]
fn amqp(args: SinkArgs, inputs: &mut Inputs, asks: bool) -> anyhow::Result<Sink> {
    let url = url(&args, inputs, asks, &["amqp", "amqps"], "amqps://user:password@host:5671/vhost")?;
    let named = |text: &str| Ok(text.trim().to_owned());
    let exchange = match args.exchange {
        Some(exchange) => exchange,
        None if asks => {
            let help = "a topic exchange, which is declared; the routing key is the type of event";
            ask::text("Exchange:", help, Some("ralio.events"), named)?
        }
        None => "ralio.events".to_owned(),
    };
    let queue = match args.queue {
        None if asks => {
            let help = "declared, and bound to everything; empty if consumers declare their own";
            Some(ask::text("Queue:", help, None, named)?).filter(|queue| !queue.is_empty())
        }
        queue => queue,
    };
    Ok(Sink::Amqp { url, exchange, queue })
}

fn http(args: SinkArgs, inputs: &mut Inputs, asks: bool) -> anyhow::Result<Sink> {
    let url = url(&args, inputs, asks, &["http", "https"], "https://ledger.example.com/hooks/ralio")?;
    let authorization = match args.authorization_file {
        Some(file) => {
            let text = inputs.read(&file, "--authorization-file")?;
            Some(values::secret(&text).map_err(|why| unfit(format!("--authorization-file: {why}")))?)
        }
        None if asks => {
            let optional = |text: &str| if text.is_empty() { Ok(None) } else { values::secret(text).map(Some) };
            ask::hidden("Authorization header:", "such as Bearer ...; empty for none; Ctrl-R shows it", optional)?
        }
        None => None,
    };
    Ok(Sink::Http { url, authorization })
}

fn command(text: &str) -> Result<Vec<String>, String> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { Err("write a command, such as /usr/bin/handler --flag".to_owned()) } else { Ok(words) }
}

/// An option for another sink would do nothing.
fn misplaced(kind: SinkKind, args: &SinkArgs) -> anyhow::Result<()> {
    let is_http = kind == SinkKind::Http;
    #[cfg(feature = "amqp")]
    let is_amqp = kind == SinkKind::Amqp;
    #[cfg(not(feature = "amqp"))]
    let is_amqp = false;
    for (is_given, fits, option, kinds) in [
        (args.file.is_some(), kind == SinkKind::File, "--file", "file"),
        (args.url.is_some(), is_amqp || is_http, "--url", "amqp or http"),
        (args.url_file.is_some(), is_amqp || is_http, "--url-file", "amqp or http"),
        (args.exchange.is_some(), is_amqp, "--exchange", "amqp"),
        (args.queue.is_some(), is_amqp, "--queue", "amqp"),
        (args.authorization_file.is_some(), is_http, "--authorization-file", "http"),
        (!args.command.is_empty(), kind == SinkKind::Exec, "a command", "exec"),
    ] {
        if is_given && !fits {
            return Err(unfit(format!("{option} goes with --sink {kinds}")));
        }
    }
    Ok(())
}

fn url(
    args: &SinkArgs,
    inputs: &mut Inputs,
    asks: bool,
    schemes: &'static [&'static str],
    example: &'static str,
) -> anyhow::Result<SinkUrl> {
    let read = move |text: &str| values::sink_url(text, schemes, example);
    match (&args.url, &args.url_file) {
        (Some(url), _) => match read(url).map_err(|why| unfit(format!("--url: {why}")))? {
            SinkUrl::Open(url) => Ok(SinkUrl::Open(url)),
            SinkUrl::Secret(_) => Err(unfit(
                "--url holds a password, which others on this machine and the shell's history now know: change it, write the \
                 URL into a file, and give --url-file FILE (or - for standard input)",
            )),
        },
        (None, Some(file)) => {
            read(&inputs.read(file, "--url-file")?).map_err(|why| unfit(format!("--url-file: {why}")))
        }
        (None, None) if asks => ask::hidden("Its URL:", &format!("such as {example}; Ctrl-R shows it"), read),
        (None, None) => Err(unfit(format!("this sink needs --url URL, such as {example}, or --url-file FILE"))),
    }
}
