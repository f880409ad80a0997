//! `man`

use std::path::PathBuf;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::output::Output;
use super::{Cli, Exit};

const EXAMPLES: &str = "\
Examples:
  ralio-relay man | man -l -
  ralio-relay man --dir /usr/local/share/man/man1";

/// Print the manual page
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write a page for each command into this directory instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    if let Some(dir) = args.dir {
        let pages = || std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &dir));
        pages().with_context(|| format!("cannot write the pages into {}", dir.display()))?;
        return Ok(Exit::Success);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).context("cannot make the page")?;
    let mut out = Output::stdout();
    let _ = out.bytes(&page);
    out.finish()?;
    Ok(Exit::Success)
}
