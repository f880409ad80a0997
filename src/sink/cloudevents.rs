//! CloudEvents 1.0: the attributes that every sink hands on, and the structured JSON form.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use data_encoding::BASE64;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::value::RawValue;

use crate::model::{Outgoing, Reading};

/// The media type of the structured form.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// What the name of an attribute begins with where it is a header.
const PREFIX: &str = "ce-";

/// The attribute that bindings express in a way of their own, such as HTTP's `Content-Type`.
const CONTENT_TYPE: &str = "ce-datacontenttype";

/// The attribute that says how the body is packed.
const ENCODING: &str = "ce-ralioencoding";

/// What `curl --data` says of any body.
const FORM: &str = "application/x-www-form-urlencoded";

/// The header with the place in the log.
pub const SEQ: &str = "ce-ralioseq";

/// Bytes of the attributes in the structured form, usually: to grow in steps would copy the body again and again.
const ROOM: usize = 512;

/// AMQP short strings hold no more, and no honest media type comes near.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// The value of an attribute. `Display` is the canonical text form of CloudEvents 1.0, section 3.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// String, URI reference or timestamp.
    Text(Cow<'a, str>),
    /// A number. (CloudEvents' own Integer ends at 2^31: an inbox of that many events is beyond one machine.)
    Number(i64),
    /// A truth value.
    Flag(bool),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_i64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
        }
    }
}

/// An event as CloudEvents sees it.
pub struct CloudEvent<'a> {
    /// With their names as headers: those are wanted for each event, and nothing has to be put together.
    attributes: Vec<(&'static str, Value<'a>)>,
    content_type: &'a str,
    content_encoding: Option<&'a str>,
    body: &'a [u8],
    reading: Reading<'a>,
    is_ambiguous: bool,
}

impl<'a> CloudEvent<'a> {
    /// Names the attributes of an event; the only place where they are named. What is not so or not known has none: a replay,
    /// members given twice, a packed body, the event's time.
    pub fn new(event: &'a Outgoing) -> Self {
        let text = |text: &'a str| Value::Text(Cow::Borrowed(text));
        let owned = |text: String| Value::Text(Cow::Owned(text));
        let content_encoding = event.content_encoding.as_deref();
        let reading = Reading::of(&event.body, content_encoding);
        let content_type = content_type(event, &reading);
        let is_ambiguous = reading.is_ambiguous();
        let mut attributes = vec![
            ("ce-specversion", text("1.0")),
            ("ce-id", text(event.id.as_str())),
            ("ce-source", owned(event.ce_source())),
            ("ce-type", text(event.event_type.as_str())),
            ("ce-subject", text(event.key.as_str())),
        ];
        attributes.extend(event.time.map(|time| ("ce-time", owned(time.to_string()))));
        attributes.extend([
            (CONTENT_TYPE, text(content_type)),
            (SEQ, Value::Number(event.seq.get())),
            ("ce-raliocategory", text(event.category.as_str())),
            ("ce-ralioreceived", owned(event.received_at.to_string())),
            ("ce-raliostale", Value::Flag(event.stale)),
        ]);
        attributes.extend(is_ambiguous.then_some(("ce-ralioambiguous", Value::Flag(true))));
        attributes.extend(content_encoding.map(|encoding| (ENCODING, text(encoding))));
        attributes.extend(event.replay.map(|job| ("ce-ralioreplay", Value::Number(job.get()))));
        Self { attributes, content_type, content_encoding, body: &event.body, reading, is_ambiguous }
    }

    /// Every attribute, `datacontenttype` included.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &Value<'a>)> {
        self.attributes.iter().map(|(name, value)| (&name[PREFIX.len()..], value))
    }

    /// The attributes as headers of a binary mode: `ce-` and the name. `datacontenttype` is not among them: there it
    /// is the message's own content type.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &Value<'a>)> {
        self.attributes.iter().filter(|(name, _)| *name != CONTENT_TYPE).map(|(name, value)| (*name, value))
    }

    /// `datacontenttype`: a legal header value of at most 255 bytes.
    pub fn content_type(&self) -> &'a str {
        self.content_type
    }

    /// `Content-Encoding` of the body as received.
    pub fn content_encoding(&self) -> Option<&'a str> {
        self.content_encoding
    }

    /// The structured JSON form. `data` holds a JSON body as it is read: unpacked, without a byte order mark, of members given
    /// twice the first; nothing else is touched, no number and no escape. Any other body goes into `data_base64` as received:
    /// what is not JSON, and what is not UTF-8, which `data` could not hold.
    pub fn to_json(&self) -> Vec<u8> {
        self.encode(false)
    }

    /// As [`Self::to_json`], on one line and with its newline: whitespace between the tokens of a JSON body that
    /// spans lines is left out, the tokens stay as they are.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = self.encode(true);
        line.push(b'\n');
        line
    }

    fn encode(&self, on_one_line: bool) -> Vec<u8> {
        let unambiguous = if self.is_ambiguous { self.reading.unambiguous_json() } else { None };
        let data = match unambiguous.as_deref().or_else(|| self.reading.json()) {
            Some(json) if on_one_line => Data::Json(one_line(json)),
            Some(json) => Data::Json(Cow::Borrowed(json)),
            None => Data::Bytes(self.body),
        };
        let mut json = Vec::with_capacity(self.reading.bytes().len() + ROOM);
        let written = serde_json::to_writer(&mut json, &Structured { event: self, data });
        written.expect("text keys and plain values always serialize");
        json
    }
}

