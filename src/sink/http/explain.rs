//! What went wrong on the way to an answer, for the ledger: which thing, and what to do about it where that is known.

use std::error::Error;

use rustls::CertificateError;

use super::CONNECT_TIMEOUT;
use super::addresses::Refused;

/// How an alert from the other side is told of; its name follows. RFC 8446, 6.
const ALERT: &str = "received fatal alert: ";

/// What the HTTP library says of a request that never got onto its new connection.
const CANCELED: &str = "operation was canceled";

/// Why there was no answer. Never with the URL: it may hold credentials.
pub(super) fn explain(error: reqwest::Error) -> String {
    let is_https = error.url().is_some_and(|url| url.scheme() == "https");
    let error = error.without_url();
    if let Some(refused) = find::<Refused>(&error) {
        return refused.to_string();
    }
    let causes = std::iter::successors(Some(&error as &dyn Error), |&error| error.source());
    let causes = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    // Under TLS 1.3 the server judges the client's certificate when the client thinks that it is connected, and HTTP/2
    // passes such an error on as text.
    if let Some((_, alert)) = causes.rsplit_once(ALERT) {
        return format!("TLS: {}{ALERT}{alert}", advice_on_alert(alert));
    }
    if let Some(rustls::Error::InvalidCertificate(certificate)) = find(&error) {
        return format!("TLS: {}{certificate}", advice_on_certificate(certificate));
    }
    // The server hung up so soon that its alert, if there was one, is lost.
    if is_https && causes.contains(CANCELED) {
        return format!(
            "the server closed the connection before it took the request: perhaps it wants a client certificate, or \
             another one (client_cert and client_key); {CANCELED}"
        );
    }
    if error.is_connect() && error.is_timeout() {
        return format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
    }
    causes
}

/// A cause of this type. What an I/O error holds is not its source, but speaks for it.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let inside = |error: &'a (dyn Error + 'static)| match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|held| held as &(dyn Error + 'static)),
        None => error.source(),
    };
    std::iter::successors(Some(error), |&error| inside(error)).find_map(|cause| cause.downcast_ref())
}

/// What an operator can do, ready to be put in front of the error itself.
fn advice_on_certificate(error: &CertificateError) -> &'static str {
    match error {
        // A CA made anew under its old name is another CA.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is from no CA that is trusted here: put the CA that signed it into ca; "
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has to be renewed; "
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name than the url's; "
        }
        _ => "the server's certificate is not good; ",
    }
}

/// The same for what the server thinks of this side.
fn advice_on_alert(alert: &str) -> &'static str {
    match alert {
        "CertificateRequired" => "the server wants a client certificate: set client_cert and client_key; ",
        "HandshakeFailure" => "perhaps the server wants a client certificate (client_cert and client_key); ",
        "BadCertificate"
        | "UnsupportedCertificate"
        | "CertificateRevoked"
        | "CertificateExpired"
        | "CertificateUnknown"
        | "UnknownCA"
        | "AccessDenied"
        | "DecryptError" => {
            "the server does not accept client_cert: is it valid, and from a CA that the server trusts? "
        }
        _ => "",
    }
}
