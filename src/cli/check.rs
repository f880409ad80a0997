//! `check`

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use rustix::fs::Access;
use serde::Serialize;

use super::output::{Output, clean_lines};
use super::view::{View, ViewArgs};
use super::{Exit, Format};
use crate::config::{Env, Problems, Settings, SinkSettings, read};
use crate::inbox::sqlite::Reader;
use crate::{inbox, ingest, sink};

const EXAMPLES: &str = "\
Examples:
  ralio-relay check
  ralio-relay check --config relay.toml --config production.toml
  ralio-relay check --config relay.toml --probe

Exit code: 0 when all is good, 1 when a probe failed, 2 when the configuration is wrong.";

/// A broker that does not answer within this is as good as down.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Validate the configuration: every problem at once, each with file, key and a suggestion
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: super::ConfigArgs,

    /// Also open the inbox, load the certificate and connect to each sink; delivers nothing
    #[arg(long)]
    probe: bool,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// One line of the answer.
#[derive(Serialize)]
struct Finding {
    /// `problem`, `warning`, `ok` or `fail`.
    level: &'static str,
    /// `FILE:LINE` or `environment variable NAME` of a problem.
    origin: Option<String>,
    /// The key of a problem, or what was probed.
    key: String,
    message: String,
    /// What to do about it.
    hint: String,
}

impl Finding {
    fn of(level: &'static str, key: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level, origin: None, key: key.to_owned(), message: message.into(), hint: hint.into() }
    }

    /// What a probe found: a line of its own either way.
    fn probed(what: &str, result: Result<String, String>, hint: &str) -> Self {
        match result {
            Ok(message) => Self::of("ok", what, message, ""),
            Err(message) => Self::of("fail", what, message, hint),
        }
    }

    fn text(&self, view: &View) -> String {
        let mut text = String::new();
        for part in [self.origin.as_deref().unwrap_or_default(), &self.key].into_iter().filter(|part| !part.is_empty())
        {
            text.push_str(&format!("{part}: "));
        }
        text.push_str(&self.message);
        if !self.hint.is_empty() {
            text.push_str(&format!("\n        -> {}", self.hint));
        }
        let level = self.level.to_uppercase();
        format!("{}{}", view.painted(&format!("{level:<8}"), &level), clean_lines(&text))
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let reading = read(&args.config.config, &Env::of_process());
    let (mut out, view) = (Output::stdout(), args.view.view());
    let mut print = |finding: &Finding| match args.format {
        Format::Json => out.json(finding),
        Format::Table => out.line(finding.text(&view)),
    };
    let exit = match reading.settings {
        Err(Problems(problems)) => {
            let _ = problems.into_iter().try_for_each(|problem| {
                print(&Finding {
                    origin: problem.origin,
                    ..Finding::of("problem", &problem.key, problem.message, problem.hint)
                })
            });
            Exit::Misconfigured
        }
        Ok(settings) => {
            let warn = |warning: &String| print(&Finding::of("warning", "", warning, ""));
            let _ = settings.warnings.iter().try_for_each(warn);
            let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
            let (sources, sinks) =
                (count(settings.ingest.sources.len(), "source"), count(settings.sinks.len(), "sink"));
            let _ = print(&Finding::of("ok", "", format!("configuration is good: {sources}, {sinks}"), ""));
            let findings = if args.probe { probe(&settings, &view)? } else { Vec::new() };
            let _ = findings.iter().try_for_each(print);
            if findings.iter().any(|finding| finding.level == "fail") { Exit::Finding } else { Exit::Success }
        }
    };
    out.finish()?;
    Ok(exit)
}

fn probe(settings: &Settings, view: &View) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![probe_inbox(&settings.inbox)];
    if let Some(tls) = &settings.ingest.tls {
        let hint = "renew the certificate, and give the daemon the chain and the key that belong together";
        findings.push(Finding::probed("server.tls", probe_tls(tls, view), hint));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        for sink in &settings.sinks {
            findings.push(probe_sink(sink).await);
        }
    });
    Ok(findings)
}

