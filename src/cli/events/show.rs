//! `events show`

use std::borrow::Cow;
use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use jiff::Timestamp;

use crate::cli::body::pretty;
use crate::cli::consent::counted;
use crate::cli::output::{Output, clean, clean_lines, keep_whole, print_headers, print_table};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format, resolve};
use crate::inbox::sqlite::Desk;
use crate::inbox::{self, Admission, AttemptRecord, EventDetail, Pair, PairState};
use crate::model::Digest;

use super::list::{event_row, event_table, notes};
use crate::records::event::{Detail, repeated_members, view as typed};
use crate::records::money;

const EXAMPLES: &str = "\
Examples:
  ralio-relay events show 17
  ralio-relay events show 0b6a2f0e-6a5c-4a8e-9c2e-3f1f2d9b7a10
  ralio-relay events show 0b6a2f0e
  ralio-relay events show 17 --raw > body.json
  ralio-relay events show 17 --format json | jq '.sinks[] | {sink, state}'

At each sink an event is before start (it came in before the sink began), waiting, parked (until its next attempt), \
delivered, filtered (by the sink's route), a dead letter, or discarded (for a reason).

The body is printed as it came, with line breaks where it is JSON. What the relay reads in it is the member `view` of \
--format json.

Exit code: 0 when it is there, 1 when it is not, or when its body is not what came in, 2 when several ids begin so.";

/// Show one event: lifecycle, what became of it at each sink, every attempt, headers kept, body
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the column SEQ; or its id, or the first 4 characters or more of that
    #[arg(value_name = "ID", allow_hyphen_values = true)]
    id: String,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t, conflicts_with = "raw")]
    format: Format,

    /// The body's bytes, exactly as received, and nothing else
    #[arg(long)]
    raw: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let inbox = crate::config::load_inbox(&args.config.config)?;
    let mut reader = super::open_inbox(&inbox)?;
    let mut events = reader.event(&args.id)?;
    if events.is_empty() {
        let id = resolve::id(&mut reader, &args.id)?;
        events = reader.event(&id)?;
    }
    if events.is_empty() {
        let beginning = match args.id.chars().count() < resolve::SHORTEST {
            true => format!("of an id write at least the first {} characters", resolve::SHORTEST),
            false => "no id begins so".to_owned(),
        };
        to_stderr!(
            "there is no event {}, and {beginning}: or take the number in the column SEQ of `ralio-relay events list`",
            clean(&args.id)
        );
        return Ok(Exit::Finding);
    }
    tell_altered(&inbox, &events);
    let (mut out, view) = (Output::stdout(), args.view.view());
    if args.raw {
        let _ = out.bytes(the_body(&events)?);
    } else {
        let _ = events.iter().enumerate().try_for_each(|(place, event)| match args.format {
            Format::Json => out.json(&Detail::from(event)),
            Format::Table => {
                if place > 0 {
                    out.line("\n----\n")?;
                }
                print(&mut out, &view, event)
            }
        });
    }
    out.finish()?;
    Ok(if events.iter().any(is_altered) { Exit::Finding } else { Exit::Success })
}

/// What is said of a body that is not what came in.
pub(crate) const ALTERED: &str =
    "the stored body is not what came in: its SHA-256 differs, so the file was altered or is damaged";

fn is_altered(event: &EventDetail) -> bool {
    event.body_matches == Some(false)
}

/// Says so where a body is not what came in, and marks the event, where this user may.
pub(crate) fn tell_altered(inbox: &inbox::Config, events: &[EventDetail]) {
    for event in events.iter().filter(|event| is_altered(event)) {
        to_stderr!("error: event {}: {ALTERED}", event.summary.seq);
    }
    let is_new = |event: &&EventDetail| is_altered(event) && event.mismatch_found_at.is_none();
    let digest = |event: &EventDetail| Some((event.summary.seq, Digest::of(event.body.as_deref()?)));
    let found: Vec<_> = events.iter().filter(is_new).filter_map(digest).collect();
    if !found.is_empty() {
        // Whoever may only read has said so all the same.
        _ = Desk::open(inbox).and_then(|desk| desk.note_altered(&found));
    }
}

fn the_body(events: &[EventDetail]) -> anyhow::Result<&[u8]> {
    match events {
        [event] => match &event.body {
            Some(_) if is_altered(event) => bail!("{ALTERED}"),
            Some(body) => Ok(body),
            None => bail!("the body of event {} is no longer kept", event.summary.seq),
        },
        several => {
            let seqs: Vec<String> = several.iter().map(|event| event.summary.seq.to_string()).collect();
            bail!("several events have this id: say which one by its seq, one of {}", seqs.join(", "))
        }
    }
}

