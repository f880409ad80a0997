//! Inboxes with a past: events put in through the library, as the daemon would, without HTTP.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use ralio_relay::clock::{Clock as _, SystemClock};
use ralio_relay::inbox::sqlite::{Lock, SqliteInbox};
use ralio_relay::inbox::{self, Inbox as _, NewEvent, QuarantineLimits};
use ralio_relay::metrics::Metrics;
use ralio_relay::model::SourceName;
use ralio_relay::verify::{Keys, Unverified, sign};

use crate::harness::{Builder, SECRET};
use crate::load::body;

const IN_FLIGHT: usize = 512;
const TASKS: u64 = 2;

/// Puts so many events into the inbox of a relay that is not running.
pub async fn fill(settings: &Builder, events: u64) {
    let config = inbox::Config {
        path: settings.inbox(),
        quarantine: QuarantineLimits { max_entries: 10_000, max_bytes: 64 << 20 },
        retention: None,
    };
    let lock = Lock::try_take(&config.path).unwrap().expect("nobody else has the inbox");
    let inbox = SqliteInbox::open(&config, lock, Arc::new(SystemClock), Arc::new(Metrics::new())).unwrap();
    let inbox = Arc::new(inbox);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let inbox = Arc::clone(&inbox);
        tasks.spawn(async move {
            let keys = Keys::new(&[SECRET]).unwrap();
            let mut appends = FuturesUnordered::new();
            for _ in 0..events / TASKS + u64::from(task < events % TASKS) {
                if appends.len() >= IN_FLIGHT {
                    let appended: Option<Result<_, _>> = appends.next().await;
                    appended.unwrap().unwrap();
                }
                let (inbox, event) = (Arc::clone(&inbox), event(&keys));
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
}

fn event(keys: &Keys) -> NewEvent {
    let body = Bytes::from(body());
    let delivery = Unverified {
        source: SourceName::new("test").unwrap(),
        signatures: vec![sign(SECRET.as_bytes(), &body).into()],
        content_type: Some("application/json".to_owned()),
        headers: vec![("user-agent".to_owned(), "ralio".to_owned())],
        body,
    };
    NewEvent::new(delivery.verify(keys).unwrap(), SystemClock.now())
}
