//! `simulate`

mod plan;
mod send;
mod summary;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::ProgressBar;
use jiff::Timestamp;
use reqwest::Url;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::sign::SecretArgs;
use super::{Exit, Format, progress};
use crate::model::EventType;
use crate::provider::simulation::{self, Simulator};
use plan::Plan;
use send::Sender;
use summary::Summary;

/// Send signed, realistic deliveries as Ralio would
///
/// Retries 5xx and network errors with backoff, and never a 4xx. Exits 0 when every genuine delivery was accepted and
/// no forged one was.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ralio-relay simulate --insecure --secret-file .ralio-relay/secret
  ralio-relay simulate payin.completed --count 1000 --secret-file secret
  ralio-relay simulate --flow payin --shuffle --bad-signature 5 --secret-file secret")]
pub(crate) struct Args {
    /// Event types to send, in either spelling; every documented one when neither these nor --flow are given
    #[arg(value_name = "TYPE", value_parser = documented_type, conflicts_with = "flow")]
    types: Vec<EventType>,
    /// Events that belong together, in the order in which they happen
    #[arg(long)]
    flow: Option<Flow>,
    /// Where to send
    #[arg(long, default_value = "https://127.0.0.1:8443/webhooks/ralio", value_parser = http_url)]
    url: Url,
    #[command(flatten)]
    secret: SecretArgs,
    /// Events to send, duplicates and forgeries not counted [default: each type of the selection once, in both
    /// envelopes unless --envelope says which]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Deliveries a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Share of events that are sent twice
    #[arg(long, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    duplicates: u8,
    /// Mix the order, within windows of 1000
    #[arg(long)]
    shuffle: bool,
    /// Generation of envelope [default: both by turns]
    #[arg(long)]
    envelope: Option<Envelope>,
    /// Forged deliveries to send as well, as a share of the events
    #[arg(long, value_name = "PCT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=100))]
    bad_signature: u8,
    /// Trust this certificate authority (PEM), or this self-signed certificate
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Do not check the server's certificate
    #[arg(long)]
    insecure: bool,
    /// Requests at a time: one after the other unless told, which is about a thousand a second; above 1, events may overtake
    /// each other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    concurrency: u16,
    /// Attempts at each delivery; eight take about a minute
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100))]
    attempts: u32,
    /// The same seed sends the same bytes again [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How the summary is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Flow {
    Onboarding,
    Payin,
    Payout,
    Transfer,
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Envelope {
    Current,
    Legacy,
}

fn documented_type(text: &str) -> Result<EventType, String> {
    let event_type = EventType::canonical(text).ok_or("an event type is 1 to 128 visible ASCII characters")?;
    if simulation::types().any(|known| known == event_type.as_str()) {
        return Ok(event_type);
    }
    let near = simulation::types().max_by(|a, b| {
        strsim::jaro_winkler(a, event_type.as_str()).total_cmp(&strsim::jaro_winkler(b, event_type.as_str()))
    });
    Err(format!("Ralio documents no such type; did you mean '{}'?", near.unwrap_or_default()))
}

fn http_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    if matches!(url.scheme(), "http" | "https") { Ok(url) } else { Err("the scheme is http or https".to_owned()) }
}

impl Args {
    fn simulator(&self, seed: u64) -> anyhow::Result<Simulator> {
        let mut simulator = Simulator::new(seed);
        if !self.types.is_empty() {
            simulator = simulator.types(&self.types)?;
        }
        if let Some(flow) = self.flow {
            simulator = simulator.flow(match flow {
                Flow::Onboarding => simulation::Flow::Onboarding,
                Flow::Payin => simulation::Flow::Payin,
                Flow::Payout => simulation::Flow::Payout,
                Flow::Transfer => simulation::Flow::Transfer,
                Flow::All => simulation::Flow::All,
            });
        }
        simulator = match self.envelope {
            Some(Envelope::Current) => simulator.generation(simulation::Generation::Current),
            Some(Envelope::Legacy) => simulator.generation(simulation::Generation::Legacy),
            None => simulator,
        };
        let count = self.count(&simulator);
        Ok(if self.seed.is_none() { simulator.ending_by(Timestamp::now(), count) } else { simulator })
    }

    fn count(&self, simulator: &Simulator) -> u64 {
        self.count.unwrap_or(simulator.pass_len() as u64)
    }

    fn plan(&self, secret: Vec<u8>) -> anyhow::Result<Plan> {
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let simulator = self.simulator(seed)?;
        let count = self.count(&simulator);
        let mut plan = Plan::new(simulator, count, secret);
        plan.duplicates(self.duplicates);
        plan.forge(self.bad_signature, self.simulator(!seed)?);
        if self.shuffle {
            plan.shuffle(seed);
        }
        Ok(plan)
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let plan = args.plan(args.secret.read()?)?;
    let bar = progress::bar(plan.total(), progress::PACE);
    let client = send::client(args.ca.as_deref(), args.insecure, args.concurrency.into())?;
    let sender = Arc::new(Sender::new(client, args.url.clone(), args.attempts, bar.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let summary = runtime.block_on(drive(plan, sender, args.rate, args.concurrency.into(), &bar))?;
    bar.finish_and_clear();
    summary.print(args.format)?;
    Ok(if summary.all_is_well() { Exit::Success } else { Exit::Finding })
}

/// Carries the plan out until its end or Ctrl-C.
async fn drive(
    mut plan: Plan,
    sender: Arc<Sender>,
    rate: Option<u32>,
    concurrency: usize,
    bar: &ProgressBar,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::begin();
    let mut in_flight = JoinSet::new();
    let mut pace = rate.map(|rate| {
        let mut pace = interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
        pace
    });
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut planned = true;
    while planned || !in_flight.is_empty() {
        tokio::select! {
            heard = &mut interrupt => {
                heard.context("cannot listen for Ctrl-C")?;
                summary.interrupted();
                break;
            }
            () = turn(&mut pace), if planned && in_flight.len() < concurrency => match plan.next() {
                Some(shot) => {
                    let sender = Arc::clone(&sender);
                    in_flight.spawn(async move { sender.send(shot).await });
                }
                None => planned = false,
            },
            Some(report) = in_flight.join_next() => {
                summary.add(&report.context("a delivery broke off")??);
                bar.inc(1);
            }
        }
    }
    Ok(summary)
}

async fn turn(pace: &mut Option<Interval>) {
    if let Some(pace) = pace {
        pace.tick().await;
    }
}
