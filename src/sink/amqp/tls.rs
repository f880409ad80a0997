//! Whom to trust, and who to be, on an `amqps://` connection.

use std::io;

use lapin::tcp::{RustlsConnector, RustlsConnectorConfig};

use crate::sink::tls::{Tls, certificates, misfit, private_key};

/// Whether any file is named.
pub(super) fn names_files(tls: &Tls) -> bool {
    tls.ca.is_some() || tls.client.is_some()
}

/// Reads the files, again for every connection, so that renewed ones come into use; the errors name the key and the file,
/// and say what to do.
pub(super) fn connector(tls: &Tls) -> Result<RustlsConnector, String> {
    let mut config = match &tls.ca {
        None => RustlsConnectorConfig::new_with_platform_verifier(),
        Some(_) => RustlsConnectorConfig::default(),
    };
    if let Some(file) = &tls.ca {
        config.add_parsable_certificates(certificates(file).map_err(|wrong| format!("ca: {wrong}"))?);
    }
    let Some(files) = &tls.client else {
        return config.connector_with_no_client_auth().map_err(|error| unusable(tls, &error));
    };
    let chain = certificates(&files.cert).map_err(|wrong| format!("client_cert: {wrong}"))?;
    let private = private_key(&files.key).map_err(|wrong| format!("client_key: {wrong}"))?;
    config.connector_with_single_cert(chain, private).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => format!("client_key: {}", misfit(files, &error)),
        _ => unusable(tls, &error),
    })
}

/// What is wrong with the roots.
fn unusable(tls: &Tls, error: &io::Error) -> String {
    match &tls.ca {
        Some(file) => format!(
            "ca: no certificate in {} can be trusted ({error}): get the file again from whoever runs the CA",
            file.display()
        ),
        None => format!("the machine's own CAs cannot be used ({error}): install ca-certificates, or name a ca"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sink::tls::ClientCertificate;

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
        assert!(connector(&ca(&cert)).is_ok());
        assert!(connector(&client(&cert, &key)).is_ok());
        for (tls, starts, says) in [
            (ca(&nothing.with_file_name("missing")), "ca: cannot read ", "check that the file exists"),
            (ca(&nothing), "ca: ", "holds no certificate"),
            (ca(&torn), "ca: ", "is not valid PEM"),
            (ca(&garbage), "ca: no certificate in ", "get the file again"),
            (client(&nothing, &key), "client_cert: ", "holds no certificate"),
            (client(&cert, &nothing), "client_key: ", "holds no private key"),
            (client(&cert, &other_key), "client_key: ", "does not fit the first certificate"),
        ] {
            let wrong = connector(&tls).unwrap_err();
            assert!(wrong.starts_with(starts) && wrong.contains(says), "{wrong}");
            assert!(wrong.contains(directory.path().to_str().unwrap()), "{wrong}");
        }
    }
}
