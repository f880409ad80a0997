//! What is accepted, what is refused, and what is said about it.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;

/// A directory with certificate, key and secrets, and the configuration that uses them.
struct Case {
    dir: TempDir,
    env: Vec<(String, String)>,
}

/// The smallest configuration that is right; `{dir}` is the case's directory.
const GOOD: &str = r#"
[server.tls]
cert = "{dir}/tls.crt"
key = "{dir}/tls.key"
[[sources]]
name = "production"
path = "/webhooks/ralio/"
secrets = [{ file = "{dir}/secret" }]
"#;

impl Case {
    fn new() -> Self {
        let case = Self { dir: tempfile::tempdir().unwrap(), env: Vec::new() };
        for (name, content) in [("tls.crt", "cert"), ("tls.key", "key"), ("secret", "00123e4000000000\n")] {
            case.file(name, content);
        }
        case
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        std::fs::write(&path, content.replace("{dir}", self.dir.path().to_str().unwrap())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn read(&self, layers: &[&str]) -> Reading {
        let files: Vec<PathBuf> =
            layers.iter().enumerate().map(|(n, text)| self.file(&format!("{n}.toml"), text)).collect();
        super::read(&files, &Env::from_iter(self.env.clone()))
    }

    #[track_caller]
    fn good(&self, layers: &[&str]) -> Settings {
        self.read(layers).strict().unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[track_caller]
    fn bad(&self, layers: &[&str]) -> Vec<Problem> {
        self.read(layers).strict().expect_err("it is not right").0
    }

    /// The one problem of [`GOOD`] and something more.
    #[track_caller]
    fn wrong(&self, more: &str) -> Problem {
        let mut problems = self.bad(&[&format!("{GOOD}{more}")]);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        problems.remove(0)
    }
}

#[track_caller]
fn assert_wrong(more: &str, key: &str, message: &str, hint: &str) {
    let problem = Case::new().wrong(more);
    assert_eq!(problem.key, key, "{problem}");
    assert!(problem.message.contains(message) && problem.hint.contains(hint), "{problem}");
    assert!(problem.origin.as_ref().is_some_and(|origin| origin.contains("0.toml")), "{problem:?}");
}

#[test]
fn what_is_left_out_has_the_documented_default() {
    let case = Case::new();
    let settings = case.good(&[GOOD]);
    assert_eq!(settings.ingest.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(settings.ingest.max_body, 1 << 20);
    assert_eq!(settings.ingest.ack_deadline, Duration::from_secs(20));
    assert_eq!(settings.ingest.max_connections, 4096);
    assert_eq!(settings.ingest.read_timeout, Duration::from_secs(15));
    assert_eq!(settings.drain_timeout, Duration::from_secs(25));
    assert_eq!(settings.ingest.sources[0].path, "/webhooks/ralio");
    assert_eq!(settings.ingest.sources[0].signature_header, "x-signature");
    assert_eq!(settings.ingest.sources[0].on_bad_signature, ingest::OnBadSignature::Reject);
    assert_eq!(settings.inbox.path, PathBuf::from("/var/lib/ralio-relay/inbox.db"));
    assert_eq!(settings.inbox.quarantine, inbox::QuarantineLimits::default());
    assert_eq!(settings.admin.as_ref().unwrap().listen.to_string(), "127.0.0.1:8081");
    assert_eq!(settings.log, Log { format: LogFormat::Json, level: "info".to_owned() });
    assert!(settings.sinks.is_empty() && settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[cfg(feature = "amqp")]
#[test]
fn sinks_have_the_defaults_of_their_type() {
    let sinks = "[[sinks]]\nname='bus'\ntype='amqp'\namqp={url='amqp://localhost'}\n[[sinks]]\nname='out'\ntype='stdout'\n\
                 [[sinks]]\nname='more'\ntype='stdout'\nstart='2026-01-31'\nretry={breaker_after=3}";
    let case = Case::new();
    let settings = case.good(&[&format!("{GOOD}{sinks}")]);
    let [bus, out, more] = settings.sinks.as_slice() else { panic!("{:?}", settings.sinks) };
    assert_eq!((bus.consumer.concurrency, out.consumer.concurrency), (200, 32));
    assert_eq!(bus.consumer.timeout, Duration::from_secs(10));
    assert_eq!(bus.consumer.retry.give_up_after, Duration::from_secs(72 * 3600));
    assert_eq!((bus.consumer.retry.breaker_after, more.consumer.retry.breaker_after), (10, 3));
    assert_eq!((bus.consumer.start, bus.format), (crate::model::Start::Now, sink::Format::Raw));
    assert!(matches!(more.consumer.start, crate::model::Start::At(_)));
    let sink::Config::Amqp(amqp) = &bus.sink else { panic!("{:?}", bus.sink) };
    assert_eq!((amqp.exchange.as_str(), amqp.declare, amqp.queue.as_deref()), ("ralio.events", true, None));
    assert_eq!(amqp.url.expose_secret(), "amqp://localhost");
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn later_files_win_key_by_key_and_the_environment_wins_over_all() {
    let case = Case::new()
        .env("RALIO_RELAY__SERVER__MAX_BODY", "2MiB")
        .env("RALIO_RELAY__SERVER__MAX_CONNECTIONS", "7")
        .env("RALIO_RELAY__ADMIN__OPEN_METRICS", "true")
        .env("RALIO_RELAY__ADMIN__HOSTS", "relay.internal, relay")
        .env("RALIO_RELAY__SOURCES__0__NAME", "renamed")
        .env("RALIO_RELAY_CONFIG", "/nowhere.toml");
    let first = format!("{GOOD}\n[server]\nlisten='127.0.0.1:1'\nack_deadline='5s'\nmax_body='3MiB'");
    let settings = case.good(&[&first, "[server]\nlisten='127.0.0.1:2'"]);
    assert_eq!(settings.ingest.listen.port(), 2);
    assert_eq!(settings.ingest.ack_deadline, Duration::from_secs(5));
    assert_eq!((settings.ingest.max_body, settings.ingest.max_connections), (2 << 20, 7));
    let admin = settings.admin.unwrap();
    assert!(admin.open_metrics && admin.hosts == ["relay.internal", "relay"]);
    assert_eq!(settings.ingest.sources[0].name.as_str(), "renamed");
    assert!(settings.ingest.tls.is_some());
}

#[test]
fn secrets_stay_what_they_are_wherever_they_come_from() {
    let token = |case: Case, layers: &[&str]| {
        let settings = case.good(layers);
        settings.secrets.token.unwrap().text().expose_secret().to_owned()
    };
    let file = format!("{GOOD}[admin]\ntoken = {{ file = '{{dir}}/secret' }}");
    assert_eq!(token(Case::new(), &[&file]), "00123e4000000000");
    let env = format!("{GOOD}[admin]\ntoken = {{ env = 'T' }}");
    assert_eq!(token(Case::new().env("T", "0123456789\r\n"), &[&env]), "0123456789");
    let direct = Case::new().env("RALIO_RELAY__ADMIN__TOKEN", "00123e4000000000");
    assert_eq!(token(direct, &[GOOD]), "00123e4000000000");
    // A later place replaces an earlier one, in a file and in the environment.
    assert_eq!(token(Case::new().env("T", "later"), &[&file, "[admin]\ntoken = { env = 'T' }"]), "later");
    let moved = Case::new().env("T", "moved").env("RALIO_RELAY__ADMIN__TOKEN__ENV", "T");
    assert_eq!(token(moved, &[&file]), "moved");
}

#[test]
fn a_secret_in_the_configuration_or_readable_by_everybody_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let case = Case::new();
    let open = case.file("open", "s3cret s3cret s3cret");
    std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let more = "[admin]\ntoken='hunter2 and hunter2'\n[[sources]]\nname='b'\npath='/b'\nsecrets=[{file='{dir}/open'}]";
    let warnings = case.good(&[&format!("{GOOD}{more}")]).warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("admin.token") && w.contains("{ file =")), "{warnings:?}");
    assert!(warnings.iter().any(|w| w.contains("sources[1].secrets[0]") && w.contains("chmod 600")), "{warnings:?}");
    assert!(!warnings.concat().contains("hunter2"));
}

#[test]
fn a_secret_that_cannot_be_read_says_where_it_should_have_been() {
    assert_wrong("[admin]\ntoken={env='NOPE'}", "admin.token", "NOPE is not set", "set NOPE");
    assert_wrong("[admin]\ntoken={file='/no/such'}", "admin.token", "/no/such cannot be read", "readable");
    assert_wrong("[admin]\ntoken={file='/dev/null'}", "admin.token", "empty (file /dev/null)", "");
    assert_wrong("[admin]\ntoken=''", "admin.token", "empty", "anybody");
    assert_wrong("[admin]\ntoken={flie='x'}", "admin.token", "does not say where", "{ file =");
    assert_wrong("[admin]\ntoken={file='x',env='Y'}", "admin.token", "more than one", "");
    assert_wrong("[admin]\ntoken=123456", "admin.token", "a number is not a secret", "\"text\"");
    assert!(!Case::new().wrong("[admin]\ntoken=123456").to_string().contains("123456"));
    let case = Case::new();
    case.file("0-secret", "");
    let problems = case.bad(&[&GOOD.replace("{dir}/secret", "{dir}/0-secret")]);
    assert_eq!(problems[0].key, "sources[0].secrets[0]");
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = "[server]\nlisten=':80'\nmax_body=\"64MB \"\nack_deadline='60s'\nmax_connections='12'\nplaintext='yes'\n\
                [[sources]]\nname='a b'\npath='hook'\n[[sinks]]\nname='x'\ntype='ampq'\nconcurrency=0\n\
                [inbox]\nurl='postgres://x'\n[log]\nlevel='inof'\n";
    let problems = Case::new().bad(&[text]);
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = [
        "server.listen",
        "server.max_body",
        "server.ack_deadline",
        "server.max_connections",
        "server.plaintext",
        "sources[0].name",
        "sources[0].path",
        "sources[0].secrets",
        "inbox.url",
        "sinks[0].type",
        "sinks[0].concurrency",
        "log.level",
    ];
    assert_eq!(keys, expected, "{problems:#?}");
    let origin = |key: &str| problems.iter().find(|p| p.key == key).and_then(|p| p.origin.clone()).unwrap();
    assert!(origin("server.ack_deadline").ends_with("0.toml:4"));
    assert!(origin("sinks[0].concurrency").ends_with("0.toml:13"));
    assert!(origin("sources[0].secrets").ends_with("0.toml:7"));
    let hint = |key: &str| problems.iter().find(|p| p.key == key).map(|p| p.hint.clone()).unwrap();
    assert!(hint("server.max_connections").contains("max_connections = 12, without quotes"));
    assert!(hint("sinks[0].type").contains("did you mean \"amqp\"?"));
}

#[test]
fn the_environment_is_named_as_the_place() {
    let case = Case::new().env("RALIO_RELAY__SERVER__MAX_CONNECTIONS", "many").env("RALIO_RELAY__SERVER__LISTN", "x");
    let problems = case.bad(&[GOOD]);
    let origins: Vec<&str> = problems.iter().filter_map(|problem| problem.origin.as_deref()).collect();
    let names = ["RALIO_RELAY__SERVER__MAX_CONNECTIONS", "RALIO_RELAY__SERVER__LISTN"];
    assert_eq!(origins, names.map(|name| format!("environment variable {name}")));
    assert!(problems[1].hint.contains("did you mean \"listen\"?"));
}

#[test]
fn the_environment_cannot_quietly_replace_a_table_or_leave_gaps() {
    let case = Case::new().env("RALIO_RELAY__SERVER", "x").env("RALIO_RELAY__SERVER__LISTEN", "127.0.0.1:1");
    assert!(case.bad(&[GOOD]).iter().any(|problem| problem.key == "server" && problem.message.contains("not a table")));
    let case = Case::new().env("RALIO_RELAY__SINKS__1__NAME", "x");
    assert!(case.bad(&[GOOD]).iter().any(|problem| problem.key == "sinks[0]" && problem.message.contains("not there")));
    let case = Case::new().env("RALIO_RELAY__SINKS__4000000000__NAME", "x");
    assert!(case.bad(&[GOOD]).iter().any(|problem| problem.key == "sinks"));
}

#[test]
fn a_number_without_quotes_or_unit_says_which_is_missing() {
    assert_wrong("[server]\nack_deadline=10", "server.ack_deadline", "10 is a number", "\"10s\"");
    assert_wrong("[server]\nmax_body=4096", "server.max_body", "4096 is a number", "\"4096B\"");
    assert_wrong("[[sinks]]\nname=5\ntype='stdout'", "sinks[0].name", "5 is a number", "name = \"5\"");
}

#[test]
fn unknown_keys_are_errors_with_the_nearest_known_one() {
    assert_wrong("[server]\nlsiten='x'", "server.lsiten", "not a key of [server]", "did you mean \"listen\"?");
    assert_wrong("[zzz]", "zzz", "not a key of the top level", "known here: server");
    assert_wrong("[log.level]", "log.level", "a table is not text", "level =");
    assert_wrong("[log]\nzzz=1", "log.zzz", "not a key of [log]", "known here: format, level");
    assert_wrong("[sever]\nlisten='x'", "sever", "not a key of the top level", "did you mean \"server\"?");
    assert_wrong(
        "[[sinks]]\nname='x'\ntype='file'\npath='y'\nfile={path='y'}",
        "sinks[0].path",
        "not a key of [sinks]",
        "it belongs in [sinks.file]",
    );
}

#[test]
fn what_a_later_version_will_know_is_said_to_be_planned() {
    for (more, key) in
        [("[telemetry.otlp]\nendpoint='x'", "telemetry"), ("[[sinks]]\nname='x'\ntype='nats'", "sinks[0].type")]
    {
        assert_wrong(more, key, "planned", "");
    }
}

#[test]
fn bodies_are_kept_for_good_unless_a_time_is_set() {
    assert_eq!(Case::new().good(&[GOOD]).inbox.retention, None);
    let set = format!("{GOOD}[inbox.retention]\nbodies='400d'");
    let reading = Case::new().read(&[&set]);
    assert!(reading.effective.to_toml().contains("bodies = \"400d\"  # "), "{}", reading.effective.to_toml());
    assert_eq!(reading.settings.unwrap().inbox.retention, Some(Duration::from_secs(400 * 86_400)));
    assert_wrong("[inbox.retention]\nbodies='1h'", "inbox.retention.bodies", "out of range", "\"1d\"");
}

/// Commands that touch no sink work where its secrets cannot be read.
#[test]
fn an_outline_needs_no_secret() {
    let case = Case::new();
    let sinks = "[inbox]\nurl='sqlite://here.db'\n[[sinks]]\nname='a'\ntype='http'\nevents=['payin.*']\n\
                 http={url={file='/nobody/may/read/this'}}\n[[sinks]]\nname='b'\ntype='stdout'";
    case.bad(&[&format!("{GOOD}{sinks}")]);
    let file = case.file("outline.toml", sinks);
    let outline = super::outline(&[file], &Env::default()).unwrap();
    assert_eq!(outline.inbox.path, PathBuf::from("here.db"));
    let sinks: Vec<_> =
        outline.sinks.iter().map(|sink| (sink.name.as_str(), sink.kind, sink.route.revision())).collect();
    assert_eq!(sinks, [("a", "http", "payin.*".to_owned()), ("b", "stdout", "*".to_owned())]);

    let file = case.file("outline.toml", "[[sinks]]\nname='a'\ntype='amqpp'\n[[sinks]]\nname='a'\ntype='file'");
    let Problems(problems) = super::outline(&[file], &Env::default()).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["sinks[0].type", "sinks[1].name"]);
}

#[test]
fn no_tls_needs_a_word_and_both_is_a_contradiction() {
    let case = Case::new();
    let without = GOOD.replace("[server.tls]", "[server]").replace("cert", "#").replace("key", "#");
    let problems = case.bad(&[&without]);
    assert!(problems[0].hint.contains("cert and key") && problems[0].hint.contains("plaintext = true"), "{problems:?}");
    assert!(case.good(&[&without.replace("[server]", "[server]\nplaintext = true")]).ingest.tls.is_none());
    assert_wrong("[server]\nplaintext=true", "server.plaintext", "contradicts", "proxy");
}

#[test]
fn keys_are_checked_against_each_other() {
    let stdout = "[[sinks]]\nname='x'\ntype='stdout'\n";
    assert_wrong("[server]\nlisten='0.0.0.0:8081'", "admin.listen", "taken by server.listen", "8081");
    assert_wrong("[admin]\nlisten='0.0.0.0:8081'", "admin.listen", "no token", "127.0.0.1");
    assert_wrong("[admin]\nhosts=['relay:8081']", "admin.hosts", "\"relay:8081\" is not the name of a host", "a port");
    assert_wrong(&format!("{stdout}retry={{initial='2m',max='1m'}}"), "sinks[0].retry.initial", "longer", "max");
    assert_wrong(&format!("{stdout}{stdout}"), "sinks[1].name", "taken", "its own");
    assert_wrong(&format!("{stdout}format='cloudevents'"), "sinks[0].format", "no effect", "take it out");
    assert_wrong(&format!("{stdout}http={{url='http://h'}}"), "sinks[0].http", "of type \"http\"", "\"http\"");
    assert_wrong(&format!("{stdout}events=[]"), "sinks[0].events", "empty", "leave it out");
    assert_wrong(&format!("{stdout}events=['payin_completed']"), "sinks[0].events", "never match", "payin.completed");
    assert_wrong(&format!("{stdout}events='payin.*'"), "sinks[0].events", "not a list", "[\"payin.*\"]");
    let twin = "[[sources]]\nname='production'\npath='/webhooks/ralio'\nsecrets=[{file='{dir}/secret'}]";
    let problems = Case::new().bad(&[&format!("{GOOD}{twin}")]);
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["sources[1].name", "sources[1].path", "sources[1].secrets"]);
    let exec = "[[sinks]]\nname='x'\ntype='exec'\nexec={command=['x'],max_output='5KiB'}";
    assert_wrong(exec, "sinks[0].exec.max_output", "out of range", "from \"0B\" to \"4KiB\"");
    let file = "[[sinks]]\nname='x'\ntype='file'\nfile={path='x',compress=true}";
    assert_wrong(file, "sinks[0].file.compress", "no effect", "rotate_every");
    let small = "[server]\nmax_body='2MiB'\n[inbox.quarantine]\nmax_bytes='1MiB'";
    assert_wrong(small, "inbox.quarantine.max_bytes", "too small", "max_body");
    assert_wrong("[[sources]]\nname='b'\npath='/b'\nsecrets=[]", "sources[1].secrets", "at least one", "file");
    let problems = Case::new().bad(&["[server]\nplaintext=true"]);
    assert!(problems.len() == 1 && problems[0].key == "sources" && problems[0].hint.contains("[[sources]]"));
}

#[cfg(feature = "filters")]
#[test]
fn filters_are_compiled_when_the_configuration_is_read() {
    let stdout = |filter: &str| format!("[[sinks]]\nname='x'\ntype='stdout'\nevents=['payin.*']\nfilter={filter}\n");
    let wrong =
        |filter: &str, message| assert_wrong(&stdout(filter), "sinks[0].filter", message, "write a condition in CEL");
    wrong("'evnt.data.a == 1'", "unknown variable 'evnt'");
    wrong("'event.data.a = 1'", "not an expression (line 1, column 14)");
    wrong("'event.data.a.matches(\"(\")'", "invalid regular expression");
    assert_wrong(&stdout("true"), "sinks[0].filter", "true is not text in quotes", "filter = \"...\"");
    let reading = Case::new().read(&[&format!("{GOOD}{}", stdout("\"event.data.a == 'x'\""))]);
    assert!(reading.effective.to_toml().contains("filter = \"event.data.a == 'x'\"  # "));
    let settings = reading.settings.unwrap();
    assert_eq!(settings.sinks[0].consumer.route.revision(), "payin.*  filter \"event.data.a == 'x'\"");
}

#[cfg(not(feature = "filters"))]
#[test]
fn a_filter_in_a_build_without_them_is_an_error() {
    let sink = "[[sinks]]\nname='x'\ntype='stdout'\nfilter='true'";
    assert_wrong(sink, "sinks[0].filter", "no filters", "feature \"filters\"");
}

#[cfg(feature = "amqp")]
#[test]
fn certificates_for_a_broker_need_tls_and_come_in_pairs() {
    let amqp = |scheme: &str, rest: &str| {
        format!("[[sinks]]\nname='x'\ntype='amqp'\n[sinks.amqp]\nurl='{scheme}://h'\n{rest}")
    };
    for key in ["ca", "client_cert", "client_key"] {
        let path = format!("sinks[0].amqp.{key}");
        assert_wrong(&amqp("amqp", &format!("{key}='{{dir}}/secret'")), &path, "has no effect", "amqps://");
        let pair = ["client_cert", "client_key"].map(|other| format!("{other}='{{dir}}/secret'\n"));
        let good = pair.concat().replace(&format!("{key}='{{dir}}/secret'\n"), "");
        assert_wrong(&amqp("amqps", &format!("{good}{key}='{{dir}}/missing'")), &path, "cannot be read", "readable");
    }
    let half = |key: &str| amqp("amqps", &format!("{key}='{{dir}}/secret'"));
    assert_wrong(&half("client_cert"), "sinks[0].amqp.client_cert", "without its key", "client_key =");
    assert_wrong(&half("client_key"), "sinks[0].amqp.client_key", "without its certificate", "client_cert =");
    let both = amqp("amqps", "ca='{dir}/secret'\nclient_cert='{dir}/secret'\nclient_key='{dir}/secret'");
    let settings = Case::new().good(&[&format!("{GOOD}{both}")]);
    let sink::Config::Amqp(config) = &settings.sinks[0].sink else { panic!() };
    assert!(config.tls.ca.is_some() && config.tls.client.is_some(), "{config:?}");
}

/// Each cuts off what looks like a torn line of its own, and the database is no place for lines at all.
#[test]
fn every_file_has_one_writer() {
    let file = |name: &str, path: &str| format!("[[sinks]]\nname='{name}'\ntype='file'\nfile.path='{path}'\n");
    let case = Case::new();
    let inbox = "[inbox]\nurl='sqlite://{dir}/inbox.db'\n";
    let good = [file("a", "{dir}/a"), file("b", "{dir}/b"), file("c", "{dir}/inbox.db.ndjson")].concat();
    case.good(&[&format!("{GOOD}{inbox}{good}")]);
    let twins = file("a", "{dir}/a") + &file("b", "{dir}/x/.././a");
    std::fs::create_dir(case.dir.path().join("x")).unwrap();
    for (sinks, key) in [
        (twins, "sinks[1].file.path"),
        (file("a", "{dir}/inbox.db"), "sinks[0].file.path"),
        (file("a", "{dir}/./inbox.db-wal"), "sinks[0].file.path"),
    ] {
        let problems = case.bad(&[&format!("{GOOD}{inbox}{sinks}")]);
        assert!(problems.len() == 1 && problems[0].key == key, "{problems:?}");
        assert!(problems[0].origin.is_some() && problems[0].hint.contains("its own"), "{problems:?}");
    }
}

#[test]
fn urls_and_headers_are_checked_and_never_quoted() {
    let http = |rest: &str| format!("[[sinks]]\nname='x'\ntype='http'\n[sinks.http]\n{rest}");
    assert_wrong(&http("url='ftp://user:hunter2@h'"), "sinks[0].http.url", "scheme", "https://");
    assert_wrong(&http("url='http://h'\nheaders={Host='x'}"), "sinks[0].http.headers.Host", "sets itself", "");
    assert_wrong(&http("url='http://h'\nheaders={'a b'='x'}"), "sinks[0].http.headers.a b", "not the name", "");
    assert_wrong(&http("headers={}"), "sinks[0].http.url", "missing", "https://");
    let token = Case::new().good(&[&format!("{GOOD}{}", http("url='https://hunter2@h/'"))]).warnings;
    assert!(token.len() == 1 && !token[0].contains("hunter2"), "{token:?}");
    let settings = Case::new().good(&[&format!(
        "{GOOD}{}",
        http("url='http://u:hunter2@h/'\nheaders={Authorization='Bearer hunter2',X-Team='pay'}")
    )]);
    assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
    let sink::Config::Http(config) = &settings.sinks[0].sink else { panic!() };
    assert_eq!(config.headers[1].1.to_str().unwrap(), "pay");
    assert!(!format!("{:?}{:?}", config.headers, settings.warnings).contains("hunter2"));
}

#[test]
fn the_certificates_of_an_http_sink_are_files_that_can_have_an_effect() {
    let http = |rest: &str| format!("[[sinks]]\nname='x'\ntype='http'\n[sinks.http]\n{rest}");
    let case = Case::new();
    let pair = "client_cert='{dir}/tls.crt'\nclient_key='{dir}/tls.key'";
    let settings = case.good(&[&format!("{GOOD}{}", http(&format!("url='https://h'\nca='{{dir}}/tls.crt'\n{pair}")))]);
    let sink::Config::Http(config) = &settings.sinks[0].sink else { panic!() };
    let client = config.tls.client.as_ref().unwrap();
    assert!(config.tls.ca.as_ref().unwrap().ends_with("tls.crt") && config.allow_private);
    assert!(client.cert.ends_with("tls.crt") && client.key.ends_with("tls.key"));
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);

    let (cert, key) = pair.split_once('\n').unwrap();
    for (rest, key, message, hint) in [
        (format!("url='https://h'\n{cert}"), "client_cert", "without its key", "client_key ="),
        (format!("url='https://h'\n{key}"), "client_key", "without its certificate", "client_cert ="),
        ("url='https://h'\nca='/no/such'".to_owned(), "ca", "/no/such cannot be read", "readable"),
        ("url='https://h'\nca='{dir}'".to_owned(), "ca", "is not a file", "readable"),
        ("url='http://h'\nca='{dir}/tls.crt'".to_owned(), "ca", "has no effect", "https://"),
        (format!("url='http://h'\n{cert}"), "client_cert", "has no effect", "https://"),
        (format!("url='http://h'\n{key}"), "client_key", "has no effect", "https://"),
        ("url='https://h'\nallow_private='no'".to_owned(), "allow_private", "neither", "allow_private = false"),
    ] {
        assert_wrong(&http(&rest), &format!("sinks[0].http.{key}"), message, hint);
    }
}

/// The daemon goes on receiving; the sink waits.
#[test]
fn a_url_that_may_never_be_connected_to_is_a_warning() {
    let warnings = |url: &str, allow: bool| {
        let sink = format!("[[sinks]]\nname='x'\ntype='http'\nhttp={{url='{url}',allow_private={allow}}}");
        Case::new().good(&[&format!("{GOOD}{sink}")]).warnings
    };
    let [warning] = &warnings("http://0x7f.1/hook", false)[..] else { panic!("not one warning") };
    for part in ["sinks[0].http.url", "127.0.0.1", "allow_private"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert!(warnings("http://127.0.0.1", true).is_empty() && warnings("http://8.8.8.8", false).is_empty());
}

#[test]
fn what_is_shown_has_every_key_its_origin_and_no_secret() {
    let case = Case::new().env("RALIO_RELAY__SERVER__READ_TIMEOUT", "9s").env("T", "hunter2");
    let more = "[admin]\ntoken={env='T'}\n[[sinks]]\nname='x'\ntype='http'\n[sinks.http]\n\
                url='http://u:hunter2@h/'\nsigning_secret='hunter2'\nheaders={Authorization='hunter2'}\n\
                [[sinks]]\nname='y'\ntype='http'\n[sinks.http]\nurl='https://hunter2@h/'";
    let reading = case.read(&[&format!("{GOOD}{more}")]);
    let shown = reading.effective.to_toml();
    assert!(!shown.contains("hunter2") && !shown.contains("00123e4000000000"), "{shown}");
    let settings = format!("{:?}", reading.settings.unwrap());
    assert!(!settings.contains("hunter2") && !settings.contains("00123e4000000000"), "{settings}");
    assert!(
        shown.contains("read_timeout = \"9s\"  # environment variable RALIO_RELAY__SERVER__READ_TIMEOUT"),
        "{shown}"
    );
    assert!(shown.contains("max_body = \"1MiB\"  # default"), "{shown}");
    assert!(shown.contains("token = \"<redacted>\"  # ") && shown.contains("secret: env T"), "{shown}");
    assert!(shown.contains("/secret"), "{shown}");
    toml::de::DeTable::parse(&shown).unwrap();
    let values = reading.effective.values();
    let cert = values.iter().find(|(path, _)| path == "server.tls.cert").unwrap();
    assert!(cert.1.origin.ends_with("0.toml:3"), "{:?}", cert.1);
}

#[test]
fn broken_files_are_named_all_at_once() {
    let case = Case::new();
    let broken = case.file("broken.toml", "[server\n");
    let missing = case.dir.path().join("missing.toml");
    let Problems(problems) = super::read(&[broken, missing], &Env::default()).settings.unwrap_err();
    let origins: Vec<&str> = problems.iter().map(|problem| problem.origin.as_deref().unwrap()).collect();
    assert!(origins[0].ends_with("broken.toml:1"), "{origins:?}");
    assert!(origins.last().unwrap().ends_with("missing.toml"), "{origins:?}");
}
