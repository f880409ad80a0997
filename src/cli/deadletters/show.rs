//! `deadletters show`

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;

use super::numbers;
use crate::cli::body::pretty;
use crate::cli::events::show::{ALTERED, print_attempts, state, tell_altered};
use crate::cli::output::{Output, clean, clean_lines};
use crate::cli::view::{View, ViewArgs};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::{DeadLetterRecord, Decision, EventDetail, PairState};
use crate::records::letter::{Detail, attempts, now};

const EXAMPLES: &str = "\
Examples:
  ralio-relay deadletters show 12
  ralio-relay deadletters show 12 --raw > body.json

Exit code: 0 when it is there, 1 when it is not.";

/// Show one, decided about or not: why it was given up, what became of it, every attempt at its sink, body
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

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let inbox = crate::config::load_inbox(&args.config.config)?;
    let mut reader = crate::cli::events::open_inbox(&inbox)?;
    let Some(letter) = reader.dead_letter(args.id)? else {
        to_stderr!("there is no dead letter {}", args.id);
        return Ok(Exit::Finding);
    };
    // Asked for by id, for a number could be the id of another event.
    let events = reader.event(letter.event_id.as_str())?;
    let Some(event) = events.into_iter().find(|event| event.summary.seq == letter.seq) else {
        bail!("event {} of dead letter {} is not in the inbox", letter.seq, letter.id);
    };
    tell_altered(&inbox, std::slice::from_ref(&event));
    let mut out = Output::stdout();
    let _ = match (args.raw, args.format) {
        (true, _) => match &event.body {
            Some(_) if event.body_matches == Some(false) => bail!("{}", ALTERED),
            Some(body) => out.bytes(body),
            None => bail!("the body of event {} is no longer kept", event.summary.seq),
        },
        (false, Format::Json) => out.json(&Detail::new(&letter, &event)),
        (false, Format::Table) => print(&mut out, &args.view.view(), &letter, &event),
    };
    out.finish()?;
    Ok(if event.body_matches == Some(false) { Exit::Finding } else { Exit::Success })
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
            if matches!(pair.state, PairState::DeadLetter { id, .. } if id == letter.id) {
                return "waits for a decision".to_owned();
            }
            let (at, note) = state(view, &pair.state);
            let at = at.map(|at| format!(" at {}", view.exactly(at))).unwrap_or_default();
            format!("{}{at}: {note}", pair.state.as_str().replace('_', " "))
        },
    );
    let attributes = [
        ("id", letter.id.to_string()),
        ("sink", letter.sink.to_string()),
        ("died", view.exactly(letter.at)),
        ("reason", letter.reason.clone()),
        ("answer", letter.answer.clone().unwrap_or_else(|| "-".to_owned())),
        ("state", decided(view, letter)),
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
        Some(body) => out.line(clean_lines(&pretty(body, &event.headers))),
        None => out.line("(no longer kept)"),
    }
}

/// What became of it, when, by whom and why.
fn decided(view: &View, letter: &DeadLetterRecord) -> String {
    let state = letter.state.as_str();
    let Some(Decision { at, who, reason, job }) = &letter.decision else { return state.to_owned() };
    let who = who.as_ref().map(|who| format!(" by {who}")).unwrap_or_default();
    let why = reason.as_ref().filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}"));
    let record = job.map(|job| format!(" (see `ralio-relay record show {job}`)")).unwrap_or_default();
    format!("{state} at {}{who}{}{record}", view.exactly(*at), why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::event::tests::detail;
    use crate::records::letter::tests::letter;

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
