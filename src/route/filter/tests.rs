//! Expressions and verdicts, and what hostile ones cost.

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::model::{EntityKey, EventId, EventType, Seq, SourceName};
use crate::route::{Glob, Route};

/// Two orders of magnitude more than anything here takes, unoptimised and beside other tests.
const BOUND: Duration = Duration::from_secs(20);

const BODY: &str = r#"{"eventId":"e","eventType":"payin_completed","data":{"amount":10,"rate":1.5,"whole":10.0,
    "large":9007199254740993,"huge":18446744073709551615,"state":"verified","flag":true,"nothing":null,
    "amounts":{"creditedAmount":{"amount":250000,"currency":"EUR"}},"list":[1,2,3],
    "checks":[{"type":"document","state":"failed"},{"type":"selfie","state":2}]}}"#;

fn subject(event_type: &str, body: impl Into<Bytes>) -> Subject {
    Subject {
        seq: Seq::new(17).unwrap(),
        id: EventId::new("evt-1").unwrap(),
        event_type: EventType::canonical(event_type).unwrap(),
        source: SourceName::new("production").unwrap(),
        key: EntityKey::new("order-1").unwrap(),
        time: None,
        received_at: "2026-02-26T22:02:29.5Z".parse().unwrap(),
        stale: false,
        content_encoding: None,
        body: Some(body.into()),
    }
}

fn payin(body: impl Into<Bytes>) -> Subject {
    subject("payin_completed", body)
}

fn route(expression: &str) -> Route {
    let filter = Filter::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    Route::new(Vec::new()).with_filter(filter)
}

async fn judge(expression: &str, subject: Subject) -> Verdict {
    route(expression).judge(vec![subject]).await.remove(0)
}

async fn verdict_on(expression: &str, body: &str) -> Verdict {
    judge(expression, payin(body.to_owned())).await
}

/// Why an expression is no filter.
fn refusal(expression: &str) -> String {
    Filter::compile(expression).map(|_| ()).unwrap_err().to_string()
}

