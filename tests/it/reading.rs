//! One reading of a body: the list, the filter, the page's API and every sink find the same in it, and hand it on whole.

use std::collections::BTreeMap;
use std::io::Write as _;

use data_encoding::BASE64;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use ralio_relay::model::unseen::escape_json;
use rusqlite::{Connection, OpenFlags};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::harness::fake_http::{FakeHttp, Recorded};
use crate::harness::json_set::{JsonFile, json_set};
use crate::harness::{Ack, Builder, Delivery, TestRelay, eventually, lines, text};

/// Everything that a sink of lines or of structured events has of one.
type Line = BTreeMap<String, Box<RawValue>>;

fn attribute(line: &Line, name: &str) -> Option<Value> {
    line.get(name).map(|raw| serde_json::from_str(raw.get()).unwrap())
}

/// By place in the log.
fn by_seq(lines: impl IntoIterator<Item = String>) -> BTreeMap<i64, Line> {
    let line = |text: String| serde_json::from_str::<Line>(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    lines.into_iter().map(line).map(|line| (attribute(&line, "ralioseq").unwrap().as_i64().unwrap(), line)).collect()
}

/// The place is a header, or in the structured event.
fn requests_by_seq(requests: Vec<Recorded>) -> BTreeMap<i64, Recorded> {
    let seq = |request: &Recorded| match request.headers.get("ce-ralioseq") {
        Some(seq) => seq.to_str().unwrap().parse().unwrap(),
        None => *by_seq([String::from_utf8(request.body.to_vec()).unwrap()]).keys().next().unwrap(),
    };
    requests.into_iter().map(|request| (seq(&request), request)).collect()
}

/// Without blanks between tokens.
fn squeezed(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let keep = in_string || !c.is_ascii_whitespace();
        let is_quote = *c == '"' && !escaped;
        escaped = in_string && *c == '\\' && !escaped;
        in_string ^= is_quote;
        keep
    };
    json.chars().filter(keep).collect()
}

/// What a line says of a body is what has to be read in it.
fn assert_line_holds(file: &JsonFile, line: &Line, sink: &str) {
    let name = &file.name;
    match (line.get("data"), std::str::from_utf8(&file.body)) {
        (Some(data), Ok(own)) if file.is_json => {
            let mut expected = squeezed(file.read_as.as_deref().unwrap_or(own)).into_bytes();
            if sink == "stdout" {
                escape_json(&mut expected);
            }
            assert_eq!(squeezed(data.get()), String::from_utf8(expected).unwrap(), "{name} at {sink}");
            let is_ambiguous = name.contains("twice") || name.contains("thrice");
            assert_eq!(attribute(line, "ralioambiguous"), is_ambiguous.then_some(json!(true)), "{name} at {sink}");
        }
        (None, own) if !file.is_json || own.is_err() => {
            let data: String = serde_json::from_str(line["data_base64"].get()).unwrap();
            assert_eq!(BASE64.decode(data.as_bytes()).unwrap(), file.body, "{name} at {sink}");
        }
        (data, _) => panic!("{name} at {sink}: {data:?}"),
    }
}

