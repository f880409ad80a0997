//! The certificate and key of the public listener.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Version;

use super::Tls;

/// A certificate that is ready to serve: read, parsed, and matched with its key. Clones are one: what
/// [`replace`](Self::replace) does to one of them, it does to all.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pair: Arc<RwLock<Pair>>,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
struct Pair {
    config: Arc<rustls::ServerConfig>,
    not_after: Timestamp,
}

impl ServerTls {
    /// The end of the certificate's validity.
    pub fn not_after(&self) -> Timestamp {
        self.pair().not_after
    }

    /// Serves another certificate, from the next handshake on; open connections stay as they are. A session that began
    /// under the old certificate is not resumed: the new one is shown to everybody who connects.
    pub fn replace(&self, other: &Self) {
        let pair = other.pair();
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }

    /// Reads the files like [`load_tls`], to [`replace`](Self::replace) this one with; a certificate that has expired is
    /// an error while this one has not.
    pub fn renewed(&self, files: &Tls, now: Timestamp) -> Result<Self, TlsError> {
        let other = load_tls(files)?;
        if other.not_after() <= now && now < self.not_after() {
            return Err(TlsError::Expired { file: files.cert.clone(), not_after: other.not_after() });
        }
        Ok(other)
    }

    pub(super) fn config(&self) -> Arc<rustls::ServerConfig> {
        self.pair().config
    }

    fn pair(&self) -> Pair {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why a certificate cannot be used. Each says which file is meant, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: check that the file exists and that this user may read it", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{} is not valid PEM: write the file again, from its -----BEGIN to its -----END line", file.display())]
    NotPem {
        /// Which.
        file: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate: it needs -----BEGIN CERTIFICATE----- blocks, the server's own first", file.display())]
    NoCertificate {
        /// Which.
        file: PathBuf,
    },
    /// A file holds no private key.
    #[error("{} holds no private key: it needs a -----BEGIN PRIVATE KEY----- block, not encrypted", file.display())]
    NoKey {
        /// Which.
        file: PathBuf,
    },
    /// A certificate cannot be parsed.
    #[error("certificate {position} in {} cannot be parsed: get the file again from whoever issued it", file.display())]
    BadCertificate {
        /// Which file.
        file: PathBuf,
        /// Which certificate in it, from 1.
        position: usize,
    },
    /// The server's certificate is of a version that nobody takes any more.
    #[error(
        "the first certificate in {} is not of X.509 version 3: have one made with subject alternative names",
        file.display()
    )]
    OldVersion {
        /// Which file.
        file: PathBuf,
    },
    /// The key is of a kind that is not supported, or belongs to another certificate.
    #[error(
        "the key in {} does not fit the first certificate in {}: put the server's own certificate first, and use \
         the RSA, ECDSA or Ed25519 key that it was made with",
        key.display(),
        cert.display()
    )]
    BadKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A certificate has expired, and the one in use has not.
    #[error("the certificate in {} expired at {not_after}: renew it, or put the one in use back", file.display())]
    Expired {
        /// Its file.
        file: PathBuf,
        /// When.
        not_after: Timestamp,
    },
    /// This build cannot do TLS 1.2 and 1.3.
    #[error("the TLS library refused its own defaults")]
    Unsupported(#[source] rustls::Error),
}

/// Reads and checks the certificate chain and its key. An expired certificate is no error here: [`super::start`] warns of
/// it, and not to listen at all would mend nothing.
pub fn load_tls(files: &Tls) -> Result<ServerTls, TlsError> {
    let chain = read_chain(&files.cert)?;
    let not_after = check_chain(&files.cert, &chain)?;
    let key = match PrivateKeyDer::from_pem_slice(&read(&files.key)?) {
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => return Err(TlsError::NoKey { file: files.key.clone() }),
        Err(source) => return Err(TlsError::NotPem { file: files.key.clone(), source }),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|source| TlsError::BadKey {
        key: files.key.clone(),
        cert: files.cert.clone(),
        source,
    })?;
    let config = server_config(provider, certified).map_err(TlsError::Unsupported)?;
    Ok(ServerTls { pair: Arc::new(RwLock::new(Pair { config: Arc::new(config), not_after })) })
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The beginning of its validity.
    pub not_before: Timestamp,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// The hosts that it is for: its subject alternative names.
    pub names: Vec<String>,
    /// Nobody but itself vouches for it.
    pub is_self_signed: bool,
}

/// Reads what the first certificate of a file says, for people.
pub fn describe(file: &Path) -> Result<About, TlsError> {
    let chain = read_chain(file)?;
    let not_after = check_chain(file, &chain)?;
    let bad = || TlsError::BadCertificate { file: file.to_owned(), position: 1 };
    let first = chain.first().ok_or_else(bad)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(first).map_err(|_| bad())?;
    let not_before = Timestamp::from_second(certificate.validity().not_before.timestamp()).map_err(|_| bad())?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    let is_self_signed = chain.len() == 1 && certificate.subject() == certificate.issuer();
    Ok(About { not_before, not_after, names: names.collect(), is_self_signed })
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| IpAddr::from(bytes).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| IpAddr::from(bytes).to_string())).ok()
}

fn server_config(
    provider: Arc<CryptoProvider>,
    certified: CertifiedKey,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // HTTP/2 is not spoken here; a peer that offers nothing else learns it in the handshake.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Every suite is a good one; of those that both sides have, the first of ours is taken.
    config.ignore_client_order = true;
    Ok(config)
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file).map_err(|source| TlsError::Read { file: file.to_owned(), source })
}

fn read_chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(file)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| TlsError::NotPem { file: file.to_owned(), source })?;
    if chain.is_empty() { Err(TlsError::NoCertificate { file: file.to_owned() }) } else { Ok(chain) }
}

/// Parses every certificate; the answer is the end of the chain's validity, which is that of its shortest-lived one.
fn check_chain(file: &Path, chain: &[CertificateDer<'_>]) -> Result<Timestamp, TlsError> {
    let mut not_after = Timestamp::MAX;
    for (index, certificate) in chain.iter().enumerate() {
        let bad = || TlsError::BadCertificate { file: file.to_owned(), position: index + 1 };
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| bad())?;
        if index == 0 && parsed.version() != X509Version::V3 {
            return Err(TlsError::OldVersion { file: file.to_owned() });
        }
        let end = Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|_| bad())?;
        not_after = not_after.min(end);
    }
    Ok(not_after)
}
