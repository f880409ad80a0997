//! `health`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

use super::output::{Output, clean};
use super::{ConfigArgs, Exit};

const EXAMPLES: &str = "\
Examples:
  ralio-relay health
  ralio-relay health --config /etc/ralio-relay/relay.toml --timeout 2s

In a Dockerfile, where no shell is needed:
  HEALTHCHECK CMD [\"ralio-relay\", \"health\"]

Exit code: 0 when the daemon takes deliveries, 1 when it does not (why is on stderr), 2 when the configuration is wrong.";

/// Ask the daemon on this machine whether it is ready
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// How long to wait for the answer, such as 500ms or 3s
    #[arg(long, default_value = "3s", value_parser = timeout)]
    timeout: Duration,
}

/// An answer holds a line or two.
const MAX_ANSWER: usize = 64 << 10;

fn timeout(text: &str) -> Result<Duration, String> {
    crate::config::duration(text).map_err(|wrong| format!("{}: {}", wrong.message, wrong.hint))
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let Some(listen) = crate::config::load_admin_address(&args.config.config)? else {
        to_stderr!(
            "error: admin.listen is \"off\", so there is nobody to ask: give it an address, such as \"127.0.0.1:8081\""
        );
        return Ok(Exit::Misconfigured);
    };
    if listen.port() == 0 {
        to_stderr!(
            "error: admin.listen has port 0, which is another one at each start: give it one of its own, such as 8081"
        );
        return Ok(Exit::Misconfigured);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let address = reachable(listen);
    match runtime.block_on(async { tokio::time::timeout(args.timeout, ask(address)).await }) {
        Err(_) => anyhow::bail!("{address} does not answer within {:?}", args.timeout),
        Ok(Err(error)) => Err(error.context(format!("nobody answers at {address}: is the daemon running?"))),
        Ok(Ok((200, body))) if is_ready(&body) => {
            let mut out = Output::stdout();
            let _ = out.line("ready");
            out.finish()?;
            Ok(Exit::Success)
        }
        Ok(Ok((status, body))) => {
            to_stderr!("not ready: {}", clean(&reasons(status, &body)));
            Ok(Exit::Finding)
        }
    }
}

/// Who listens everywhere is asked on loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

pub(super) async fn ask(address: SocketAddr) -> anyhow::Result<(u16, Vec<u8>)> {
    // No certificates: a container may have none, and nothing here needs one.
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).tls_certs_only([]);
    let mut answer = client.build()?.get(format!("http://{address}/readyz")).send().await?;
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Some(part) = answer.chunk().await?
    {
        body.extend_from_slice(&part);
    }
    Ok((answer.status().as_u16(), body))
}

/// Somebody else may answer 200 to anything.
pub(super) fn is_ready(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer["ready"] == true)
}

/// When the configuration was last to be read again, where the daemon could not use it.
pub(super) fn last_reload_failed_at(body: &[u8]) -> Option<Timestamp> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer["last_reload_failed_at"].as_str()?.parse().ok()
}

/// What the daemon says, or that it is somebody else who answers.
pub(super) fn reasons(status: u16, body: &[u8]) -> String {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let reasons = answer["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    match reasons.collect::<Vec<_>>().join("; ") {
        none if none.is_empty() => format!("the answer is HTTP {status}: is it ralio-relay that listens there?"),
        reasons => reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::]:1", "[::1]:1"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn only_the_daemon_is_ready() {
        assert!(is_ready(br#"{"ready":true}"#));
        for other in ["", "OK", "{}", r#"{"ready":"true"}"#, r#"{"ready":false}"#] {
            assert!(!is_ready(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_reload_that_failed_is_told_by_its_time() {
        let told = |body: &str| last_reload_failed_at(body.as_bytes()).map(|at| at.to_string());
        let failed = r#"{"ready":true,"last_reload_failed_at":"2026-01-31T10:00:00.000000Z"}"#;
        assert_eq!(told(failed).as_deref(), Some("2026-01-31T10:00:00Z"));
        assert_eq!([told(r#"{"ready":true}"#), told("<html>")], [None, None]);
    }

    #[test]
    fn the_reasons_are_the_daemons() {
        assert_eq!(reasons(503, br#"{"ready":false,"reasons":["a","b"]}"#), "a; b");
        for other in ["", "<html>", r#"{"reasons":[]}"#] {
            assert!(reasons(502, other.as_bytes()).contains("HTTP 502"), "{other}");
        }
    }
}
