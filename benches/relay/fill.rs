//! Inboxes with a past: events put in through the library, as the daemon would, without HTTP.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use ralio_relay::clock::{Clock as _, SystemClock};
use ralio_relay::inbox::sqlite::{Lock, Reader, SqliteInbox};
use ralio_relay::inbox::{self, Inbox as _, NewEvent, QuarantineLimits};
use ralio_relay::metrics::Metrics;
use ralio_relay::model::{Seq, SourceName};
use ralio_relay::verify::{Keys, Unverified, sign};

use crate::harness::load::body;
use crate::harness::{Builder, SECRET};

const IN_FLIGHT: usize = 512;
const TASKS: u64 = 2;
/// One event in so many is of [`RARE`], the first in the middle of them.
const RARE_EVERY: u64 = 1_000_000;
/// The type of few.
pub const RARE: &str = "account.verified";
/// The events came in evenly within so many days up to now.
const DAYS: u64 = 100;
/// Fewer than this are there at once: nobody wants a bar.
const WORTH_A_BAR: u64 = 500_000;

/// Puts so many events into the inbox of a relay that is not running.
pub async fn fill(settings: &Builder, events: u64) {
    let config = config(settings);
    let lock = Lock::try_take(&config.path).unwrap().expect("nobody else has the inbox");
    let inbox = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::new(Metrics::new())).unwrap();
    let inbox = Arc::new(inbox);
    let (bar, now) = (bar(events), SystemClock.now());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (inbox, bar) = (Arc::clone(&inbox), bar.clone());
        tasks.spawn(async move {
            let keys = Keys::new(&[SECRET]).unwrap();
            let mut appends = FuturesUnordered::new();
            for place in (task..events).step_by(TASKS as usize) {
                if appends.len() >= IN_FLIGHT {
                    let appended: Option<Result<_, _>> = appends.next().await;
                    appended.unwrap().unwrap();
                    bar.inc(1);
                }
                let received_at = received_at(now, place, events);
                let (inbox, event) = (Arc::clone(&inbox), event(&keys, place, received_at));
                appends.push(async move { inbox.append(event).await });
            }
            while let Some(appended) = appends.next().await {
                appended.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    inbox.close().await;
    bar.finish_and_clear();
}

fn config(settings: &Builder) -> inbox::Config {
    inbox::Config {
        path: settings.inbox(),
        quarantine: QuarantineLimits::default(),
        dedup_memory: 64 << 20,
        retention: None,
    }
}

/// Notes the times of arrival to the end, as a daemon does while it runs.
pub fn note_times(settings: &Builder) {
    let (config, mut noted) = (config(settings), Seq::ZERO);
    while let upto = Reader::note_times(&config).unwrap()
        && upto > noted
    {
        noted = upto;
    }
}

fn bar(events: u64) -> ProgressBar {
    if events < WORTH_A_BAR {
        return ProgressBar::hidden();
    }
    let template = "filling an inbox {bar:30} {human_pos}/{human_len} {per_sec}, {eta} to go";
    ProgressBar::new(events).with_style(ProgressStyle::with_template(template).unwrap())
}

fn received_at(now: Timestamp, place: u64, events: u64) -> Timestamp {
    let whole = Duration::from_secs(DAYS * 24 * 60 * 60);
    now - whole.mul_f64((events - place) as f64 / events as f64)
}

fn event(keys: &Keys, place: u64, received_at: Timestamp) -> NewEvent {
    let mut body = body();
    if place % RARE_EVERY == RARE_EVERY / 2 {
        body = body.replacen("payin_completed", &RARE.replace('.', "_"), 1);
    }
    let body = Bytes::from(body);
    let delivery = Unverified {
        source: SourceName::new("test").unwrap(),
        signatures: vec![sign(SECRET.as_bytes(), &body).into()],
        content_type: Some("application/json".to_owned()),
        headers: vec![("user-agent".to_owned(), "ralio".to_owned())],
        body,
    };
    NewEvent::new(delivery.verify(keys).unwrap(), received_at)
}
