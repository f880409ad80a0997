//! Bodies.

use data_encoding::BASE64;
use serde::Serialize;
use utoipa::ToSchema;

/// `body` and `body_encoding`: the text where the bytes are UTF-8, else base64; null once retention has dropped it.
#[derive(Serialize, ToSchema)]
pub struct Body {
    body: Option<String>,
    /// `utf8` or `base64`.
    body_encoding: Option<&'static str>,
}

impl Body {
    /// As it is stored.
    pub fn new(body: Option<&[u8]>) -> Self {
        let Some(body) = body else { return Self { body: None, body_encoding: None } };
        match std::str::from_utf8(body) {
            Ok(text) => Self { body: Some(text.to_owned()), body_encoding: Some("utf8") },
            Err(_) => Self { body: Some(BASE64.encode(body)), body_encoding: Some("base64") },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_text_is_base64() {
        let json = |body| serde_json::to_value(Body::new(body)).unwrap();
        assert_eq!(json(Some(b"{}")), serde_json::json!({"body": "{}", "body_encoding": "utf8"}));
        assert_eq!(json(Some(b"\xff\xfe")), serde_json::json!({"body": "//4=", "body_encoding": "base64"}));
        assert_eq!(json(None), serde_json::json!({"body": null, "body_encoding": null}));
    }
}
