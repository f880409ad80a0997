//! Whatever comes together, what is said is true.

use std::collections::BTreeSet;

use super::*;
use crate::inbox::{BuildFailure, QuarantineCounts, SinkHealth, SinkRecord, Standing, unconfigured};
use crate::records::sink::tests::record;
use crate::records::sink::{Configured, lines};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A sink that has got everything.
fn good() -> SinkRecord {
    SinkRecord { lag: 0, parked: 0, dead_letters: 0, delivered: 33, ..record("bus") }
}

fn waits(lag: u64, parked: u64, seconds: i64, sink: SinkRecord) -> SinkRecord {
    SinkRecord { lag, parked, oldest_waiting: Some(at(NOW - seconds)), ..sink }
}

fn failing() -> SinkRecord {
    let health = SinkHealth {
        failures: 4,
        failing_since: Some(at(NOW - 60)),
        last_error: Some("HTTP 503: overload".to_owned()),
        last_error_at: Some(at(NOW - 5)),
        next_try: Some(at(NOW + 15)),
        ..SinkHealth::default()
    };
    SinkRecord { health, ..waits(0, 4, 60, good()) }
}

/// Every state that a sink can be in, by name; `None` is one that is new.
fn states() -> Vec<(&'static str, Option<SinkRecord>)> {
    let breaker = Standing { breaker_open_since: Some(at(NOW - 50)), ..Standing::default() };
    let failure = BuildFailure { error: "no directory /mnt/x".to_owned(), since: at(NOW - 40) };
    let paused = SinkRecord { paused_since: Some(at(NOW - 30)), ..good() };
    let full = SinkHealth { reading_stopped: true, ..SinkHealth::default() };
    let never = SinkRecord { delivered: 0, ..good() };
    vec![
        ("good", Some(good())),
        ("busy", Some(waits(7, 0, 2, good()))),
        ("behind", Some(waits(7, 0, 900, good()))),
        ("some fail", Some(waits(0, 2, 20, good()))),
        ("failing", Some(failing())),
        ("never, failing", Some(SinkRecord { delivered: 0, ..failing() })),
        ("down", Some(SinkRecord { standing: breaker, ..failing() })),
        ("unavailable", Some(SinkRecord { build_failure: Some(failure.clone()), ..good() })),
        ("down and unavailable", Some(SinkRecord { build_failure: Some(failure), standing: breaker, ..failing() })),
        ("paused", Some(paused.clone())),
        ("paused, waiting", Some(waits(3, 0, 25, paused))),
        ("full", Some(SinkRecord { health: full, ..waits(900, 100, 250, good()) })),
        ("never, waiting", Some(waits(1, 0, 3, never.clone()))),
        ("never, parked", Some(waits(0, 1, 3, never.clone()))),
        ("never, dead", Some(SinkRecord { dead_letters: 2, ..never.clone() })),
        ("nothing wanted", Some(never)),
        ("dead letters", Some(SinkRecord { dead_letters: 2, ..good() })),
        ("new", None),
    ]
}

fn named(sink: &Option<SinkRecord>, name: &str) -> Option<SinkRecord> {
    let name = crate::model::SinkName::new(name).unwrap();
    sink.as_ref().map(|sink| SinkRecord { name, ..sink.clone() })
}

/// What is said of these sinks, `a` and `b`, of which the second may be removed.
fn said(sinks: [&Option<SinkRecord>; 2], b_is_removed: bool, facts: &Facts<'_>) -> (Verdict, Vec<String>) {
    let names = ["a", "b"].map(|name| crate::model::SinkName::new(name).unwrap());
    let records: Vec<SinkRecord> =
        sinks.iter().zip(&names).filter_map(|(sink, name)| named(sink, name.as_str())).collect();
    let configured: Vec<Configured<'_>> =
        names.iter().take(if b_is_removed { 1 } else { 2 }).map(|name| Configured { name, kind: "amqp" }).collect();
    let wanted: Vec<_> = configured.iter().map(|sink| sink.name.clone()).collect();
    let left = unconfigured(&records, &wanted);
    let lines = lines(&records, Some(&configured));
    let words = lines.iter().map(|line| sink::words(line, facts.now)).collect();
    (verdict(&Facts { sinks: &lines, unconfigured: &left, ..facts.clone() }), words)
}

fn ready() -> Facts<'static> {
    Facts {
        daemon: Daemon::Ready,
        last_event_at: Some(at(NOW - 10)),
        last_hour: 5,
        last_24h: 100,
        sinks: &[],
        quarantine: QuarantineCounts::default(),
        quarantine_most: 100,
        refused: &[],
        unconfigured: &[],
        altered_events: 0,
        reload_failure: None,
        certificate_ends: Some(at(NOW + 100 * 86_400)),
        clock_ahead: None,
        now: at(NOW),
    }
}

