//! Asking before something is done that a filter chose and nobody has looked at one by one.

use std::io::{self, BufRead, IsTerminal as _, Write};

use super::Exit;
use super::output::Output;
use super::progress;

/// What a person said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Go on.
    Given,
    /// Leave it.
    Refused,
    /// There is nobody to ask, and `--yes` was not given.
    Unasked,
}

impl Consent {
    /// `None` to go on; otherwise how the command ends, which has been said.
    pub(crate) fn exit(self, what: &str) -> Option<Exit> {
        match self {
            Self::Given => None,
            Self::Refused => {
                to_stderr!("nothing was done");
                Some(Exit::Finding)
            }
            Self::Unasked => {
                to_stderr!(
                    "error: {what} needs a yes, and there is no terminal to ask at: look at it with --dry-run, then add --yes"
                );
                Some(Exit::BadUsage)
            }
        }
    }
}

/// Asks at the terminal, unless `yes` says it all.
pub(crate) fn ask(question: &str, yes: bool) -> anyhow::Result<Consent> {
    let is_terminal = is_terminal();
    Ok(answer(question, yes, is_terminal, &mut io::stdin().lock(), &mut io::stderr())?)
}

/// Whether there is somebody to ask.
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn answer(
    question: &str,
    yes: bool,
    is_terminal: bool,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
) -> io::Result<Consent> {
    if yes {
        return Ok(Consent::Given);
    }
    if !is_terminal {
        return Ok(Consent::Unasked);
    }
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    input.read_line(&mut line)?;
    let agreed = ["y", "yes"].contains(&line.trim().to_ascii_lowercase().as_str());
    Ok(if agreed { Consent::Given } else { Consent::Refused })
}

/// Something about to be done to what was chosen by numbers, by a filter or as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Deed<'a> {
    /// Such as `discard`.
    pub(crate) verb: &'a str,
    /// Such as `dead letter`.
    pub(crate) noun: &'a str,
    /// Chosen by a filter, or all: more may be meant than anybody has seen.
    pub(crate) by_filter: bool,
    /// Whether more than one, chosen so, needs a yes.
    pub(crate) needs_yes: bool,
    /// The yes, given beforehand.
    pub(crate) yes: bool,
    /// Only count.
    pub(crate) dry_run: bool,
}

impl Deed<'_> {
    /// `None` to go on; otherwise how the command ends, which has been said.
    pub(crate) fn stopped(&self, count: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<Option<Exit>> {
        self.decided(is_terminal(), count, |question| ask(question, false))
    }

    fn decided(
        &self,
        is_terminal: bool,
        count: impl FnOnce() -> anyhow::Result<u64>,
        ask: impl FnOnce(&str) -> anyhow::Result<Consent>,
    ) -> anyhow::Result<Option<Exit>> {
        let Self { verb, noun, .. } = self;
        let must_ask = self.needs_yes && self.by_filter && !self.yes && !self.dry_run;
        if must_ask && !is_terminal {
            return Ok(Consent::Unasked.exit(&format!("`{verb}` by a filter")));
        }
        let count = count()?;
        if count == 0 {
            to_stderr!("no {noun} matches: there is nothing to {verb}");
            return Ok(Some(Exit::Finding));
        }
        if self.dry_run {
            let mut out = Output::stdout();
            let _ = out.line(format!("would {verb} {}", counted(count, noun)));
            out.finish()?;
            return Ok(Some(Exit::Success));
        }
        if must_ask && count > 1 {
            let mut question = format!("{verb} {}?", counted(count, noun));
            question[..1].make_ascii_uppercase();
            return Ok(ask(&question)?.exit(verb));
        }
        Ok(None)
    }
}

/// Said where a command was not told what to work on: a typing error must not mean everything.
pub(crate) fn nothing_chosen(noun: &str, example: &str) -> Exit {
    to_stderr!("error: say which {noun}: their numbers, a filter such as {example}, or --all");
    Exit::BadUsage
}

/// `1 dead letter`, `27,090 dead letters`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", progress::count(count), if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_one_chosen_by_a_filter_needs_a_yes() {
        let deed =
            Deed { verb: "discard", noun: "dead letter", by_filter: true, needs_yes: true, yes: false, dry_run: false };
        let decided = |deed: &Deed<'_>, is_terminal, count| {
            let mut asked = String::new();
            let exit = deed.decided(
                is_terminal,
                || Ok(count),
                |question| {
                    question.clone_into(&mut asked);
                    Ok(Consent::Refused)
                },
            );
            (exit.unwrap(), asked)
        };
        let silent = |exit| (exit, String::new());
        assert_eq!(decided(&deed, true, 2), (Some(Exit::Finding), "Discard 2 dead letters?".to_owned()));
        assert_eq!(decided(&deed, true, 1), silent(None));
        assert_eq!(decided(&deed, true, 0), silent(Some(Exit::Finding)));
        assert_eq!(decided(&deed, false, 1), silent(Some(Exit::BadUsage)), "whatever there is");
        assert_eq!(decided(&Deed { yes: true, ..deed }, false, 9), silent(None));
        assert_eq!(decided(&Deed { by_filter: false, ..deed }, false, 9), silent(None), "each was named");
        assert_eq!(decided(&Deed { needs_yes: false, ..deed }, false, 9), silent(None));
        assert_eq!(decided(&Deed { dry_run: true, ..deed }, false, 9), silent(Some(Exit::Success)));
        assert_eq!(decided(&Deed { dry_run: true, ..deed }, false, 0), silent(Some(Exit::Finding)));
    }

    fn said(yes: bool, is_terminal: bool, line: &str) -> (Consent, String) {
        let mut out = Vec::new();
        let consent = answer("Discard 3?", yes, is_terminal, &mut line.as_bytes(), &mut out).unwrap();
        (consent, String::from_utf8(out).unwrap())
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        for line in ["y\n", "Y\n", "yes\n", " YES \n", "y"] {
            assert_eq!(said(false, true, line).0, Consent::Given, "{line:?}");
        }
        for line in ["\n", "", "n\n", "yeah\n", "no\n"] {
            assert_eq!(said(false, true, line), (Consent::Refused, "Discard 3? [y/N] ".to_owned()), "{line:?}");
        }
    }

    #[test]
    fn nobody_is_asked_where_nobody_is_or_has_to_be() {
        assert_eq!(said(true, true, "n\n"), (Consent::Given, String::new()));
        assert_eq!(said(true, false, ""), (Consent::Given, String::new()));
        assert_eq!(said(false, false, "y\n"), (Consent::Unasked, String::new()));
        assert_eq!(Consent::Unasked.exit("this"), Some(Exit::BadUsage));
        assert_eq!(Consent::Refused.exit("this"), Some(Exit::Finding));
        assert_eq!(Consent::Given.exit("this"), None);
    }
}
