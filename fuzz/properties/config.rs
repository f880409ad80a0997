//! Any text is a configuration or is refused; what is wrong is told with its file, and what is shown can be read back.

use std::path::PathBuf;

use ralio_relay::config::{Env, read};
use tempfile::TempDir;

thread_local! {
    static DIRECTORY: TempDir = tempfile::tempdir().expect("a directory");
}

/// One file, and after the first NUL one that comes after it.
pub fn holds(input: &[u8]) {
    let layers: Vec<&[u8]> = input.splitn(2, |&byte| byte == 0).collect();
    let files: Vec<PathBuf> = DIRECTORY.with(|directory| {
        let write = |(n, text): (usize, &&[u8])| {
            let file = directory.path().join(format!("layer-{n}.toml"));
            std::fs::write(&file, text).expect("it can be written");
            file
        };
        layers.iter().enumerate().map(write).collect()
    });
    let reading = read(&files, &Env::default());
    if let Err(problems) = reading.settings {
        assert!(!problems.0.is_empty());
        for problem in &problems.0 {
            let origin = problem.origin.as_deref().unwrap_or_default();
            assert!(origin.contains("layer-"), "{problem:?}");
            assert!(!problem.message.is_empty(), "{problem:?}");
            // What is not TOML has no keys yet.
            let is_text = !problem.message.contains("UTF-8");
            assert!(!problem.key.is_empty() || !is_text || has_line(origin), "{problem:?}");
        }
    }
    let shown = reading.effective.to_toml();
    toml::de::DeTable::parse(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
}

/// `FILE:LINE`
fn has_line(origin: &str) -> bool {
    origin.rsplit_once(':').is_some_and(|(_, line)| line.parse::<u32>().is_ok())
}
