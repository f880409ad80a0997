//! What went wrong on the way to an answer, for the ledger: which thing, and what to do about it where that is known.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};

use super::CONNECT_TIMEOUT;
use super::addresses::Refused;

/// Never with the URL: it may hold credentials.
pub(super) fn explain(error: reqwest::Error) -> String {
    let error = error.without_url();
    if let Some(refused) = find::<Refused>(&error) {
        return refused.to_string();
    }
    if let Some(tls) = find::<rustls::Error>(&error) {
        return format!("TLS: {}{tls}", advice(tls));
    }
    if error.is_connect() && error.is_timeout() {
        return format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
    }
    let causes: Vec<String> = causes(&error).map(ToString::to_string).collect();
    causes.join(": ")
}

/// The error and whatever caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// A cause of this type. An I/O error holds its cause where `source` does not lead.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| {
        let inside = || cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<E>();
        cause.downcast_ref::<E>().or_else(inside)
    })
}

/// What an operator can do, ready to be put in front of the error itself.
fn advice(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is from no CA that is trusted here: put the CA that signed it into ca; "
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. } | CertificateError::Revoked,
        ) => "the server's certificate has to be renewed: ",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name than the url's: ",
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a client certificate: set client_cert and client_key; "
        }
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "the server refused the handshake: it may want a client certificate (client_cert, client_key); "
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => "the server does not accept this client's certificate: is client_cert from a CA that it trusts? ",
        _ => "",
    }
}