/// Everything but the sinks, in each of its states.
fn surroundings() -> Vec<Facts<'static>> {
    let not_ready = Daemon::NotReady(vec!["the disk is full".to_owned()]);
    let mut all = Vec::new();
    for daemon in [Daemon::Ready, not_ready, Daemon::Away, Daemon::Unknown] {
        for (last_event_at, last_hour, last_24h) in
            [(Some(at(NOW - 10)), 5, 100), (None, 0, 0), (Some(at(NOW - 9000)), 0, 100)]
        {
            for (entries, not_kept) in [(0, 0), (1, 0), (95, 0), (50, 7), (0, 1)] {
                for ends in [None, Some(at(NOW + 100 * 86_400)), Some(at(NOW + 86_400)), Some(at(NOW))] {
                    let daemon = daemon.clone();
                    let not_kept_since = (not_kept > 0).then(|| at(NOW - 60));
                    let quarantine = QuarantineCounts { entries, answered_401: entries, not_kept, not_kept_since };
                    all.push(Facts {
                        daemon,
                        last_event_at,
                        last_hour,
                        last_24h,
                        quarantine,
                        certificate_ends: ends,
                        ..ready()
                    });
                }
            }
        }
    }
    all
}

/// Every pair of states, in every surrounding, told by what it must not say.
#[test]
fn money_is_said_to_flow_only_when_it_does() {
    let (states, surroundings) = (states(), surroundings());
    let mut sentences = BTreeSet::new();
    for (a_state, a) in &states {
        for (b_state, b) in &states {
            for b_is_removed in [false, true] {
                let configured: Vec<&SinkRecord> = [(a, false), (b, b_is_removed)]
                    .into_iter()
                    .filter_map(|(sink, is_removed)| sink.as_ref().filter(|_| !is_removed))
                    .collect();
                let all: Vec<&SinkRecord> = [a, b].into_iter().flatten().collect();
                let reaches = |sink: &&SinkRecord| match sink.state() {
                    SinkState::Running => !sink.health.reading_stopped,
                    SinkState::Paused | SinkState::Failing | SinkState::Down | SinkState::Unavailable => false,
                };
                let has_begun = |sink: &&SinkRecord| sink.delivered > 0 || sink.undelivered() + sink.dead_letters == 0;
                let flows = configured.iter().all(|sink| reaches(sink) && has_begun(sink))
                    && configured.iter().any(|sink| sink.delivered > 0);
                let is_quiet = all.iter().all(|sink| sink.dead_letters == 0)
                    && all.iter().all(|sink| sink.oldest_waiting.is_none_or(|since| since >= at(NOW - 300)))
                    && !(b_is_removed && b.as_ref().is_some_and(|sink| sink.undelivered() > 0));
                for facts in &surroundings {
                    let case = format!("{a_state} / {b_state} (removed: {b_is_removed}) in {facts:?}");
                    let (verdict, words) = said([a, b], b_is_removed, facts);
                    let comes_in = facts.daemon == Daemon::Ready
                        && facts.last_hour > 0
                        && facts.certificate_ends.is_none_or(|end| end > facts.now);
                    let is_flowing = verdict.sentence.starts_with("Money is flowing");
                    assert_eq!(is_flowing, flows && comes_in, "{}: {case}", verdict.sentence);
                    let is_odd = facts.quarantine.entries + facts.quarantine.not_kept > 0
                        || facts.certificate_ends == Some(at(NOW + 86_400));
                    let is_fine = verdict.sentence == "Money is flowing.";
                    assert_eq!(is_fine, flows && comes_in && is_quiet && !is_odd, "{}: {case}", verdict.sentence);
                    assert_eq!(verdict.level == Level::Ok, is_fine, "{case}");
                    assert!(verdict.findings.is_empty() || !is_fine, "{case}");
                    assert!(verdict.findings.is_sorted_by_key(|finding| finding.level), "{case}");
                    for (sink, words) in all.iter().zip(&words) {
                        let has_all = sink.undelivered() + sink.dead_letters == 0 && sink.delivered > 0;
                        assert!(
                            !words.contains("It has got every event") || has_all && reaches(sink),
                            "{words}: {case}"
                        );
                    }
                    let got_all = configured.iter().all(|sink| sink.undelivered() == 0);
                    assert!(!verdict.more.contains("very sink has got") || got_all, "{}: {case}", verdict.more);
                    assert_eq!(verdict.more.starts_with("Up to date"), is_fine && got_all, "{}: {case}", verdict.more);
                    sentences.insert(verdict.sentence);
                }
            }
        }
    }
    assert!(sentences.len() > 20, "{sentences:#?}");
}

