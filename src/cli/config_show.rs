//! `config show`

use std::ops::ControlFlow;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use super::Exit;
use super::output::Output;
use crate::config::{Effective, Env, Shown, read};
use crate::verify::Fingerprint;

const EXAMPLES: &str = "\
Examples:
  ralio-relay config show
  ralio-relay config show --config relay.toml --config production.toml
  ralio-relay config show --format json | jq 'select(.origin != \"default\")'

Secrets are shown as \"<redacted>\", with the place that they are read from; those of webhooks also with the fingerprint \
by which `events show` names them.";

/// The effective configuration, with the origin of each value
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: super::ConfigArgs,

    /// toml: origins as comments; json: one object a line for each key
    #[arg(long, value_enum, default_value_t)]
    format: ShowFormat,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ShowFormat {
    #[default]
    Toml,
    Json,
}

#[derive(Serialize)]
struct Line<'a> {
    key: &'a str,
    value: &'a Option<Value>,
    origin: &'a str,
    secret: &'a Option<String>,
    /// Of webhook secrets, in their order.
    fingerprints: &'a [Fingerprint],
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let reading = read(&args.config.config, &Env::of_process());
    reading.settings?;
    let mut out = Output::stdout();
    let _ = match args.format {
        ShowFormat::Toml => out.bytes(reading.effective.to_toml().as_bytes()),
        ShowFormat::Json => json(&mut out, &reading.effective),
    };
    out.finish()?;
    Ok(Exit::Success)
}

fn json(out: &mut Output, effective: &Effective) -> ControlFlow<()> {
    effective.values().iter().try_for_each(|(key, shown)| {
        let Shown { value, origin, secret, fingerprints, .. } = shown;
        out.json(&Line { key, value, origin, secret, fingerprints })
    })
}
