//! What the tests stand on. Everything waits on state, never on time.

mod ack;
pub mod booted;
mod campaign;
mod cli;
pub mod fake_http;
pub mod faults;
pub mod json_set;
pub mod load;
pub mod metrics;
pub mod pki;
pub mod process;
#[cfg(feature = "amqp")]
pub mod rabbitmq;
pub mod raw;
mod relay;
mod settings;
pub mod signed;

use std::fmt::Debug;
use std::io::Write as _;
use std::time::{Duration, Instant};

pub use ack::Ack;
pub use campaign::Campaign;
pub use cli::{Output, run, run_in};
pub use relay::{TestRelay, lines};
pub use settings::{Builder, TOKEN, write_certificate, write_certificate_until, write_secret};
pub use signed::{Delivery, SECRET};

/// Long enough for a loaded machine; a test that reaches it has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Asks again, less and less often, until the answer is `Ok`; fails with the last `Err` at the deadline.
#[track_caller]
pub fn eventually<T, E: Debug, F: AsyncFnMut() -> Result<T, E>>(what: &str, ask: F) -> impl Future<Output = T> {
    eventually_within(DEADLINE, what, ask)
}

/// With a deadline of its own.
#[track_caller]
pub fn eventually_within<T, E: Debug, F: AsyncFnMut() -> Result<T, E>>(
    deadline: Duration,
    what: &str,
    mut ask: F,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut pause = Duration::from_millis(5);
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(last) if Instant::now() > end => panic!("{caller}: never saw {what}; last: {last:?}"),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 3 / 2).min(Duration::from_millis(250));
        }
    }
}

/// For a check that this machine may not be able to make: says so, loudly. Under `RALIO_RELAY_TEST_NO_SKIP=1`, which
/// `tests/run` sets, what can be installed must be there, and its absence fails the test.
pub fn skip(what_is_missing: &str) {
    assert!(
        std::env::var_os("RALIO_RELAY_TEST_NO_SKIP").is_none_or(|value| value != "1"),
        "{what_is_missing} is missing, and RALIO_RELAY_TEST_NO_SKIP is set: run tests/run, which installs it"
    );
    skip_for_good(what_is_missing);
}

/// Like [`skip`], for what no package brings, such as a right that a container withholds.
pub fn skip_for_good(what_is_missing: &str) {
    #[expect(clippy::explicit_write, reason = "what `eprintln!` prints is shown for failed tests only")]
    writeln!(std::io::stderr(), "\nSKIPPED, NOT TESTED: {what_is_missing} is missing on this machine").unwrap();
}

/// The names of a JSON object's members, sorted.
pub fn keys(value: &serde_json::Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
    keys.sort_unstable();
    keys
}

/// A string member of a JSON object.
#[track_caller]
pub fn text<'a>(value: &'a serde_json::Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no text `{member}` in {value}"))
}
