//! `deploy/compose`: a file that Compose understands, whose services find what they are told to read.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;
use serde_json::{Value, json};

use super::held::Held;
use super::image::of_package;
use super::{alerts_job, documents, list, named, ours, python_tool, read};
use crate::harness::{skip, skip_for_good, text};

const FILE: &str = "deploy/compose/compose.yaml";

fn compose() -> Option<Value> {
    documents(FILE).map(|mut documents| documents.remove(0))
}

fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().unwrap().iter()
}

/// The mounts of a service: source, target, mode.
fn mounts(service: &Value) -> Vec<(&str, &str, &str)> {
    list(&service["volumes"])
        .iter()
        .map(|mount| {
            let mut parts = mount.as_str().unwrap().splitn(3, ':');
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or_default())
        })
        .collect()
}

#[test]
fn compose_understands_the_file() {
    let args = ["--builtin-schema", "vendor.compose-spec", FILE];
    if let Some((valid, said)) = python_tool("check-jsonschema", &args) {
        assert!(valid, "{said}");
    }
}

#[test]
fn images_are_pinned_ports_are_on_loopback_and_health_is_asked() {
    let Some(compose) = compose() else { return };
    let pinned = Regex::new(r"^[a-z/-]+:(v?\d+\.\d+[a-z0-9.-]*|bookworm-curl)$").unwrap();
    for (name, service) in services(&compose) {
        assert!(pinned.is_match(text(service, "image")), "{name}: {}", service["image"]);
        for port in list(&service["ports"]) {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port}");
        }
        if name != "setup" {
            assert_eq!(service["healthcheck"]["test"][0], "CMD", "{name}");
            assert_eq!(service["depends_on"]["setup"]["condition"], "service_completed_successfully", "{name}");
            assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]), "{name}");
        }
    }
    let relay = &compose["services"]["relay"];
    let version = of_package("version");
    assert_eq!(
        (text(relay, "image"), &relay["build"]["args"]["VERSION"]),
        (&*format!("ralio-relay:{version}"), &json!(version))
    );
    assert_eq!((&relay["read_only"], &relay["cap_drop"]), (&json!(true), &json!(["ALL"])));
}

