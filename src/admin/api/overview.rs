//! `/api/overview` and `/api/sources`: how the relay is doing, at a glance.

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::input::Query;
use super::refusal::Refusal;
use super::sinks::{Sink, sinks};
use crate::admin::SourceFacts;
use crate::clock::Uptime;
use crate::inbox::sqlite::{ReadError, Reader};
use crate::inbox::{
    ClockAhead, QuarantineCounts, RefusedSource, SecretUse, SecretUses, SinkRecord, Unconfigured, unconfigured,
};
use crate::records::Time;
use crate::records::status::{Daemon, Facts, Verdict, verdict};

/// Minutes that the chart shows.
const MINUTES: u32 = 60;

/// How the relay is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct Overview<'a> {
    version: &'static str,
    commit: &'static str,
    now: Time,
    /// Whether deliveries are taken.
    ready: bool,
    /// The first sentence of the page, and what it stands on.
    verdict: Verdict,
    /// Why not.
    reasons: Vec<String>,
    /// The last event.
    head: i64,
    last_event_at: Option<Time>,
    /// Events in each of the last 60 minutes, oldest first; the last one is the running minute.
    #[schema(min_items = 60, max_items = 60)]
    per_minute: Vec<u64>,
    last_hour: u64,
    last_24h: u64,
    inbox_bytes: u64,
    wal_bytes: u64,
    quarantine: QuarantineSize,
    /// Null where a proxy terminates TLS.
    certificate: Option<Certificate>,
    sinks: Vec<Sink<'a>>,
    /// Sinks that the configuration does not have, and that something waits for.
    removed_with_events: Vec<Removed<'a>>,
    /// Dead letters of all sinks that nobody has decided about.
    dead_letters: u64,
    /// Events whose bodies were found not to be what came in: somebody has altered the file, or it is damaged.
    altered_events: u64,
    sources: Vec<Source>,
}

/// A sink that the configuration does not have: removed, or renamed in the configuration only.
#[derive(Serialize, ToSchema)]
struct Removed<'a> {
    name: &'a str,
    /// Events that it has not got: after its cursor, and parked.
    undelivered: u64,
    dead_letters: u64,
    /// Configured sinks that came after it: one of them may be its new name.
    perhaps_renamed_to: Vec<&'a str>,
    /// The same in a sentence.
    finding: String,
    /// What to do about it, with the command.
    advice: String,
}

impl<'a> Removed<'a> {
    fn of(found: &Unconfigured<'a>) -> Self {
        Self {
            name: found.record.name.as_str(),
            undelivered: found.record.undelivered(),
            dead_letters: found.record.dead_letters,
            perhaps_renamed_to: found.successors.iter().map(|successor| successor.name.as_str()).collect(),
            finding: found.finding(),
            advice: found.advice(),
        }
    }
}

/// How full the quarantine is.
#[derive(Serialize, ToSchema)]
struct QuarantineSize {
    entries: u64,
    max_entries: u32,
    /// Of the entries, those whose sender was answered 401 and never sends them again. The others were answered 503.
    answered_401: u64,
    /// Requests of late that were refused for their signature, answered 503, and are not kept.
    not_kept: u64,
    /// When the first of these came in.
    not_kept_since: Option<Time>,
}

/// The certificate in use.
#[derive(Serialize, ToSchema)]
struct Certificate {
    not_after: Time,
    /// Negative after its end.
    seconds_left: i64,
}

/// The registered endpoints.
#[derive(Serialize, ToSchema)]
pub(super) struct Sources {
    sources: Vec<Source>,
}

/// A registered endpoint, and which of its secrets sign what comes in.
#[derive(Serialize, ToSchema)]
pub(super) struct Source {
    name: String,
    path: String,
    /// `reject` or `retry`.
    on_bad_signature: &'static str,
    last_event_at: Option<Time>,
    events: u64,
    secrets: Vec<SecretSlot>,
    /// What signed the events that are stored: every secret that ever did, the last one first.
    signed_with: Vec<SignedWith>,
}

