//! The built daemon, running.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::fake_http::FakeHttp;
use super::process::{Process, is_running};
use super::settings::{Builder, TOKEN};
use super::{Ack, Delivery, Output, eventually, metrics, run_in};

/// A running relay. Dropping it kills it; [`Self::shutdown`] ends it as an operator would, and looks for leftovers.
pub struct TestRelay {
    settings: Builder,
    process: Process,
    /// `https://127.0.0.1:port` of the public listener; empty until it is ready.
    public: String,
    admin: String,
    client: reqwest::Client,
}

impl TestRelay {
    /// One source, no sink.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// One source, one HTTP sink.
    pub fn with_sink(name: &str, app: &FakeHttp) -> Builder {
        Builder::new().http_sink(name, app, "")
    }

    /// One source, one file sink.
    pub fn with_file_sink(name: &str) -> Builder {
        Builder::new().file_sink(name, "")
    }

    pub(super) async fn over(settings: Builder, process: Process) -> Self {
        let ended = |mut process: Process| panic!("the relay ended: {:?}", process.ended());
        Self::try_over(settings, process).await.unwrap_or_else(ended)
    }

    /// Waits until its admin listener answers; gives the process back if that ends before.
    pub(super) async fn try_over(settings: Builder, mut process: Process) -> Result<Self, Process> {
        let admin = eventually("the admin listener", async || match (address(&process, "admin"), process.ended()) {
            (Some(address), _) => Ok(Ok(format!("http://{address}"))),
            (None, Some(_)) => Ok(Err(())),
            (None, None) => Err("no `listening` line"),
        });
        let Ok(admin) = admin.await else { return Err(process) };
        let certificate = std::fs::read(settings.directory().join("tls.crt")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&certificate).unwrap()])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(50));
        Ok(Self { settings, process, public: String::new(), admin, client: client.build().unwrap() })
    }

    /// Waits until it is ready.
    pub async fn ready(&mut self) {
        assert!(self.try_ready().await, "the relay ended: {:?}", self.process.ended());
    }

    /// Waits until it is ready; false when it ends before.
    pub(super) async fn try_ready(&mut self) -> bool {
        let public = eventually("readiness", async || {
            match (self.readyz().await, address(&self.process, "public"), self.process.ended()) {
                (200, Some(address), _) => Ok(Some(address)),
                (_, _, Some(_)) => Ok(None),
                (status, address, None) => Err((status, address)),
            }
        });
        let Some(address) = public.await else { return false };
        let scheme = if self.settings.is_plaintext() { "http" } else { "https" };
        self.public = format!("{scheme}://{address}");
        true
    }

    pub(super) fn into_process(self) -> Process {
        self.process
    }

    /// The status of `/readyz`; 0 when nobody answers.
    pub async fn readyz(&self) -> u16 {
        let response = self.client.get(format!("{}/readyz", self.admin)).send().await;
        response.map_or(0, |response| response.status().as_u16())
    }

    /// `https://127.0.0.1:port` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public)
    }

    /// `http://127.0.0.1:port` of the admin listener, and the path.
    pub fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    /// Trusts this relay's certificate, and follows no redirects.
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    pub fn settings(&self) -> &Builder {
        &self.settings
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<String> {
        self.process.stderr.all()
    }

    /// What the stdout sink has printed so far.
    pub fn stdout(&self) -> Vec<Value> {
        self.process.stdout.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Sends a delivery, and gives back the answer with its form checked.
    pub async fn post(&self, delivery: &Delivery) -> Ack {
        self.try_post(delivery).await.unwrap_or_else(|e| panic!("no answer to {}: {e:?}", delivery.stored_id()))
    }

    /// Like [`Self::post`], where the relay may be gone.
    pub async fn try_post(&self, delivery: &Delivery) -> reqwest::Result<Ack> {
        Ack::read(delivery, self.send(delivery).await?).await
    }

    /// Sends a delivery.
    pub async fn send(&self, delivery: &Delivery) -> reqwest::Result<reqwest::Response> {
        let mut request = self.client.post(self.url(&delivery.path)).body(delivery.body.clone());
        for (name, value) in &delivery.headers {
            request = request.header(name, value);
        }
        request.send().await
    }

    /// The metrics' text.
    pub async fn metrics(&self) -> String {
        let ask = async || {
            let request = self.client.get(self.admin_url("/metrics")).bearer_auth(TOKEN);
            request.send().await?.error_for_status()?.text().await
        };
        // The relay may end idle connections of the pool in the moment in which they are used again.
        for _ in 0..10 {
            match ask().await {
                Err(error) if error.is_request() => {}
                asked => return asked.unwrap(),
            }
        }
        ask().await.unwrap()
    }

    /// The sum of a metric (without its prefix) over all series whose labels hold these.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        metrics::sum(&self.metrics().await, name, labels)
    }

    /// The requests in quarantine, oldest first.
    pub async fn quarantine(&self) -> Vec<Value> {
        let mut refused = self.cli(&["quarantine", "list", "--format", "json"]).await.success().json();
        refused.sort_by_key(|entry| entry["id"].as_i64());
        refused
    }

    /// Waits until the metric, summed up like [`Self::metric`], has this value.
    pub async fn reaches(&self, value: i64, name: &str, labels: &[(&str, &str)]) {
        eventually(&format!("{name} = {value}"), async || match self.metric(name, labels).await {
            now if now == value => Ok(()),
            now => Err(now),
        })
        .await;
    }

    /// Waits until every event is final at every sink.
    pub async fn settled(&self) {
        eventually("settled sinks", async || self.unsettled(true).await).await;
    }

    /// Waits until every event is final or parked at every sink.
    pub async fn settled_or_parked(&self) {
        eventually("settled sinks", async || self.unsettled(false).await).await;
    }

    async fn unsettled(&self, parked_counts: bool) -> Result<(), String> {
        let text = self.metrics().await;
        for sink in self.settings.sinks() {
            let value = |name| metrics::values(&text, name, &[("sink", sink)]).first().copied();
            let (lag, parked) = (value("sink_lag_events"), value("sink_parked"));
            if lag != Some(0) || parked_counts && parked != Some(0) {
                return Err(format!("sink {sink}: lag {lag:?}, parked {parked:?}"));
            }
        }
        Ok(())
    }

    /// What a file sink has written so far.
    pub fn lines(&self, sink: &str) -> Vec<Value> {
        lines(&self.settings.sink_file(sink))
    }

    /// `events list`, oldest first.
    pub async fn events(&self) -> Vec<Value> {
        self.events_where(&[]).await
    }

    /// `events list` with these filters, oldest first.
    pub async fn events_where(&self, filters: &[&str]) -> Vec<Value> {
        let args = [&["events", "list", "--format", "json", "--limit", "100000"], filters].concat();
        let mut events = self.cli(&args).await.success().json();
        events.sort_by_key(|event| event["seq"].as_i64());
        events
    }

    /// `events show`.
    pub async fn event(&self, id: &str) -> Value {
        let mut shown = self.cli(&["events", "show", id, "--format", "json"]).await.success().json();
        assert_eq!(shown.len(), 1, "one event under {id}");
        shown.remove(0)
    }

    /// Runs a command with this relay's configuration.
    pub async fn cli(&self, args: &[&str]) -> Output {
        self.cli_with_input(args, b"").await
    }

    /// Runs a command with this relay's configuration and this standard input.
    pub async fn cli_with_input(&self, args: &[&str], stdin: &[u8]) -> Output {
        let config = self.settings.config_file();
        let args = [args, &["--config", config.to_str().unwrap()]].concat();
        run_in(self.settings.directory(), &args, stdin).await
    }

    /// Kills it, as a power cut would.
    pub fn kill9(mut self) -> Builder {
        self.process.kill9();
        self.settings
    }

    /// Kills it, and starts it again over the same inbox.
    pub async fn restart(self) -> Self {
        self.kill9().start().await
    }

    /// Asks it to read its configuration again.
    pub fn sighup(&self) {
        self.process.signal("HUP");
    }

    /// Asks it to end.
    pub fn sigterm(&self) {
        self.process.signal("TERM");
    }

    /// Ends it as an operator would. Fails unless it exits with 0 and leaves nothing: no parked event and no line of its
    /// own at level ERROR (unless the test expects them), no child process. It can be started again.
    pub async fn shutdown(mut self) -> Builder {
        if !self.settings.parked_is_fine {
            let parked = self.metric("sink_parked", &[]).await;
            assert!(parked == 0, "{parked} events left parked");
        }
        let children = self.process.children();
        self.sigterm();
        let status = self.process.end().await;
        assert_eq!(status.code(), Some(0), "after SIGTERM");
        eventually("the end of its children", async || {
            let left: Vec<_> = children.iter().filter(|&&child| is_running(child)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?} still run")) }
        })
        .await;
        let is_error = |line: &String| line.contains(r#""level":"ERROR""#) && line.contains(r#""target":"ralio_relay"#);
        let errors: Vec<_> = self.log().into_iter().filter(is_error).collect();
        assert!(self.settings.errors_are_fine || errors.is_empty(), "logged errors:\n{}", errors.join("\n"));
        self.settings
    }
}

/// The JSON lines of a file; none when it is not there yet. A last line that is still being written does not count.
pub fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(PathBuf::from(file)).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// Where the daemon says that it listens, whichever format its log has.
fn address(process: &Process, listener: &str) -> Option<String> {
    let said = format!("listening listener=\"{listener}\" addr=");
    process.stderr.all().iter().find_map(|line| {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            return line.split_once(&said).map(|(_, address)| address.to_owned());
        };
        let fields = line.get("fields").unwrap_or(&line);
        let fits = fields["message"] == "listening" && fields["listener"] == listener;
        fits.then(|| fields["addr"].as_str().map(str::to_owned))?
    })
}
