//! How many files a process may open, and how many of those connections of clients may take.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{CONNECTIONS_MAX_DEFAULT, CONNECTIONS_MIN};

/// File descriptors kept for etcd, other nodes, state storage and files: at least this many, if
/// the process may open twice as many.
const DESCRIPTORS_RESERVED_MIN: u64 = 64;

/// The most that are kept for those.
const DESCRIPTORS_RESERVED_MAX: u64 = 4096;

/// Raises the soft limit of open files to the hard limit, and returns it.
///
/// # Errors
///
/// If the system refuses; the old limit holds.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, raised)?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Returns how many connections each of `listeners` may have in a process that may open
/// `descriptors` files: an equal share of what is not kept for etcd, other nodes and storage.
pub fn connections_for(descriptors: u64, listeners: usize) -> usize {
    let quarter = descriptors / 4;
    let reserved = quarter.clamp(DESCRIPTORS_RESERVED_MIN, DESCRIPTORS_RESERVED_MAX);
    let left = descriptors - reserved.min(descriptors / 2);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let share = left / listeners.max(1);
    share.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        for (descriptors, listeners, expected) in [
            (8, 2, CONNECTIONS_MIN),
            (64, 2, 16),
            (64, 3, 10),
            (256, 2, 96),
            (1024, 2, 384),
            (1 << 20, 3, CONNECTIONS_MAX_DEFAULT),
            (u64::MAX, 1, CONNECTIONS_MAX_DEFAULT),
        ] {
            let limit = connections_for(descriptors, listeners);
            assert_eq!(limit, expected, "{descriptors} for {listeners}");
        }
    }
}
