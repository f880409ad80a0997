//! The broker's TLS: a CA of its own, its certificate, and one for clients.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// The CA's certificate, in the broker's directory.
pub const CA: &str = "ca.crt";
/// A client's certificate, by that CA; its key beside it.
pub const CLIENT: [&str; 2] = ["client.crt", "client.key"];
/// The common name in it.
pub const CLIENT_NAME: &str = "ralio-relay-test-client";

const SERVER: [&str; 2] = ["server.crt", "server.key"];

/// Writes them all; the lines of `rabbitmq.conf` that use them. A client need not show a certificate, but one that it
/// shows must be the CA's.
pub fn configure(directory: &Path, port: u16) -> Vec<String> {
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "ralio-relay test CA");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    write(CA, &authority.pem());
    for ([cert, key], name) in [(SERVER, "127.0.0.1"), (CLIENT, CLIENT_NAME)] {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let pair = KeyPair::generate().unwrap();
        write(cert, &params.signed_by(&pair, &authority).unwrap().pem());
        write(key, &pair.serialize_pem());
    }
    let file = |name: &str| directory.join(name).display().to_string();
    vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", file(CA)),
        format!("ssl_options.certfile = {}", file(SERVER[0])),
        format!("ssl_options.keyfile = {}", file(SERVER[1])),
        "ssl_options.verify = verify_peer".to_owned(),
        "ssl_options.fail_if_no_peer_cert = false".to_owned(),
    ]
}
