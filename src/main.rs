//! ralio-relay: receives Ralio webhooks, stores them durably, and hands them on.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Gives memory back to the system after a flood of connections; glibc's allocator keeps nearly all of it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ralio_relay::cli::main()
}
