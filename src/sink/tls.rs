//! Whom to trust, and who to be, towards a destination with a CA of its own: PEM files.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Far more than every public CA together.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Where the certificates are.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The only CAs to trust; without it, the machine's.
    pub ca: Option<PathBuf>,
    /// What to show to a server that asks who is calling.
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, then its intermediates.
    pub cert: PathBuf,
    /// The private key, not encrypted.
    pub key: PathBuf,
}

/// Every certificate of a file: at least one. Errors name the file and say what to do.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(format!("{} holds no certificate: it needs -----BEGIN CERTIFICATE----- blocks", file.display()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(file, &error)),
    }
}

/// The first private key of a file. Errors name the file and say what to do.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => format!(
            "{} holds no private key: it needs a -----BEGIN PRIVATE KEY----- block, not encrypted",
            file.display()
        ),
        error => not_pem(file, &error),
    })
}

/// What is wrong with a key that was made for another certificate.
pub(super) fn misfit(files: &ClientCertificate, error: &dyn std::fmt::Display) -> String {
    let (cert, key) = (files.cert.display(), files.key.display());
    format!(
        "the key in {key} does not fit the first certificate in {cert} ({error}): put the client's own certificate \
         first, and use the RSA, ECDSA or Ed25519 key that it was made with"
    )
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut pem = Vec::new();
    let read = File::open(file).and_then(|opened| opened.take(MAX_PEM_BYTES + 1).read_to_end(&mut pem));
    let file = file.display();
    match read {
        Ok(bytes) if bytes as u64 > MAX_PEM_BYTES => Err(format!("{file} is larger than 4 MiB: is it the right file?")),
        Ok(_) => Ok(pem),
        Err(error) => {
            Err(format!("cannot read {file} ({error}): check that the file exists and that this user may read it"))
        }
    }
}

fn not_pem(file: &Path, error: &pem::Error) -> String {
    let file = file.display();
    format!("{file} is not valid PEM ({error}): write the file again, from its -----BEGIN to its -----END line")
}
