//! What went wrong on the way to an answer, for the ledger: which thing, and what to do about it where that is known.

use std::error::Error;
use std::io;

use reqwest::Url;
use rustls::CertificateError;

use super::CONNECT_TIMEOUT;
use super::addresses::Refused;

/// How an alert from the other side is told of; its name follows. RFC 8446, 6.
const ALERT: &str = "received fatal alert: ";

/// What the HTTP library says of a request that never got onto its new connection.
const CANCELED: &str = "operation was canceled";

/// How the resolver of names tells of what it did not find.
const LOOKUP: &str = "failed to lookup address information: ";

/// Why there was no answer, and from where. Of the URL only host and port are told: the rest may hold credentials.
pub(super) fn explain(error: reqwest::Error) -> String {
    let is_https = error.url().is_some_and(|url| url.scheme() == "https");
    let address = error.url().and_then(address);
    let (is_connect, error) = (error.is_connect(), error.without_url());
    if let Some(refused) = find::<Refused>(&error) {
        return refused.to_string();
    }
    let cause = cause(&error, is_https);
    match address {
        Some(address) if is_connect => format!("cannot connect to {address}: {cause}"),
        Some(address) => format!("no answer from {address}: {cause}"),
        None => cause,
    }
}

/// Host and port of a URL.
fn address(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

/// The error itself, without the words of the layers that passed it on.
fn cause(error: &reqwest::Error, is_https: bool) -> String {
    let causes = std::iter::successors(Some(error as &dyn Error), |&error| error.source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    let is_layer = |cause: &&String| cause.starts_with("error sending request") || cause.starts_with("client error (");
    let last = causes.iter().skip_while(is_layer).cloned().collect::<Vec<_>>().join(": ");
    let causes = causes.join(": ");
    // Under TLS 1.3 the server judges the client's certificate when the client thinks that it is connected, and HTTP/2
    // passes such an error on as text.
    if let Some((_, alert)) = causes.rsplit_once(ALERT) {
        return format!("TLS: {}{ALERT}{alert}", advice_on_alert(alert));
    }
    if let Some(rustls::Error::InvalidCertificate(certificate)) = find(error) {
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
    match find::<io::Error>(error).map(plain) {
        Some(plain) if error.is_connect() => plain,
        Some(_) | None if last.is_empty() => causes,
        Some(_) | None => last,
    }
}

/// The system's words without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match text.strip_prefix(LOOKUP) {
        Some(why) => format!("the host's name is not known: {}", begin_small(why)),
        None => begin_small(text),
    }
}

/// For the middle of a sentence.
fn begin_small(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
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
