//! ralio-relay: receives Ralio webhooks, stores them durably, and hands them on.

use std::process::ExitCode;

fn main() -> ExitCode {
    ralio_relay::cli::main()
}
