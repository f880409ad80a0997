//! The configuration as text, and what is said at the end.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::plan::{ADMIN_PORT, Plan, Sink, Tls};
use super::values::SinkUrl;
use super::write::Made;

/// A TOML string: what JSON writes is one, where nothing has control characters.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// A secret in a file beside the configuration.
fn secret_file(plan: &Plan, name: &str) -> String {
    format!("{{ file = {} }}", quoted_path(&plan.dir.join(name)))
}

/// `relay.toml`.
pub(super) fn configuration(plan: &Plan, is_stand_in: bool) -> String {
    let source = plan.environment.name();
    let mut text = format!(
        "# Made by `ralio-relay init`. Edit it as you like, and see what `ralio-relay check --config FILE --probe` says.
# Every key there is, with its default and an explanation: config/relay.toml in the source of ralio-relay.

[server]
{}
[[sources]]
name = {}              # in metrics, logs and what sinks get: \"/ralio/{source}\"
path = {}
# Register in Ralio's portal: {}
secrets = [{}]
",
        server(plan),
        quoted(source),
        quoted(&plan.path),
        plan.public_url(),
        secret_file(plan, "webhook-secret"),
    );
    if is_stand_in {
        text.push_str(
            "# While that file holds no secret of Ralio's, every delivery is answered 503, so that Ralio sends it again. A 4xx would\n\
             # lose it for good. Once events come in, this line may go.\n\
             on_bad_signature = \"retry\"\n",
        );
    }
    let admin = if plan.listen.port() == ADMIN_PORT { ADMIN_PORT + 1 } else { ADMIN_PORT };
    let log = if plan.is_for_the_system() { "json" } else { "text" };
    write!(
        text,
        "
[inbox]
url = {}     # on a local disk that is backed up
# [inbox.retention]
# bodies = \"400d\"              # how long bodies are kept; without it: for good

{}
[admin]
listen = \"127.0.0.1:{admin}\"     # /metrics, /healthz, /readyz
token = {}

[log]
format = \"{log}\"                # json = one object a line | text = for people
",
        quoted(&format!("sqlite://{}", plan.inbox.display())),
        sink(plan),
        secret_file(plan, "admin-token"),
    )
    .expect("a string takes everything");
    text
}

fn server(plan: &Plan) -> String {
    let listen = quoted(&plan.listen.to_string());
    match &plan.tls {
        Tls::Proxy => format!(
            "listen = {listen}\nplaintext = true              # a proxy terminates TLS: nobody else may reach this address\n"
        ),
        Tls::SelfSigned => format!(
            "listen = {listen}\n
# Self-signed, for a first try: Ralio does not trust it. Put one that the public trusts into these two files; the daemon
# takes them as they change.
[server.tls]\ncert = {}\nkey = {}\n",
            quoted_path(&plan.dir.join("tls.crt")),
            quoted_path(&plan.dir.join("tls.key")),
        ),
        Tls::Files(files) => format!(
            "listen = {listen}\n\n[server.tls]                  # read again when the files change\ncert = {}\nkey = {}\n",
            quoted_path(&files.cert),
            quoted_path(&files.key),
        ),
    }
}

fn sink(plan: &Plan) -> String {
    let table = |name: &str, kind: &str, rest: &str| {
        format!(
            "# One of any number of sinks: one that is down delays nobody else.\n[[sinks]]\n\
             name = \"{name}\"              # its place in the log hangs on the name: keep it\n\
             type = \"{kind}\"\n# events = [\"payin.*\", \"payout.*\"]     # without it: every event\n{rest}"
        )
    };
    let url = |url: &SinkUrl, name: &str| match url {
        SinkUrl::Open(url) => quoted(url),
        SinkUrl::Secret(_) => secret_file(plan, name),
    };
    match &plan.sink {
        Sink::Stdout => table("console", "stdout", ""),
        Sink::File(path) => table(
            "archive",
            "file",
            &format!("[sinks.file]\npath = {}\n# rotate_every = \"1d\"\n# compress = true\n", quoted_path(path)),
        ),
        #[cfg(feature = "amqp")]
        Sink::Amqp { url: at, exchange, queue } => {
            let queue = match queue {
                Some(queue) => format!("queue = {}             # declared, and bound to everything\n", quoted(queue)),
                None => "# queue = \"ledger\"            # declared and bound to everything; otherwise bind your own\n"
                    .to_owned(),
            };
            let rest = format!(
                "[sinks.amqp]\nurl = {}\nexchange = {}     # a topic exchange; the routing key is the type of event\n\
                 declare = true\n{queue}",
                url(at, "amqp-url"),
                quoted(exchange),
            );
            table("bus", "amqp", &rest)
        }
        Sink::Http { url: at, authorization } => {
            let headers = match authorization {
                Some(_) => format!("headers = {{ Authorization = {} }}\n", secret_file(plan, "http-authorization")),
                None => String::new(),
            };
            table("app", "http", &format!("[sinks.http]\nurl = {}\n{headers}", url(at, "http-url")))
        }
        Sink::Exec(command) => {
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let rest = format!(
                "[sinks.exec]\ncommand = [{}]     # no shell; the body on standard input, the rest in CE_* variables\n\
                 on_failure = \"retry\"          # an exit code other than 0 and 75: retry | dead_letter\n",
                words.join(", ")
            );
            table("handler", "exec", &rest)
        }
    }
}