fn print<W: Write>(out: &mut Output<W>, view: &View, event: &EventDetail) -> ControlFlow<()> {
    print_attributes(out, view, event)?;
    out.line(view.title("Lifecycle"))?;
    let mut steps = event_table(view);
    steps.add_rows(event.lifecycle.iter().map(|step| event_row(view, step)));
    print_table(out, &steps)?;
    out.line(view.title("At each sink"))?;
    print_states(out, view, event)?;
    out.line(view.title("Attempts"))?;
    print_attempts(out, view, &event.attempts)?;
    print_headers(out, view, &event.headers)?;
    out.line(view.title("Body"))?;
    match &event.body {
        Some(body) => out.line(clean_lines(&pretty(body, &event.headers))),
        None => out.line("(no longer kept; its SHA-256 is above)"),
    }
}

fn print_attributes<W: Write>(out: &mut Output<W>, view: &View, event: &EventDetail) -> ControlFlow<()> {
    let summary = &event.summary;
    let mut notes = notes(summary);
    let repeated = repeated_members(event);
    if !repeated.is_empty() {
        let between = if notes.is_empty() { "" } else { ", " };
        notes.push_str(&format!(
            "{between}members given more than once, of which the first counts: {}",
            repeated.join(", ")
        ));
    }
    let attributes = [
        ("seq", summary.seq.to_string()),
        ("id", summary.id.to_string()),
        ("type", summary.event_type.to_string()),
        ("category", summary.category.to_string()),
        ("state", summary.state.clone().unwrap_or_else(|| "-".to_owned())),
        ("key", summary.key.to_string()),
        ("source", summary.source.to_string()),
        (
            "time",
            summary
                .time
                .map_or_else(|| "missing: the body gives none that can be read".to_owned(), |at| view.exactly(at)),
        ),
        ("received", view.exactly(summary.received_at)),
        ("amounts", amounts(event)),
        ("size", format!("{} bytes", summary.size)),
        ("sha256", summary.body_sha256.to_string()),
        ("signature", format!("{} ({})", event.signature, signed_by(event))),
        ("peer", event.peer.clone().unwrap_or_else(|| "-".to_owned())),
        ("admitted", admitted(view, event)),
        ("digest", digest(view, event)),
        ("notes", if notes.is_empty() { "-".to_owned() } else { notes }),
    ];
    attributes.iter().try_for_each(|(name, value)| out.line(format!("{name:<10} {}", clean(value))))
}

