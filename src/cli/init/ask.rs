//! The questions, at a terminal.

use std::fmt::Display;

use inquire::validator::Validation;
use inquire::{Confirm, InquireError, Password, PasswordDisplayMode, Select, Text};

/// Ctrl-C or Esc: whoever was asked wants nothing of it.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
pub(super) struct Stopped;

fn answered<T>(answer: Result<T, InquireError>) -> anyhow::Result<T> {
    answer.map_err(|error| match error {
        InquireError::OperationCanceled | InquireError::OperationInterrupted => Stopped.into(),
        other => anyhow::Error::new(other).context("the terminal cannot be asked"),
    })
}

/// A line, asked for until it is right.
pub(super) fn text<T>(
    question: &str,
    help: &str,
    default: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String> + Clone + 'static,
) -> anyhow::Result<T> {
    let check = parse.clone();
    let mut prompt = Text::new(question).with_help_message(help).with_validator(move |text: &str| {
        Ok(check(text).map_or_else(|why| Validation::Invalid(why.into()), |_| Validation::Valid))
    });
    prompt.default = default;
    let text = answered(prompt.prompt())?;
    parse(&text).map_err(anyhow::Error::msg)
}

/// A line that is not shown; Ctrl-R shows it.
pub(super) fn hidden<T>(
    question: &str,
    help: &str,
    parse: impl Fn(&str) -> Result<T, String> + Clone + 'static,
) -> anyhow::Result<T> {
    let check = parse.clone();
    let prompt = Password::new(question)
        .with_help_message(help)
        .with_display_mode(PasswordDisplayMode::Masked)
        .with_display_toggle_enabled()
        .without_confirmation()
        .with_validator(move |text: &str| {
            Ok(check(text).map_or_else(|why| Validation::Invalid(why.into()), |_| Validation::Valid))
        });
    let text = answered(prompt.prompt())?;
    parse(&text).map_err(anyhow::Error::msg)
}

/// An answer and how it is shown.
struct Choice<T>(T, &'static str);

impl<T> Display for Choice<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.1)
    }
}

/// One of several.
pub(super) fn choice<T>(question: &str, answers: impl IntoIterator<Item = (T, &'static str)>) -> anyhow::Result<T> {
    let answers = answers.into_iter().map(|(value, shown)| Choice(value, shown)).collect();
    Ok(answered(Select::new(question, answers).without_filtering().prompt())?.0)
}

/// Yes, unless somebody says no.
pub(super) fn confirm(question: &str) -> anyhow::Result<bool> {
    answered(Confirm::new(question).with_default(true).prompt())
}