/// One of the secrets, by its place in the configuration.
#[derive(Serialize, ToSchema)]
struct SecretSlot {
    slot: u32,
    /// Tells it from others without giving it away: as `check` and `config show` have it.
    fingerprint: String,
    /// When an event came in that this secret had signed; null where there is none.
    last_used_at: Option<Time>,
    last_used_seq: Option<i64>,
    /// Events that this secret has signed, since secrets are told apart by their fingerprints.
    events: u64,
    /// Since when the secret that stands there now is in use; the start of the daemon where it has not changed since.
    in_use_since: Time,
}

/// What one secret has signed, whether it is in use or not.
#[derive(Serialize, ToSchema)]
struct SignedWith {
    /// Null for what an older version stored, which noted only the slot.
    fingerprint: Option<String>,
    /// The place that it had in the configuration when it signed the last of them.
    slot: u32,
    events: u64,
    /// Null where an older version has counted them.
    first_seq: Option<i64>,
    first_used_at: Option<Time>,
    last_seq: i64,
    last_used_at: Time,
    /// Whether it is in the configuration that is in use.
    in_use: bool,
}

impl SignedWith {
    fn of(used: &SecretUse, in_use: &[String]) -> Self {
        let fingerprint = used.secret.map(|secret| secret.to_string());
        Self {
            in_use: fingerprint.as_ref().is_some_and(|fingerprint| in_use.contains(fingerprint)),
            fingerprint,
            slot: used.slot,
            events: used.events,
            first_seq: used.first.map(|(seq, _)| seq.get()),
            first_used_at: used.first.map(|(_, at)| Time(at)),
            last_seq: used.last_seq.get(),
            last_used_at: Time(used.last_used_at),
        }
    }
}

/// What the overview reads of the inbox.
struct Counts {
    head: i64,
    last_event_at: Option<Timestamp>,
    per_minute: Vec<u64>,
    last_hour: u64,
    last_24h: u64,
    sinks: Vec<SinkRecord>,
    uses: SecretUses,
    refused: Vec<RefusedSource>,
    quarantine: QuarantineCounts,
    clock_ahead: Option<ClockAhead>,
    altered_events: u64,
}

impl Counts {
    fn read(reader: &mut Reader, now: Timestamp, uptime: &Uptime) -> Result<Self, ReadError> {
        let before = |hours: i64| now.saturating_sub(SignedDuration::from_hours(hours)).unwrap_or(now);
        let uses = reader.secret_uses()?;
        Ok(Self {
            refused: reader.refused_sources(&uses)?,
            head: reader.head()?.get(),
            last_event_at: reader.last_arrival()?,
            per_minute: reader.arrivals_per_minute(now, MINUTES)?,
            last_hour: reader.count_since(before(1))?,
            last_24h: reader.count_since(before(24))?,
            sinks: reader.sinks()?,
            uses,
            quarantine: reader.quarantine_counts(now)?,
            clock_ahead: reader.believed_clock(now, uptime)?.ahead(now),
            altered_events: reader.altered_events()?,
        })
    }
}

