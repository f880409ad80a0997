//! Bodies.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{Reading, content_encoding};

/// `body` and `body_encoding`: the text where the bytes are UTF-8, else base64; null once retention has dropped it.
#[derive(Serialize, ToSchema)]
pub struct Body {
    body: Option<String>,
    /// `utf8` or `base64`.
    body_encoding: Option<&'static str>,
    /// What the relay reads in the body, where that is another text than its bytes, else null: unpacked, without a byte order mark, bytes
    /// that are not UTF-8 replaced.
    body_as_read: Option<String>,
}

impl Body {
    /// As it is stored, with the headers that are kept with it.
    pub fn new(body: Option<&[u8]>, headers: &[(String, String)]) -> Self {
        let Some(body) = body else { return Self { body: None, body_encoding: None, body_as_read: None } };
        let reading = Reading::of(body, content_encoding(headers).as_deref());
        let is_as_received = matches!(reading.text(), Cow::Borrowed(text) if text.len() == body.len());
        let is_other = reading.was_unpacked() || !is_as_received;
        let body_as_read = (is_other && (reading.was_unpacked() || reading.is_json())).then(|| reading.text().into());
        let (body, body_encoding) = match std::str::from_utf8(body) {
            Ok(text) => (text.to_owned(), "utf8"),
            Err(_) => (BASE64.encode(body), "base64"),
        };
        Self { body: Some(body), body_encoding: Some(body_encoding), body_as_read }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        let json = |body| serde_json::to_value(Body::new(body, &[])).unwrap();
        assert_eq!(json(Some(b"{}")), serde_json::json!({"body": "{}", "body_encoding": "utf8", "body_as_read": null}));
        assert_eq!(
            json(Some(b"\xff\xfe")),
            serde_json::json!({"body": "//4=", "body_encoding": "base64", "body_as_read": null})
        );
        assert_eq!(json(None), serde_json::json!({"body": null, "body_encoding": null, "body_as_read": null}));
    }

    #[test]
    fn what_is_read_is_shown_where_the_bytes_do_not_say_it() {
        let json =
            |body: &[u8], headers: &[(String, String)]| serde_json::to_value(Body::new(Some(body), headers)).unwrap();
        assert_eq!(json(b"\xef\xbb\xbf{}", &[])["body_as_read"], "{}");
        assert_eq!(json(b"{\"a\":\"\xff\"}", &[])["body_as_read"], "{\"a\":\"\u{fffd}\"}");
        let gzip = [("content-encoding".to_owned(), "gzip".to_owned())];
        let packed = data_encoding::HEXLOWER.decode(b"1f8b0800000000000203abae050043bfa6a302000000").unwrap();
        assert_eq!(json(&packed, &gzip)["body_as_read"], "{}");
        assert_eq!(json(&packed, &[])["body_as_read"], serde_json::Value::Null);
        assert_eq!(json(b"{}", &gzip)["body_as_read"], serde_json::Value::Null);
    }
}
