//! Dead letters in tables.

use comfy_table::{Row, Table};

use crate::cli::output::{keep_whole, row, table, utc_seconds};
use crate::inbox::DeadLetterRecord;

/// A table of dead letters; see [`letter_row`].
pub(crate) fn letter_table() -> Table {
    let mut letters = table(&["ID", "DIED", "SINK", "SEQ", "TYPE", "ATTEMPTS", "REASON", "EVENT"]);
    keep_whole(&mut letters, 6);
    letters
}

/// A row of [`letter_table`]: one line, cut where the terminal ends.
pub(crate) fn letter_row(letter: &DeadLetterRecord) -> Row {
    let mut row = Row::from(row([
        &letter.id.to_string(),
        &utc_seconds(letter.at),
        letter.sink.as_str(),
        &letter.seq.to_string(),
        letter.event_type.as_str(),
        &letter.attempts.to_string(),
        &letter.reason,
        letter.event_id.as_str(),
    ]));
    row.max_height(1);
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::letter::tests::letter;

    #[test]
    fn a_row_is_one_line_that_steers_no_terminal() {
        let mut letters = letter_table();
        letters.add_row(letter_row(&letter()));
        let text = letters.to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("HTTP 422") && !text.contains('\u{1b}'), "{text:?}");
    }
}
