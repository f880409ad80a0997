//! Progress bars and counts: one look for all.

use std::fmt::Write as _;
use std::time::Duration;

use indicatif::{HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};

/// How far something is, of how many, how fast it goes and how long it will take.
pub(crate) const PACE: &str = "{bar:30} {human_pos}/{human_len} {rate}/s {left} to go";

/// A style; besides what its makers know, `{rate}` is whole numbers, and `{left}` a time in words.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is valid")
        .with_key("rate", |state: &ProgressState, text: &mut dyn std::fmt::Write| {
            _ = text.write_str(&rate(state.per_sec()))
        })
        .with_key("left", |state: &ProgressState, text: &mut dyn std::fmt::Write| _ = text.write_str(&left(state)))
}

/// A bar of so many.
pub(crate) fn bar(total: u64, template: &str) -> ProgressBar {
    ProgressBar::new(total).with_style(style(template))
}

/// What has been done up to here, this process has not done: the pace begins now.
pub(crate) fn begin_at(bar: &ProgressBar, position: u64) {
    bar.set_position(position);
    bar.tick();
    bar.reset_eta();
}

/// Few in a second are told with a decimal.
fn rate(per_second: f64) -> String {
    if per_second < 9.95 { format!("{per_second:.1}") } else { count(per_second.round() as u64) }
}

fn left(state: &ProgressState) -> String {
    let is_known = state.per_sec() > 0.0 && state.eta() < LONG;
    if is_known { format!("{:#}", HumanDuration(state.eta())) } else { "?".to_owned() }
}

/// What takes so long stands still.
const LONG: Duration = Duration::from_secs(100 * 86_400);

/// A number of things, for people: `27,090`.
pub(crate) fn count(number: u64) -> String {
    let mut text = String::new();
    _ = write!(text, "{}", HumanCount(number));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_counts_are_told_alike() {
        for (per_second, told) in
            [(0.0, "0.0"), (0.34, "0.3"), (9.94, "9.9"), (9.96, "10"), (332.0366, "332"), (1018.9787, "1,019")]
        {
            assert_eq!(rate(per_second), told);
        }
        assert_eq!((count(27_090), count(0)), ("27,090".to_owned(), "0".to_owned()));
    }

    #[test]
    fn what_was_done_before_does_not_count_as_done_now() {
        let bar = ProgressBar::hidden();
        bar.set_length(20_000);
        begin_at(&bar, 15_000);
        assert_eq!((bar.position(), rate(bar.per_sec()).trim_end_matches(".0")), (15_000, "0"));
        style(PACE);
    }
}