#[tokio::test]
async fn what_is_true_is_wanted_and_what_is_false_is_not() {
    for (expression, wanted) in [
        ("event.data.amounts.creditedAmount.currency == 'EUR'", true),
        ("event.data.amounts.creditedAmount.currency == 'USD'", false),
        ("event.data.amounts.creditedAmount.currency in ['USD', 'EUR']", true),
        ("event.data.amount == 10 && event.data.amount < 11 && event.data.amount >= 9.5", true),
        ("event.data.whole == 10 && event.data.amount == 10.0", true),
        ("event.data.rate > 1 && event.data.rate < 2", true),
        // Beyond what a double tells apart.
        ("event.data.large == 9007199254740993 && event.data.large != 9007199254740992", true),
        ("event.data.huge == 18446744073709551615u && event.data.huge > 1", true),
        ("event.data.amounts.creditedAmount.amount / 100 >= 2500", true),
        ("has(event.data.failure)", false),
        ("has(event.data.failure) && event.data.failure.code == 'R01'", false),
        ("!has(event.data.amounts.fx) && has(event.data.amounts)", true),
        ("event.data.nothing == null && event.data.flag", true),
        ("event.data.checks.exists(c, c.state == 'failed')", true),
        ("event.data.checks.all(c, c.state == 'failed')", false),
        ("event.data.checks.filter(c, c.type == 'selfie').map(c, c.state) == [2]", true),
        ("event.data.checks.map(c, c.type).size() == 2 && event.data.list[2] == 3", true),
        ("event.data.list.exists_one(x, x + 1 == 3)", true),
        ("event.data.state.startsWith('ver') && event.data.state.matches('^v.*d$')", true),
        ("matches(event.data.state, '^x')", false),
        ("event['data']['amount'] == 10 && {'a': event.data.amount}.a == 10", true),
        ("type(event.data.amount) == int && string(event.data.amount) + '!' == '10!'", true),
        ("meta.type == 'payin.completed' && meta.category == 'payin' && meta.source == 'production'", true),
        ("meta.key == 'order-1' && meta.id == 'evt-1' && meta.seq == 17 && !meta.stale", true),
        ("meta.received_at == '2026-02-26T22:02:29.5Z' && meta.time == null", true),
        ("true || event.no.such.thing", true),
        ("[1].all(event, event == 1)", true),
    ] {
        let expected = if wanted { Verdict::Wanted } else { Verdict::Filtered };
        assert_eq!(verdict_on(expression, BODY).await, expected, "{expression}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_is_delivered_and_says_why_without_the_event() {
    let secret = r#"{"data":{"s":"hunter2","n":3,"l":["hunter2"],"k":"hunter2","hunter2x":1}}"#;
    for (expression, body, why) in [
        ("event.data.s", secret, "did not give true or false"),
        ("1 + 1", secret, "did not give true or false"),
        ("event.data.missing == 1", secret, "no 'missing' in the event: ask with has()"),
        ("event.data.missing.more == 1", secret, "no 'missing'"),
        ("event.data[event.data.k] == 1", secret, "no such key"),
        ("event.data.s > 1", secret, "cannot apply '>' to (string, int)"),
        ("event.data.s + 1 == 'x'", secret, "cannot"),
        ("event.data.s.n == 1", secret, "cannot"),
        ("event.data.l[7] == 'x'", secret, "beyond the end of a list"),
        ("event.data.l[1.5] == 'x'", secret, "cannot apply '[]'"),
        ("event.data.n / 0 == 1", secret, "divided by zero"),
        ("event.data.n + 9223372036854775807 > 0", secret, "64 bits"),
        ("int(event.data.s) == 1", secret, "int"),
        ("event.data.n.matches('x')", secret, "cannot apply 'matches'"),
        ("event.data.s == 1", "hunter2 is not JSON", "not JSON"),
        ("event.data.s == 1", "", "not JSON"),
        ("event.data.s == 1", "{}{}", "not JSON"),
        ("event.data.s == 1", "[1e999", "not JSON"),
        ("event.data.s == 1", "[1e999]", "cannot"),
    ] {
        let verdict = verdict_on(expression, body).await;
        let Verdict::Unsure(text) = &verdict else { panic!("{expression}: {verdict:?}") };
        assert!(text.contains(why) && !text.contains("hunter2"), "{expression}: {text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    // What does not need the body does without it.
    assert_eq!(judge("meta.type == 'malformed'", subject("malformed", "hunter2")).await, Verdict::Wanted);
    assert_eq!(judge("meta.type == 'x' && event.a", subject("malformed", "hunter2")).await, Verdict::Filtered);
}

/// What the envelope takes for JSON, a filter can look at.
#[tokio::test]
async fn odd_bodies_are_read_as_everywhere() {
    for (expression, body) in [
        ("event.a == 1 && event.o.x == 1", &br#"{"a":1,"a":2,"o":{"x":1,"x":2},"o":{}}"#[..]),
        ("event.a == 1", b"\xef\xbb\xbf{\"a\":1}"),
        ("event.a == 'J\u{fffd}rgen'", b"{\"a\":\"J\xfcrgen\"}"),
        ("event.a > 1 && event.b < 0 && event.c == 1", br#"{"a":1e999,"b":-1e999,"c":1,"c":2}"#),
        (
            "event.a == '\u{fffd}x' && event.list[1] == 2.5 && event.t && event.n == null",
            br#"{"a":"\ud800x","list":[1,2.5],"t":true,"n":null}"#,
        ),
        (
            "event.a == 18446744073709551615u && event.b == -9 && event.h == '\u{fffd}'",
            br#"{"a":18446744073709551615,"b":-9,"h":"\udc00"}"#,
        ),
    ] {
        assert_eq!(judge(expression, payin(body.to_vec())).await, Verdict::Wanted, "{expression}");
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut packed, br#"{"a":1}"#).unwrap();
    let packed = Subject { content_encoding: Some("gzip".to_owned()), ..payin(packed.finish().unwrap()) };
    assert_eq!(judge("event.a == 1", packed).await, Verdict::Wanted);
    for (body, why) in [
        (format!("{}1e999{}", "[".repeat(127), "]".repeat(127)), "cannot"),
        (format!("{}1e999{}", "[".repeat(128), "]".repeat(128)), "too deeply"),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "too deeply"),
        (format!("[1e999{}]", ",1".repeat(100_000)), "more than 100,000 values"),
    ] {
        let Verdict::Unsure(text) = judge("event.a == 1", payin(body)).await else { panic!("decided") };
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn globs_come_first_bodies_that_are_gone_are_wanted_and_the_order_stays() {
    let gone = |event_type| Subject { body: None, ..subject(event_type, "") };
    let filter = Filter::compile("event.a").unwrap();
    let route = Route::new(vec![Glob::new("payin.*").unwrap()]).with_filter(filter);
    let verdicts = route
        .judge(vec![
            payin(r#"{"a":false}"#),
            subject("payout_completed", r#"{"a":true}"#),
            gone("payin_completed"),
            gone("payout_completed"),
            payin(r#"{"a":true}"#),
            payin(r#"{"a":1}"#),
        ])
        .await;
    let unsure = Verdict::Unsure("the filter did not give true or false".to_owned());
    let expected = [Verdict::Filtered, Verdict::Filtered, Verdict::Wanted, Verdict::Filtered, Verdict::Wanted, unsure];
    assert_eq!(verdicts, expected);
    assert_eq!(route.judge(Vec::new()).await, []);
}

#[test]
fn what_is_no_filter_says_what_is_wrong() {
    for (expression, why) in [
        ("", "not an expression"),
        ("event.data.", "not an expression (line 1"),
        ("event.a ==\n= 1", "line 2, column"),
        ("evnt.data.amount == 1", "unknown variable 'evnt': known are event and meta"),
        ("[1].exists(x, y == 1)", "unknown variable 'y'"),
        ("[1].exists(x, x == 1) && x == 1", "unknown variable 'x'"),
        // Not the type of types, which nobody means: it would be no event's.
        ("type == 'payin.completed'", "unknown variable 'type': known are event and meta; did you mean 'meta.type'?"),
        ("type.startsWith('payin')", "did you mean 'meta.type'?"),
        ("meta.tpye == 'x'", "unknown 'meta.tpye': in meta are type, category"),
        ("has(meta.tpye)", "unknown 'meta.tpye'"),
        ("sice(event) == 1", "unknown function 'sice'"),
        ("event.l.exists(1)", "unknown function 'exists', or one with a wrong number of arguments"),
        ("optional.of(event).hasValue()", "unknown"),
        ("event.?a == 1", "not an expression"),
        ("event.a.matches(event.b)", "matches() without a pattern in quotes"),
        ("event.a.matches('(')", "invalid regular expression '(': unclosed group"),
        ("event.a.matches('((a{100}){100}){100}')", "regular expression that is too large"),
        ("event.a.matches('a{1000000000}')", "regular expression that is too large"),
        ("Foo{a: 1}.a == 1", "no types of messages"),
        ("timestamp('2026-01-01T00:00:00Z') == 1", "unknown function 'timestamp'"),
        (&" ".repeat(4097), "has 4097 bytes, and 4096 are the limit"),
    ] {
        let text = refusal(expression);
        assert!(text.contains(why) && text.len() < 700, "{expression}: {text}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

/// At most so many of `head`, a middle, and as many of `tail`: what 4 KiB hold.
fn nested(count: usize, head: &str, middle: &str, tail: &str) -> String {
    let count = count.min((MAX_EXPRESSION_BYTES - middle.len()) / (head.len() + tail.len()));
    format!("{}{middle}{}", head.repeat(count), tail.repeat(count))
}

/// Every way to nest, up to 4 KiB: refused or evaluated, but the process lives and does not hang.
#[tokio::test]
async fn nesting_neither_aborts_nor_takes_long() {
    let list = format!(r#"{{"a":{{"b":1}},"l":[{}1],"s":"{}"}}"#, "1,".repeat(40_000), "x".repeat(900_000));
    let body = Bytes::from(list);
    let mut evaluated = 0;
    for (head, middle, tail) in [
        ("(", "true", ")"),
        ("[", "1", "]"),
        ("[", "", ""),
        ("!", "true", ""),
        ("-", "1", ""),
        ("{1:", "1", "}"),
        ("{", "", ""),
        ("", "1", "+1"),
        ("", "event.s", "+event.s"),
        ("", "event.a", ".b"),
        ("", "event.l", "[0]"),
        ("", "event", "['a']"),
        ("true?", "1", ":1"),
        ("", "1", "?1:1"),
        ("true||", "true", ""),
        ("false||", "false", ""),
        ("", "1", "==1"),
        ("", "1", "<1"),
        ("", "1", " in [1]"),
        ("has(", "event.a", ")"),
        ("size(", "event.l", ")"),
        ("string(", "event.s", ")"),
        ("", "event.s", ".contains('y')"),
        ("event.l.all(x,", "true", ")"),
        ("event.l.map(x,", "event", ")"),
        ("[1,1].map(x,", "1", ")"),
        ("", "['a']", ".map(x,x+x)"),
        ("", "[1]", ".map(x,[x,x])"),
        ("", "event.l", ".filter(x,x==1)"),
        ("event.l.exists(x,event.s.contains('y')||", "false", ")"),
        ("event.l.all(x,event.l[1.5]==1||", "true", ")"),
        ("", "event.s.matches('(x*)*y')", "||event.s.matches('(x*)*y')"),
        ("\"", "", ""),
        ("'''", "", ""),
        ("\\", "", ""),
        ("//", "", "\n"),
        ("a", "", ""),
        ("9", "", ""),
        ("`", "", ""),
        ("\u{1F600}", "", ""),
    ] {
        for count in [20, 60, 90, 250, usize::MAX] {
            let expression = nested(count, head, middle, tail);
            let before = Instant::now();
            let filter = Filter::compile(&expression);
            evaluated += usize::from(filter.is_ok());
            if let Ok(filter) = filter {
                let _ = Route::new(Vec::new()).with_filter(filter).judge(vec![payin(body.clone())]).await;
            }
            assert!(before.elapsed() < BOUND, "{count} x {head}{middle}{tail} took {:?}", before.elapsed());
        }
    }
    assert!(evaluated > 60, "{evaluated}");
}

/// Each of these would go on for years, or take all memory, without the meter.
#[tokio::test]
async fn an_evaluation_that_costs_too_much_is_stopped() {
    let list = format!(r#"{{"l":[{}1],"s":"{}"}}"#, "1,".repeat(40_000), "x".repeat(900_000));
    let body = Bytes::from(list);
    let doubled = format!("['x']{}.size() == 1", ".map(x,x+x)".repeat(60));
    let long_sum = format!("({}) == 'x'", vec!["event.s"; 80].join("+"));
    for expression in [
        "event.l.all(a, event.l.all(b, event.l.all(c, a == b)))",
        "event.l.all(a, event.s.contains('y') || true)",
        "event.l.map(a, event).size() == 1",
        "event.l.exists(a, event.l == [a])",
        "event.l.all(a, event.s.matches('(x?){50}y') || true)",
        &doubled,
        &long_sum,
        // Errors are swallowed by `||`; being out of budget is not.
        "event.l.all(a, event.l.all(b, a == b)) || true",
    ] {
        let before = Instant::now();
        let verdict = judge(expression, payin(body.clone())).await;
        assert!(matches!(&verdict, Verdict::Unsure(why) if why.contains("too long")), "{expression}: {verdict:?}");
        assert!(before.elapsed() < BOUND, "{expression} took {:?}", before.elapsed());
    }
    // An honest one over the same body is not.
    assert_eq!(judge("event.l.all(x, x == 1) && !event.s.contains('y')", payin(body)).await, Verdict::Wanted);
}

#[tokio::test]
async fn bodies_may_be_as_deep_and_as_full_as_they_like() {
    let unsure = |why: &str| Verdict::Unsure(format!("the filter looks at the body, and {why}"));
    let (deep, endless) = ("it is nested too deeply", "the body is not JSON");
    let open = |text: &str| text.repeat((1 << 20) / text.len());
    for (body, expected) in [
        (open("["), unsure(endless)),
        (open("{\"a\":"), unsure(endless)),
        (format!("{}{}", "[".repeat(1 << 19), "]".repeat(1 << 19)), unsure(deep)),
        (format!("{}1{}", "[".repeat(127), "]".repeat(127)), Verdict::Wanted),
        (format!("[{}1]", "1,".repeat(500_000)), unsure("the body has more than 100,000 values")),
        (format!("[{}1]", "[],".repeat(300_000)), unsure("the body has more than 100,000 values")),
    ] {
        let start: String = body.chars().take(9).collect();
        assert_eq!(verdict_on("event == event && size(event) == 1", &body).await, expected, "{start}");
    }
}

/// Judging goes on after a caller has left, and the thread ends with the last clone.
#[tokio::test]
async fn the_thread_outlives_callers_and_ends_with_the_last_clone() {
    let route = route("event.n == 1");
    let many = vec![payin(r#"{"n":1}"#); 1000];
    for _ in 0..20 {
        let mut judging = Box::pin(route.judge(many.clone()));
        let _ = futures_util::poll!(&mut judging);
    }
    let clone = route.clone();
    drop(route);
    assert_eq!(clone.judge(many.clone()).await, vec![Verdict::Wanted; 1000]);

    // The thread holds the receiver: it is gone when the channel is closed.
    let (sender, waiting) = mpsc::channel(1);
    let thread = thread::spawn(move || work(&Program::new("true").unwrap(), waiting));
    let filter = Filter { expression: "true".into(), batches: sender };
    let other = filter.clone();
    drop(filter);
    assert_eq!(other.judge(vec![payin("{}")]).await, [Verdict::Wanted]);
    drop(other);
    thread.join().unwrap();
}

#[test]
fn a_panic_is_an_event_delivered() {
    let verdict = verdict(|| panic!("hunter2"));
    assert!(matches!(&verdict, Verdict::Unsure(why) if why.contains("panicked") && !why.contains("hunter2")));
}

#[tokio::test]
async fn a_thread_that_is_gone_leaves_nobody_waiting() {
    let (batches, waiting) = mpsc::channel(1);
    drop(waiting);
    let filter = Filter { expression: "true".into(), batches };
    let verdicts = filter.judge(vec![payin("{}"), payin("{}")]).await;
    assert!(verdicts.len() == 2 && verdicts.iter().all(|verdict| matches!(verdict, Verdict::Unsure(_))));
}

#[test]
fn a_revision_names_globs_and_filter_on_one_line() {
    let globs = || vec![Glob::new("payin.*").unwrap(), Glob::new("filter").unwrap()];
    let route = |expression| Route::new(globs()).with_filter(Filter::compile(expression).unwrap());
    assert_eq!(route("event.a ==\n'x'").revision(), r#"payin.* filter  filter "event.a ==\n'x'""#);
    assert_ne!(route("true").revision(), Route::new(globs()).revision());
    assert_eq!(Route::new(Vec::new()).with_filter(Filter::compile("true").unwrap()).revision(), "*  filter \"true\"");
    assert!(format!("{:?}", route("meta.stale")).contains("meta.stale"));
}

/// Only the 64 MiB that are touched count: filters cost little memory.
#[test]
fn stacks_are_reserved_not_used() {
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let filters: Vec<Filter> = (0..20).map(|n| Filter::compile(&format!("event.n == {n}")).unwrap()).collect();
    assert!(resident() < before + (200 << 10), "{before} -> {} KiB for {} filters", resident(), filters.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}|[-+!.?:a-c0-9(){}\\[\\]'\"&|=<>,\\\\ \n]{0,80}") {
        if let Err(InvalidFilter(why)) = Filter::compile(&text) {
            prop_assert!(!why.contains("panic"), "{}", why);
        }
    }

    #[test]
    fn no_combination_of_words_panics(words in proptest::collection::vec(
        prop_oneof![
            Just("event"), Just(".a"), Just("meta.type"), Just("["), Just("]"), Just("("), Just(")"), Just("=="),
            Just("+"), Just("1"), Just("'x'"), Just("&&"), Just("!"), Just("{"), Just("}"), Just(":"), Just("?"),
            Just(","), Just(".all(x,"), Just("x"), Just("has("), Just("in"), Just("null"), Just("1u"), Just("-")
        ], 0..25)) {
        let expression = words.join(" ");
        match Program::new(&expression) {
            Ok(program) => {
                if let Verdict::Unsure(why) = verdict(|| program.evaluate(&payin(r#"{"a":[1,{"a":"x"}]}"#))) {
                    prop_assert!(!why.contains("panicked"), "{}: {}", expression, why);
                }
            }
            Err(why) => prop_assert!(!why.is_empty()),
        }
    }
}
