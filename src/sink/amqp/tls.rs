//! Whom to trust, and who to be, on an `amqps://` connection.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Far more than every public CA together.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Where the certificates are: PEM files, read again for every connection, so that renewed ones come into use.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The only CAs to trust; without it, the machine's.
    pub ca: Option<PathBuf>,
    /// What to show to a broker that asks who is calling.
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

impl Tls {
    /// Whether any file is named.
    pub(super) fn names_files(&self) -> bool {
        self.ca.is_some() || self.client.is_some()
    }

    /// Reads the files; the errors name the key and the file, and say what to do.
    pub(super) fn connector(&self) -> Result<RustlsConnector, String> {
        let mut config = match &self.ca {
            None => RustlsConnectorConfig::new_with_platform_verifier(),
            Some(_) => RustlsConnectorConfig::default(),
        };
        if let Some(file) = &self.ca {
            config.add_parsable_certificates(certificates(file).map_err(|wrong| format!("ca: {wrong}"))?);
        }
        let Some(ClientCertificate { cert, key }) = &self.client else {
            return config.connector_with_no_client_auth().map_err(|error| self.unusable(&error));
        };
        let chain = certificates(cert).map_err(|wrong| format!("client_cert: {wrong}"))?;
        let private = private_key(key).map_err(|wrong| format!("client_key: {wrong}"))?;
        config.connector_with_single_cert(chain, private).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => format!(
                "client_key: the key in {} does not fit the first certificate in {} ({error}): put the client's own \
                 certificate first, and use the RSA, ECDSA or Ed25519 key that it was made with",
                key.display(),
                cert.display()
            ),
            _ => self.unusable(&error),
        })
    }

    /// What is wrong with the roots.
    fn unusable(&self, error: &io::Error) -> String {
        match &self.ca {
            Some(file) => format!(
                "ca: no certificate in {} can be trusted ({error}): get the file again from whoever runs the CA",
                file.display()
            ),
            None => format!("the machine's own CAs cannot be used ({error}): install ca-certificates, or name a ca"),
        }
    }
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

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(file)?).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(format!("{} holds no certificate: it needs -----BEGIN CERTIFICATE----- blocks", file.display()))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(file, &error)),
    }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(file)?).map_err(|error| match error {
        pem::Error::NoItemsFound => format!(
            "{} holds no private key: it needs a -----BEGIN PRIVATE KEY----- block, not encrypted",
            file.display()
        ),
        error => not_pem(file, &error),
    })
}

fn not_pem(file: &Path, error: &pem::Error) -> String {
    let file = file.display();
    format!("{file} is not valid PEM ({error}): write the file again, from its -----BEGIN to its -----END line")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each file that cannot be used is named, with its key and with what to do.
    #[test]
    fn every_wrong_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            let cert = file(&format!("{name}.crt"), &made.cert.pem());
            (cert, file(&format!("{name}.key"), &made.signing_key.serialize_pem()))
        };
        let ((cert, key), (_, other_key)) = (made("one"), made("other"));
        let nothing = file("nothing", "");
        let torn = file("torn", "-----BEGIN CERTIFICATE-----\nAAAA\n");
        let garbage = file("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let ca = |file: &Path| Tls { ca: Some(file.to_owned()), client: None };
        let client = |cert: &Path, key: &Path| Tls {
            ca: Some(nothing.with_file_name("one.crt")),
            client: Some(ClientCertificate { cert: cert.to_owned(), key: key.to_owned() }),
        };
        assert!(ca(&cert).connector().is_ok());
        assert!(client(&cert, &key).connector().is_ok());
        for (tls, starts, says) in [
            (ca(&nothing.with_file_name("missing")), "ca: cannot read ", "check that the file exists"),
            (ca(&nothing), "ca: ", "holds no certificate"),
            (ca(&torn), "ca: ", "is not valid PEM"),
            (ca(&garbage), "ca: no certificate in ", "get the file again"),
            (client(&nothing, &key), "client_cert: ", "holds no certificate"),
            (client(&cert, &nothing), "client_key: ", "holds no private key"),
            (client(&cert, &other_key), "client_key: ", "does not fit the first certificate"),
        ] {
            let wrong = tls.connector().unwrap_err();
            assert!(wrong.starts_with(starts) && wrong.contains(says), "{wrong}");
            assert!(wrong.contains(directory.path().to_str().unwrap()), "{wrong}");
        }
    }
}
