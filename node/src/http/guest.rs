//! One connection to the HTTP server.

use tokio_util::task::task_tracker::TaskTrackerToken;

/// What is known of a connection. Each of its requests has a copy, and the server itself one as long as it is open.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// Whether the client has shown a certificate of the cluster.
    pub(crate) certified: bool,
    /// Counts the connection as open.
    _open: TaskTrackerToken,
}

impl Guest {
    /// Makes what is known of one.
    pub(crate) fn new(certified: bool, open: TaskTrackerToken) -> Self {
        Self {
            certified,
            _open: open,
        }
    }
}
