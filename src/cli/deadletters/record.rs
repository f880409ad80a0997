//! Dead letters in JSON output and in tables; the names and the order of the fields are fixed.

use comfy_table::{Row, Table};
use serde::Serialize;

use crate::cli::output::{hide, keep_whole, utc};
use crate::cli::view::View;
use crate::inbox::DeadLetterRecord;

/// One line of `deadletters list`.
#[derive(Serialize)]
pub(crate) struct Letter<'a> {
    id: i64,
    sink: &'a str,
    seq: i64,
    event_id: &'a str,
    r#type: &'a str,
    attempts: u32,
    last_error: &'a str,
    died_at: String,
}

impl<'a> From<&'a DeadLetterRecord> for Letter<'a> {
    fn from(letter: &'a DeadLetterRecord) -> Self {
        Self {
            id: letter.id,
            sink: letter.sink.as_str(),
            seq: letter.seq.get(),
            event_id: letter.event_id.as_str(),
            r#type: letter.event_type.as_str(),
            attempts: letter.attempts,
            last_error: &letter.reason,
            died_at: utc(letter.at),
        }
    }
}

/// A table of dead letters; see [`letter_row`].
pub(crate) fn letter_table(view: &View) -> Table {
    let mut letters = view.table(&["ID", "DIED", "SINK", "SEQ", "TYPE", "ATTEMPTS", "REASON", "EVENT"]);
    keep_whole(&mut letters, 6);
    if letters.width().is_some_and(|width| width < 100) {
        // Why matters more than how often, and which event is told by its number.
        hide(&mut letters, &[5, 7]);
    }
    letters
}

/// A row of [`letter_table`]: one line, cut where the terminal ends.
pub(crate) fn letter_row(view: &View, letter: &DeadLetterRecord) -> Row {
    let cells = [
        &letter.id.to_string(),
        &view.seconds(letter.at),
        letter.sink.as_str(),
        &letter.seq.to_string(),
        letter.event_type.as_str(),
        &letter.attempts.to_string(),
        &letter.reason,
        letter.event_id.as_str(),
    ];
    let mut row = view.row(cells, None);
    row.max_height(1);
    row
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{EventId, EventType, Seq, SinkName};

    pub(crate) fn letter() -> DeadLetterRecord {
        DeadLetterRecord {
            id: 9,
            sink: SinkName::new("ledger").unwrap(),
            replay: None,
            seq: Seq::new(7).unwrap(),
            event_id: EventId::new("evt-1").unwrap(),
            event_type: EventType::canonical("payin_completed").unwrap(),
            attempts: 3,
            reason: "HTTP 422 \u{1b}[2J".to_owned(),
            at: "2026-01-31T10:00:09Z".parse().unwrap(),
        }
    }

    #[test]
    fn the_fields_of_a_list_are_the_documented_ones_in_order() {
        let letter = DeadLetterRecord { reason: "HTTP 422".to_owned(), ..letter() };
        let line = serde_json::to_string(&Letter::from(&letter)).unwrap();
        let expected = r#"{"id":9,"sink":"ledger","seq":7,"event_id":"evt-1","type":"payin.completed","attempts":3,"last_error":"HTTP 422","died_at":"2026-01-31T10:00:09.000000Z"}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn a_row_is_one_line_that_steers_no_terminal() {
        let mut letters = letter_table(&View::plain());
        letters.add_row(letter_row(&View::plain(), &letter()));
        let text = letters.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("HTTP 422") && !text.contains('\u{1b}'), "{text:?}");
    }
}
