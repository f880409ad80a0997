//! Standard Webhooks 1.0: the receiver can check who sent a request, and when.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// Signs requests with one key.
pub(super) struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// `whsec_` and base64, or any other text, whose bytes are then the key.
    pub(super) fn new(secret: &SecretString) -> Result<Self, String> {
        let text = secret.expose_secret();
        let key = match text.strip_prefix("whsec_") {
            Some(encoded) => BASE64
                .decode(encoded.as_bytes())
                .map_err(|_| "signing_secret begins with whsec_, so base64 must follow".to_owned())?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err("signing_secret is empty: use at least 24 random bytes".to_owned());
        }
        Ok(Self { keyed: Hmac::new_from_slice(&key).expect("HMAC takes a key of any length") })
    }

    /// The headers for a body that is sent with this id at this time, in seconds since 1970.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> [(&'static str, String); 3] {
        let mut mac = self.keyed.clone();
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        let signature = BASE64.encode(&mac.finalize().into_bytes());
        [
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", format!("v1,{signature}")),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn agrees_with_the_reference_implementation() {
        for body in ["", "{\"test\": 2432232314}", "naïve"] {
            let ours = Signer::new(&SECRET.into()).unwrap().sign("msg_1", 1_614_265_330, body.as_bytes());
            let oracle = standardwebhooks::Webhook::new(SECRET).unwrap();
            assert_eq!(ours[2].1, oracle.sign("msg_1", 1_614_265_330, body.as_bytes()).unwrap());
        }
    }

    #[test]
    fn plain_text_is_a_key_as_it_is() {
        let ours = Signer::new(&"correct horse".into()).unwrap().sign("m", 1, b"x");
        let oracle = standardwebhooks::Webhook::from_bytes(b"correct horse".to_vec()).unwrap();
        assert_eq!(ours[2].1, oracle.sign("m", 1, b"x").unwrap());
    }

    #[test]
    fn unusable_secrets_are_refused_without_being_shown() {
        for secret in ["", "whsec_", "whsec_not base64!"] {
            let error = Signer::new(&secret.into()).err().unwrap();
            assert!(!error.contains("not base64!"), "{error}");
        }
    }
}
