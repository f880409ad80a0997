//! Reading the log.

use super::*;
use crate::inbox::{AppendKind, EventOutline, Slice};
use crate::model::Category;

pub(in crate::inbox) async fn an_event_is_stored_once_and_a_conflict_beside_it(inbox: &dyn Inbox) {
    let bodies = [payin("a", "o", "PROCESSING"), payin("a", "o", "COMPLETED")];
    let mut appended = Vec::new();
    for (source, body) in [("one", &bodies[0]), ("one", &bodies[1]), ("two", &bodies[0]), ("one", &bodies[1])] {
        let Appended { seq, kind } = append(inbox, source, body).await;
        appended.push((seq.get(), kind));
    }
    let (fresh, conflict) = (AppendKind::Fresh, AppendKind::Conflict);
    assert_eq!(appended, [(1, fresh), (2, conflict), (3, fresh), (2, AppendKind::Duplicate)]);
    let events = inbox.read(vec![seq(3), seq(77), seq(2)]).await.unwrap();
    let read: Vec<_> = events.iter().map(|event| (event.seq.get(), event.source.as_str(), event.conflict)).collect();
    assert_eq!(read, [(3, "two", false), (2, "one", true)]);
    let outlines = inbox.outlines(vec![seq(3), seq(77), seq(2)]).await.unwrap();
    assert_eq!(outlines, events.iter().map(EventOutline::from).collect::<Vec<_>>(), "what lists need of the same");
}

pub(in crate::inbox) async fn one_event_at_once_many_times_is_stored_once(inbox: &dyn Inbox) {
    let body = payin("a", "o", "COMPLETED");
    let appends = futures_util::future::join_all((0..1000).map(|_| inbox.append(new_event("one", &body)))).await;
    let fresh = appends.iter().filter(|done| done.as_ref().unwrap().kind == AppendKind::Fresh).count();
    assert_eq!((fresh, *inbox.head().borrow()), (1, seq(1)));
}

pub(in crate::inbox) async fn a_processing_after_its_completed_is_stale(inbox: &dyn Inbox) {
    let orders = [("one", "a", "PROCESSING"), ("one", "a", "COMPLETED"), ("one", "a", "PROCESSING")];
    let others = [("one", "b", "PROCESSING"), ("two", "a", "PROCESSING"), ("one", "a", "FAILED")];
    for (n, (source, order, state)) in orders.into_iter().chain(others).enumerate() {
        append(inbox, source, &payin(&n.to_string(), order, state)).await;
    }
    let events = inbox.read_after(Seq::ZERO, 10, None).await.unwrap().events;
    assert_eq!(events.iter().map(|event| event.stale).collect::<Vec<_>>(), [false, false, true, false, false, false]);
}

fn places(slice: &Slice) -> Vec<i64> {
    slice.events.iter().map(|event| event.seq.get()).collect()
}

/// Every selected place, by reads of `limit`.
async fn walk(inbox: &dyn Inbox, of: &Selection, limit: usize) -> Vec<i64> {
    let (mut after, mut found) = (Seq::ZERO, Vec::new());
    while after < of.last {
        let slice = inbox.read_after(after, limit, Some(of.clone())).await.unwrap();
        assert!(slice.events.len() <= limit && slice.read_to > after, "{slice:?}");
        assert!(slice.events.iter().all(|event| event.seq > after && event.seq <= slice.read_to));
        found.extend(places(&slice));
        after = slice.read_to;
    }
    assert_eq!(after, of.last);
    found
}