/// How the relay is doing: readiness, what came in, sinks, sources, and what waits for a person. The counts come from
/// times of arrival in the log, and are about right only where the clock was set back.
#[utoipa::path(get, path = "/api/overview", tag = "overview", responses((status = 200, body = Overview)))]
pub(super) async fn overview(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    api.inbox()?;
    let now = api.now();
    let uptime = api.deps.clock.uptime();
    let counts = api.readers.read(move |reader| Counts::read(reader, now, &uptime)).await?;
    let (deps, metrics) = (&api.deps, &api.deps.metrics);
    let (reasons, configured) = (deps.status.reasons_not_ready(), deps.status.sinks());
    let names: Vec<_> = configured.iter().map(|sink| sink.consumer.name.clone()).collect();
    let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    let certificate = |not_after: Timestamp| Certificate {
        not_after: Time(not_after),
        seconds_left: not_after.duration_since(now).as_secs(),
    };
    let sinks = sinks(&configured, &counts.sinks, now);
    let lines: Vec<_> = sinks.iter().map(|sink| sink.line().clone()).collect();
    let quarantine = QuarantineSize {
        entries: counts.quarantine.entries,
        max_entries: deps.inbox.quarantine.max_entries,
        answered_401: counts.quarantine.answered_401,
        not_kept: counts.quarantine.not_kept,
        not_kept_since: counts.quarantine.not_kept_since.map(Time),
    };
    let unconfigured = unconfigured(&counts.sinks, &names);
    let facts = Facts {
        daemon: if reasons.is_empty() { Daemon::Ready } else { Daemon::NotReady(reasons.clone()) },
        last_event_at: counts.last_event_at,
        last_hour: counts.last_hour,
        last_24h: counts.last_24h,
        sinks: &lines,
        quarantine: counts.quarantine,
        quarantine_most: quarantine.max_entries.into(),
        refused: &counts.refused,
        unconfigured: &unconfigured,
        altered_events: counts.altered_events,
        reload_failure: deps.status.reload_failure(),
        certificate_ends: deps.status.certificate(),
        clock_ahead: counts.clock_ahead.filter(|_| deps.inbox.retention.is_some()),
        now,
    };
    Ok(HttpResponse::Ok().json(Overview {
        verdict: verdict(&facts),
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("RALIO_RELAY_COMMIT"),
        now: Time(now),
        ready: reasons.is_empty(),
        reasons,
        head: counts.head,
        last_event_at: counts.last_event_at.map(Time),
        per_minute: counts.per_minute,
        last_hour: counts.last_hour,
        last_24h: counts.last_24h,
        inbox_bytes: size(metrics.inbox_bytes.get()),
        wal_bytes: size(metrics.wal_bytes.get()),
        quarantine,
        certificate: deps.status.certificate().map(certificate),
        sinks,
        removed_with_events: unconfigured.iter().map(Removed::of).collect(),
        dead_letters: counts.sinks.iter().map(|sink| sink.dead_letters).sum(),
        altered_events: counts.altered_events,
        sources: known(&deps.status.sources(), &counts.uses),
    }))
}

fn known(sources: &[SourceFacts], uses: &SecretUses) -> Vec<Source> {
    let source = |facts: &SourceFacts| {
        let uses = uses.by_source.get(&facts.name).map_or(&[][..], Vec::as_slice);
        let of = |fingerprint: &String| {
            uses.iter().find(|used| used.secret.is_some_and(|secret| secret.to_string() == *fingerprint))
        };
        let secrets = (0..).zip(&facts.fingerprints).zip(&facts.in_use_since);
        let slot = |((slot, fingerprint), since): ((u32, &String), &Timestamp)| SecretSlot {
            slot,
            fingerprint: fingerprint.clone(),
            last_used_at: of(fingerprint).map(|used| Time(used.last_used_at)),
            last_used_seq: of(fingerprint).map(|used| used.last_seq.get()),
            events: of(fingerprint).map_or(0, |used| used.events),
            in_use_since: Time(*since),
        };
        Source {
            name: facts.name.to_string(),
            path: facts.path.clone(),
            on_bad_signature: facts.on_bad_signature,
            last_event_at: uses.iter().map(|used| used.last_used_at).max().map(Time),
            events: uses.iter().map(|used| used.events).sum(),
            secrets: secrets.map(slot).collect(),
            signed_with: uses.iter().map(|used| SignedWith::of(used, &facts.fingerprints)).collect(),
        }
    };
    sources.iter().map(source).collect()
}

/// Lists the registered endpoints, and which secret has signed what: one that signs no more can be retired.
#[utoipa::path(get, path = "/api/sources", tag = "sources", responses((status = 200, body = Sources)))]
pub(super) async fn sources(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Refusal> {
    Query::none(&request)?;
    api.inbox()?;
    let uses = api.readers.read(|reader| reader.secret_uses()).await?;
    Ok(HttpResponse::Ok().json(Sources { sources: known(&api.deps.status.sources(), &uses) }))
}
