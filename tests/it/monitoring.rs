//! What is in `deploy/` for whoever watches the relay: alerts that fire, a dashboard that shows something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::harness::fake_http::FakeHttp;
use crate::harness::process::Process;
use crate::harness::{TestRelay, eventually, run, signed, skip, text};

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deployed(file)).unwrap_or_else(|e| panic!("deploy/{file}: {e}"))
}

/// What promtool says, and whether it is content; `None`, and said so, where there is none.
fn promtool(args: &[&str], input: &str) -> Option<(bool, String)> {
    let mut promtool = Command::new("promtool");
    promtool.args(args).current_dir(deployed("prometheus"));
    promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = promtool.spawn() else {
        skip("promtool");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    // It closes an input that it does not want.
    let _ = std::io::Write::write_all(&mut stdin, input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let rules = promtool(&["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"], "");
    let Some((clean, said)) = rules else { return };
    assert!(clean, "{said}");
    let (passed, said) = promtool(&["test", "rules", "alerts_test.yml"], "").unwrap();
    assert!(passed, "{said}");
    let cases = read("prometheus/alerts_test.yml");
    for alert in alerts() {
        assert!(
            cases.contains(&format!("alertname=\"{}\", severity=", alert.name)),
            "no case where {} fires",
            alert.name
        );
    }
}

/// An alert, as it is written in `alerts.yml`: one rule.
struct Alert {
    name: String,
    rule: String,
}

fn alerts() -> Vec<Alert> {
    let file = read("prometheus/alerts.yml");
    let rules = file.split("- alert: ").skip(1);
    let alerts: Vec<_> =
        rules.map(|rule| Alert { name: rule.lines().next().unwrap().to_owned(), rule: rule.to_owned() }).collect();
    assert!(alerts.len() > 10, "the alerts are not found");
    alerts
}

/// Who is woken by it can paste what it says.
#[tokio::test]
async fn each_alert_says_what_to_do_in_commands_that_exist() {
    let command = Regex::new(r"`ralio-relay ([^`]*)`").unwrap();
    let mut seen = BTreeSet::new();
    for Alert { name, rule } in alerts() {
        for part in ["summary: ", "description: >-", "severity: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        assert!(rule.contains("severity: critical") || rule.contains("severity: warning"), "{name}");
        seen.extend(command.captures_iter(&rule).map(|found| found[1].to_owned()));
    }
    assert!(seen.len() > 10, "the commands are not found: {seen:?}");
    for command in seen {
        let is_name = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
        let mut words: Vec<_> = command.split(' ').take_while(is_name).collect();
        words.push("--help");
        let help = run(&words).await.success().stdout;
        for option in command.split(' ').filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "`{command}`: no {option} in\n{help}");
        }
    }
}

/// A Prometheus of its own, on a port of its own.
struct Prometheus {
    process: Process,
    client: reqwest::Client,
    url: String,
}

impl Prometheus {
    /// Scrapes the relay as README.md says, but often. `None`, and said so, where there is none.
    async fn scraping(relay: &TestRelay) -> Option<Self> {
        if Command::new("prometheus").arg("--version").output().is_err() {
            skip("prometheus");
            return None;
        }
        let directory = relay.settings().directory();
        let config = format!(
            "global: {{ scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 500ms }}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n\
             - job_name: ralio-relay\n  \
               authorization: {{ credentials_file: {:?} }}\n  \
               static_configs: [{{ targets: [{:?}] }}]\n",
            deployed("prometheus/alerts.yml"),
            directory.join("admin-token"),
            relay.admin_url("").trim_start_matches("http://")
        );
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("prometheus").display()));
        command.arg(format!("--web.listen-address={free}"));
        let process = Process::spawn(&mut command);
        let mut this = Self { process, client: relay.client().clone(), url: format!("http://{free}/api/v1") };
        eventually("a scraped relay", async || match this.process.ended() {
            Some(status) => panic!("Prometheus ended: {status}"),
            None => match this.query("up == 1").await {
                Ok(up) if !up.is_empty() => Ok(()),
                other => Err(other),
            },
        })
        .await;
        Some(this)
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let url = reqwest::Url::parse_with_params(&format!("{}/{path}", self.url), parameters).unwrap();
        let answer = self.client.get(url).send().await.map_err(|e| e.to_string())?;
        let answer = answer.text().await.map_err(|e| e.to_string())?;
        let answer: Value = serde_json::from_str(&answer).map_err(|e| format!("{e}: {answer}"))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(answer.to_string()) }
    }

    /// The labels of each series that an expression gives.
    async fn query(&self, expression: &str) -> Result<Vec<BTreeSet<String>>, String> {
        let found = self.get("query", &[("query", expression)]).await?;
        let Some(series) = found["result"].as_array() else { return Err(found.to_string()) };
        let labels = |series: &Value| series["metric"].as_object().unwrap().keys().cloned().collect();
        Ok(series.iter().map(labels).collect())
    }

    /// Waits until an expression gives something, and gives the labels of its series.
    async fn finds(&self, expression: &str) -> Vec<BTreeSet<String>> {
        eventually(&format!("a value of {expression}"), async || match self.query(expression).await {
            Ok(found) if found.is_empty() => Err("nothing".to_owned()),
            Ok(found) => Ok(Ok(found)),
            // What cannot be understood now will not be later.
            Err(error) if error.contains("bad_data") => Ok(Err(error)),
            Err(error) => Err(error),
        })
        .await
        .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }
}

