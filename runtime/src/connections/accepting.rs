//! Whether the listeners of a node take connections.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{error, info};

/// A listener that has accepted nothing for this long, though the system reports errors, makes its
/// node not ready.
pub const ACCEPT_STALL: Duration = Duration::from_secs(3);

/// Whether the listeners of a node take connections. A cheap handle that all of them share.
#[derive(Clone, Debug, Default)]
pub struct Accepting {
    /// Since when a listener can accept nothing.
    failing: Arc<Mutex<BTreeMap<&'static str, Instant>>>,
}

impl Accepting {
    /// Returns the name of a listener that has accepted nothing for [`ACCEPT_STALL`].
    pub fn stalled(&self, now: Instant) -> Option<&'static str> {
        let failing = self.failing.lock();
        let mut stalled = failing
            .iter()
            .filter(|(_, since)| now.saturating_duration_since(**since) >= ACCEPT_STALL);
        stalled.next().map(|(listener, _)| *listener)
    }

    /// The system gave no connection. Logged once per episode.
    pub(super) fn failed(&self, listener: &'static str, error: &io::Error, now: Instant) {
        let mut failing = self.failing.lock();
        let is_new = !failing.contains_key(listener);
        failing.entry(listener).or_insert(now);
        if is_new {
            error!(listener, %error, "cannot accept connections, retrying");
        }
    }

    /// The system gave one.
    pub(super) fn succeeded(&self, listener: &'static str, now: Instant) {
        if let Some(since) = self.failing.lock().remove(listener) {
            let after = now.saturating_duration_since(since);
            info!(listener, ?after, "accepting connections again");
        }
    }

    /// The listener is closed.
    pub(super) fn forget(&self, listener: &'static str) {
        self.failing.lock().remove(listener);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_listener_stalls_after_seconds_of_errors() {
        let accepting = Accepting::default();
        let error = io::Error::from_raw_os_error(24);
        accepting.failed("http", &error, Instant::now());
        assert_eq!(accepting.stalled(Instant::now()), None);
        tokio::time::advance(ACCEPT_STALL / 2).await;
        accepting.failed("http", &error, Instant::now());
        tokio::time::advance(ACCEPT_STALL / 2).await;
        assert_eq!(accepting.stalled(Instant::now()), Some("http"));
        accepting.succeeded("http", Instant::now());
        assert_eq!(accepting.stalled(Instant::now()), None);
    }
}
