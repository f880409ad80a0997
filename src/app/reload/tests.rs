use std::fs;

use super::changes::Changes;
use super::*;
use crate::app::consumers::Wanted;
use crate::clock::SystemClock;
use crate::metrics::Metrics;
use crate::verify::{Keys, sign};

const CONFIG: &str = "
[server]
plaintext = true
[[sources]]
name = 'test'
path = '/test'
secrets = [{ file = 'DIR/secret' }]
[[sinks]]
name = 'app'
type = 'http'
http = { url = 'https://localhost', ca = 'DIR/ca.crt' }
";

fn certificate() -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap().pem()
}

struct Case {
    directory: tempfile::TempDir,
    keys: Keys,
    reloader: Reloader,
    metrics: Metrics,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("relay.toml");
        fs::write(&config, CONFIG.replace("DIR", directory.path().to_str().unwrap())).unwrap();
        fs::write(directory.path().join("secret"), "old").unwrap();
        fs::write(directory.path().join("ca.crt"), certificate()).unwrap();
        let reading = config::read(std::slice::from_ref(&config), &Env::default());
        let settings = reading.settings.unwrap();
        let (effective, tree) = (reading.effective, reading.tree);
        let set_level = Box::new(|_: &str| {});
        let reload = Reload { files: vec![config], effective, tree, asked: Arc::default(), set_level };
        let wanted = watch::channel(Wanted::at_start(&settings.sinks)).0;
        let sinks = SinkSwitch { wanted, reached: watch::channel(0).1 };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new();
        let (gate, last) = (watch::channel(Gate::Open).1, LastReload::new(&metrics));
        let (_, reloader) = reload.prepare(&settings, sinks, &clock, gate, last).unwrap();
        Self { directory, keys: settings.ingest.sources[0].keys.clone(), reloader, metrics }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
    }

    /// The version of its sink that is wanted, and of all that is wanted.
    fn versions(&self) -> (u64, u64) {
        let wanted = self.reloader.sinks.wanted.borrow();
        (wanted.sinks[0].1, wanted.version)
    }

    fn takes(&self, secret: &str) -> bool {
        self.keys.begin().finish(&[sign(secret.as_bytes(), b"").into()]).is_ok()
    }
}

/// A look can meet a file that is just being written.
#[tokio::test]
async fn a_secret_is_taken_once_it_has_settled() {
    let mut case = Case::new();
    assert!(!case.reloader.look_again().await, "nothing has changed");
    case.write("secret", "half");
    assert!(case.reloader.look_again().await);
    case.write("secret", "half and half");
    assert!(case.reloader.look_again().await);
    assert!(case.takes("old") && !case.takes("half"));
    assert!(!case.reloader.look_again().await);
    assert!(case.takes("half and half") && !case.takes("old"));
    case.write("secret", "");
    assert!(case.reloader.look_again().await);
    assert!(!case.reloader.look_again().await, "told, and not looked at again");
    assert!(case.takes("half and half"));
}

/// Polling is the truth: nobody has told of this change.
#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_tells_of_is_seen_within_two_minutes() {
    let case = Case::new();
    let (directory, keys) = (&case.directory, &case.keys);
    let (mut reloader, changes) = (case.reloader, Changes::of(std::iter::empty()));
    fs::write(directory.path().join("secret"), "new").unwrap();
    let began = tokio::time::Instant::now();
    while keys.begin().finish(&[sign(b"new", b"").into()]).is_err() {
        assert!(began.elapsed() < Duration::from_secs(130), "{:?}", began.elapsed());
        wait(&changes, false).await;
        reloader.look_again().await;
    }
}

#[tokio::test]
async fn a_sink_is_made_anew_when_its_files_have_changed() {
    let mut case = Case::new();
    case.write("ca.crt", "broken");
    assert!(case.reloader.look_again().await);
    assert!(!case.reloader.look_again().await);
    assert_eq!(case.versions(), (0, 0), "the one before stays");
    case.write("ca.crt", &certificate());
    assert!(case.reloader.look_again().await);
    assert_eq!(case.versions(), (0, 0), "it has to settle");
    assert!(!case.reloader.look_again().await);
    assert_eq!(case.versions(), (1, 1));
}

#[tokio::test]
async fn a_sink_is_exchanged_for_what_has_changed_only() {
    let mut case = Case::new();
    case.reloader.read_configuration().await;
    assert_eq!(case.versions(), (0, 1), "nothing has changed");
    // Not looked at before: that is no reason to wait.
    case.write("ca.crt", &certificate());
    case.reloader.read_configuration().await;
    assert_eq!(case.versions(), (2, 2));
    assert!(!case.reloader.look_again().await, "it is what is in use");
    let config = case.directory.path().join("relay.toml");
    let changed = fs::read_to_string(&config).unwrap().replace("type = 'http'", "type = 'http'\nconcurrency = 3");
    fs::write(&config, &changed).unwrap();
    case.reloader.read_configuration().await;
    assert_eq!(case.versions(), (3, 3));
    fs::write(&config, changed.replace("concurrency = 3", "concurrency = 4\ntimeuot = '3s'")).unwrap();
    case.reloader.read_configuration().await;
    case.write("ca.crt", "broken");
    fs::write(&config, changed.replace("concurrency = 3", "concurrency = 4")).unwrap();
    case.reloader.read_configuration().await;
    assert_eq!(case.versions(), (3, 3), "not as long as anything is broken");
}

/// What is broken is said until a reload has gone well.
#[tokio::test]
async fn a_reload_that_failed_is_remembered_until_one_goes_well() {
    let mut case = Case::new();
    let told = |case: &Case| (case.reloader.last.failure(), case.metrics.config_last_reload_successful.get());
    assert_eq!(told(&case), (None, 1), "the start has read it");
    let config = fs::read_to_string(case.directory.path().join("relay.toml")).unwrap();
    case.write("relay.toml", &config.replace("path = '/test'", "path = '/test'\npth = '/test'"));
    case.reloader.read_configuration().await;
    let (failure, gauge) = told(&case);
    let failure = failure.expect("it failed");
    assert!(failure.problems.len() == 1 && failure.problems[0].contains("pth"), "{failure:?}");
    assert_eq!(gauge, 0);
    case.write("relay.toml", &config);
    case.reloader.read_configuration().await;
    assert_eq!(told(&case), (None, 1));
}
