//! `check`

mod probe;
mod remedy;

use serde::Serialize;

use self::probe::probe;

pub(super) use self::probe::listener_remedy;

use super::output::{Output, clean_lines};
use super::view::{View, ViewArgs};
use super::{Exit, Format};
use crate::config::{Env, Problems, read};

const EXAMPLES: &str = "\
Examples:
  ralio-relay check
  ralio-relay check --config relay.toml --config production.toml
  ralio-relay check --config relay.toml --probe

Exit code: 0 when all is good, 1 when a probe failed, 2 when the configuration is wrong.";

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
    let exit = match reading.strict() {
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
            for source in &settings.ingest.sources {
                let fingerprints: Vec<_> = source.keys.fingerprints().iter().map(ToString::to_string).collect();
                let said = format!("verifies with the secrets of these fingerprints: {}", fingerprints.join(", "));
                let _ = print(&Finding::of("ok", &format!("source {}", source.name), said, ""));
            }
            let findings = if args.probe { probe(&settings, &view)? } else { Vec::new() };
            let _ = findings.iter().try_for_each(print);
            if findings.iter().any(|finding| finding.level == "fail") { Exit::Finding } else { Exit::Success }
        }
    };
    out.finish()?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

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
