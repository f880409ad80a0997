//! ralio-relay: receives Ralio webhooks, stores them durably, and hands them on.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// Gives memory back to the system after a flood of connections, by a thread of its own; glibc's allocator keeps nearly all.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    ralio_relay::cli::main()
}