/// What is said of a sink beside a good one.
#[test]
fn each_state_has_its_sentence() {
    let sentences = [
        ("good", "Money is flowing."),
        ("busy", "Money is flowing."),
        ("behind", "Money is flowing, but a is behind."),
        ("some fail", "Money is flowing."),
        ("failing", "Events come in, but do not reach a."),
        ("never, failing", "Events come in, but do not reach a."),
        ("down", "Events come in, but do not reach a."),
        ("unavailable", "Events come in, but do not reach a."),
        ("down and unavailable", "Events come in, but do not reach a."),
        ("paused", "Events come in, and a is paused."),
        ("paused, waiting", "Events come in, but do not reach a."),
        ("full", "Events come in, but do not reach a."),
        ("never, waiting", "Events come in, but none has reached a yet."),
        ("never, parked", "Events come in, but none has reached a yet."),
        ("never, dead", "Events come in, but none has reached a yet."),
        ("nothing wanted", "Money is flowing."),
        ("dead letters", "Money is flowing, and something waits for a person."),
        ("new", "Money is flowing."),
    ];
    for ((state, sink), (named, sentence)) in states().iter().zip(sentences) {
        assert_eq!(*state, named);
        assert_eq!(said([sink, &Some(good())], false, &ready()).0.sentence, sentence, "{state}");
    }
    let nothing = Some(SinkRecord { delivered: 0, ..good() });
    let (verdict, _) = said([&nothing, &None], false, &ready());
    assert_eq!(verdict.sentence, "Events come in, but no sink has been given one yet.");
    let (verdict, _) =
        said([&Some(failing()), &None], false, &Facts { last_event_at: None, last_hour: 0, last_24h: 0, ..ready() });
    assert_eq!(verdict.sentence, "No event has arrived yet, and none would reach a.");
    let nowhere = verdict_of_none();
    assert_eq!(nowhere.sentence, "Events come in, and go nowhere: no sink is configured.");
}

fn verdict_of_none() -> Verdict {
    verdict(&ready())
}

/// Why, since when, the next try and what waits are told with each.
#[test]
fn a_sink_in_trouble_says_why_and_what_comes_next() {
    let told = |name: &str| {
        let (_, sink) = states().into_iter().find(|(state, _)| *state == name).unwrap();
        said([&sink, &Some(good())], false, &ready()).1.remove(0)
    };
    assert_eq!(
        told("failing"),
        "The last 4 attempts failed, the first of them 1 min ago: HTTP 503: overload. The next try is in 15 s. 4 events \
         wait, the oldest for 1 min."
    );
    assert_eq!(
        told("down"),
        "It has been down for 50 s: HTTP 503: overload. The next try is in 15 s. 4 events wait, the oldest for 1 min."
    );
    assert_eq!(
        told("unavailable"),
        "It has been unavailable for 40 s: no directory /mnt/x. It is tried again by itself."
    );
    assert_eq!(
        told("paused, waiting"),
        "A person paused it 30 s ago, and its replays with it. 3 events wait, the oldest for 25 s."
    );
    assert!(told("full").ends_with("Nothing more is read for it: 100 events are parked."), "{}", told("full"));
    assert_eq!(
        told("some fail"),
        "2 events wait for another attempt. What came later for the same orders waits, too; others go on. The oldest has \
         waited for 20 s."
    );
    assert_eq!(told("never, dead"), "Nothing has been delivered to it. 2 dead letters wait for a person.");
    assert_eq!(told("nothing wanted"), "Nothing has been delivered to it yet, and nothing waits for it.");
    assert_eq!(told("good"), "It has got every event that is meant for it.");
}

#[test]
fn retention_that_is_held_back_is_said() {
    let ahead = ClockAhead { now: at(NOW), believed: at(NOW - 100 * 86_400) };
    let told = verdict(&Facts { clock_ahead: Some(ahead), ..ready() });
    let finding = told.findings.iter().find(|finding| finding.text.contains("Retention is held back")).unwrap();
    assert_eq!(finding.level, Level::Warn);
    assert_eq!(finding.command.as_deref(), Some("ralio-relay prune --confirm-clock"));
    assert!(verdict(&ready()).findings.iter().all(|finding| !finding.text.contains("clock")));
}

fn refused(refused: u64, first: i64, last: i64) -> RefusedSource {
    RefusedSource { source: "production".to_owned(), refused, first: at(NOW - first), last: at(NOW - last) }
}