/// The money that it tells of, such as `EUR 1,234.56 (creditedAmount)`.
fn amounts(event: &EventDetail) -> String {
    let body = typed(event).filter(|_| !is_altered(event));
    let amounts = body.as_ref().map(money::amounts).unwrap_or_default();
    match &amounts[..] {
        [] => "-".to_owned(),
        amounts => {
            amounts.iter().map(|amount| format!("{} ({})", amount.text, amount.name)).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Which secret signed it.
fn signed_by(event: &EventDetail) -> String {
    match event.secret {
        Some(secret) => format!("secret {secret}"),
        None => format!("secret unknown (slot {} at that time)", event.secret_slot),
    }
}

/// How it came out of the quarantine.
fn admitted(view: &View, event: &EventDetail) -> String {
    let Some(Admission { at, job, who, request, refused }) = &event.admission else { return "-".to_owned() };
    format!(
        "{} by {who}: request {request} was refused when it came in ({refused}); see `ralio-relay record show {job}`",
        view.exactly(*at)
    )
}

/// Whether the body is what came in.
fn digest(view: &View, event: &EventDetail) -> String {
    match (event.body_matches, event.mismatch_found_at) {
        (None, _) => "-".to_owned(),
        (Some(true), None) => "the body has this SHA-256".to_owned(),
        (Some(true), Some(at)) => format!("the body has this SHA-256 again; it had not at {}", view.exactly(at)),
        (Some(false), None) => format!("MISMATCH: {ALTERED}"),
        (Some(false), Some(at)) => format!("MISMATCH, first found at {}: {ALTERED}", view.exactly(at)),
    }
}

fn print_states<W: Write>(out: &mut Output<W>, view: &View, event: &EventDetail) -> ControlFlow<()> {
    if event.sinks.is_empty() {
        return out.line("none");
    }
    let mut states = view.table(&["SINK", "STATE", "AT", "NOTE"]);
    keep_whole(&mut states, 3);
    for Pair { sink, forgotten_at, state: pair, consumer: _ } in &event.sinks {
        let (at, note) = state(view, pair);
        let sink = match forgotten_at {
            Some(_) => format!("{sink} (forgotten)"),
            None => sink.to_string(),
        };
        let at = at.map_or_else(|| "-".to_owned(), |at| view.exactly(at));
        states.add_row(view.row([&sink, &pair.as_str().replace('_', " "), &at, &note], Some(1)));
    }
    print_table(out, &states)
}

/// When an event came into a state, and what there is to say about it. Not yet clean for a terminal.
pub(crate) fn state(view: &View, pair: &PairState) -> (Option<Timestamp>, String) {
    match pair {
        PairState::BeforeStart => (None, "it came in before the sink began".to_owned()),
        PairState::Waiting => (None, "the sink has not come to it yet".to_owned()),
        PairState::Parked { attempts: 0, .. } => (None, "waits behind an earlier event of its key".to_owned()),
        PairState::Parked { attempts, next_attempt } => {
            let attempts = counted((*attempts).into(), "attempt");
            (None, format!("{attempts}; the next one at {}", view.seconds(*next_attempt)))
        }
        PairState::Delivered { at, receipt } => (Some(*at), receipt.clone()),
        PairState::Filtered { route, since } => (None, format!("route {route}, since {}", view.seconds(*since))),
        PairState::DeadLetter { id, reason, at } => (Some(*at), format!("{reason} (dead letter {id})")),
        PairState::Discarded { reason, who, at } => {
            let by = who.as_ref().map(|who| format!(" (by {who})")).unwrap_or_default();
            (Some(*at), format!("{reason}{by}"))
        }
    }
}

/// The receipt, or the reason and what the far side answered, where that is kept.
fn note(attempt: &AttemptRecord) -> Cow<'_, str> {
    match &attempt.answer {
        Some(answer) => format!("{}: {answer}", attempt.note).into(),
        None => attempt.note.as_str().into(),
    }
}

/// Where the event went, and which revision of the sink that was.
fn destination(attempt: &AttemptRecord) -> String {
    match (&attempt.target, attempt.revision) {
        (Some(target), Some(revision)) => format!("{target} (revision {revision})"),
        (_, Some(revision)) => format!("revision {revision}"),
        (_, None) => "-".to_owned(),
    }
}

/// A table of attempts, those of replays with the number of theirs.
pub(crate) fn print_attempts<W: Write>(
    out: &mut Output<W>,
    view: &View,
    attempts: &[AttemptRecord],
) -> ControlFlow<()> {
    if attempts.is_empty() {
        return out.line("none");
    }
    let mut shown = view.table(&["SINK", "REPLAY", "N", "AT", "TOOK", "OUTCOME", "NOTE", "TO"]);
    keep_whole(&mut shown, 6);
    for attempt in attempts {
        let cells = [
            attempt.sink.as_str(),
            &attempt.replay.map_or_else(|| "-".to_owned(), |replay| replay.to_string()),
            &attempt.n.to_string(),
            &view.exactly(attempt.at),
            &format!("{} ms", attempt.latency.as_millis()),
            attempt.outcome.as_str(),
            &note(attempt),
            &destination(attempt),
        ];
        shown.add_row(view.row(cells, Some(5)));
    }
    print_table(out, &shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::event::tests::detail;

    fn shown(event: &EventDetail) -> String {
        let mut bytes = Vec::new();
        assert!(print(&mut Output::new(&mut bytes), &View::plain(), event).is_continue());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn everything_known_is_shown_and_nothing_steers_the_terminal() {
        let text = shown(&detail(Some(b"{\"a\":1.10,\"b\":\"\xc2\x9b\"}")));
        for part in [
            "payin.completed",
            "abc (secret unknown (slot 1 at that time))",
            "203.0.113.9",
            "exchange ralio (revision 2)",
            "delivered",
            "confirm 1",
            "\"a\": 1.10",
            "HTTP 422 (dead letter 9)",
            "a test (by ann@host)",
            "route payout.*, since 2026-01-31T10:00:09Z",
            "2 attempts; the next one at 2026-01-31T10:00:09Z",
            "before start",
            "has not come to it yet",
            "evil\\u{1b}[2J",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert_eq!(text.matches("1.10").count(), 1, "the body is there once: {text}");
        let places = ["At each sink", "Attempts", "Headers", "Body"].map(|part| text.find(part).unwrap());
        assert!(places.is_sorted(), "what became of it comes before the body: {text}");
        assert!(shown(&detail(None)).contains("no longer kept"));
    }

    #[test]
    fn what_reads_in_two_ways_or_not_at_all_is_said() {
        let text = shown(&detail(Some(br#"{"a":1,"a":2,"b":{"c":1,"c":2}}"#)));
        assert!(text.contains("members given more than once, of which the first counts: c, a\n"), "{text}");
        assert!(text.contains("time       missing: "), "{text}");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let mut event = detail(Some(b"{}"));
        event.headers.clear();
        event.attempts.clear();
        event.sinks.clear();
        let text = shown(&event);
        assert!(text.contains("Attempts\nnone\n") && text.contains("At each sink\nnone\n"), "{text}");
        assert!(text.contains("Headers\nnone "), "{text}");
    }

    #[test]
    fn raw_is_one_body_or_a_reason_why_not() {
        assert_eq!(the_body(&[detail(Some(b"x"))]).unwrap(), b"x");
        assert!(the_body(&[detail(None)]).unwrap_err().to_string().contains("no longer kept"));
        let several = [detail(Some(b"x")), detail(Some(b"y"))];
        assert!(the_body(&several).unwrap_err().to_string().contains("by its seq"));
    }
}