/// What there is now, and what to do next.
pub(super) fn farewell(plan: &Plan, made: &Made) -> String {
    let dir = plan.dir.display();
    let config = word(&plan.dir.join("relay.toml"));
    let secret = word(&plan.dir.join("webhook-secret"));
    let mut text = format!("Written to {dir}: relay.toml, and the secrets that it names.\n");
    if !made.kept.is_empty() {
        _ = writeln!(text, "Kept as they were: {}.", made.kept.join(", "));
    }
    for warning in &made.warnings {
        _ = writeln!(text, "Warning: {warning}");
    }
    let start = if plan.is_for_the_system() {
        "chown -R ralio-relay: /etc/ralio-relay && systemctl restart ralio-relay\n   \
         (the unit's user has to read them: see \"Deploying\" in the README)"
            .to_owned()
    } else {
        format!("ralio-relay serve --config {config}")
    };
    let every_command = every_command(plan, &config);
    _ = write!(
        text,
        "
1. Check it, and start it:

   ralio-relay check --config {config} --probe
   {start}
{every_command}
2. Try it, from another terminal (what this sends goes to the sink, too):

   {}

3. In Ralio's portal ({})
   register this URL, and choose the events:

   {}
",
        simulate(plan, &secret),
        plan.environment.portal(),
        plan.public_url(),
    );
    match plan.tls {
        Tls::SelfSigned => text.push_str(
            "\n   Ralio does not trust a self-signed certificate: before that, put one that the\n   \
             public trusts into tls.crt and tls.key.\n",
        ),
        Tls::Proxy => {
            _ = writeln!(text, "\n   The proxy passes it on to http://{}, path and body unchanged.", plan.listen);
        }
        Tls::Files(_) => {}
    }
    if made.is_stand_in {
        _ = write!(
            text,
            "
4. The portal then shows the webhook secret. Until the relay has it, the relay
   answers every delivery 503, so that Ralio sends it again. Paste the secret after
   this line (bash, zsh) and press Enter; the daemon takes it without a restart:

   read -rs SECRET && printf %s \"$SECRET\" > {secret}
",
        );
    }
    text.pop();
    text
}

/// How the other commands learn of the configuration; that of the system they find by themselves.
fn every_command(plan: &Plan, config: &str) -> String {
    if plan.is_for_the_system() {
        return String::new();
    }
    format!(
        "\n   Other commands (status, events list, ..) need --config, too, or this once in each\n   terminal:\n\n   \
         export RALIO_RELAY_CONFIG={config}\n"
    )
}

/// A line that sends some events as Ralio would.
fn simulate(plan: &Plan, secret: &str) -> String {
    let ip = match plan.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let at = std::net::SocketAddr::new(ip, plan.listen.port());
    let (scheme, trust) = match &plan.tls {
        Tls::Proxy => ("http", String::new()),
        Tls::SelfSigned => ("https", format!(" \\\n     --ca {}", word(&plan.dir.join("tls.crt")))),
        // Its names are the public ones.
        Tls::Files(_) => ("https", " --insecure".to_owned()),
    };
    format!("ralio-relay simulate --count 3 --url {scheme}://{at}{} \\\n     --secret-file {secret}{trust}", plan.path)
}

/// A path as a word of a shell.
fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b));
    if is_plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