enum Data<'a> {
    Json(Cow<'a, RawValue>),
    Bytes(&'a [u8]),
}

struct Structured<'a> {
    event: &'a CloudEvent<'a>,
    data: Data<'a>,
}

impl Serialize for Structured<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        // What is in `data` is not packed.
        let is_unpacked = matches!(self.data, Data::Json(_));
        for (name, value) in self.event.attributes.iter().filter(|(name, _)| !(is_unpacked && *name == ENCODING)) {
            map.serialize_entry(&name[PREFIX.len()..], value)?;
        }
        match &self.data {
            Data::Json(json) => map.serialize_entry("data", json.as_ref())?,
            Data::Bytes(bytes) => map.serialize_entry("data_base64", &BASE64.encode(bytes))?,
        }
        map.end()
    }
}

/// The content type as received where it can be passed on as a header, else a guess by the body. JSON is no form, whatever a
/// client says that always says so.
fn content_type<'a>(event: &'a Outgoing, reading: &Reading<'_>) -> &'a str {
    let received = event.content_type.trim();
    let usable = received.contains('/')
        && received.len() <= MAX_CONTENT_TYPE_BYTES
        && received.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    let media_type = received.split(';').next().unwrap_or_default().trim();
    if usable && !(media_type.eq_ignore_ascii_case(FORM) && reading.is_json()) {
        received
    } else if reading.is_json() {
        "application/json"
    } else {
        "application/octet-stream"
    }
}

/// JSON without its line breaks. A line break can only be whitespace between tokens: inside a string it is an escape.
fn one_line(json: &RawValue) -> Cow<'_, RawValue> {
    let text = json.get();
    // Whole words at a time, which a search for characters is not.
    if !text.as_bytes().contains(&b'\n') && !text.as_bytes().contains(&b'\r') {
        return Cow::Borrowed(json);
    }
    let (mut in_string, mut escaped) = (false, false);
    let stripped = text
        .chars()
        .filter(|&c| {
            let keep = in_string || !matches!(c, ' ' | '\t' | '\n' | '\r');
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            keep
        })
        .collect();
    Cow::Owned(RawValue::from_string(stripped).expect("JSON without whitespace between its tokens is JSON"))
}