/// A source whose secret is stale: said as soon as it is no chance, also where no event has ever come in, and no longer
/// when it was long ago.
#[test]
fn a_source_whose_every_delivery_is_refused_is_said_first() {
    let sinks = [Some(failing()), Some(good())];
    let sentence = |refused: &[RefusedSource], facts: Facts<'static>| {
        let facts = Facts { refused, ..facts };
        let (verdict, _) = said([&sinks[0], &sinks[1]], false, &facts);
        (verdict.level, verdict.sentence, verdict.findings)
    };
    let stale = [refused(12, 600, 5)];
    let said = "Every delivery to production is refused for its signature.";
    for last_event_at in [Some(at(NOW - 9000)), None] {
        let (level, sentence, findings) = sentence(&stale, Facts { last_event_at, ..ready() });
        assert_eq!((level, &*sentence), (Level::Bad, said));
        let why = "production: 12 deliveries in a row, the first of them 10 min ago, had a signature that fits no secret here.";
        let finding = findings.iter().find(|finding| finding.text == why).unwrap();
        assert_eq!(finding.page.as_deref(), Some("#/quarantine?source=production"));
        assert_eq!(finding.command.as_deref(), Some("ralio-relay quarantine list --source production"));
    }
    for (not_yet, why) in
        [(refused(2, 600, 5), "few"), (refused(12, 200, 5), "short"), (refused(12, 200_000, 100_000), "old")]
    {
        assert_ne!(sentence(&[not_yet], ready()).1, said, "{why}");
    }
}

#[test]
fn a_reload_that_failed_is_said() {
    let problems = vec!["relay.toml:12: sinks[0].typ: unknown key".to_owned(), "another".to_owned()];
    let failed = |problems| Facts { reload_failure: Some(ReloadFailure { at: at(NOW - 90), problems }), ..ready() };
    let (told, _) = said([&Some(good()), &Some(good())], false, &failed(problems));
    assert_eq!(told.sentence, "Money is flowing, but the last reload of the configuration failed.");
    assert_eq!(told.more, "Every sink has got every stored event that is meant for it.");
    assert_eq!(
        told.findings[0].text,
        "The configuration was to be read again 1 min 30 s ago, and cannot be used: relay.toml:12: sinks[0].typ: unknown \
         key (and 1 more problem)"
    );
    let unknown = verdict(&failed(Vec::new()));
    assert!(unknown.findings.iter().any(|finding| finding.text.ends_with("and cannot be used.")), "{unknown:?}");
}

/// With the command that brings its place to the new name, on the page as on a terminal.
#[test]
fn a_sink_that_is_not_configured_says_what_to_do_with_what_waits_for_it() {
    let (told, _) = said([&None, &Some(waits(3, 0, 25, good()))], true, &ready());
    let finding = told.findings.iter().find(|finding| finding.page.as_deref() == Some("#/sinks?name=b")).unwrap();
    assert_eq!(finding.text, "The inbox has a sink 'b' (3 to go) that is not configured, and 'a' is new.");
    assert!(finding.todo.starts_with("If it was renamed, run `ralio-relay sinks rename b a`"), "{}", finding.todo);
    assert_eq!(told.findings.iter().filter(|finding| finding.text.contains("'b'")).count(), 1, "{told:?}");
}

#[test]
fn a_full_quarantine_is_said_with_what_it_could_not_keep() {
    let quarantine =
        |entries, not_kept| QuarantineCounts { entries, answered_401: entries, not_kept, not_kept_since: None };
    let text = |entries, not_kept| {
        let told = verdict(&Facts { quarantine: quarantine(entries, not_kept), ..ready() });
        told.findings.into_iter().find(|finding| finding.page.as_deref() == Some("#/quarantine")).unwrap().text
    };
    assert!(text(100, 7).starts_with("The quarantine is full: 100 requests refused"), "{}", text(100, 7));
    assert!(text(100, 7).ends_with("7 more were answered 503 and not kept, and Ralio sends these again."));
    assert!(text(99, 0).starts_with("99 requests refused for their signature, of at most 100"), "{}", text(99, 0));
}

/// Whatever needs a person comes with a command to type.
#[test]
fn every_finding_has_a_command() {
    let nothing = Facts { last_event_at: None, last_hour: 0, last_24h: 0, ..ready() };
    let silent = Facts { last_event_at: Some(at(NOW - 9000)), last_hour: 0, ..ready() };
    let failure = ReloadFailure { at: at(NOW), problems: Vec::new() };
    let others = [nothing, silent, Facts { reload_failure: Some(failure), refused: &[], ..ready() }];
    for (state, sink) in states() {
        for facts in surroundings().iter().chain(&others) {
            let (told, _) = said([&sink, &Some(failing())], true, facts);
            for finding in told.findings {
                assert!(
                    finding.command.is_some_and(|command| command.starts_with("ralio-relay ")),
                    "{}: {state}",
                    finding.text
                );
            }
        }
    }
}
