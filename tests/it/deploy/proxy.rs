//! nginx and Caddy as `deploy/` configures them, running.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::read;
use crate::harness::process::Process;
use crate::harness::raw::Raw;
use crate::harness::{Ack, Delivery, eventually, skip, write_certificate};

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    Caddy,
}

impl Kind {
    pub const ALL: [Self; 2] = [Self::Nginx, Self::Caddy];

    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
        }
    }

    /// Its file in `deploy/`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Nginx => "deploy/nginx/ralio-relay.conf",
            Self::Caddy => "deploy/caddy/Caddyfile",
        }
    }
}

/// A proxy of its own in front of an upstream, with a port of its own. Dropping it kills it.
pub struct Proxy {
    address: SocketAddr,
    certificate: PathBuf,
    client: reqwest::Client,
    _process: Process,
    _directory: TempDir,
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Each text exchanged for another, which has to be there.
fn exchanged(text: &str, exchanges: &[(&str, &str)]) -> String {
    exchanges.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "no {from} in {text}");
        text.replace(from, to)
    })
}

impl Proxy {
    /// Configured as in `deploy/`, but for ports and paths. `None`, and said so, where the program is not installed.
    pub async fn start(kind: Kind, upstream: &str) -> Option<Self> {
        Self::start_with(kind, upstream, &[]).await
    }

    /// The same, but waiting for this long only, for a body as for the answer.
    pub async fn impatient(kind: Kind, upstream: &str, patience: &str) -> Option<Self> {
        let timeouts = match kind {
            Kind::Nginx => ["proxy_read_timeout 40s", "client_body_timeout 30s"],
            Kind::Caddy => ["response_header_timeout 40s", "read_body 45s"],
        };
        let exchanges = timeouts.map(|timeout| (timeout, format!("{} {patience}", timeout.split_once(' ').unwrap().0)));
        Self::start_with(kind, upstream, &exchanges.each_ref().map(|(from, to)| (*from, to.as_str()))).await
    }

    async fn start_with(kind: Kind, upstream: &str, exchanges: &[(&str, &str)]) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        write_certificate(directory.path());
        let address = free();
        let mut command = Command::new(kind.program());
        if command.arg("-h").output().is_err() {
            skip(kind.program());
            return None;
        }
        let mut command = match kind {
            Kind::Nginx => nginx(directory.path(), address, upstream, exchanges),
            Kind::Caddy => caddy(directory.path(), address, upstream, exchanges),
        };
        let mut process = Process::spawn(command.env("HOME", directory.path()).current_dir(directory.path()));
        let certificate = directory.path().join("tls.crt");
        eventually("a proxy", async || match (process.ended(), tokio::net::TcpStream::connect(address).await) {
            (Some(status), _) => panic!("{kind:?} ended: {status}: {:?}", process.stderr.all()),
            (None, connected) => connected.map(drop),
        })
        .await;
        let trusted = reqwest::Certificate::from_pem(&std::fs::read(&certificate).unwrap()).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([trusted])
            .redirect(reqwest::redirect::Policy::none())
            .resolve("localhost", address)
            .timeout(Duration::from_secs(50))
            .build()
            .unwrap();
        Some(Self { address, certificate, client, _process: process, _directory: directory })
    }

    /// Sends a delivery through it, and gives back the answer with its form checked.
    pub async fn post(&self, delivery: &Delivery) -> Ack {
        Ack::read(delivery, self.send(delivery).await.unwrap()).await.unwrap()
    }

    /// Sends a delivery through it.
    pub async fn send(&self, delivery: &Delivery) -> reqwest::Result<reqwest::Response> {
        let mut request = self.client.post(self.url(&delivery.path)).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection for requests that no client would send.
    pub async fn raw(&self) -> Raw {
        self.raw_offering(&[]).await
    }

    /// The same, offering these protocols (ALPN).
    pub async fn raw_offering(&self, protocols: &[&str]) -> Raw {
        Raw::to(&self.address.to_string(), &self.certificate, protocols).await.unwrap()
    }
}

fn nginx(directory: &Path, address: SocketAddr, upstream: &str, exchanges: &[(&str, &str)]) -> Command {
    let path = directory.to_str().unwrap();
    let site = exchanged(
        &exchanged(&read(Kind::Nginx.file()), exchanges),
        &[
            ("listen 443 ssl", &format!("listen {address} ssl")),
            ("/etc/nginx/ralio-relay/", &format!("{path}/")),
            ("server 127.0.0.1:8443", &format!("server {upstream}")),
        ],
    );
    std::fs::write(directory.join("site.conf"), site).unwrap();
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|t| format!("{t}_temp_path {path}/{t};\n"));
    // One process: nobody is left behind when it is killed.
    let main = format!(
        "daemon off;\nmaster_process off;\npid {path}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{}include {path}/site.conf;\n}}\n",
        temp.concat()
    );
    let file = directory.join("nginx.conf");
    std::fs::write(&file, main).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-e").arg("stderr").arg("-p").arg(directory).arg("-c").arg(file);
    command
}

fn caddy(directory: &Path, address: SocketAddr, upstream: &str, exchanges: &[(&str, &str)]) -> Command {
    let path = directory.to_str().unwrap();
    let config = exchanged(
        &exchanged(&read(Kind::Caddy.file()), exchanges),
        &[
            ("admin localhost:2019", &format!("admin {}\n\tdefault_bind 127.0.0.1", free())),
            (":443 {", &format!(":{} {{", address.port())),
            ("relay.example.com", "localhost"),
            ("tls ops@example.com", &format!("tls {path}/tls.crt {path}/tls.key")),
            ("127.0.0.1:8443 {", &format!("{upstream} {{")),
        ],
    );
    let file = directory.join("Caddyfile");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("caddy");
    command.env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}
