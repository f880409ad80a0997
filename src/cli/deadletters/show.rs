//! `deadletters show`

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;
use serde::Serialize;

use super::numbers;
use super::record::Letter;
use crate::cli::body::{BodyJson, pretty};
use crate::cli::events::record::{Attempt, Pair};
use crate::cli::events::show::{print_attempts, state};
use crate::cli::output::{Output, clean, clean_lines};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::{AttemptRecord, DeadLetterRecord, EventDetail, PairState};
use crate::model::JobId;

const EXAMPLES: &str = "\
Examples:
  ralio-relay deadletters show 12
  ralio-relay deadletters show 12 --raw > body.json

Exit code: 0 when it is there, 1 when it is not.";

/// Show one: why it was given up, every attempt at its sink, body
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Its number in the list
    #[arg(value_name = "ID", value_parser = numbers())]
    id: i64,

    #[command(flatten)]
    view: ViewArgs,

    /// How to print
    #[arg(long, value_enum, default_value_t, conflicts_with = "raw")]
    format: Format,

    /// The body's bytes, exactly as received, and nothing else
    #[arg(long)]
    raw: bool,
}

/// `deadletters show`.
#[derive(Serialize)]
struct Detail<'a> {
    #[serde(flatten)]
    letter: Letter<'a>,
    replay: Option<i64>,
    source: &'a str,
    key: &'a str,
    /// How the event stands at this sink now; null where the letter is a replay's.
    now: Option<Pair<'a>>,
    attempts: Vec<Attempt<'a>>,
    #[serde(flatten)]
    body: BodyJson,
}

impl<'a> Detail<'a> {
    fn new(letter: &'a DeadLetterRecord, event: &'a EventDetail) -> Self {
        Self {
            letter: letter.into(),
            replay: letter.replay.map(JobId::get),
            source: event.summary.source.as_str(),
            key: event.summary.key.as_str(),
            now: now(letter, event).map(|pair| Pair::new(&letter.sink, pair)),
            attempts: attempts(letter, event).map(Attempt::from).collect(),
            body: BodyJson::new(event.body.as_deref()),
        }
    }
}

/// What became of it since. A replay does not change how an event stands.
fn now<'a>(letter: &DeadLetterRecord, event: &'a EventDetail) -> Option<&'a PairState> {
    let mut pairs = event.sinks.iter().filter(|_| letter.replay.is_none());
    pairs.find(|(sink, _)| *sink == letter.sink).map(|(_, pair)| pair)
}

fn attempts<'a>(letter: &'a DeadLetterRecord, event: &'a EventDetail) -> impl Iterator<Item = &'a AttemptRecord> {
    event.attempts.iter().filter(|attempt| attempt.sink == letter.sink && attempt.replay == letter.replay)
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut reader = crate::cli::events::open(&args.config)?;
    let Some(letter) = reader.dead_letter(args.id)? else {
        eprintln!("there is no dead letter {}", args.id);
        return Ok(Exit::Finding);
    };
    // Asked for by id, for a number could be the id of another event.
    let events = reader.event(letter.event_id.as_str())?;
    let Some(event) = events.into_iter().find(|event| event.summary.seq == letter.seq) else {
        bail!("event {} of dead letter {} is not in the inbox", letter.seq, letter.id);
    };
    let mut out = Output::stdout();
    let _ = match (args.raw, args.format) {
        (true, _) => match &event.body {
            Some(body) => out.bytes(body),
            None => bail!("the body of event {} is no longer kept", event.summary.seq),
        },
        (false, Format::Json) => out.json(&Detail::new(&letter, &event)),
        (false, Format::Table) => print(&mut out, &args.view.view(), &letter, &event),
    };
    out.finish()?;
    Ok(Exit::Success)
}

fn print<W: Write>(
    out: &mut Output<W>,
    view: &View,
    letter: &DeadLetterRecord,
    event: &EventDetail,
) -> ControlFlow<()> {
    let standing = now(letter, event).map_or_else(
        || letter.replay.map_or_else(|| "-".to_owned(), |replay| format!("given up by replay {replay}")),
        |pair| {
            if matches!(pair, PairState::DeadLetter { id, .. } if *id == letter.id) {
                return "waits for a decision".to_owned();
            }
            let (at, note) = state(view, pair);
            let at = at.map(|at| format!(" at {}", view.exactly(at))).unwrap_or_default();
            format!("{}{at}: {note}", pair.as_str().replace('_', " "))
        },
    );
    let attributes = [
        ("id", letter.id.to_string()),
        ("sink", letter.sink.to_string()),
        ("died", view.exactly(letter.at)),
        ("reason", letter.reason.clone()),
        ("attempts", letter.attempts.to_string()),
        ("now", standing),
        ("seq", letter.seq.to_string()),
        ("event", letter.event_id.to_string()),
        ("type", letter.event_type.to_string()),
        ("key", event.summary.key.to_string()),
        ("source", event.summary.source.to_string()),
        ("received", view.exactly(event.summary.received_at)),
    ];
    attributes.iter().try_for_each(|(name, value)| out.line(format!("{name:<10} {}", clean(value))))?;
    out.line(view.title("Attempts"))?;
    print_attempts(out, view, &attempts(letter, event).cloned().collect::<Vec<_>>())?;
    out.line(view.title("Body"))?;
    match &event.body {
        Some(body) => out.line(clean_lines(&pretty(body))),
        None => out.line("(no longer kept)"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::record::tests::letter;
    use super::*;
    use crate::cli::events::record::tests::detail;
    use crate::model::SinkName;

    #[test]
    fn only_the_attempts_of_its_own_delivery_are_shown() {
        let event = detail(Some(b"{}"));
        let bus = SinkName::new("bus").unwrap();
        let of_replay = DeadLetterRecord { sink: bus.clone(), replay: Some(JobId::new(4)), ..letter() };
        assert_eq!(attempts(&of_replay, &event).count(), 1);
        assert_eq!(attempts(&DeadLetterRecord { sink: bus, ..letter() }, &event).count(), 0);
        let shown = serde_json::to_value(Detail::new(&of_replay, &event)).unwrap();
        assert_eq!((&shown["replay"], &shown["now"]), (&json!(4), &json!(null)));
        assert_eq!(shown["attempts"][0]["note"], "confirm 1");
    }

    #[test]
    fn how_it_stands_now_is_shown_and_nothing_steers_the_terminal() {
        let event = detail(Some(b"{\"a\":\"\xc2\x9b\"}"));
        let mut bytes = Vec::new();
        assert!(print(&mut Output::new(&mut bytes), &View::plain(), &letter(), &event).is_continue());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("now        waits for a decision\n"), "{text}");
        assert!(text.contains("Attempts\nnone\n") && text.contains("order-1"), "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        let shown = serde_json::to_value(Detail::new(&letter(), &event)).unwrap();
        assert_eq!((&shown["now"]["state"], &shown["body"]), (&json!("dead_letter"), &json!("{\"a\":\"\u{9b}\"}")));
    }
}
