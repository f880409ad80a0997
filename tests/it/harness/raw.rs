//! A TLS connection without an HTTP client on it, for requests that no client would send.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{DEADLINE, Delivery, TestRelay};

/// An open connection to a relay's public listener, or to what stands in front of it.
pub struct Raw(TlsStream<TcpStream>);

impl Raw {
    pub async fn connect(relay: &TestRelay) -> Self {
        Self::offering(relay, &[]).await.unwrap()
    }

    /// Offers these protocols in the handshake (ALPN); fails when the handshake does.
    pub async fn offering(relay: &TestRelay, protocols: &[&str]) -> std::io::Result<Self> {
        let address = relay.url("").trim_start_matches("https://").to_owned();
        Self::to(&address, &relay.settings().directory().join("tls.crt"), protocols).await
    }

    /// To anybody who has this certificate, such as a proxy.
    pub async fn to(address: &str, certificate: &Path, protocols: &[&str]) -> std::io::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.0.get_ref().1.alpn_protocol();
        protocol.map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Sends as much of this as is taken.
    pub async fn write_some(&mut self, bytes: &[u8]) {
        // Whoever has read enough may close before it has read all.
        if self.0.write_all(bytes).await.is_ok() {
            let _ = self.0.flush().await;
        }
    }

    /// Reads until this text has come; fails when the connection ends first.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(end) {
            let mut chunk = [0; 4096];
            let read = tokio::time::timeout(DEADLINE, self.0.read(&mut chunk)).await.expect("an answer in time");
            let read = read.unwrap_or(0);
            assert!(read > 0, "closed before {end:?}, after {:?}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Sends this, as far as it is taken, and nothing more; then reads until the other side closes.
    pub async fn exchange(mut self, bytes: &[u8]) -> String {
        // Whoever has read enough may close before it has read all.
        if self.0.write_all(bytes).await.is_ok() {
            let _ = self.0.shutdown().await;
        }
        self.read_to_close().await
    }

    /// Reads until the other side closes. A reset is a close.
    pub async fn read_to_close(mut self) -> String {
        let mut text = Vec::new();
        // An error here is a connection that was cut: what had come before counts.
        let _ = tokio::time::timeout(DEADLINE, self.0.read_to_end(&mut text)).await.expect("a close in time");
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// The head of the request that would carry this delivery, with more header lines (each ending in CRLF).
pub fn head(delivery: &Delivery, more: &str) -> String {
    let headers: String = delivery.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("POST {} HTTP/1.1\r\nHost: localhost\r\n{headers}{more}\r\n", delivery.path)
}
