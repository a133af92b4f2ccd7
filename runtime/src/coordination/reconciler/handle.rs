//! What others see of a reconciler, and how they tell it to leave.

use std::time::Duration;

use tokio::sync::watch;

use super::RETRY_MAX;

/// How far a node's shards are where they should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Shards that this life owns, as far as is known.
    pub owned: u32,
    /// Shards that are targeted at this node.
    pub targeted: u32,
    /// Shards that are closing, or closed and not yet handed over or released.
    pub closing: u32,
}

/// Watches a reconciler and tells it to leave. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReconcilerHandle {
    progress: watch::Receiver<Progress>,
    leaving: watch::Sender<Option<Duration>>,
}

impl ReconcilerHandle {
    /// Makes a handle and the reconciler's ends of it.
    pub(super) fn new() -> (
        Self,
        watch::Sender<Progress>,
        watch::Receiver<Option<Duration>>,
    ) {
        let (progress, progress_seen) = watch::channel(Progress::default());
        let (leaving, leaving_seen) = watch::channel(None);
        let handle = Self {
            progress: progress_seen,
            leaving,
        };
        (handle, progress, leaving_seen)
    }

    /// Returns a receiver that is woken by each change of the counts.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Gives up every shard, whatever its target, and takes none any more; there is no way back.
    /// A shard whose target can take it is handed over, every other is ended and released. Running
    /// turns have `limit` to end.
    ///
    /// Returns how many shards are still owned once none is or `limit` has passed: those whose
    /// turns run on, or whose release the store did not confirm. The end of the lease frees them.
    /// Cancel safe; the shards are given up all the same.
    pub async fn release_all(&self, limit: Duration) -> u32 {
        self.leaving.send_replace(Some(limit));
        let mut progress = self.progress.clone();
        // The last release takes a moment after the last turn ended.
        let patience = limit.saturating_add(RETRY_MAX);
        let all_released = progress.wait_for(|progress| progress.owned == 0);
        match tokio::time::timeout(patience, all_released).await {
            Ok(Ok(_)) => 0,
            Ok(Err(_)) | Err(_) => self.progress.borrow().owned,
        }
    }
}
