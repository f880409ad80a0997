//! What is wrong with secrets that can be read: one that several sources share, and one that can be guessed.

use secrecy::ExposeSecret as _;

use super::parse::Wrong;
use super::secret::Secret;
use super::section::{Report, Section};
use crate::ingest::Source;

/// With fewer bytes a secret can be guessed.
const MIN_BYTES: usize = 16;

/// Whoever holds a delivery to one source could send it to another one that has the same secret: a payment of the sandbox
/// would be one of production. `check` refuses that. A start only warns: what was received so far must not stop.
pub(super) fn are_distinct(root: &Section<'_>, sources: &[(Source, Vec<Secret>)]) {
    for (place, (source, secrets)) in sources.iter().enumerate() {
        for (other, other_secrets) in &sources[..place] {
            let is_shared = |secret: &Secret| {
                other_secrets.iter().any(|other| other.text().expose_secret() == secret.text().expose_secret())
            };
            if !secrets.iter().any(is_shared) {
                continue;
            }
            let key = format!("sources[{place}].secrets");
            let message = format!(
                "sources '{}' and '{}' have a secret in common: a delivery to one can be sent again to the other",
                other.name, source.name
            );
            let hint = "register an endpoint of its own for each source in Ralio's portal, and give each source its own secret";
            root.report.warn(format!("{key}: {message}; {hint}"));
            root.refused_by_check(&key, Wrong::new(message, hint));
        }
    }
}

/// Warns of a secret that is short. What it is, the warning does not say.
pub(super) fn warn_of_short(report: &Report<'_>, path: &str, secret: &Secret) {
    let bytes = secret.text().expose_secret().len();
    if bytes < MIN_BYTES {
        report.warn(format!(
            "{path}: the secret is short and can be guessed (bytes: {bytes}); make one of at least {MIN_BYTES}, such as with \
             `openssl rand -hex 32`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Env, Problem, read};

    const BASE: &str = "[server]\nplaintext = true\n[admin]\ntoken = 'a token of good length'\n";

    fn source(name: &str, secrets: &[&str]) -> String {
        format!("[[sources]]\nname = '{name}'\npath = '/{name}'\nsecrets = {secrets:?}\n")
    }

    fn check(text: &str) -> (Vec<Problem>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("relay.toml");
        std::fs::write(&file, text).unwrap();
        let files = std::slice::from_ref(&file);
        let warnings = read(files, &Env::default()).settings.expect("a start takes it").warnings;
        let warnings = warnings.into_iter().filter(|warning| !warning.contains("into the configuration itself"));
        (read(files, &Env::default()).strict().err().map(|problems| problems.0).unwrap_or_default(), warnings.collect())
    }

    #[test]
    fn a_secret_that_two_sources_share_is_refused_by_check_and_not_shown() {
        let shared = "a secret of production";
        let sources =
            source("live", &["one of a good length", shared]) + &source("sandbox", &[shared, "another good one."]);
        let (problems, warnings) = check(&format!("{BASE}{sources}"));
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, "sources[1].secrets"));
        let told = format!("{} {}", problems[0], warnings.concat());
        assert!(told.contains("'live'") && told.contains("'sandbox'") && !told.contains(shared), "{told}");
        assert_eq!(warnings.len(), 1, "a start says so: {warnings:?}");
        let apart =
            source("live", &["one of a good length", "twice is no harm"]) + &source("sandbox", &["another good one."]);
        assert_eq!(check(&format!("{BASE}{apart}")), (vec![], vec![]));
    }

    #[test]
    fn short_secrets_are_warned_of() {
        let text = format!("{BASE}{}", source("live", &[" ", "fifteen bytes..", "sixteen bytes..."]));
        let (problems, warnings) = check(&text.replace("a token of good length", "a"));
        assert!(problems.is_empty(), "{problems:?}");
        let [one, other, token] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(one.contains("sources[0].secrets[0]") && one.contains("bytes: 1"), "{one}");
        assert!(other.contains("sources[0].secrets[1]") && other.contains("openssl rand -hex 32"), "{other}");
        assert!(token.contains("admin.token") && token.contains("openssl rand -hex 32"), "{token}");
    }
}