/// The value of a header, percent-encoded as section 3.1.3.2 of the HTTP binding says: spaces, `"`, `%` and whatever
/// is not printable ASCII.
pub fn header_value(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%');
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    Cow::Owned(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::fixtures::{event, gzip};
    use proptest::prelude::*;

    fn json(event: &Outgoing) -> serde_json::Value {
        serde_json::from_slice(&CloudEvent::new(event).to_json()).unwrap()
    }

    #[test]
    fn structured_form_has_every_attribute_and_the_body_verbatim() {
        let body = r#"{ "amount": 1.10, "big": 12345678901234567890123, "a": "\u0061" }"#;
        let text = String::from_utf8(CloudEvent::new(&event(body)).to_json()).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"specversion":"1.0","id":"evt-1","source":"/ralio/production","type":"payin.completed",{}{}{}}}"#,
                r#""subject":"order-1","time":"2026-02-26T22:02:28.7667797Z","datacontenttype":"application/json","#,
                r#""ralioseq":17,"raliocategory":"payin","ralioreceived":"2026-02-26T22:02:29Z","raliostale":false,"data":"#,
                body
            )
        );
    }

    #[test]
    fn what_is_not_json_goes_as_base64() {
        for body in [&b""[..], b"\xff\x00", b"{\"a\":", b"\"\xff\"", b"{} {}", b"\xef\xbb\xbf", b"NaN"] {
            let mut event = event("");
            event.body = bytes::Bytes::copy_from_slice(body);
            let value = json(&event);
            assert_eq!(value["data_base64"], BASE64.encode(body), "{body:?}");
            assert!(value.get("data").is_none());
        }
    }

    #[test]
    fn every_reader_of_data_finds_the_first_of_repeated_members() {
        let body = r#"{"a": {"x": 1, "x": {"y": 1, "y": 2}}, "\u0061": 2, "l": [{"z": 1.10 , "z":2}], "a": 3 }"#;
        let text = String::from_utf8(CloudEvent::new(&event(body)).to_json()).unwrap();
        assert!(
            text.ends_with(r#""raliostale":false,"ralioambiguous":true,"data":{"a": {"x": 1}, "l": [{"z": 1.10 }]}}"#),
            "{text}"
        );
        let line = String::from_utf8(CloudEvent::new(&event("{\n\"a\": 1,\n\"a\": 2}")).to_line()).unwrap();
        assert!(line.ends_with("\"data\":{\"a\":1}}\n"), "{line}");
        let sound = event(r#"{"a": {"a": 1}, "b": {"a": 1}, "c": ["a", "a"]}"#);
        assert!(json(&sound).get("ralioambiguous").is_none());
    }

    #[test]
    fn what_is_missing_has_no_attribute() {
        let mut event = event("{}");
        event.time = None;
        assert!(json(&event).get("time").is_none());
        assert!(CloudEvent::new(&event).headers().all(|(name, _)| name != "ce-time"));
    }

    #[test]
    fn a_packed_body_is_unpacked_in_data_and_told_where_it_is_not() {
        let mut event = event("");
        event.content_encoding = Some("gzip".to_owned());
        event.body = gzip(b"\xef\xbb\xbf{\"a\":1.10}").into();
        let shown = json(&event);
        assert_eq!((&shown["data"]["a"], shown.get("ralioencoding")), (&serde_json::json!(1.10), None));
        let cloud_event = CloudEvent::new(&event);
        assert!(cloud_event.headers().any(|(name, value)| name == ENCODING && value.to_string() == "gzip"));
        event.body = bytes::Bytes::from_static(b"\x1f\x8b broken");
        let shown = json(&event);
        assert_eq!(
            (&shown["ralioencoding"], &shown["data_base64"]),
            (&"gzip".into(), &BASE64.encode(&event.body).into())
        );
    }

    #[test]
    fn what_is_printed_holds_no_body_and_no_signature() {
        let printed = format!("{:?}", event("private"));
        assert!(!printed.contains("private") && !printed.contains("00ff"), "{printed}");
        assert!(printed.contains("evt-1") && printed.contains("body_bytes: 7"), "{printed}");
    }

    #[test]
    fn a_line_is_one_line() {
        let body = "\r\n{\n \"a b\" : 1.10 ,\r\n\t\"s\": \"x  \\\" \\\\\" , \"n\": \"\\n\" }\n";
        let line = String::from_utf8(CloudEvent::new(&event(body)).to_line()).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.ends_with("\"data\":{\"a b\":1.10,\"s\":\"x  \\\" \\\\\",\"n\":\"\\n\"}}\n"), "{line}");
    }

    #[test]
    fn content_type_falls_back() {
        let typed = |content_type: &str, body: &str| {
            let mut event = event(body);
            event.content_type = content_type.to_owned();
            CloudEvent::new(&event).content_type().to_owned()
        };
        assert_eq!(typed("text/plain; charset=utf-8", "{}"), "text/plain; charset=utf-8");
        assert_eq!(typed("", "{}"), "application/json");
        assert_eq!(typed("application/x-www-form-urlencoded", "{}"), "application/json");
        assert_eq!(typed("Application/X-WWW-Form-Urlencoded; charset=utf-8", "{}"), "application/json");
        assert_eq!(typed("application/x-www-form-urlencoded", "a=1"), "application/x-www-form-urlencoded");
        assert_eq!(typed(" ", "{"), "application/octet-stream");
        assert_eq!(typed("a/b\r\nx: y", "{}"), "application/json");
        assert_eq!(typed(&format!("a/{}", "b".repeat(254)), "{}"), "application/json");
    }

    #[test]
    fn header_values_are_encoded_as_the_binding_says() {
        // The example of the HTTP binding.
        assert_eq!(header_value("Euro € 😀"), "Euro%20%E2%82%AC%20%F0%9F%98%80");
        assert_eq!(header_value("100% \"x\""), "100%25%20%22x%22");
        assert_eq!(header_value("/ralio/a-b~"), "/ralio/a-b~");
    }

    proptest! {
        #[test]
        fn any_body_survives(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut event = event("");
            event.body = body.clone().into();
            let line = CloudEvent::new(&event).to_line();
            prop_assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            match value.get("data_base64") {
                Some(text) => prop_assert_eq!(BASE64.decode(text.as_str().unwrap().as_bytes()).unwrap(), body),
                None if body.starts_with(b"\xef\xbb\xbf") => {}
                None => prop_assert_eq!(&value["data"], &serde_json::from_slice::<serde_json::Value>(&body).unwrap()),
            }
        }

        #[test]
        fn pretty_json_keeps_its_meaning(text in "[ -~\n\"\\\\]{0,40}", number in any::<i64>()) {
            let value = serde_json::json!({ "k \\": [text.clone(), { text: number }] });
            let mut event = event("");
            event.body = serde_json::to_vec_pretty(&value).unwrap().into();
            let line: serde_json::Value = serde_json::from_slice(&CloudEvent::new(&event).to_line()).unwrap();
            prop_assert_eq!(&line["data"], &value);
        }
    }
}
