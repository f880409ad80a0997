//! What is in `deploy/`, and the Dockerfile: understood by those who read it, and true to the relay's configuration.

mod compose;
mod held;
mod image;
mod kubernetes;
mod proxies;
pub mod proxy;
mod systemd;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::skip;

/// The path of a file of this repository.
fn ours(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// A file of this repository.
#[track_caller]
pub fn read(file: &str) -> String {
    std::fs::read_to_string(ours(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// What a tool written in Python says, and whether it is content; `None`, and said so, where it is not installed.
fn python_tool(tool: &str, args: &[&str]) -> Option<(bool, String)> {
    let program = ours("target/tools/python/bin").join(tool);
    if !program.exists() {
        skip(tool);
        return None;
    }
    let output = Command::new(program).args(args).current_dir(ours("")).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// The documents of a YAML file.
fn documents(file: &str) -> Option<Vec<Value>> {
    let convert = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let (read, json) = python_tool("python", &["-c", convert, file])?;
    assert!(read, "{file}: {json}");
    Some(serde_json::from_str(&json).unwrap())
}

/// The members of a list; none where there is no list.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The one of a list of objects that has this name.
#[track_caller]
fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = self::list(list).iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("nothing is named {name} in {list}"))
}

/// The `job` of the alerts in `deploy/prometheus`.
fn alerts_job() -> String {
    let alerts = read("deploy/prometheus/alerts.yml");
    let job = alerts.split_once("up{job=\"").unwrap().1;
    job.split_once('"').unwrap().0.to_owned()
}
