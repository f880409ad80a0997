//! What is asked for, checked.

use std::fmt;
use std::io::Read as _;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use secrecy::SecretString;

/// The name of a host as the internet knows it, and a port where it is another than the listener's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Host {
    /// As it stands in a URL: an IPv6 address in brackets.
    pub(super) name: String,
    pub(super) port: Option<u16>,
}

impl Host {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not the name of a host: write it like relay.example.com");
        let is_bare = !text.contains(['/', '@', '?', '#', '\\']) && !text.contains(char::is_whitespace);
        let url = Url::parse(&format!("https://{text}/")).ok().filter(|_| is_bare && !text.is_empty());
        let is_name = |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        let host = url.as_ref().and_then(Url::host_str).filter(is_name).ok_or_else(wrong)?;
        let port = text.rsplit_once(':').filter(|(name, _)| !name.contains(':') || name.ends_with(']'));
        let port = port.map(|(_, port)| port.parse::<NonZeroU16>().map_err(|_| wrong())).transpose()?;
        Ok(Self { name: host.to_owned(), port: port.map(NonZeroU16::get) })
    }

    /// As it stands in a certificate.
    pub(super) fn bare(&self) -> String {
        self.name.trim_matches(['[', ']']).to_owned()
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The URL of a sink.
#[derive(Clone, Debug)]
pub(super) enum SinkUrl {
    /// Fit for a configuration that others may read.
    Open(String),
    /// With a password or a token in it.
    Secret(SecretString),
}

/// A URL with one of the schemes.
pub(super) fn sink_url(text: &str, schemes: &[&str], example: &str) -> Result<SinkUrl, String> {
    let text = text.trim();
    let url =
        crate::config::url(text, schemes, example).map_err(|wrong| format!("{}; {}", wrong.message, wrong.hint))?;
    let is_open = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    Ok(if is_open { SinkUrl::Open(text.to_owned()) } else { SinkUrl::Secret(text.into()) })
}

/// A secret as typed, without what comes along when it is copied.
pub(super) fn secret(text: &str) -> Result<SecretString, String> {
    let text = text.trim_matches(['\r', '\n', ' ', '\t']);
    match text.len() {
        0 => Err("it is empty".to_owned()),
        1..=4096 if !text.contains(char::is_control) => Ok(text.into()),
        _ => Err("it must be one line, of at most 4096 bytes".to_owned()),
    }
}

/// What a file holds, or standard input (`-`), which is there once only.
pub(super) struct Inputs {
    is_stdin_used: bool,
}

impl Inputs {
    pub(super) fn new() -> Self {
        Self { is_stdin_used: false }
    }

    /// At most 64 KiB of text.
    pub(super) fn read(&mut self, file: &Path, option: &str) -> anyhow::Result<String> {
        let mut text = String::new();
        let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let read = if file == Path::new("-") {
            ensure!(!self.is_stdin_used, "{option}: standard input is read already, by another option");
            self.is_stdin_used = true;
            std::io::stdin().lock().take(64 << 10).read_to_string(&mut text)
        } else {
            std::fs::File::open(file).and_then(|file| file.take(64 << 10).read_to_string(&mut text))
        };
        read.with_context(|| format!("{option}: {shown} cannot be read"))?;
        if text.trim().is_empty() {
            bail!("{option}: {shown} is empty");
        }
        Ok(text)
    }
}

/// An absolute path; what begins with `~/` is in the home directory.
pub(super) fn absolute(text: &str) -> Result<PathBuf, String> {
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_control) {
        return Err("write the path of a file".to_owned());
    }
    let path = match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        (Some(_), None) | (None, _) => PathBuf::from(text),
    };
    std::path::absolute(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_or_without_a_port() {
        for (text, name, port) in [
            ("relay.example.com", "relay.example.com", None),
            ("Relay.Example.com:8443", "relay.example.com", Some(8443)),
            ("192.0.2.1:443", "192.0.2.1", Some(443)),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("[2001:db8::1]:444", "[2001:db8::1]", Some(444)),
        ] {
            assert_eq!(Host::new(text), Ok(Host { name: name.to_owned(), port }), "{text}");
        }
        for bad in [
            "",
            "https://relay.example.com",
            "a b",
            "relay/path",
            "user@host",
            "host:port",
            "host:99999",
            "ex\"ample.com",
            "*.example.com",
            "host:0",
        ] {
            assert!(Host::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Host::new("[2001:db8::1]").unwrap().bare(), "2001:db8::1");
    }

    #[test]
    fn a_url_with_a_password_is_a_secret() {
        let read = |text: &str| sink_url(text, &["amqp", "amqps"], "amqps://host");
        assert!(matches!(read("amqp://host:5672/v"), Ok(SinkUrl::Open(_))));
        for secret in ["amqp://user:hunter2@host", "amqp://token@host", "amqp://host/?password=hunter2"] {
            assert!(matches!(read(secret), Ok(SinkUrl::Secret(_))), "{secret}");
        }
        assert!(!read("http://user:hunter2@host").unwrap_err().contains("hunter2"));
    }

    #[test]
    fn what_comes_along_with_a_copied_secret_is_taken_off() {
        assert_eq!(secret(" whsec_1 \r\n").unwrap().expose_secret(), "whsec_1");
        assert!(secret(" \n").is_err() && secret("a\nb").is_err());
    }
}