/// A relay that has seen some of everything.
async fn busy_relay() -> (TestRelay, FakeHttp) {
    let app = FakeHttp::answering([422, 200]).await;
    let relay = TestRelay::with_sink("app", &app).file_sink("out", "").expect_errors().start().await;
    let first = signed::payin_completed("evt-1");
    relay.post(&first).await;
    relay.post(&first).await;
    relay.post(&signed::payin_of("evt-1", "payin_failed", "order-of-evt-1")).await;
    relay.post(&signed::kyc_session_verified("evt-2")).await;
    relay.post(&signed::payin_completed("evt-3").signed_with("forged")).await;
    relay.post(&signed::payin_completed("evt-4").to("/elsewhere")).await;
    relay.settled().await;
    (relay, app)
}

#[tokio::test]
async fn promtool_has_nothing_to_say_of_the_metrics() {
    let (relay, _app) = busy_relay().await;
    let Some((clean, said)) = promtool(&["check", "metrics"], &relay.metrics().await) else { return };
    assert!(clean && said.trim().is_empty(), "{said}");
    relay.shutdown().await;
}

/// Every expression of the dashboard, with the labels that its legend wants.
fn expressions(dashboard: &Value) -> Vec<(String, BTreeSet<String>)> {
    static LEGEND: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{\{(\w+)\}\}").unwrap());
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let expression = |target: &Value| {
        let labels = LEGEND.captures_iter(text(target, "legendFormat")).map(|label| label[1].to_owned()).collect();
        (for_prometheus(text(target, "expr")), labels)
    };
    targets.map(expression).collect()
}

/// What Grafana makes of an expression when everything is chosen.
fn for_prometheus(expression: &str) -> String {
    let chosen = ["$instance", "$source", "$sink"].iter().fold(expression.to_owned(), |e, name| e.replace(name, ".*"));
    chosen.replace("$__rate_interval", "5m")
}

#[tokio::test]
async fn prometheus_has_a_value_for_every_panel_and_no_trouble_with_any_alert() {
    let (relay, _app) = busy_relay().await;
    let Some(prometheus) = Prometheus::scraping(&relay).await else { return };
    // Between two scrapes: a rate that is not 0.
    relay.post(&signed::payin_completed("evt-5")).await;
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboard.json")).unwrap();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 30, "the panels are not found");
    for (expression, labels) in expressions {
        for found in prometheus.finds(&expression).await {
            assert!(found.is_superset(&labels), "the legend wants {labels:?} of {expression}: {found:?}");
        }
    }
    let lists = |place: &str| dashboard[place]["list"].as_array().unwrap().clone();
    for annotation in lists("annotations") {
        prometheus.query(&for_prometheus(text(&annotation, "expr"))).await.unwrap();
    }
    for variable in lists("templating").iter().filter(|variable| variable["type"] == "query") {
        let asked = text(variable, "definition").strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap();
        let (metric, label) = asked.split_once(", ").unwrap();
        assert!(prometheus.finds(metric).await.iter().all(|found| found.contains(label)), "{asked}");
    }

    let rules = eventually("evaluated alerts", async || {
        let groups = prometheus.get("rules", &[]).await?;
        let rules = groups["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap());
        let rules: Vec<Value> = rules.cloned().collect();
        if rules.iter().all(|rule| rule["health"] == "ok") { Ok(rules) } else { Err(format!("{rules:#?}")) }
    })
    .await;
    assert_eq!(rules.len(), alerts().len());
    // Real ones: the sink has refused an event, and the other conflicts with it.
    prometheus.finds("ALERTS{alertname=\"RalioRelayDeadLetters\", sink=\"app\"}").await;
    relay.shutdown().await;
}

/// Otherwise an alert that is tested with made-up series would never fire on real ones.
#[tokio::test]
async fn alerts_ask_for_series_that_there_are() {
    let (relay, _app) = busy_relay().await;
    let Some(prometheus) = Prometheus::scraping(&relay).await else { return };
    let (rules, cases) = (read("prometheus/alerts.yml"), read("prometheus/alerts_test.yml"));
    let name = Regex::new(r"\b(?:ralio_relay|process)_[a-z_]+\b").unwrap();
    let expressions = alerts().into_iter().map(|alert| alert.rule.split("annotations:").next().unwrap().to_owned());
    let expressions: String = expressions.collect();
    let asked: BTreeSet<&str> = name.find_iter(&expressions).map(|found| found.as_str()).collect();
    assert!(asked.len() > 10 && rules.contains("up{"), "{asked:?}");
    for metric in asked {
        prometheus.finds(metric).await;
    }

    let series = Regex::new(r"series: '(\w+)\{(.*)\}'").unwrap();
    let label = Regex::new(r#"(\w+)=""#).unwrap();
    let made_up: BTreeSet<(String, BTreeSet<String>)> = series
        .captures_iter(&cases)
        .map(|found| {
            let labels = label.captures_iter(&found[2]).map(|label| label[1].to_owned());
            (found[1].to_owned(), labels.chain(["__name__".to_owned()]).collect())
        })
        .collect();
    assert!(made_up.len() > 10, "the series are not found");
    for (metric, labels) in made_up {
        for found in prometheus.finds(&metric).await {
            assert_eq!(found, labels, "{metric}: on the left as it is, on the right as alerts_test.yml has it");
        }
    }
    let outcome = Regex::new(r#"(outcome|kind)=~?"([^"]+)""#).unwrap();
    for found in outcome.captures_iter(&(expressions + &cases)) {
        for value in found[2].split('|') {
            prometheus.finds(&format!("{{__name__=~\"ralio_relay_.*\", {}=\"{value}\"}}", &found[1])).await;
        }
    }
    relay.shutdown().await;
}
