//! HTTP POST.

use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::SecretString;

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to POST.
    pub url: Url,
    /// Sent with every request; values are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Signs every request the Standard Webhooks way: `whsec_` and base64, or plain text.
    pub signing_secret: Option<SecretString>,
}
