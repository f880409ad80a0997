use std::fs;

use super::changes::Changes;
use super::*;
use crate::clock::SystemClock;
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

struct Case {
    directory: tempfile::TempDir,
    keys: Keys,
    reloader: Reloader,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("relay.toml");
        fs::write(&config, CONFIG.replace("DIR", directory.path().to_str().unwrap())).unwrap();
        fs::write(directory.path().join("secret"), "old").unwrap();
        fs::write(directory.path().join("ca.crt"), "first").unwrap();
        let reading = config::read(std::slice::from_ref(&config), &Env::default());
        let settings = reading.settings.unwrap();
        let reload = Reload { files: vec![config], effective: reading.effective, asked: Arc::default() };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (_, reloader) = reload.prepare(&settings, &clock, watch::channel(Gate::Open).1).unwrap();
        Self { directory, keys: settings.ingest.sources[0].keys.clone(), reloader }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join(name), text).unwrap();
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
        wait(&changes, false).await;
        reloader.look_again().await;
    }
    assert!(began.elapsed() < Duration::from_secs(130), "{:?}", began.elapsed());
}

#[tokio::test]
async fn files_of_sinks_need_a_restart() {
    let case = Case::new();
    let fresh = |case: &Case| Fresh::read(&case.reloader.reload.files, None, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(case.reloader.needs_restart(&fresh(&case)).await, BTreeSet::new());
    case.write("ca.crt", "second");
    let needs = case.reloader.needs_restart(&fresh(&case)).await;
    assert_eq!(needs, BTreeSet::from(["sinks[0].http.ca".to_owned()]));
}
