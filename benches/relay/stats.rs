//! Medians, percentiles, tables.

use std::sync::Mutex;

/// The middle one; of an even number the lower.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 2]
}

/// The median of what `of` says of each.
pub fn median_of<T>(runs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    median(runs.iter().map(of).collect())
}

/// The median of the ratios, run by run: what slows the machine down for a while slows both.
pub fn ratio<T>(ours: &[T], theirs: &[T], of: impl Fn(&T) -> f64) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)).collect())
}

/// Every table that was printed, for the summary at the end.
static PRINTED: Mutex<Vec<Table>> = Mutex::new(Vec::new());

/// One Markdown table.
#[derive(Clone)]
pub struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(title: &str, columns: &[&str]) -> Self {
        println!("\n## {title}\n");
        let mut table = Self { title: title.to_owned(), rows: Vec::new() };
        table.row(columns.iter().map(ToString::to_string).collect());
        table.rows.push(columns.iter().map(|_| "---".to_owned()).collect());
        table
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn print(self) {
        for row in &self.rows {
            println!("| {} |", row.join(" | "));
        }
        PRINTED.lock().unwrap().push(self);
    }
}

/// What stands in a printed table: by the beginning of its title, of the row's first cell, and the column's name.
pub fn printed(title: &str, row: &str, column: &str) -> Option<f64> {
    let printed = PRINTED.lock().unwrap();
    let table = printed.iter().find(|table| table.title.starts_with(title))?;
    let column = table.rows[0].iter().position(|name| name == column)?;
    let row = table.rows[2..].iter().find(|cells| cells[0].starts_with(row))?;
    row[column].replace(',', "").parse().ok()
}

pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
