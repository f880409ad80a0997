//! A certificate authority of the test's own, and what it has signed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ralio_relay::sink::{ClientCertificate, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tempfile::TempDir;

use super::settings::write_secret;

/// In a directory of its own: `ca.crt`, and a certificate with its key for a `server` on loopback and for a `client`.
pub struct Pki {
    directory: TempDir,
}

impl Pki {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, directory.path().to_str().unwrap());
        let key = KeyPair::generate().unwrap();
        std::fs::write(directory.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for name in ["server", "client"] {
            let mut params = CertificateParams::new(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let key = KeyPair::generate().unwrap();
            let cert = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(directory.path().join(format!("{name}.crt")), cert.pem()).unwrap();
            write_secret(&directory.path().join(format!("{name}.key")), &key.serialize_pem());
        }
        Self { directory }
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server with these protocols (ALPN). With `clients` it lets in only whom that authority has signed.
    pub fn server(&self, protocols: &[&str], clients: Option<&Self>) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(certificate(&clients.file("ca.crt"))).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.unwrap().with_client_cert_verifier(verifier.unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_file(self.file("server.key")).unwrap();
        let mut config = builder.with_single_cert(vec![certificate(&self.file("server.crt"))], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// Trusts this authority, and nobody else.
    pub fn trusted(&self) -> Tls {
        Tls { ca: Some(self.file("ca.crt")), client: None }
    }

    /// The same, and has its client's certificate.
    pub fn mutual(&self) -> Tls {
        let client = ClientCertificate { cert: self.file("client.crt"), key: self.file("client.key") };
        Tls { client: Some(client), ..self.trusted() }
    }
}

fn certificate(file: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file).unwrap()
}
