//! `events show`

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::bail;

use crate::cli::body::pretty;
use crate::cli::output::{Output, clean, clean_lines, keep_whole, print_headers, print_table, row, table, utc};
use crate::cli::{ConfigArgs, Exit, Format};
use crate::inbox::EventDetail;

use super::list::{event_row, event_table, notes};
use super::record::{Detail, view};

const EXAMPLES: &str = "\
Examples:
  ralio-relay events show 17
  ralio-relay events show 0b6a2f0e-6a5c-4a8e-9c2e-3f1f2d9b7a10
  ralio-relay events show 17 --raw > body.json
  ralio-relay events show 17 --format json | jq .attempts

Exit code: 0 when it is there, 1 when it is not.";

/// Show one event: body, headers kept, lifecycle, every attempt at every sink
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Event id, or its seq
    #[arg(value_name = "ID")]
    id: String,

    /// How to print
    #[arg(long, value_enum, default_value_t, conflicts_with = "raw")]
    format: Format,

    /// The body's bytes, exactly as received, and nothing else
    #[arg(long)]
    raw: bool,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let events = super::open(&args.config)?.event(&args.id)?;
    if events.is_empty() {
        eprintln!("there is no event {}", clean(&args.id));
        return Ok(Exit::Finding);
    }
    let mut out = Output::stdout();
    if args.raw {
        let _ = out.bytes(the_body(&events)?);
    } else {
        let _ = events.iter().enumerate().try_for_each(|(place, event)| match args.format {
            Format::Json => out.json(&Detail::from(event)),
            Format::Table => {
                if place > 0 {
                    out.line("\n----\n")?;
                }
                print(&mut out, event)
            }
        });
    }
    out.finish()?;
    Ok(Exit::Success)
}

fn the_body(events: &[EventDetail]) -> anyhow::Result<&[u8]> {
    match events {
        [event] => match &event.body {
            Some(body) => Ok(body),
            None => bail!("the body of event {} is no longer kept", event.summary.seq),
        },
        several => {
            let seqs: Vec<String> = several.iter().map(|event| event.summary.seq.to_string()).collect();
            bail!("several events have this id: say which one by its seq, one of {}", seqs.join(", "))
        }
    }
}

fn print<W: Write>(out: &mut Output<W>, event: &EventDetail) -> ControlFlow<()> {
    print_attributes(out, event)?;
    out.line("\nLifecycle")?;
    let mut steps = event_table();
    steps.add_rows(event.lifecycle.iter().map(event_row));
    print_table(out, &steps)?;
    out.line("\nAttempts")?;
    print_attempts(out, event)?;
    // HELPER: print the sinks' states
    if let Some(view) = view(event) {
        let json = serde_json::to_vec(&view).expect("a view is plain data");
        out.line("\nReads as")?;
        out.line(clean_lines(&pretty(&json)))?;
    }
    print_headers(out, &event.headers)?;
    out.line("\nBody")?;
    match &event.body {
        Some(body) => out.line(clean_lines(&pretty(body))),
        None => out.line("(no longer kept; its SHA-256 is above)"),
    }
}

fn print_attributes<W: Write>(out: &mut Output<W>, event: &EventDetail) -> ControlFlow<()> {
    let summary = &event.summary;
    let notes = notes(summary);
    let attributes = [
        ("seq", summary.seq.to_string()),
        ("id", summary.id.to_string()),
        ("type", summary.event_type.to_string()),
        ("category", summary.category.to_string()),
        ("state", summary.state.clone().unwrap_or_else(|| "-".to_owned())),
        ("key", summary.key.to_string()),
        ("source", summary.source.to_string()),
        ("time", summary.time.map_or_else(|| "-".to_owned(), utc)),
        ("received", utc(summary.received_at)),
        ("size", format!("{} bytes", summary.size)),
        ("sha256", summary.body_sha256.to_string()),
        ("signature", format!("{} (secret {})", event.signature, event.secret_slot)),
        ("notes", if notes.is_empty() { "-".to_owned() } else { notes }),
    ];
    attributes.iter().try_for_each(|(name, value)| out.line(format!("{name:<10} {}", clean(value))))
}

fn print_attempts<W: Write>(out: &mut Output<W>, event: &EventDetail) -> ControlFlow<()> {
    if event.attempts.is_empty() {
        return out.line("none");
    }
    let mut attempts = table(&["SINK", "N", "AT", "TOOK", "OUTCOME", "NOTE"]);
    keep_whole(&mut attempts, 5);
    for attempt in &event.attempts {
        attempts.add_row(row([
            attempt.sink.as_str(),
            &attempt.n.to_string(),
            &utc(attempt.at),
            &format!("{} ms", attempt.latency.as_millis()),
            attempt.outcome.as_str(),
            &attempt.note,
        ]));
    }
    print_table(out, &attempts)
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::detail;
    use super::*;

    fn shown(event: &EventDetail) -> String {
        let mut bytes = Vec::new();
        assert!(print(&mut Output::new(&mut bytes), event).is_continue());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn everything_known_is_shown_and_nothing_steers_the_terminal() {
        let text = shown(&detail(Some(b"{\"a\":1.10,\"b\":\"\xc2\x9b\"}")));
        for part in
            ["payin.completed", "abc (secret 1)", "delivered", "confirm 1", "\"a\": 1.10", "HTTP 422", "evil\\u{1b}[2J"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(shown(&detail(None)).contains("no longer kept"));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let mut event = detail(Some(b"{}"));
        event.headers.clear();
        event.attempts.clear();
        assert!(shown(&event).contains("Attempts\nnone\n"), "given up without an attempt, as a conflict is");
        event.dead_letters.clear();
        let text = shown(&event);
        assert!(text.contains("Attempts\nnone yet\n") && text.contains("Headers\nnone "), "{text}");
        assert!(!text.contains("Given up"), "{text}");
    }

    #[test]
    fn raw_is_one_body_or_a_reason_why_not() {
        assert_eq!(the_body(&[detail(Some(b"x"))]).unwrap(), b"x");
        assert!(the_body(&[detail(None)]).unwrap_err().to_string().contains("no longer kept"));
        let several = [detail(Some(b"x")), detail(Some(b"y"))];
        assert!(the_body(&several).unwrap_err().to_string().contains("by its seq"));
    }
}
