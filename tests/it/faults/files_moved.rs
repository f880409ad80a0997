//! The inbox's files are moved, removed or replaced under load: nobody is answered 200 any more, the process ends, and
//! what was answered 200 is in the file that was there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use futures_util::future::join;

use super::sender::Sender;
use crate::harness::fake_http::FakeHttp;
use crate::harness::process::Process;
use crate::harness::{Ack, Builder, Campaign, TestRelay, eventually, signed};

const MOVED: &str = "was moved, removed or replaced while it was in use";

#[tokio::test]
async fn a_file_that_is_moved_costs_nothing_that_was_acknowledged() {
    files_moved(Campaign::brief("a file of the inbox is moved, removed or replaced", CASES as u64)).await;
}

#[tokio::test]
#[ignore = "a part of tests/campaign"]
async fn campaign_files_moved() {
    files_moved(Campaign::whole("a file of the inbox is moved, removed or replaced", 10 * CASES as u64)).await;
}

/// What a clean-up, a restore or a mistake does to a file.
#[derive(Clone, Copy, Debug)]
enum Way {
    Moved,
    Removed,
    /// By a copy of itself that was made while it was in use.
    Replaced,
}

const WAYS: [Way; 3] = [Way::Moved, Way::Removed, Way::Replaced];
const FILES: [&str; 4] = ["inbox.db", "inbox.db-wal", "inbox.db-shm", "inbox.lock"];
/// And the directory, which can only be moved.
const CASES: usize = FILES.len() * WAYS.len() + 1;

async fn files_moved(mut campaign: Campaign) {
    while let Some(mut rng) = campaign.round() {
        let case = usize::try_from(campaign.number() - 1).unwrap() % CASES;
        let settings = TestRelay::with_file_sink("out").expect_errors();
        let sender = Sender::new(&mut rng);
        let mut relay = settings.clone().start().await;
        let inbox = settings.inbox().parent().unwrap().to_owned();
        let (file, way) = (FILES.get(case / WAYS.len()), WAYS[case % WAYS.len()]);
        eprintln!("{}: {way:?}", file.unwrap_or(&"the directory"));
        let (before, more) = (rng.u64(1..200), rng.u64(1..50));
        let reaches = async |count: u64| {
            let sent = async || if sender.acknowledged() >= count { Ok(()) } else { Err(sender.acknowledged()) };
            eventually("acknowledgements", sent).await;
        };
        let change = async {
            reaches(before).await;
            let stale = settings.directory().join("stale");
            file.inspect(|file| _ = fs::copy(inbox.join(file), &stale).unwrap());
            reaches(before + more).await;
            let moved = match file {
                Some(file) => File::of(&inbox.join(file)),
                None => File::of(&inbox),
            };
            moved.lose(way, &stale);
            (moved, sender.answered(), Instant::now())
        };
        let (_, (moved, answered, at)) = join(sender.run(&relay, 4, 1_000_000), change).await;
        let status = relay.process().end().await;
        campaign.highest("ms until the exit, at most", at.elapsed().as_millis() as u64);
        assert_eq!(status.code(), Some(1), "{way:?}");
        let log = relay.log().join("\n");
        assert!(log.contains(MOVED) && log.contains(moved.named.to_str().unwrap()), "{log}");
        assert!(log.contains(r#""level":"ERROR""#), "{log}");
        drop(relay);

        moved.put_back();
        campaign.count("files lost", 1);
        campaign.count("acknowledged before", answered.count());
        campaign.count("503s", sender.refused());
        sender.verify(settings.start().await, None).await;
        campaign.count("lost", 0);
    }
}

/// A file, or the directory of them all, that is lost and found again.
struct File {
    named: PathBuf,
    away: PathBuf,
}

impl File {
    fn of(named: &Path) -> Self {
        let away = named.with_file_name("away");
        Self { named: named.to_owned(), away }
    }

    fn lose(&self, way: Way, stale: &Path) {
        if self.named.is_dir() {
            return fs::rename(&self.named, &self.away).unwrap();
        }
        // A second name, so that what was in it can be looked at.
        fs::hard_link(&self.named, &self.away).unwrap();
        match way {
            Way::Moved => fs::rename(&self.named, self.named.with_file_name("moved")).unwrap(),
            Way::Removed => fs::remove_file(&self.named).unwrap(),
            Way::Replaced => fs::rename(stale, &self.named).unwrap(),
        }
    }

    /// A database or a directory goes back to where it was. The other files are not needed: the database is whole.
    fn put_back(&self) {
        if self.away.is_dir() || self.named.extension().is_some_and(|kind| kind == "db") {
            fs::rename(&self.away, &self.named).unwrap();
        }
    }
}

/// A relay that starts where its database was takes deliveries, and says that they are all that it knows.
#[tokio::test]
async fn an_inbox_that_is_gone_is_made_anew_and_said_so() {
    let settings = TestRelay::builder();
    let relay = settings.clone().start().await;
    assert!(!relay.log().join("\n").contains("there was an inbox here"), "{:?}", relay.log());
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.shutdown().await;
    let away = settings.inbox().with_file_name("away.db");
    fs::rename(settings.inbox(), &away).unwrap();
    let relay = settings.clone().start().await;
    let log = relay.log().join("\n");
    assert!(log.contains("there was an inbox here, and its file is gone"), "{log}");
    assert_eq!(relay.post(&signed::payin_completed("evt-1")).await, Ack::FRESH);
    relay.shutdown().await;

    // With a log that nobody has written back it is another matter: SQLite would throw that away.
    let relay = settings.clone().start().await;
    assert_eq!(relay.post(&signed::payin_completed("evt-2")).await, Ack::FRESH);
    let settings = relay.kill9();
    fs::rename(settings.inbox(), &away).unwrap();
    let log = settings.inbox().with_extension("db-wal");
    let frames = fs::read(&log).unwrap();
    let Err(mut process) = settings.clone().try_start().await else { panic!("it started") };
    assert_eq!(process.end().await.code(), Some(1));
    let said = process.stderr.all().join("\n");
    assert!(said.contains("may hold events that were acknowledged: put the database back"), "{said}");
    assert!(fs::read(&log).unwrap() == frames);
    fs::rename(&away, settings.inbox()).unwrap();
    let relay = settings.start().await;
    assert_eq!(relay.events().await.len(), 2);
    relay.shutdown().await;
}

/// A command that holds the inbox looks after its files as a daemon does.
#[tokio::test]
async fn a_command_that_holds_the_inbox_ends_when_its_files_are_moved() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).start().await;
    for n in 0..50 {
        assert_eq!(relay.post(&signed::payin_completed(&format!("evt-{n}"))).await, Ack::FRESH);
    }
    relay.settled().await;
    let settings = relay.shutdown().await;
    let mut replay = replay(&settings);
    app.requests_reach(51).await;
    let away = settings.inbox().with_file_name("away.db");
    fs::rename(settings.inbox(), &away).unwrap();
    assert_eq!(replay.end().await.code(), Some(1));
    let said = replay.stderr.all().join("\n");
    assert!(said.contains(MOVED), "{said}");
    fs::rename(&away, settings.inbox()).unwrap();
    let relay = settings.start().await;
    assert_eq!(relay.events().await.len(), 50);
    relay.settled().await;
    relay.shutdown().await;
}

fn replay(settings: &Builder) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ralio-relay"));
    command.args(["replay", "--sink", "app", "--reason", "a test", "--rate", "5", "--yes", "--config"]);
    Process::spawn(command.arg(settings.config_file()).current_dir(settings.directory()))
}
