//! Dead letters in tables.

use comfy_table::{Row, Table};

use crate::cli::output::{hide, keep_whole};
use crate::cli::view::View;
use crate::inbox::DeadLetterRecord;
use crate::model::told;

/// A table of dead letters; see [`letter_row`].
pub(crate) fn letter_table(view: &View) -> Table {
    let mut letters = view.table(&["ID", "DIED", "SINK", "SEQ", "TYPE", "STATE", "ATTEMPTS", "KEY", "REASON", "EVENT"]);
    keep_whole(&mut letters, 6);
    if letters.width().is_some_and(|width| width < 100) {
        // Why matters more than how often, and which event is told by its number.
        hide(&mut letters, &[6, 7, 9]);
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
        letter.state.as_str(),
        &letter.attempts.to_string(),
        letter.key.as_str(),
        &told(&letter.reason, letter.answer.as_deref()),
        letter.event_id.as_str(),
    ];
    let mut row = view.row(cells, None);
    row.max_height(1);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::letter::tests::letter;

    #[test]
    fn a_row_is_one_line_that_steers_no_terminal() {
        let mut letters = letter_table(&View::plain());
        letters.add_row(letter_row(&View::plain(), &letter()));
        let text = letters.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("HTTP 422") && !text.contains('\u{1b}'), "{text:?}");
    }
}
