//! What the loop is told, and replays.

use super::*;

#[tokio::test]
async fn pauses_and_resumes_as_it_is_told() {
    let inbox = Sick::healthy(3).with(|state| state.paused = true);
    let (consumer, sink, metrics) = consumer(&inbox).await;
    let gauge = metrics.dead_letters.with_label_values(&["bus"]);
    let handle = consumer.handle();
    assert_eq!((handle.id(), handle.name().as_str()), (ConsumerId::new(7), "bus"));
    let tell = |consumer: i64, change| handle.tell(&Effect { consumer: ConsumerId::new(consumer), change });
    let still_since = || inbox.progress.lock().unwrap().last().map(|progress| progress.standing.still_since);
    let watch = async {
        until("the pause is recorded", || matches!(still_since(), Some(Some(_)))).await;
        tell(8, Change::Resumed);
        tell(7, Change::Discarded(1));
        until("it has heard", || gauge.get() == 4).await;
        assert_eq!(sink.got.load(Ordering::SeqCst), 0, "that was for another");
        tell(7, Change::Resumed);
        time_until(&sink.got, 3).await;
        until("the resumption is recorded", || still_since() == Some(None)).await;
        tell(7, Change::Paused);
        until("the pause is recorded", || matches!(still_since(), Some(Some(_)))).await;
        inbox.head.send_replace(seq(4));
        tell(7, Change::Discarded(1));
        until("it has heard", || gauge.get() == 3).await;
        assert_eq!(sink.got.load(Ordering::SeqCst), 3);
    };
    run(consumer, watch).await;
}

#[tokio::test]
async fn revived_dead_letters_are_delivered_once_and_the_gauge_follows() {
    let inbox = Sick::healthy(40).with(|state| state.cursor = seq(40));
    let (consumer, sink, metrics) = consumer(&inbox).await;
    let gauge = metrics.dead_letters.with_label_values(&["bus"]);
    assert_eq!(gauge.get(), 5);
    let handle = consumer.handle();
    let tell = |change| handle.tell(&Effect { consumer: ConsumerId::new(7), change });
    let watch = async {
        inbox.unreadable.store(true, Ordering::SeqCst);
        let revived: Vec<Parked> = (1..=40).map(parked).collect();
        tell(Change::Revived(revived.clone()));
        tell(Change::Revived(revived[..20].to_vec()));
        tell(Change::Discarded(2));
        let three_reads = time_until(&inbox.reads, 3).await;
        assert!(three_reads > Duration::from_millis(900), "{three_reads:?}");
        until("they are no dead letters any more", || gauge.get() == 5 - 40 - 20 - 2).await;
        inbox.unreadable.store(false, Ordering::SeqCst);
        time_until(&inbox.recorded, 40).await;
    };
    run(consumer, watch).await;
    assert_eq!(sink.got.load(Ordering::SeqCst), 40);
    assert!(inbox.most_at_once.load(Ordering::SeqCst) <= 16, "bodies in memory");
}

#[tokio::test]
async fn an_open_breaker_is_seen_and_survives_a_restart() {
    let inbox = Sick::healthy(20);
    let (first, sink, metrics) = consumer(&inbox).await;
    sink.down.store(true, Ordering::SeqCst);
    let gauge = metrics.breaker_open.with_label_values(&["bus"]);
    let standing = || inbox.progress.lock().unwrap().last().map(|progress| progress.standing);
    let watch = async {
        until("it opens", || gauge.get() == 1).await;
        until("it is recorded", || standing().is_some_and(|it| it.breaker_open_since.is_some())).await;
    };
    run(first, watch).await;

    let standing = standing().unwrap();
    let inbox = Sick::healthy(20).with(|state| state.standing = standing);
    let (second, sink, metrics) = consumer(&inbox).await;
    let gauge = metrics.breaker_open.with_label_values(&["bus"]);
    assert_eq!(gauge.get(), 1);
    let watch = async {
        time_until(&inbox.recorded, 20).await;
    };
    run(second, watch).await;
    assert_eq!((gauge.get(), sink.got.load(Ordering::SeqCst)), (0, 20));
}

#[tokio::test]
async fn a_replay_delivers_its_part_and_ends() {
    let selection = Selection { filter: EventFilter::default(), first: seq(11), last: seq(300) };
    let of_replay = |state: &mut ConsumerState| {
        (state.selection, state.cursor, state.paused) = (Some(selection), seq(10), true);
    };
    let inbox = Sick::healthy(1000).with(of_replay);
    inbox.refusals.store(1, Ordering::SeqCst);
    let (sink, deps) = (Arc::new(Counting::default()), deps(&inbox));
    let metrics = Arc::clone(&deps.metrics);
    let gauges = [&metrics.dead_letters, &metrics.sink_parked, &metrics.breaker_open, &metrics.sink_lag_seconds];
    gauges.iter().for_each(|gauge| gauge.with_label_values(&["bus"]).set(42));
    let replay = Consumer::replay(config(), sink.clone(), JobId::new(9), None, deps).await.unwrap();
    let lag = replay.lag();
    assert_eq!(replay.run(CancellationToken::new()).await, End::Finished);
    lag.refresh(seq(1000));

    assert_eq!(*inbox.registered.lock().unwrap(), [Registration::Replay { job: JobId::new(9) }]);
    assert_eq!((sink.got.load(Ordering::SeqCst), inbox.recorded.load(Ordering::SeqCst)), (290, 290));
    assert_eq!(*sink.replays.lock().unwrap(), BTreeSet::from([Some(9)]));
    assert_eq!(sink.most_at_once.load(Ordering::SeqCst), 2, "half of the sink's");
    assert!(inbox.read_at_once.load(Ordering::SeqCst) <= 64);
    let last = inbox.progress.lock().unwrap().last().cloned().unwrap();
    assert_eq!((last.cursor, last.consumer), (seq(300), ConsumerId::new(7)));
    assert!(gauges.iter().all(|gauge| gauge.with_label_values(&["bus"]).get() == 42));
    assert_eq!(metrics.sink_lag_events.with_label_values(&["bus"]).get(), 0);
}

#[tokio::test]
async fn a_replay_can_be_slow_and_be_stopped() {
    let selection = Selection { filter: EventFilter::default(), first: seq(1), last: seq(300) };
    let inbox = Sick::healthy(300).with(|state| state.selection = Some(selection));
    let sink = Arc::new(Counting::default());
    let replay = Consumer::replay(config(), sink.clone(), JobId::new(9), Some(20.0), deps(&inbox)).await.unwrap();
    let watch = async {
        let eleven = time_until(&sink.got, 11).await;
        assert!(eleven > Duration::from_millis(450), "{eleven:?}");
    };
    assert_eq!(run(replay, watch).await, End::Stopped);
    assert_eq!(sink.got.load(Ordering::SeqCst), inbox.recorded.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_replay_without_a_selection_is_refused() {
    let inbox = Sick::healthy(1);
    let replay = Consumer::replay(config(), Arc::new(Counting::default()), JobId::new(9), None, deps(&inbox)).await;
    assert!(matches!(replay, Err(Unavailable::Storage(_))));
}

#[tokio::test]
async fn what_a_filter_cannot_decide_is_counted() {
    let (consumer, _, metrics) = consumer(&Sick::healthy(1)).await;
    consumer.tell_unsure(&[(seq(1), "no such field".to_owned()), (seq(2), "no such field".to_owned())]);
    assert!(metrics.render().contains("ralio_relay_filter_errors_total{sink=\"bus\"} 2"));
}
