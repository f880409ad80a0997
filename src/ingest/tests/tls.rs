//! TLS: what is negotiated, and what is said about files that do not work.

use std::path::Path;

use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

struct Files {
    dir: TempDir,
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Files {
    fn new() -> Self {
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = Self { dir: TempDir::new().unwrap(), certificate };
        files.write("cert", &files.certificate.cert.pem());
        files.write("key", &files.certificate.signing_key.serialize_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load(&self) -> Result<ServerTls, TlsError> {
        load_tls(&Tls { cert: self.path("cert"), key: self.path("key") })
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.cert.der().clone()
    }
}

async fn connect(
    addr: SocketAddr,
    trusted: CertificateDer<'static>,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> std::io::Result<Client<TlsStream<TcpStream>>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let tcp = TcpStream::connect(addr).await?;
    let name = ServerName::try_from("localhost").unwrap();
    Ok(Client(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?))
}

#[tokio::test]
async fn deliveries_come_in_over_tls_and_http_1_only() {
    use rustls::version::{TLS12, TLS13};
    let files = Files::new();
    let relay = Relay::with_tls(&config(), Some(files.load().unwrap()));
    for version in [&TLS12, &TLS13] {
        for alpn in [&[][..], &[b"http/1.1".as_slice()], &[b"h2".as_slice(), b"http/1.1"]] {
            let mut client = connect(relay.listener.addr(), files.der(), &[version], alpn).await.unwrap();
            let agreed = client.0.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            assert_eq!(agreed.as_deref(), (!alpn.is_empty()).then_some(b"http/1.1".as_slice()));
            client.ask(&Request::signed(PATH, BODY)).await.is_stored(false);
            client.ask(&Request::new("GET /", b"")).await.is_refusal(404, "not_found");
        }
        assert!(connect(relay.listener.addr(), files.der(), &[version], &[b"h2"]).await.is_err());
    }
    let left = relay.metrics.tls_cert_expiry_seconds.get();
    let expected = files.load().unwrap().not_after().duration_since(Timestamp::now()).as_secs();
    assert!((left - expected).abs() < 60, "{left} is not about {expected}");
}

#[tokio::test]
async fn a_connection_ends_with_close_notify_and_a_broken_one_without_an_answer() {
    let files = Files::new();
    let relay = Relay::with_tls(&config(), Some(files.load().unwrap()));
    let mut client = connect(relay.listener.addr(), files.der(), rustls::ALL_VERSIONS, &[b"http/1.1"]).await.unwrap();
    client.ask(&Request::signed(PATH, BODY).header("Connection: close")).await.is_stored(false);
    assert_eq!(client.0.read(&mut [0; 1]).await.unwrap(), 0, "a clean end is no error");

    let mut client = connect(relay.listener.addr(), files.der(), rustls::ALL_VERSIONS, &[]).await.unwrap();
    client.send(b"nonsense\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
}

/// With `close_notify` as RFC 8446 asks for, and with a bare FIN as some senders do: a request's end is in its framing.
#[tokio::test]
async fn a_sender_that_closes_its_side_of_tls_still_gets_its_answer() {
    let files = Files::new();
    let permits = Arc::new(Semaphore::new(0));
    let relay = Relay::with_tls(&config(), Some(files.load().unwrap())).that(Behaviour::Wait(permits.clone()));
    for (round, politely) in [true, false].into_iter().enumerate() {
        let mut client = connect(relay.listener.addr(), files.der(), rustls::ALL_VERSIONS, &[]).await.unwrap();
        client.send(&Request::signed(PATH, BODY).bytes()).await;
        if politely {
            client.0.shutdown().await.unwrap();
        } else {
            client.0.get_mut().0.shutdown().await.unwrap();
        }
        relay.appends(round + 1).await;
        permits.add_permits(1);
        client.answer().await.is_stored(false);
        assert_eq!(client.rest().await, "");
    }
    let request = Request::signed(PATH, BODY).bytes();
    let mut client = connect(relay.listener.addr(), files.der(), rustls::ALL_VERSIONS, &[]).await.unwrap();
    client.send(&request[..request.len() - 1]).await;
    client.0.get_mut().0.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "", "a body that ends early is no body");
    assert_eq!((relay.outcome("test", "accepted"), relay.outcome("test", "aborted")), (2, 1));
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut_off() {
    let config = Config { read_timeout: Duration::from_millis(100), ..config() };
    let relay = Relay::with_tls(&config, Some(Files::new().load().unwrap()));
    relay.must_close(b"").await;
    relay.must_close(b"\x16\x03\x01").await;
    assert_eq!(relay.outcome("-", "aborted"), 0, "these are no requests");
}

#[track_caller]
fn complains(files: &Files, about: &Path, remedy: &str) {
    let error = files.load().unwrap_err().to_string();
    assert!(error.contains(&about.display().to_string()) && error.contains(remedy), "{error}");
}

#[test]
fn files_that_do_not_work_are_named_with_a_remedy() {
    let files = Files::new();
    let (cert, key) = (files.path("cert"), files.path("key"));
    let (cert_pem, key_pem) = (files.certificate.cert.pem(), files.certificate.signing_key.serialize_pem());
    assert!(files.load().is_ok());

    files.write("cert", &key_pem);
    complains(&files, &cert, "BEGIN CERTIFICATE");
    files.write("cert", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    complains(&files, &cert, "valid PEM");
    files.write("cert", &format!("{cert_pem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    complains(&files, &cert, "certificate 2");
    files.write("cert", &Files::new().certificate.cert.pem());
    complains(&files, &key, "does not fit");
    std::fs::remove_file(&cert).unwrap();
    complains(&files, &cert, "exists");

    files.write("cert", &cert_pem);
    files.write("key", &cert_pem);
    complains(&files, &key, "BEGIN PRIVATE KEY");
    std::fs::remove_file(&key).unwrap();
    complains(&files, &key, "exists");
}

#[test]
fn the_first_certificate_to_expire_counts() {
    let files = Files::new();
    let mut early = rcgen::CertificateParams::new(["ca".to_owned()]).unwrap();
    early.not_after = rcgen::date_time_ymd(2030, 1, 2);
    let early = early.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    files.write("cert", &format!("{}{}", files.certificate.cert.pem(), early.pem()));
    assert_eq!(files.load().unwrap().not_after().to_string(), "2030-01-02T00:00:00Z");
}
