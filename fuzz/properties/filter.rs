//! Any text is a filter or is refused with a reason; a filter comes to a verdict on any body, in time, and always to the
//! same.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ralio_relay::model::{EntityKey, EventId, EventType, Seq, SourceName};
use ralio_relay::route::{Filter, Route, Subject, Verdict};

/// Far more than an evaluation takes at its bound, even where nothing is optimised.
const BOUND: Duration = Duration::from_secs(10);

/// An expression, and after the first NUL a body.
pub fn holds(input: &[u8]) {
    // A panic within the filter is caught there; it must not end the fuzzer before that.
    drop(std::panic::take_hook());
    let end = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    let Ok(expression) = std::str::from_utf8(&input[..end]) else { return };
    let body = Bytes::copy_from_slice(input.get(end + 1..).unwrap_or_default());
    let began = Instant::now();
    let filter = match Filter::compile(expression) {
        Ok(filter) => filter,
        Err(refused) => {
            let why = refused.to_string();
            assert!(!why.contains("panic") && !why.contains("thread"), "{why}");
            return;
        }
    };
    let route = Route::new(Vec::new()).with_filter(filter);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let verdicts = runtime.block_on(route.judge(vec![subject(body); 2]));
    assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    let [first, second] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!(first, second);
    if let Verdict::Unsure(why) = first {
        assert!(!why.contains("bug"), "{why}");
    }
}

fn subject(body: Bytes) -> Subject {
    Subject {
        seq: Seq::new(17).expect("it is not negative"),
        id: EventId::new("evt-1").expect("it is printable"),
        event_type: EventType::canonical("payin.completed").expect("it is a type"),
        source: SourceName::new("test").expect("it is a name"),
        key: EntityKey::new("order-1").expect("it is printable"),
        time: None,
        received_at: "2026-02-26T22:02:28Z".parse().expect("it is a time"),
        stale: false,
        content_encoding: None,
        body: Some(body),
    }
}