/// One sink of each kind that needs no broker, and one that gets what its filter cannot look at.
fn with_sinks(raw: &FakeHttp, structured: &FakeHttp) -> Builder {
    let builder = TestRelay::builder();
    let directory = builder.directory().to_owned();
    let script = json!(["/bin/sh", "-c", "cat >body.$CE_RALIOSEQ.part && mv body.$CE_RALIOSEQ.part body.$CE_RALIOSEQ"]);
    let exec = format!("[sinks.exec]\ncommand = {script}\nenv_allow = [\"PATH\"]\ndirectory = {directory:?}");
    let builder = builder.file_sink("file", "").http_sink("raw", raw, "");
    let builder = builder.http_sink("structured", structured, "format = \"cloudevents\"").sink("exec", "exec", &exec);
    let builder = builder.sink("stdout", "stdout", "");
    if cfg!(feature = "filters") {
        builder.file_sink("unread", "filter = \"event == 'nobody sends this'\"")
    } else {
        builder
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_json_goes_through_every_sink_and_reads_alike() {
    let files = json_set();
    assert!(files.len() >= 318, "{}", files.len());
    let (raw, structured) = (FakeHttp::answering([200]).await, FakeHttp::answering([200]).await);
    let settings = with_sinks(&raw, &structured);
    let bus = bus::new().await;
    let settings = match &bus {
        Some(bus) => bus.sink(settings),
        None => settings,
    };
    let mut relay = settings.start().await;
    for file in &files {
        let answer = relay.send(&Delivery::of(file.body.clone())).await.unwrap();
        assert_eq!(answer.status(), 200, "{}", file.name);
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["duplicate"], false, "{}", file.name);
        if let Some(id) = &file.id {
            assert_eq!(text(&answer, "id"), id, "{}", file.name);
        }
    }
    relay.settled().await;

    let events = relay.events().await;
    let inbox = Connection::open_with_flags(relay.settings().inbox(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let stdout = eventually("all lines on standard output", async || {
        let lines = relay.process().stdout.all();
        if lines.len() >= files.len() { Ok(lines) } else { Err(lines.len()) }
    });
    let stdout = by_seq(stdout.await);
    let read = |sink: &str| std::fs::read_to_string(relay.settings().sink_file(sink)).unwrap_or_default();
    let file_lines = by_seq(read("file").lines().map(str::to_owned));
    let unread = by_seq(read("unread").lines().map(str::to_owned));
    let (raw, structured) = (requests_by_seq(raw.requests()), requests_by_seq(structured.requests()));
    let messages = match &bus {
        Some(bus) => Some(bus.messages().await),
        None => None,
    };
    for (seq, (file, event)) in (1..).zip(files.iter().zip(&events)) {
        let name = &file.name;
        assert_eq!(event["seq"], seq);
        let event_type = match (file.is_json, &file.id) {
            (false, _) => "malformed",
            (true, None) => "unknown",
            (true, Some(_)) => "payin.completed",
        };
        assert_eq!(text(event, "type"), event_type, "{name}");
        if let Some(id) = &file.id {
            assert_eq!(text(event, "key"), format!("o-{id}"), "{name}");
        }
        let stored: Vec<u8> =
            inbox.query_row("SELECT body FROM bodies WHERE seq = ?1", [seq], |row| row.get(0)).unwrap();
        assert!(stored == file.body, "{name} is stored whole");
        assert!(raw[&seq].body == file.body, "{name} over HTTP");
        let piped = std::fs::read(relay.settings().directory().join(format!("body.{seq}"))).unwrap();
        assert!(piped == file.body, "{name} to a command");
        if let Some(messages) = &messages {
            assert!(messages[&seq] == file.body, "{name} over AMQP");
        }
        assert_line_holds(file, &file_lines[&seq], "file");
        assert_line_holds(file, &stdout[&seq], "stdout");
        let object = String::from_utf8(structured[&seq].body.to_vec()).unwrap();
        assert_line_holds(file, &by_seq([object])[&seq], "structured");
        if cfg!(feature = "filters") {
            assert_eq!(unread.contains_key(&seq), !file.is_json || file.is_deep(), "{name} at a filter");
        }
    }
    relay.shutdown().await;
}

/// A queue of a real broker, where there is one.
#[cfg(feature = "amqp")]
mod bus {
    use super::*;
    use crate::harness::rabbitmq::{self, Vhost};

    pub struct Bus(Vhost);

    pub async fn new() -> Option<Bus> {
        Some(Bus(rabbitmq::shared().await?.vhost().await))
    }

    impl Bus {
        pub fn sink(&self, settings: Builder) -> Builder {
            let url = self.0.url();
            let amqp = format!("[sinks.amqp]\nurl = {url:?}\nexchange = \"ralio.events\"\nqueue = \"ledger\"");
            settings.sink("bus", "amqp", &amqp)
        }

        /// Payloads by place in the log.
        pub async fn messages(&self) -> BTreeMap<i64, Vec<u8>> {
            let messages = self.0.messages("ledger").await;
            let seq = |properties: &Value| text(&properties["headers"], "ce-ralioseq").parse().unwrap();
            messages.into_iter().map(|message| (seq(&message.properties), message.payload)).collect()
        }

        /// The `content_encoding` of each message, by place in the log.
        pub async fn encodings(&self) -> BTreeMap<i64, Value> {
            let messages = self.0.messages("ledger").await;
            let seq = |properties: &Value| text(&properties["headers"], "ce-ralioseq").parse().unwrap();
            let encoding = |properties: &Value| properties["content_encoding"].clone();
            messages.iter().map(|message| (seq(&message.properties), encoding(&message.properties))).collect()
        }
    }
}

#[cfg(not(feature = "amqp"))]
mod bus {
    use super::*;

    pub enum Bus {}

    pub async fn new() -> Option<Bus> {
        None
    }

    impl Bus {
        pub fn sink(&self, _: Builder) -> Builder {
            match *self {}
        }

        pub async fn messages(&self) -> BTreeMap<i64, Vec<u8>> {
            match *self {}
        }

        pub async fn encodings(&self) -> BTreeMap<i64, Value> {
            match *self {}
        }
    }
}

fn payin(id: &str) -> String {
    json!({"eventId": id, "eventType": "payin_completed", "timestamp": "2026-02-26T17:02:28.123Z",
        "data": {"orderId": format!("order-of-{id}"), "note": "packed"}})
    .to_string()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

fn deflate(text: &str) -> Vec<u8> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

/// A body that came packed goes on as it came, with what says so; all that is read comes from what was packed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_bodies_are_read_unpacked_and_handed_on_packed() {
    let (raw, structured) = (FakeHttp::answering([200]).await, FakeHttp::answering([200]).await);
    let builder = TestRelay::builder();
    let directory = builder.directory().to_owned();
    let script = json!(["/bin/sh", "-c", "echo $CE_RALIOENCODING >encoding.$CE_RALIOSEQ; exec cat >body.$CE_RALIOSEQ"]);
    let exec = format!("[sinks.exec]\ncommand = {script}\nenv_allow = [\"PATH\"]\ndirectory = {directory:?}");
    let filter = "filter = \"event.data.note == 'packed'\"";
    let settings = builder.file_sink("file", if cfg!(feature = "filters") { filter } else { "" });
    let settings = settings.http_sink("raw", &raw, "").http_sink("structured", &structured, "format = \"cloudevents\"");
    let settings = settings.sink("exec", "exec", &exec);
    let bus = bus::new().await;
    let settings = match &bus {
        Some(bus) => bus.sink(settings),
        None => settings,
    };
    let relay = settings.start().await;
    // Packed as they say, not packed at all, and broken.
    let sent = [
        (gzip(&payin("p-1")), "gzip", "payin.completed"),
        (deflate(&payin("p-2")), "deflate", "payin.completed"),
        (payin("p-3").into_bytes(), "gzip", "payin.completed"),
        (gzip(&payin("p-4"))[..40].to_vec(), "gzip", "malformed"),
        (gzip(&" ".repeat(40 << 20)), "gzip", "malformed"),
    ];
    for (body, encoding, _) in &sent {
        let delivery = Delivery::of(body.clone()).with_header("content-encoding", encoding);
        assert_eq!(relay.send(&delivery).await.unwrap().status(), 200);
    }
    relay.settled().await;

    let events = relay.events().await;
    let types: Vec<&str> = events.iter().map(|event| text(event, "type")).collect();
    assert_eq!(types, sent.clone().map(|(_, _, event_type)| event_type));
    assert_eq!(text(&events[0], "key"), "order-of-p-1");
    let (raw, structured) = (requests_by_seq(raw.requests()), requests_by_seq(structured.requests()));
    for (seq, (body, encoding, _)) in (1..).zip(&sent) {
        let request = &raw[&seq];
        assert!(request.body == body, "the signature is over this");
        assert_eq!(request.headers["content-encoding"], *encoding);
        assert_eq!(request.headers["x-signature"], Delivery::of(body.clone()).headers[1].1.as_str());
        assert!(std::fs::read(directory.join(format!("body.{seq}"))).unwrap() == *body);
        assert_eq!(
            std::fs::read_to_string(directory.join(format!("encoding.{seq}"))).unwrap(),
            format!("{encoding}\n")
        );
        let object: Value = serde_json::from_slice(&structured[&seq].body).unwrap();
        assert!(request.headers.contains_key("ce-ralioencoding"));
        assert!(!structured[&seq].headers.contains_key("content-encoding"));
        match seq {
            1..=3 => {
                assert_eq!(object["data"], serde_json::from_str::<Value>(&payin(&format!("p-{seq}"))).unwrap());
                assert!(object.get("ralioencoding").is_none());
            }
            _ => {
                assert_eq!(BASE64.decode(text(&object, "data_base64").as_bytes()).unwrap(), *body);
                assert_eq!(object["ralioencoding"], *encoding);
            }
        }
    }
    if let Some(bus) = &bus {
        let encodings = sent.clone().map(|(_, encoding, _)| json!(encoding));
        assert_eq!(bus.encodings().await.into_values().collect::<Vec<_>>(), encodings);
    }
    // The filter cannot look at the last two, so they are delivered.
    assert_eq!(lines(&relay.settings().sink_file("file")).len(), 5);
    assert_eq!(relay.events_where(&["--search", "order-of-p-1"]).await.len(), 1);
    assert_eq!(relay.event("p-1").await["body_as_read"], payin("p-1"));
    assert!(relay.cli(&["events", "show", "p-1"]).await.success().stdout.contains("received as gzip; unpacked"));
    relay.shutdown().await;
}

/// The trials of `findings-field.md`, 9 and 11.
#[tokio::test]
async fn what_is_told_of_an_event_is_what_its_body_says() {
    let relay = TestRelay::builder().file_sink("file", FIRST).start().await;
    let twice = r#"{"eventId":"d1","eventType":"payin_completed","eventType":"payin_failed","timestamp":"2026-02-26T17:02:28Z","data":{"orderId":"o1"},"data":{"orderId":"o2"}}"#;
    let timeless = r#"{"eventId":"d2","eventType":"payin_completed","timestamp":"2026-02-26T17:02:28.123","data":{"orderId":"o1"}}"#;
    let late =
        r#"{"eventId":"d3","eventType":"payin_completed","timestamp":"2026-02-26T24:00:00Z","data":{"orderId":"o1"}}"#;
    for body in [twice, timeless, late] {
        assert_eq!(relay.post(&Delivery::of(body)).await, Ack::FRESH);
    }
    relay.settled().await;

    let lines = relay.lines("file");
    assert_eq!(lines.len(), 3, "the filter reads what the sink is told");
    let told = (&lines[0]["type"], &lines[0]["subject"], &lines[0]["ralioambiguous"], &lines[0]["data"]);
    let data = json!({"eventId": "d1", "eventType": "payin_completed", "timestamp": "2026-02-26T17:02:28Z",
        "data": {"orderId": "o1"}});
    assert_eq!(told, (&json!("payin.completed"), &json!("o1"), &json!(true), &data));
    assert_eq!(relay.event("d1").await["repeated_members"], json!(["eventType", "data"]));
    assert!(
        relay
            .cli(&["events", "show", "d1"])
            .await
            .success()
            .stdout
            .contains("of which the first counts: eventType, data")
    );
    let said = relay.log().into_iter().filter(|line| line.contains("gives a member of its envelope more than once"));
    assert_eq!(said.count(), 1);

    assert!(lines[1].get("time").is_none(), "no other moment is told as the event's");
    assert_eq!(relay.event("d2").await["time"], Value::Null);
    assert!(
        relay
            .cli(&["events", "show", "d2"])
            .await
            .success()
            .stdout
            .contains("missing: the body gives none that can be read")
    );
    assert_eq!(relay.metric("event_time_missing_total", &[]).await, 1);
    assert_eq!(lines[2]["time"], "2026-02-27T00:00:00Z");
    relay.shutdown().await;
}

const FIRST: &str = if cfg!(feature = "filters") {
    "filter = \"event.eventType == 'payin_completed' && event.data.orderId == 'o1'\""
} else {
    ""
};

/// The trial of `findings-field.md`, 12; and a type that goes nowhere is told once.
#[tokio::test]
async fn a_type_with_a_version_capitals_or_blanks_takes_its_route() {
    let relay = TestRelay::builder().file_sink("payins", "events = [\"Payin.*\"]").start().await;
    let wired =
        ["payin_completed.v2", "Payin.Completed", "payin.completed ", "payin-completed", "card_issued", "Card.Issued"];
    for (n, event_type) in wired.iter().enumerate() {
        assert_eq!(relay.post(&Delivery::current(&format!("t-{n}"), event_type, json!({}))).await, Ack::FRESH);
    }
    relay.settled().await;
    let mut types: Vec<String> = relay.lines("payins").iter().map(|line| text(line, "type").to_owned()).collect();
    types.sort();
    assert_eq!(types, ["payin.completed", "payin.completed", "payin.completed", "payin.completed.v2"]);
    let unrouted = async |category| relay.metric("events_unrouted_total", &[("category", category)]).await;
    assert_eq!((unrouted("payin").await, unrouted("other").await), (0, 2));
    let said = || relay.log().into_iter().filter(|line| line.contains("a type that no sink wants")).collect::<Vec<_>>();
    assert_eq!(said().len(), 1, "{:?}", said());
    assert!(said()[0].contains("card.issued"));

    // A sink that comes later wants it.
    let replaced = relay.settings().clone().file_sink("cards", "events = [\"card.*\"]");
    replaced.write_config();
    relay.sighup();
    eventually("the new sink", async || {
        match relay.metric("sink_state", &[("sink", "cards"), ("state", "running")]).await {
            1 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    relay.post(&Delivery::current("t-9", "card_issued", json!({}))).await;
    assert_eq!(unrouted("other").await, 2);
    relay.shutdown().await;
}

/// What `curl --data` says of any body is no reason to call JSON a form.
#[tokio::test]
async fn json_is_no_form() {
    let app = FakeHttp::answering([200]).await;
    let relay = TestRelay::with_sink("app", &app).start().await;
    let mut delivery = Delivery::of(payin("c-1"));
    delivery.headers.retain(|(name, _)| name != "content-type");
    let delivery = delivery.with_header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(relay.post(&delivery).await, Ack::FRESH);
    relay.settled().await;
    assert_eq!(app.requests()[0].headers["content-type"], "application/json");
    relay.shutdown().await;
}