pub(in crate::inbox) async fn what_is_read_is_what_was_asked_for(inbox: &dyn Inbox) {
    for n in 1..=900 {
        let (source, state) = (if n % 3 == 0 { "two" } else { "one" }, if n % 2 == 0 { "COMPLETED" } else { "FAILED" });
        append(inbox, source, &payin(&format!("e{n}"), &format!("o{}", n % 30), state)).await;
    }
    append(inbox, "one", r#"{"eventId":"kyc","eventType":"kyc_state_updated"}"#).await;
    let all = EventFilter::default;
    let which = |keep: &dyn Fn(i64) -> bool, from: i64, to: i64| (from..=to).filter(|&n| keep(n)).collect::<Vec<_>>();
    let types = |types: &str| EventFilter { types: vec![types.to_owned()], ..all() };
    for limit in [1, 7, 256, 5000] {
        assert_eq!(walk(inbox, &selection(all(), 5, 20), limit).await, which(&|_| true, 5, 20));
        let failed = selection(types("payin.f*"), 2, 901);
        assert_eq!(walk(inbox, &failed, limit).await, which(&|n| n % 2 == 1, 2, 900));
        let keyed = selection(EventFilter { key: Some("o7".to_owned()), ..all() }, 8, 600);
        assert_eq!(walk(inbox, &keyed, limit).await, which(&|n| n % 30 == 7, 8, 600));
        let both = EventFilter { key: Some("o6".to_owned()), source: Some("two".to_owned()), ..types("payin.c*") };
        assert_eq!(walk(inbox, &selection(both, 1, 901), limit).await, which(&|n| n % 30 == 6, 1, 900));
        let id = selection(EventFilter { id: Some("e77".to_owned()), ..all() }, 1, 901);
        assert_eq!(walk(inbox, &id, limit).await, [77]);
        let search = selection(EventFilter { search: Some("\"e33".to_owned()), ..all() }, 1, 901);
        assert_eq!(walk(inbox, &search, limit).await, which(&|n| n == 33 || n / 10 == 33, 1, 900));
        let kyc = selection(EventFilter { categories: vec![Category::Kyc], ..all() }, 1, 901);
        assert_eq!(walk(inbox, &kyc, limit).await, [901]);
        let state = selection(EventFilter { state: Some("failed".to_owned()), ..all() }, 890, 900);
        assert_eq!(walk(inbox, &state, limit).await, which(&|n| n % 2 == 1, 890, 900));
        let long_ago = selection(EventFilter { until: Some(Timestamp::UNIX_EPOCH), ..all() }, 1, 901);
        assert_eq!(walk(inbox, &long_ago, limit).await, [0; 0]);
    }
}

pub(in crate::inbox) async fn text_is_found_as_it_reads_and_packed_bodies_too(inbox: &dyn Inbox) {
    append(inbox, "one", r#"{"eventId":"1","eventType":"payin.x","name":"Jos\u00e9 a\/b"}"#).await;
    append(inbox, "one", r#"{"eventId":"2","eventType":"payin.x","name":"José"}"#).await;
    // `{"eventId":"3","eventType":"payin.x"}`, packed.
    let packed =
        "1f8b08000000000002ffab564a2d4bcd2bf14c51b2523256d281f0422a0b5281fc82c4cacc3cbd0aa55a00e283abdd25000000";
    let packed = Bytes::from(data_encoding::HEXLOWER.decode(packed.as_bytes()).unwrap());
    let delivery = Unverified {
        source: SourceName::new("one").unwrap(),
        signatures: vec![Bytes::from(sign(SECRET, &packed))],
        content_type: None,
        headers: vec![("content-encoding".to_owned(), "gzip".to_owned())],
        body: packed.clone(),
    };
    let verified = delivery.verify(&Keys::new(&[SECRET]).unwrap()).unwrap();
    inbox.append(NewEvent::new(verified, now())).await.unwrap();
    let events = inbox.read_after(Seq::ZERO, 10, None).await.unwrap().events;
    let encodings: Vec<_> = events.iter().map(|event| event.content_encoding.as_deref()).collect();
    assert_eq!(encodings, [None, None, Some("gzip")]);
    assert_eq!((events[2].id.as_str(), events[2].event_type.as_str()), ("3", "payin.x"));
    assert_eq!(events[2].body, Some(packed), "as received");
    for (text, found) in [
        ("José", &[1, 2][..]),
        ("Jose\u{301}", &[1, 2]),
        ("a/b", &[1]),
        ("Jos", &[1, 2]),
        ("\\u00e9", &[1]),
        ("payin.x", &[1, 2, 3]),
        ("Jose", &[]),
    ] {
        let search = selection(EventFilter { search: Some(text.to_owned()), ..EventFilter::default() }, 1, 3);
        assert_eq!(walk(inbox, &search, 10).await, found, "{text}");
    }
}

pub(in crate::inbox) async fn reading_ends_where_the_log_or_the_selection_does(inbox: &dyn Inbox) {
    fill(inbox, 5).await;
    let read = |after, limit, of| async move { inbox.read_after(seq(after), limit, of).await.unwrap() };
    let to = |slice: Slice| (places(&slice), slice.read_to.get());
    assert_eq!(to(read(0, 100, None).await), (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(to(read(5, 100, None).await), (vec![], 5));
    let some = |first, last| Some(selection(EventFilter::default(), first, last));
    assert_eq!(to(read(0, 100, some(1, 99)).await), (vec![1, 2, 3, 4, 5], 5), "not past the head");
    assert_eq!(to(read(5, 100, some(1, 99)).await), (vec![], 5));
    assert_eq!(to(read(0, 100, some(2, 3)).await), (vec![2, 3], 3), "not past the selection");
    assert_eq!(to(read(3, 100, some(2, 3)).await), (vec![], 3));
    assert_eq!(to(read(4, 100, some(2, 3)).await), (vec![], 4));
    assert_eq!(to(read(0, 1, some(2, 3)).await), (vec![2], 2));
    assert_eq!(to(read(0, 0, some(2, 3)).await), (vec![], 0));
    assert_eq!(to(read(0, 100, some(4, 3)).await), (vec![], 3), "an empty one");
    let slice = read(0, 100, some(3, 3)).await;
    assert_eq!(slice.events[0].body.as_deref(), Some(payin("e3", "o3", "COMPLETED").as_bytes()));
}

pub(in crate::inbox) async fn large_bodies_make_short_reads(inbox: &dyn Inbox) {
    let pad = "x".repeat(1 << 20);
    for n in 1..=12 {
        append(inbox, "one", &format!(r#"{{"eventId":"{n}","eventType":"payin_completed","pad":"{pad}"}}"#)).await;
    }
    for of in [None, Some(selection(EventFilter::default(), 1, 12))] {
        let slice = inbox.read_after(Seq::ZERO, 100, of).await.unwrap();
        assert_eq!((slice.events.len(), slice.read_to), (8, seq(8)));
    }
}
