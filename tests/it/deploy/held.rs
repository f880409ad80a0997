//! A configuration held against the relay itself.

use std::os::unix::fs::PermissionsExt as _;

use regex::Regex;
use serde_json::Value;

use super::list;
use crate::harness::{run_in, text, write_certificate, write_secret};

/// What the relay makes of a configuration.
pub struct Held(Vec<Value>);

impl Held {
    /// Reads it as it would be read where it is deployed: with these files in place, and no others.
    pub async fn read(toml: &str, files: &[String]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().to_str().unwrap();
        for file in files {
            let file = directory.path().join(file.trim_start_matches('/'));
            let folder = file.parent().unwrap();
            std::fs::create_dir_all(folder).unwrap();
            match file.file_name().unwrap().to_str().unwrap() {
                "tls.crt" | "tls.key" => write_certificate(folder),
                "amqp-url" => write_secret(&file, "amqps://relay:canary-5d1e-password@rabbitmq:5671"),
                _ => write_secret(&file, "canary-5d1e-0123456789abcdef"),
            }
        }
        // Every absolute path, and no URL but the inbox's.
        let moved = Regex::new(r#""(sqlite://)?/"#).unwrap().replace_all(toml, format!("\"${{1}}{root}/"));
        let config = directory.path().join("relay.toml");
        std::fs::write(&config, moved.as_bytes()).unwrap();
        std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
        let args = ["--config", config.to_str().unwrap()];
        let checked = run_in(directory.path(), &[&["check"], &args[..]].concat(), b"").await.success();
        assert!(checked.stdout.lines().all(|line| line.starts_with("OK ")), "{}", checked.stdout);
        let shown = run_in(directory.path(), &[&["config", "show", "--format", "json"], &args[..]].concat(), b"").await;
        let shown = shown.success().stdout.replace(root, "");
        Self(shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// The value of a key, such as `sinks[0].name`.
    #[track_caller]
    pub fn value(&self, key: &str) -> &Value {
        &self.line(key)["value"]
    }

    #[track_caller]
    fn line(&self, key: &str) -> &Value {
        self.0.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("no {key} in {:?}", self.0))
    }

    /// The port of a listener.
    #[track_caller]
    pub fn port(&self, key: &str) -> u64 {
        let listen = self.value(key).as_str().unwrap();
        listen.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// A duration's seconds.
    #[track_caller]
    pub fn seconds(&self, key: &str) -> u64 {
        let duration = self.value(key).as_str().unwrap();
        duration.strip_suffix('s').unwrap_or_else(|| panic!("{key} = {duration}")).parse().unwrap()
    }

    /// Every file that it reads: secrets, certificates and keys.
    pub fn files(&self) -> Vec<String> {
        let secrets = self.0.iter().filter_map(|line| line["secret"].as_str());
        let secrets = secrets.flat_map(|secrets| secrets.split(", ")).filter_map(|place| place.strip_prefix("file "));
        let tls = self.0.iter().filter(|line| text(line, "key").starts_with("server.tls."));
        let mut files: Vec<_> =
            secrets.chain(tls.filter_map(|line| line["value"].as_str())).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        files
    }

    /// The directory of the inbox.
    pub fn inbox(&self) -> String {
        let file = text(self.line("inbox.url"), "value").trim_start_matches("sqlite://");
        file.rsplit_once('/').unwrap().0.to_owned()
    }

    /// The names under which the admin listener may be asked.
    pub fn admin_hosts(&self) -> Vec<&str> {
        list(self.value("admin.hosts")).iter().filter_map(Value::as_str).collect()
    }
}
