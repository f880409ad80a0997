//! Deliveries from a backlog through the daemon, against the client library alone, in turn.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties, ExchangeKind};
use serde_json::json;

use crate::fill::fill;
use crate::harness::load::body;
use crate::harness::{Builder, TestRelay, rabbitmq};
use crate::servers::Server;
use crate::stats::{Table, median, thousands};
use crate::{Plan, daemon};

/// Events in the backlog.
const BACKLOG: u64 = 100_000;
/// Outstanding confirms, and requests in flight.
const AMQP_WINDOW: usize = 200;
const HTTP_WINDOW: usize = 32;
/// Lines in flight, of which as many share a sync as come while one goes on; the bare loop syncs after as many.
const FILE_WINDOW: usize = 128;

/// Confirmed deliveries per second to RabbitMQ.
pub async fn amqp(plan: &Plan) {
    let Some(broker) = rabbitmq::shared().await else { return };
    let settings = TestRelay::builder();
    fill(&settings, BACKLOG).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        let vhost = broker.vhost().await;
        theirs.push(BACKLOG as f64 / raw_amqp(&vhost.url()).await);
        let vhost = broker.vhost().await;
        let sink = format!("start = \"earliest\"\namqp = {{ url = {:?}, queue = \"q\" }}", vhost.url());
        ours.push(BACKLOG as f64 / through(&settings, "amqp", &sink, run).await);
    }
    print(&format!("AMQP, {AMQP_WINDOW} outstanding confirms"), "lapin alone", &ours, &theirs);
}

fn print(title: &str, other: &str, ours: &[f64], theirs: &[f64]) {
    let mut table = Table::new(&format!("{title}, {BACKLOG} events, /s"), &["relay", other, "ratio"]);
    let ratio = median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect());
    let rate = |rates: &[f64]| thousands(median(rates.to_vec()));
    table.row(vec![rate(ours), rate(theirs), format!("{ratio:.2}")]);
    table.print();
}

/// The seconds that a new sink of this kind takes for the whole log.
async fn through(settings: &Builder, kind: &str, sink: &str, run: usize) -> f64 {
    let name = format!("{kind}-{run}");
    let mut relay = settings.clone().sink(&name, kind, sink).launch().await;
    let began = Instant::now();
    relay.ready().await;
    daemon::caught_up(&relay, &name).await;
    let seconds = began.elapsed().as_secs_f64();
    relay.shutdown().await;
    seconds
}

async fn raw_amqp(url: &str) -> f64 {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare("e".into(), ExchangeKind::Topic, durable, FieldTable::default()).await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("q".into(), durable, FieldTable::default()).await.unwrap();
    channel
        .queue_bind("q".into(), "e".into(), "#".into(), QueueBindOptions::default(), FieldTable::default())
        .await
        .unwrap();
    let bodies: Vec<String> = (0..1000).map(|_| body()).collect();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let began = Instant::now();
    let mut confirms = FuturesUnordered::new();
    for place in 0..BACKLOG as usize {
        if confirms.len() >= AMQP_WINDOW {
            let confirmed: Option<lapin::Result<Confirmation>> = confirms.next().await;
            assert!(matches!(confirmed, Some(Ok(Confirmation::Ack(None)))));
        }
        let properties = BasicProperties::default().with_delivery_mode(2);
        let body = bodies[place % bodies.len()].as_bytes();
        confirms.push(
            channel.basic_publish("e".into(), "payin.completed".into(), options, body, properties).await.unwrap(),
        );
    }
    while let Some(confirmed) = confirms.next().await {
        assert!(matches!(confirmed, Ok(Confirmation::Ack(None))));
    }
    let seconds = began.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await.unwrap();
    seconds
}

/// Requests per second to an HTTP endpoint.
pub async fn http(plan: &Plan) {
    let settings = TestRelay::builder();
    fill(&settings, BACKLOG).await;
    let server = Server::start("sink", settings.directory());
    let url = format!("http://{}/", server.address);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        theirs.push(BACKLOG as f64 / raw_http(&url).await);
        let sink = format!("start = \"earliest\"\nconcurrency = {HTTP_WINDOW}\nhttp = {{ url = {url:?} }}");
        ours.push(BACKLOG as f64 / through(&settings, "http", &sink, run).await);
    }
    print(&format!("HTTP, {HTTP_WINDOW} in flight"), "reqwest alone", &ours, &theirs);
}

async fn raw_http(url: &str) -> f64 {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let bodies: Vec<String> = (0..1000).map(|_| body()).collect();
    let headers = headers();
    let began = Instant::now();
    let mut requests = FuturesUnordered::new();
    for place in 0..BACKLOG as usize {
        if requests.len() >= HTTP_WINDOW {
            let done: Option<u16> = requests.next().await;
            assert_eq!(done, Some(204));
        }
        let request = client.post(url).headers(headers.clone()).body(bodies[place % bodies.len()].clone());
        requests.push(async move {
            let response = request.send().await.unwrap();
            let status = response.status().as_u16();
            response.bytes().await.unwrap();
            status
        });
    }
    while let Some(done) = requests.next().await {
        assert_eq!(done, 204);
    }
    began.elapsed().as_secs_f64()
}

/// As many headers, as long, as the sink sends: without the work of composing them.
fn headers() -> reqwest::header::HeaderMap {
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "0f8fad5b-d9cb-469f-a165-70867728950e"),
        ("ce-source", "/ralio/test"),
        ("ce-type", "payin.completed"),
        ("ce-subject", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ("ce-time", "2026-02-26T22:02:28.7667797Z"),
        ("ce-ralioseq", "100000"),
        ("ce-raliocategory", "payin"),
        ("ce-ralioreceived", "2026-02-26T22:02:29.123456Z"),
        ("ce-raliostale", "false"),
        ("content-type", "application/json"),
        ("x-signature", "sha256=9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"),
        ("user-agent", "ralio-relay/0.1.0"),
    ];
    headers.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// Lines per second to a file, each batch synced.
pub async fn file(plan: &Plan) {
    let settings = TestRelay::builder();
    fill(&settings, BACKLOG).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 0..plan.runs {
        theirs.push(BACKLOG as f64 / raw_file(&settings.sink_file("raw")));
        let path = settings.sink_file(&format!("file-{run}"));
        let sink = format!("start = \"earliest\"\nconcurrency = {FILE_WINDOW}\nfile = {{ path = {path:?} }}");
        ours.push(BACKLOG as f64 / through(&settings, "file", &sink, run).await);
    }
    print(&format!("File, {FILE_WINDOW} lines in flight"), "std::fs alone", &ours, &theirs);
}

/// Writes the lines that the sink would, as many for each sync as its concurrency.
fn raw_file(path: &std::path::Path) -> f64 {
    use std::io::Write as _;
    let lines: Vec<String> = (0..1000)
        .map(|_| {
            let data: serde_json::Value = serde_json::from_str(&body()).unwrap();
            json!({"specversion": "1.0", "id": data["eventId"], "source": "/ralio/test", "type": "payin.completed", "data": data})
                .to_string()
        })
        .collect();
    let mut file = std::fs::File::create(path).unwrap();
    let began = Instant::now();
    let mut batch = Vec::new();
    for place in 0..BACKLOG as usize {
        batch.extend_from_slice(lines[place % lines.len()].as_bytes());
        batch.push(b'\n');
        if place % FILE_WINDOW == FILE_WINDOW - 1 {
            file.write_all(&batch).unwrap();
            file.sync_data().unwrap();
            batch.clear();
        }
    }
    began.elapsed().as_secs_f64()
}
