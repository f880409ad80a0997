//! `sign`

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::error::ErrorKind;

use super::Exit;
use super::output::Output;
use crate::verify::sign;

const ENV: &str = "RALIO_RELAY_SECRET";

/// Sign standard input as Ralio would: HMAC-SHA256, in hex
#[derive(clap::Args)]
#[command(after_help = "Example:
  curl https://relay.example.com/webhooks/ralio --data-binary @event.json \\
    -H \"X-Signature: $(ralio-relay sign --secret-file secret < event.json)\"")]
pub(crate) struct Args {
    #[command(flatten)]
    secret: SecretArgs,
}

/// Where the webhook secret is.
#[derive(clap::Args)]
pub(super) struct SecretArgs {
    /// File with the webhook secret; a line break at its end is not part of it. Without it: $RALIO_RELAY_SECRET
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// The secret, never empty. Ends the process with a usage error when none is given.
    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        let (mut secret, origin) = match &self.secret_file {
            Some(file) => {
                let secret =
                    std::fs::read(file).with_context(|| format!("cannot read the secret in {}", file.display()))?;
                (secret, file.display().to_string())
            }
            None => (std::env::var_os(ENV).unwrap_or_default().into_encoded_bytes(), format!("${ENV}")),
        };
        let end = secret.iter().rposition(|b| !matches!(b, b'\r' | b'\n')).map_or(0, |last| last + 1);
        secret.truncate(end);
        if secret.is_empty() && self.secret_file.is_none() {
            let message = format!("no webhook secret: give --secret-file FILE, or set {ENV}\n");
            clap::Error::raw(ErrorKind::MissingRequiredArgument, message).exit();
        }
        anyhow::ensure!(!secret.is_empty(), "the secret in {origin} is empty");
        Ok(secret)
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let secret = args.secret.read()?;
    let mut body = Vec::new();
    std::io::stdin().lock().read_to_end(&mut body).context("cannot read standard input")?;
    let mut out = Output::stdout();
    let _ = out.line(sign(&secret, &body));
    out.finish()?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> anyhow::Result<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, content).unwrap();
        SecretArgs { secret_file: Some(file) }.read()
    }

    #[test]
    fn the_last_line_break_is_not_part_of_the_secret() {
        assert_eq!(read(b" top\nsecret \r\n").unwrap(), b" top\nsecret ");
        assert_eq!(read(b"secret").unwrap(), b"secret");
        assert!(read(b"\n").unwrap_err().to_string().ends_with("is empty"));
        assert!(SecretArgs { secret_file: Some("/nowhere/secret".into()) }.read().is_err());
    }
}
