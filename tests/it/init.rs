//! `init`: what it writes, what it leaves alone, and what it asks at a terminal.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::harness::process::Process;
use crate::harness::{Output, eventually, run_in, write_certificate};

const BINARY: &str = env!("CARGO_BIN_EXE_ralio-relay");

/// `init --dir made` with these options.
async fn init(directory: &Path, options: &[&str], stdin: &[u8]) -> Output {
    let args = [&["init", "--dir", "made"], options].concat();
    run_in(directory, &args, stdin).await
}

async fn check(directory: &Path) -> Output {
    run_in(directory, &["check", "--config", "made/relay.toml"], b"").await
}

/// Name, mode and content of each file.
fn files(directory: &Path) -> Vec<(String, u32, String)> {
    let entries = fs::read_dir(directory.join("made")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| {
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            (path.file_name().unwrap().to_str().unwrap().to_owned(), mode, fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn names(directory: &Path) -> Vec<String> {
    files(directory).into_iter().map(|(name, ..)| name).collect()
}

#[tokio::test]
async fn check_is_content_with_whatever_it_writes() {
    for (options, stdin, secrets) in [
        (&[][..], "", &["admin-token", "tls.crt", "tls.key", "webhook-secret"][..]),
        (&["--tls", "proxy", "--host", "relay.example.com"], "", &["admin-token", "webhook-secret"]),
        (&["--cert", "tls.crt", "--key", "tls.key", "--sink", "file"], "", &["admin-token", "webhook-secret"]),
        (
            &["--tls", "proxy", "--sink", "http", "--url", "http://127.0.0.1:9/a", "--authorization-file", "-"],
            "Bearer canary-1\n",
            &["admin-token", "http-authorization", "webhook-secret"],
        ),
        (&["--tls", "proxy", "--sink", "exec", "--", "/bin/cat", "a \"b\" \\"], "", &["admin-token", "webhook-secret"]),
        #[cfg(feature = "amqp")]
        (
            &["--tls", "proxy", "--sink", "amqp", "--url-file", "-", "--queue", "ledger"],
            "amqp://user:canary-2@localhost\n",
            &["admin-token", "amqp-url", "webhook-secret"],
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        write_certificate(directory.path());
        fs::write(directory.path().join("secret"), "canary-3 of good length\n").unwrap();
        let options = [&["--secret-file", "secret"], options].concat();
        let said = init(directory.path(), &options, stdin.as_bytes()).await.success();
        let checked = check(directory.path()).await.success();
        assert!(!checked.stdout.contains("WARNING"), "{options:?}: {}", checked.stdout);
        let files = files(directory.path());
        let (config, others): (Vec<_>, Vec<_>) = files.iter().partition(|(name, ..)| name == "relay.toml");
        assert_eq!(others.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>(), secrets, "{options:?}");
        assert!(others.iter().all(|(_, mode, _)| *mode == 0o600), "{others:?}");
        let readable = format!("{}{}{}", config[0].2, said.stdout, said.stderr);
        assert!(!readable.contains("canary"), "{options:?}: {readable}");
        let place = fs::canonicalize(directory.path()).unwrap().join("made/webhook-secret");
        assert!(readable.contains(&format!("{{ file = {:?} }}", place)), "{readable}");
    }
}

#[tokio::test]
async fn it_says_what_to_register_and_how_to_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = ["--tls", "proxy", "--host", "relay.example.com", "--path", "/hooks/ralio/"];
    let said = init(directory.path(), &proxy, b"").await.success().stdout;
    for words in [
        "\n   https://relay.example.com/hooks/ralio\n",
        "portal.sandbox.raliopay.com/account/webhooks",
        "http://127.0.0.1:8443",
        "check --config ",
        "serve --config ",
        "simulate ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let own = init(directory.path(), &["--force", "--host", "relay.example.com"], b"").await.success().stdout;
    assert!(own.contains("\n   https://relay.example.com:8443/webhooks/ralio\n"), "{own}");
    let mapped = ["--force", "--host", "relay.example.com:443", "--environment", "production"];
    let mapped = init(directory.path(), &mapped, b"").await.success().stdout;
    assert!(
        mapped.contains("\n   https://relay.example.com/webhooks/ralio\n") && !mapped.contains("sandbox"),
        "{mapped}"
    );
}

#[tokio::test]
async fn nothing_that_is_there_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    init(directory.path(), &["--yes"], b"").await.success();
    let before = files(directory.path());
    let again = init(directory.path(), &["--yes"], b"").await.code(1);
    assert!(again.stderr.contains("is there already") && again.stderr.contains("--force"), "{again:?}");
    assert_eq!(files(directory.path()), before);

    let forced = init(directory.path(), &["--force", "--sink", "file"], b"").await.success();
    assert!(forced.stdout.contains("Kept as they were: webhook-secret, admin-token, tls.crt, tls.key"), "{forced:?}");
    let secrets = |files: Vec<(String, u32, String)>| {
        files.into_iter().filter(|(name, ..)| name != "relay.toml").collect::<Vec<_>>()
    };
    let after = files(directory.path());
    assert!(after.iter().any(|(_, _, text)| text.contains("type = \"file\"")), "{after:?}");
    assert_eq!(secrets(after.clone()), secrets(before));
    let other = init(directory.path(), &["--force", "--secret-file", "-"], b"another").await.code(1);
    assert!(other.stderr.contains("secrets are never replaced"), "{other:?}");
    assert_eq!(files(directory.path()), after);
}

/// A file of events in the place of the inbox: `check` would refuse it.
#[tokio::test]
async fn what_check_would_refuse_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let inbox = directory.path().join("made/inbox.db");
    let refused = ["--sink", "file", "--file", inbox.to_str().unwrap()];
    let said = init(directory.path(), &refused, b"").await.code(2);
    assert!(said.stderr.contains("nothing was written") && said.stderr.contains("sinks[0].file.path"), "{said:?}");
    assert!(!directory.path().join("made").exists());
    fs::create_dir(directory.path().join("made")).unwrap();
    init(directory.path(), &refused, b"").await.code(2);
    assert_eq!(names(directory.path()), [""; 0]);
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_written() {
    let directory = tempfile::tempdir().unwrap();
    write_certificate(directory.path());
    fs::create_dir(directory.path().join("other")).unwrap();
    write_certificate(&directory.path().join("other"));
    for (options, said) in [
        (&["--sink", "http", "--url", "http://u:canary@h/"][..], "--url-file"),
        (&["--sink", "http"], "--url URL"),
        (&["--sink", "exec"], "-- /usr/bin/handler"),
        (&["--sink", "stdout", "--queue", "q"], "--sink amqp"),
        (&["--sink", "http", "--url", "ftp://h/"], "ftp"),
        (&["--tls", "files"], "--cert FILE"),
        (&["--tls", "proxy", "--cert", "tls.crt", "--key", "tls.key"], "--tls files"),
        (&["--cert", "tls.crt", "--key", "other/tls.key"], "tls.key"),
        (&["--cert", "tls.crt", "--key", "nowhere.key"], "nowhere.key"),
        (&["--host", "https://relay.example.com"], "relay.example.com"),
        (&["--listen", "8443"], "0.0.0.0:8443"),
        (&["--secret-file", "-"], "--secret-file"),
    ] {
        let refused = init(directory.path(), options, b"").await;
        assert!([Some(1), Some(2)].contains(&refused.code), "{options:?}: {refused:?}");
        assert!(refused.stderr.contains(said) && !refused.stderr.contains("canary"), "{options:?}: {}", refused.stderr);
        assert!(!directory.path().join("made").exists(), "{options:?}");
    }
}

/// Until Ralio's secret is in its file nothing is lost: what comes is answered 503, and comes again.
#[tokio::test]
async fn before_the_secret_is_known_ralio_sends_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let said = init(path, &["--sink", "file"], b"").await.success().stdout;
    assert!(said.contains("503") && said.contains("read -rs SECRET"), "{said}");
    let config = path.canonicalize().unwrap().join("made/relay.toml");
    assert!(said.contains(&format!("export RALIO_RELAY_CONFIG={}\n", config.display())), "{said}");
    let checked = check(path).await.success().stdout;
    assert!(checked.contains("WARNING") && checked.contains("stand-in"), "{checked}");
    let config = fs::read_to_string(path.join("made/relay.toml")).unwrap();
    fs::write(path.join("reject.toml"), config.replace("on_bad_signature = \"retry\"", "")).unwrap();
    let lost = run_in(path, &["check", "--config", "reject.toml"], b"").await.code(2);
    assert!(lost.stdout.contains("stand-in") && lost.stdout.contains("on_bad_signature"), "{lost:?}");

    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [server, admin] = listeners.map(|listener| listener.local_addr().unwrap().to_string());
    let mut serve = Command::new(BINARY);
    serve.args(["serve", "--config", "made/relay.toml"]).current_dir(path);
    serve.env("RALIO_RELAY__SERVER__LISTEN", &server).env("RALIO_RELAY__ADMIN__LISTEN", admin);
    let mut serve = Process::spawn(&mut serve);
    let log = || serve.stderr.all();
    eventually("the public listener", async || {
        if log().iter().any(|line| line.contains("listening listener=\"public\"")) { Ok(()) } else { Err(log()) }
    })
    .await;
    fs::write(path.join("portal"), "whsec_of_the_portal").unwrap();
    let url = format!("https://{server}/webhooks/ralio");
    let send = [
        "simulate",
        "--url",
        &url,
        "--ca",
        "made/tls.crt",
        "--secret-file",
        "portal",
        "--count",
        "1",
        "--attempts",
        "1",
    ];
    let refused = run_in(path, &send, b"").await.code(1);
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("503"), "{refused:?}");

    // As the last line that is printed does it: in place.
    fs::write(path.join("made/webhook-secret"), "whsec_of_the_portal").unwrap();
    eventually("the secret in use", async || {
        let sent = run_in(path, &send, b"").await;
        if sent.code == Some(0) { Ok(()) } else { Err((sent.stdout, log())) }
    })
    .await;
    serve.signal("TERM");
    assert_eq!(serve.end().await.code(), Some(0));
}

/// A terminal of 80 columns, by util-linux' `script`.
struct Terminal {
    child: Child,
    /// Everything that was shown.
    screen: Arc<Mutex<String>>,
    /// So much of it was there when keys were typed last.
    seen: usize,
    place: PathBuf,
}

impl Terminal {
    fn new(directory: &Path, command: &str) -> Self {
        let mut script = Command::new("script");
        script.args(["-qec", &format!("stty cols 80; {command}"), "/dev/null"]).current_dir(directory);
        script.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = script.spawn().unwrap();
        let (mut from, screen) = (child.stdout.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, screen, seen: 0, place: directory.to_owned() }
    }

    /// Waits until this is shown, then types.
    async fn types(&mut self, once: &str, keys: &str) {
        self.seen = eventually(once, async || {
            let screen = self.screen.lock().unwrap();
            if screen[self.seen..].contains(once) { Ok(screen.len()) } else { Err(screen.clone()) }
        })
        .await;
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    async fn ended(&mut self) -> (Option<i32>, String) {
        let status = eventually("the end", async || self.child.try_wait().unwrap().ok_or("still running")).await;
        (status.code(), self.screen.lock().unwrap().clone())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the terminal in {}\n{}", self.place.display(), self.screen.lock().unwrap());
        }
    }
}

const DOWN: &str = "\u{1b}[B";

#[tokio::test]
async fn at_a_terminal_it_asks() {
    let directory = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::new(directory.path(), &format!("{BINARY} init --dir made"));
    terminal.types("Which of Ralio's environments", &format!("{DOWN}\r")).await;
    terminal.types("Under which name", "not a host\r").await;
    terminal.types("is not the name of a host", &format!("{}relay.example.com\r", "\u{7f}".repeat(10))).await;
    terminal.types("Where does HTTPS come from?", &format!("{DOWN}\r")).await;
    terminal.types("Address to listen on:", "\r").await;
    terminal.types("Path of the webhook:", "\r").await;
    terminal.types("The webhook secret?", &format!("{DOWN}\r")).await;
    terminal.types("Webhook secret:", "canary-typed\r").await;
    terminal.types("Where do events go first?", &format!("{DOWN}\r")).await;
    terminal.types("File:", "\r").await;
    assert!(!directory.path().join("made").exists(), "before the last yes");
    terminal.types("(Y/n)", "\r").await;
    let (code, screen) = terminal.ended().await;
    assert_eq!(code, Some(0), "{screen}");
    assert!(!screen.contains("canary"), "{screen}");
    check(directory.path()).await.success();
    let made = files(directory.path());
    assert!(made.iter().any(|(name, _, text)| name == "webhook-secret" && text == "canary-typed\n"), "{made:?}");
    let config = &made.iter().find(|(name, ..)| name == "relay.toml").unwrap().2;
    for line in ["name = \"production\"", "https://relay.example.com:8443/webhooks/ralio", "type = \"file\""] {
        assert!(config.contains(line), "{line}: {config}");
    }
}

#[tokio::test]
async fn ctrl_c_in_the_middle_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for (options, question) in
        [("", "Which of Ralio's"), ("--environment sandbox --host a.example", "Where does HTTPS")]
    {
        let mut terminal = Terminal::new(directory.path(), &format!("{BINARY} init --dir made {options}"));
        terminal.types(question, "\u{3}").await;
        let (code, screen) = terminal.ended().await;
        assert_eq!(code, Some(1), "{screen}");
        assert!(screen.contains("nothing was written"), "{screen}");
        assert!(!directory.path().join("made").exists());
    }
}
