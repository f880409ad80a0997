//! Whom to trust, and who to be: the certificates of an endpoint with a CA of its own.

use std::path::Path;

use reqwest::{Certificate, Identity};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::BuildError;
use crate::sink::tls::{ClientCertificate, certificates, misfit, private_key};

/// Every certificate of the file, each one good enough to be trusted.
pub(super) fn authorities(file: &Path) -> Result<Vec<Certificate>, BuildError> {
    let wrong = |what: String| BuildError(format!("ca: {what}"));
    let certificates = certificates(file).map_err(wrong)?;
    let trusted = (1..).zip(certificates).map(|(position, certificate)| {
        let bad = |error: String| {
            wrong(format!(
                "certificate {position} in {} cannot be used ({error}): get the file again from whoever runs the CA",
                file.display()
            ))
        };
        rustls::RootCertStore::empty().add(certificate.clone()).map_err(|error| bad(error.to_string()))?;
        Certificate::from_der(&certificate).map_err(|error| bad(error.to_string()))
    });
    trusted.collect()
}

/// The certificate and its key, matched.
pub(super) fn identity(files: &ClientCertificate) -> Result<Identity, BuildError> {
    let wrong_cert = |what: String| BuildError(format!("client_cert: {what}"));
    let wrong_key = |what: String| BuildError(format!("client_key: {what}"));
    let chain = certificates(&files.cert).map_err(wrong_cert)?;
    let key = private_key(&files.key).map_err(wrong_key)?;
    CertifiedKey::from_der(chain.clone(), key.clone_key(), &aws_lc_rs::default_provider())
        .map_err(|error| wrong_key(misfit(files, &error)))?;
    Identity::from_pem(encode(&chain, &key).as_bytes()).map_err(|error| wrong_cert(error.to_string()))
}

/// The client takes PEM only. Written anew, because the files may hold more than they are asked for: both may be one file
/// with certificate and key.
fn encode(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> String {
    let block = |label: &str, der: &[u8]| {
        let base64 = data_encoding::BASE64_MIME.encode(der);
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", base64.trim_end())
    };
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let chain: String = chain.iter().map(|certificate| block("CERTIFICATE", certificate)).collect();
    chain + &block(label, key.secret_der())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A directory with two certificates and their keys: `a.crt`, `a.key`, `b.crt`, `b.key`.
    fn directory() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            std::fs::write(dir.path().join(format!("{name}.crt")), made.cert.pem()).unwrap();
            std::fs::write(dir.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
        }
        dir
    }

    fn join(dir: &TempDir, names: [&str; 2], into: &str) {
        let text = names.map(|name| std::fs::read_to_string(dir.path().join(name)).unwrap()).concat();
        std::fs::write(dir.path().join(into), text).unwrap();
    }

    #[test]
    fn a_file_may_hold_many_authorities() {
        let dir = directory();
        join(&dir, ["a.crt", "b.crt"], "ca.crt");
        assert_eq!(authorities(&dir.path().join("ca.crt")).unwrap().len(), 2);
    }

    #[test]
    fn an_authority_that_cannot_be_used_is_named_with_its_file() {
        let dir = directory();
        let complaint = |name: &str, text: &str| {
            let file = dir.path().join(name);
            std::fs::write(&file, text).unwrap();
            let error = authorities(&file).unwrap_err().0;
            assert!(error.starts_with("ca: ") && error.contains(file.to_str().unwrap()), "{error}");
            error
        };
        assert!(complaint("empty", "").contains("holds no certificate"));
        assert!(complaint("cut", "-----BEGIN CERTIFICATE-----\nAAAA").contains("not valid PEM"));
        assert!(complaint("huge", &" ".repeat(5 << 20)).contains("larger than 4 MiB"));
        let good = std::fs::read_to_string(dir.path().join("a.crt")).unwrap();
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(complaint("second", &(good + bad)).contains("certificate 2 in"));
        let key = std::fs::read_to_string(dir.path().join("a.key")).unwrap();
        assert!(complaint("key", &key).contains("holds no certificate"));
        let error = authorities(&dir.path().join("missing")).unwrap_err().0;
        assert!(error.contains("missing") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_certificate_and_its_key_belong_together() {
        let dir = directory();
        join(&dir, ["a.key", "a.crt"], "both.pem");
        join(&dir, ["a.crt", "b.crt"], "chain.crt");
        join(&dir, ["b.crt", "a.crt"], "wrong-order.crt");
        let identity = |cert: &str, key: &str| {
            let files = ClientCertificate { cert: dir.path().join(cert), key: dir.path().join(key) };
            identity(&files).map(drop).map_err(|error| error.0)
        };
        for (cert, key) in [("a.crt", "a.key"), ("chain.crt", "a.key"), ("both.pem", "both.pem")] {
            assert_eq!(identity(cert, key), Ok(()), "{cert} {key}");
        }
        for (cert, key, begins, says) in [
            ("a.crt", "b.key", "client_key: ", "does not fit"),
            ("wrong-order.crt", "a.key", "client_key: ", "own certificate first"),
            ("a.crt", "b.crt", "client_key: ", "holds no private key"),
            ("a.key", "a.key", "client_cert: ", "holds no certificate"),
            ("a.crt", "missing", "client_key: ", "missing"),
            ("missing", "a.key", "client_cert: ", "missing"),
        ] {
            let error = identity(cert, key).unwrap_err();
            assert!(error.starts_with(begins) && error.contains(says), "{cert} {key}: {error}");
            assert!(!error.contains("BEGIN CERTIFICATE") || says.contains("no certificate"), "{error}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        let dir = directory();
        join(&dir, ["a.key", "a.crt"], "both.pem");
        let both = dir.path().join("both.pem");
        let text = encode(&certificates(&both).unwrap(), &private_key(&both).unwrap());
        assert_eq!(text.matches("BEGIN").count(), 2, "one certificate, one key");
    }
}