fn probe_inbox(config: &inbox::Config) -> Finding {
    let path = &config.path;
    let hint = "the daemon's user must own the directory of inbox.url; the file itself is made by `serve`";
    let result = if path.exists() {
        Reader::open(config)
            .and_then(|reader| reader.head())
            .map(|head| format!("{} can be read; it holds {head} events", path.display()))
            .map_err(|error| error.to_string())
    } else {
        writable_place(path)
    };
    Finding::probed("inbox", result, hint)
}

/// There is no inbox yet: `serve` makes the file and the directories on the way to it, so the nearest one that is
/// there already has to let it.
fn writable_place(path: &Path) -> Result<String, String> {
    let nearest = path.ancestors().skip(1).map(|dir| if dir == Path::new("") { Path::new(".") } else { dir });
    let nearest = nearest.into_iter().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if !nearest.is_dir() {
        return Err(format!("{} is not a directory", nearest.display()));
    }
    match rustix::fs::access(nearest, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(format!("{} is not there yet, and can be made", path.display())),
        Err(error) => Err(format!("{} cannot be made: {} is not writable: {error}", path.display(), nearest.display())),
    }
}

fn probe_tls(files: &ingest::Tls, view: &View) -> Result<String, String> {
    let tls = ingest::load_tls(files).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let (cert, end) = (files.cert.display(), view.seconds(tls.not_after()));
    if tls.not_after() <= Timestamp::now() {
        return Err(format!("{cert} expired at {end}"));
    }
    Ok(format!("{cert} is valid until {end}"))
}

async fn probe_sink(settings: &SinkSettings) -> Finding {
    let name = &settings.consumer.name;
    let what = format!("sink {name}");
    let attempt = async {
        let sink = sink::build(&settings.sink, settings.format).await.map_err(|error| error.to_string())?;
        let result = sink.probe().await;
        sink.close().await;
        result
    };
    let result = match tokio::time::timeout(PROBE_TIMEOUT, attempt).await {
        Ok(result) => result.map(|()| "can be reached".to_owned()),
        Err(_) => Err(format!("no answer within {} s", PROBE_TIMEOUT.as_secs())),
    };
    Finding::probed(&what, result, remedy(&settings.sink))
}

fn remedy(sink: &sink::Config) -> &'static str {
    match sink {
        #[cfg(feature = "amqp")]
        sink::Config::Amqp(_) => {
            "is the broker up, are user, password and virtual host of the url right, and may the user declare?"
        }
        sink::Config::Http(_) => {
            "is the endpoint up, can this machine reach its host and port, and do the certificates fit?"
        }
        sink::Config::Exec(_) => "the command's first word must be a program that the daemon's user may run",
        sink::Config::File(_) => "the directory of the file must be there, and writable for the daemon's user",
        sink::Config::Stdout => "standard output must be open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inbox_can_be_made_where_a_directory_lets_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(writable_place(&dir.path().join("a/b/inbox.db")).is_ok());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(writable_place(&dir.path().join("file/inbox.db")).unwrap_err().contains("not a directory"));
        assert!(writable_place(Path::new("inbox.db")).is_ok());
    }

    #[test]
    fn a_finding_reads_as_place_key_message_and_remedy() {
        let finding =
            Finding { origin: Some("relay.toml:3".to_owned()), ..Finding::of("problem", "a.b", "is odd", "mend it") };
        assert_eq!(finding.text(&View::plain()), "PROBLEM relay.toml:3: a.b: is odd\n        -> mend it");
        assert_eq!(
            Finding::probed("sink x", Err("down".to_owned()), "start it").text(&View::plain()),
            "FAIL    sink x: down\n        -> start it"
        );
        assert_eq!(
            Finding::probed("sink x", Ok("fine".to_owned()), "start it").text(&View::plain()),
            "OK      sink x: fine"
        );
    }
}
