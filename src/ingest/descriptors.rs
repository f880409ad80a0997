//! Room for connections among the files that the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for everything else: the inbox, the sinks and their children, the admin listener.
const OTHERS: u64 = 512;

/// How many connections to take at a time: as many as are wanted, or what the system leaves room for. The soft limit of
/// open files is raised as far as it takes: it is 1024 nearly everywhere, for the sake of programs that use `select`.
///
/// Without this, connections that do nothing could take the last descriptor, and then no sink could connect either.
pub(super) fn within_limit(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(OTHERS);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let allowed = maximum.unwrap_or(u64::MAX).min(needed);
    let mut open_files = current.unwrap_or(u64::MAX);
    if open_files < allowed && setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum }).is_ok() {
        open_files = allowed;
    }
    let room = room(open_files);
    if room < wanted as u64 {
        tracing::warn!(
            open_files,
            max_connections = room,
            "the limit of open files is too low for server.max_connections: raise it (LimitNOFILE= of the service, \
             ulimit -Hn of a shell) to {needed}"
        );
    }
    usize::try_from(room).unwrap_or(usize::MAX).min(wanted)
}

/// Connections that leave room for the others; half of a limit that is very low.
fn room(open_files: u64) -> u64 {
    open_files.saturating_sub(OTHERS).max(open_files / 2).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_take_the_last_descriptor() {
        assert_eq!(room(u64::MAX), u64::MAX - OTHERS);
        assert_eq!([4096 + 512, 1024, 600, 160, 1, 0].map(room), [4096, 512, 300, 80, 1, 1]);
    }
}