/// Each file that is mounted is here, each volume declared, and each declared one used.
#[test]
fn what_is_mounted_is_there() {
    let Some(compose) = compose() else { return };
    let mut used = BTreeSet::new();
    for (name, service) in services(&compose) {
        for (source, _, mode) in mounts(service) {
            if source.starts_with('.') {
                let file = ours("deploy/compose").join(source);
                assert!(file.is_file() && mode == "ro", "{name}: {source}");
            } else {
                used.insert(source.to_owned());
            }
        }
    }
    let declared: BTreeSet<_> = compose["volumes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(used, declared);
    assert!(
        ours("deploy/compose")
            .join(text(&compose["services"]["relay"]["build"], "context"))
            .join("Dockerfile")
            .exists()
    );
}

/// Runs `setup.sh` over these directories.
fn set_up(secrets: &Path, args: &[&str], input: &str) {
    let mut setup = Command::new("sh");
    setup.arg(ours("deploy/compose/setup.sh")).args(args).env("SECRETS", secrets);
    let mut child = setup.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // It reads its input only where it has use for it.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The files of one service, with what they hold.
fn made(secrets: &Path, service: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(secrets.join(service)).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| {
            assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{entry:?}");
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The secrets are made for real; the relay's configuration is read with nothing but them.
#[tokio::test]
async fn setup_makes_what_the_services_read() {
    let Some(compose) = compose() else { return };
    if !rustix::process::geteuid().is_root() {
        return skip_for_good("root, who may make files over to the users of the images");
    }
    let secrets = tempfile::tempdir().unwrap();
    let services = ["relay", "rabbitmq", "prometheus", "grafana"];
    for service in services {
        std::fs::create_dir(secrets.path().join(service)).unwrap();
        let volume = format!("{service}-secrets");
        let of = |name: &str| {
            mounts(&compose["services"][name])
                .into_iter()
                .map(|(s, t, _)| (s.to_owned(), t.to_owned()))
                .collect::<Vec<_>>()
        };
        assert!(of("setup").contains(&(volume.clone(), format!("/secrets/{service}"))));
        assert!(of(service).contains(&(volume, "/run/secrets".to_owned())));
    }
    set_up(secrets.path(), &[], "");
    let all = || services.map(|service| made(secrets.path(), service));
    let [relay, rabbitmq, prometheus, grafana] = all();
    let files: Vec<_> = relay.iter().map(|(name, _)| format!("/run/secrets/{name}")).collect();
    let held = Held::read(&read("deploy/compose/relay.toml"), &files).await;
    assert_eq!(held.files(), files, "made for the relay, and read by it");
    let value =
        |files: &[(String, String)], name: &str| files.iter().find(|file| file.0 == name).unwrap().1.trim().to_owned();
    assert_eq!(value(&relay, "admin-token"), value(&prometheus, "admin-token"));
    let broker = value(&rabbitmq, "rabbitmq.conf");
    let password = broker.strip_prefix("default_user = relay\ndefault_pass = ").unwrap();
    assert_eq!(value(&relay, "amqp-url"), format!("amqp://relay:{password}@rabbitmq:5672"));
    assert_eq!(grafana.len(), 1);
    set_up(secrets.path(), &[], "");
    assert!(all() == [relay.clone(), rabbitmq, prometheus, grafana], "a second run changes secrets");
    set_up(secrets.path(), &["replace", "webhook-secret"], "of the portal\n");
    assert_eq!(value(&made(secrets.path(), "relay"), "webhook-secret"), "of the portal");
    let owner = std::fs::metadata(secrets.path().join("relay/webhook-secret")).unwrap().uid();
    assert!(read("Dockerfile").contains(&format!("\nUSER {owner}:{owner}\n")));
}

#[tokio::test]
async fn the_relay_is_where_the_others_look() {
    let Some(compose) = compose() else { return };
    let relay = &compose["services"]["relay"];
    let files =
        ["webhook-secret", "admin-token", "amqp-url", "tls.crt", "tls.key"].map(|f| format!("/run/secrets/{f}"));
    let held = Held::read(&read("deploy/compose/relay.toml"), &files).await;
    let of_inbox = mounts(relay).into_iter().any(|(_, target, mode)| target == held.inbox() && mode.is_empty());
    assert!(of_inbox, "{} is no volume", held.inbox());
    let [public, admin] = ["server.listen", "admin.listen"].map(|key| held.port(key));
    assert_eq!(relay["ports"], json!([format!("127.0.0.1:{public}:{public}"), format!("127.0.0.1:{admin}:{admin}")]));
    let grace = text(relay, "stop_grace_period").trim_end_matches('s').parse::<u64>().unwrap();
    assert!(grace > held.seconds("server.drain_timeout"), "killed while it drains");
    let nofile = relay["ulimits"]["nofile"].as_u64().unwrap();
    assert!(nofile >= held.value("server.max_connections").as_u64().unwrap() + 512);
    let prometheus = documents("deploy/compose/prometheus.yml").unwrap().remove(0);
    let [scrape] = list(&prometheus["scrape_configs"]) else { panic!("one job") };
    assert_eq!(text(scrape, "job_name"), alerts_job());
    assert_eq!(scrape["static_configs"][0]["targets"], json!([format!("relay:{admin}")]));
    assert_eq!(held.admin_hosts(), ["relay"], "the name that Prometheus asks by");
    let healthcheck = read("Dockerfile");
    let healthcheck =
        healthcheck.lines().find_map(|line| line.strip_prefix("HEALTHCHECK ")?.split_once(" CMD ")).unwrap();
    let in_image: Vec<String> = serde_json::from_str(healthcheck.1).unwrap();
    assert_eq!(relay["healthcheck"]["test"], json!([&["CMD".to_owned()], &in_image[..]].concat()));
    // The broker that the sink is told of, and what Grafana asks.
    assert!(compose["services"]["rabbitmq"].is_object());
    let sources = documents("deploy/compose/grafana/datasources.yaml").unwrap().remove(0);
    assert_eq!(named(&sources["datasources"], "Prometheus")["url"], "http://prometheus:9090");
    let boards = documents("deploy/compose/grafana/dashboards.yaml").unwrap().remove(0);
    let folder = text(&named(&boards["providers"], "ralio-relay")["options"], "path").to_owned();
    let shown = mounts(&compose["services"]["grafana"]).into_iter();
    let shown: Vec<_> = shown.filter(|(_, target, _)| target.starts_with(&folder)).map(|mount| mount.0).collect();
    assert_eq!(shown, ["../grafana/dashboard.json"]);
}

/// With everything where the mounts put it.
#[test]
fn prometheus_takes_its_configuration() {
    let Some(compose) = compose() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut config = read("deploy/compose/prometheus.yml");
    let token = directory.path().join("admin-token");
    std::fs::write(&token, "token").unwrap();
    config = config.replace("/run/secrets/admin-token", token.to_str().unwrap());
    let mounts = mounts(&compose["services"]["prometheus"]);
    for (source, target, _) in mounts.iter().filter(|(source, ..)| source.starts_with('.')) {
        config = config.replace(target, ours("deploy/compose").join(source).to_str().unwrap());
    }
    assert!(!config.contains("/etc/") && !config.contains("/run/"), "not mounted: {config}");
    let file = directory.path().join("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let Ok(output) = Command::new("promtool").args(["check", "config", "--lint-fatal"]).arg(file).output() else {
        return skip("promtool");
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}
