//! What to do about a sink that cannot be reached: the key to look at, and the likely cause in plain words.

use crate::sink;

/// How what went wrong is told of, by the libraries and the far sides, and what is behind it. The first that fits counts.
const COMMON: [(&[&str], &str); 10] = [
    (
        &["lookup address", "name is not known"],
        "the host's name is not known here: a typing error, or this machine's DNS",
    ),
    (
        &["Connection refused", "connection refused"],
        "nothing listens there: is it started, and are host and port right?",
    ),
    (
        &["o route to host", "unreachable"],
        "there is no way to that host from here: check it, and this machine's network",
    ),
    (
        &["no answer within", "no connection within", "timed out"],
        "nothing came back: a firewall in between, a host that is down, or a port that speaks something else",
    ),
    (
        &["InvalidContentType", "corrupt message", "wrong version number"],
        "no TLS is spoken at that port: take the port for TLS, or the scheme without",
    ),
    (
        &["UnknownIssuer", "unknown issuer", "UnsupportedCertVersion"],
        "its certificate is from no CA that is trusted here: put the PEM of the CA that signed it into `ca`",
    ),
    (&["not valid for name"], "its certificate is for another name: write the host as the certificate does"),
    (&["Expired", "expired"], "its certificate has expired: have it renewed there, or check this machine's clock"),
    (&["not valid yet"], "its certificate is not valid yet: check this machine's clock"),
    (
        &["connection closed before message completed", "invalid HTTP version"],
        "what answers there speaks no plain HTTP: https:// instead of http://, or another port",
    ),
];

/// What AMQP brokers say.
#[cfg(feature = "amqp")]
const AMQP: [(&[&str], &str); 7] = [
    (
        &["Login was refused"],
        "the broker refuses user or password: `rabbitmqctl authenticate_user USER` tells (guest may come from the \
         broker's own machine only)",
    ),
    (
        &["ACCESS_REFUSED", "ACCESS-REFUSED"],
        "the user lacks a right in this virtual host: `rabbitmqctl list_permissions -p VHOST` tells; it needs write, and \
         configure and read to declare",
    ),
    (
        &["NOT_ALLOWED", "NOT-ALLOWED"],
        "the virtual host (what comes after the port: / is %2f) is not there, or not for this user: `rabbitmqctl list_vhosts`",
    ),
    (&["NOT_FOUND", "NOT-FOUND"], "the exchange is not there: make it, or set declare = true"),
    (
        &["PRECONDITION_FAILED", "PRECONDITION-FAILED"],
        "exchange or queue is there already with other properties: name another, or set declare = false",
    ),
    (
        &["Parsing Error"],
        "what answers there speaks no AMQP: a port for TLS (5671) wants amqps://, RabbitMQ's page (15672) is not for events",
    ),
    (
        &["connection reset", "Connection reset", "unexpected end of file", "broken pipe", "Broken pipe"],
        "the broker hung up: a port for TLS (5671) wants amqps://, or it does not take the user, the password or the virtual \
         host; its log says which",
    ),
];

/// `message` is what [`sink::Sink::probe`] or [`sink::build`] said of the sink at this place of the configuration.
pub(super) fn remedy(sink: &sink::Config, index: usize, message: &str) -> String {
    let key = |rest: &str| format!("sinks[{index}].{rest}");
    let find = |causes: &[(&[&str], &'static str)]| {
        causes.iter().find(|(words, _)| words.iter().any(|word| message.contains(word))).map(|(_, cause)| *cause)
    };
    match sink {
        #[cfg(feature = "amqp")]
        sink::Config::Amqp(_) => {
            let otherwise = "is the broker up, are user, password and virtual host right, and may the user declare?";
            let cause = find(&AMQP).or_else(|| find(&COMMON)).unwrap_or(otherwise);
            let part = match cause {
                cause if cause.starts_with("the exchange") => "amqp.exchange",
                cause if cause.starts_with("exchange or queue") && message.contains("queue '") => "amqp.queue",
                cause if cause.starts_with("exchange or queue") => "amqp.exchange",
                _ => "amqp.url",
            };
            format!("{}: {cause}", key(part))
        }
        sink::Config::Http(_) => {
            let otherwise =
                "is the endpoint up, can this machine reach its host and port, and do the certificates fit?";
            match message.strip_prefix("HTTP ").and_then(|rest| rest.get(..1)) {
                Some("3") => format!("{}: `curl -I` shows where it moved to", key("http.url")),
                Some("4") => format!("{}: the endpoint does not take what stands there", key("http.headers")),
                Some(_) => format!("{}: the endpoint, or a proxy before it, is down: see its log", key("http.url")),
                None => format!("{}: {}", key("http.url"), find(&COMMON).unwrap_or(otherwise)),
            }
        }
        sink::Config::Exec(_) if message.contains("is not a directory") => {
            format!("{}: the directory that the command is to run in has to be there", key("exec.directory"))
        }
        sink::Config::Exec(_) => {
            let key = key("exec.command");
            format!("{key}: its first word must be a program that the daemon's user may run (chmod +x, a right path)")
        }
        sink::Config::File(_) => {
            let cause = match message {
                said if said.contains("regular file") => "name a file: it is made when it is not there",
                said if said.contains("No such file") => "make its directory, and give it to the daemon's user",
                said if said.contains("Permission denied") => {
                    "give file and directory to the daemon's user, or run this as that user"
                }
                _ => "its directory must be there, and writable for the daemon's user",
            };
            format!("{}: {cause}", key("file.path"))
        }
        sink::Config::Stdout => "standard output must be open".to_owned(),
    }
}

/// What to do when an HTTP endpoint can be reached, but `remark` is what it makes of a HEAD.
pub(super) fn doubt(index: usize, remark: &str) -> String {
    let part = if ["HTTP 401", "HTTP 403"].iter().any(|status| remark.starts_with(status)) { "headers" } else { "url" };
    format!(
        "sinks[{index}].http.{part}: fine where no HEAD is known (a delivery is a POST); if a POST gets the same, no event \
         gets through"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::http;

    #[test]
    fn the_likely_cause_is_named_with_its_key() {
        let url = "http://localhost".parse().unwrap();
        let (headers, signing_secret) = (Vec::new(), None);
        let tls = sink::Tls { ca: None, client: None };
        let app = sink::Config::Http(http::Config { url, headers, signing_secret, allow_private: true, tls });
        for (message, words) in [
            ("cannot connect to h:80: the host's name is not known: name or service not known", "DNS"),
            ("cannot connect to 127.0.0.1:1: connection refused", "nothing listens"),
            ("cannot connect to 192.0.2.1:80: no route to host", "no way to that host"),
            ("no answer within 10 s", "firewall"),
            ("TLS: invalid peer certificate: UnknownIssuer", "`ca`"),
            ("TLS: certificate not valid for name \"h\"; certificate is only valid for DnsName(\"g\")", "another name"),
            ("TLS: certificate not valid yet: verification time 1 (UNIX)", "clock"),
            ("no answer from h:443: connection closed before message completed", "https://"),
            ("HTTP 301: redirects are not followed", "curl -I"),
            ("HTTP 503", "is down"),
            ("something else", "is the endpoint up"),
        ] {
            let said = remedy(&app, 2, message);
            assert!(said.starts_with("sinks[2].http.url: ") && said.contains(words), "{message}: {said}");
        }
    }
}
