//! What the memory store keeps open: watches and keep-alives.

use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use futures::{FutureExt, Stream, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{MemoryStore, faults};
use crate::coordination::store::{KeepAlive, StoreError, WatchBatch};
use crate::ids::{LeaseId, Revision};

/// One open watch.
pub(super) struct Watcher {
    store: MemoryStore,
    prefix: String,
    next: Revision,
    changed: watch::Receiver<()>,
    /// Changes when the store restarts, which ends the watch.
    restarts: watch::Receiver<()>,
    /// Ends when a fault ends the watch.
    end: Pin<Box<dyn Future<Output = StoreError> + Send>>,
}

impl Watcher {
    pub(super) fn new(store: &MemoryStore, prefix: &str, from: Revision) -> Self {
        let mut changed = store.shared.changed.subscribe();
        changed.mark_changed();
        Self {
            store: store.clone(),
            prefix: prefix.into(),
            // From zero means from the first change there is.
            next: from.max(Revision::new(1)),
            changed,
            restarts: store.shared.restarts.subscribe(),
            end: Box::pin(store.faults.watch_end()),
        }
    }

    /// Returns the batches, until and with the first error.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<WatchBatch, StoreError>> + Send {
        stream::unfold(Some(self), async |watcher| {
            let mut watcher = watcher?;
            match watcher.next_batch().await {
                Ok(batch) => Some((Ok(batch), Some(watcher))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next_batch(&mut self) -> Result<WatchBatch, StoreError> {
        loop {
            if let Some(error) = (&mut self.end).now_or_never() {
                return Err(error); // Before what else there is to tell: the connection is gone.
            }
            if self.restarts.has_changed().unwrap_or(true) {
                return Err(faults::refused());
            }
            self.changed.borrow_and_update();
            let due = match self.look() {
                Some(result) => return result,
                None => self.store.shared.with(|database, _| database.next_due()),
            };
            tokio::select! {
                biased; // A fault ends the watch for certain, not by chance.
                error = &mut self.end => return Err(error),
                // Errs only when the store is gone, and this watch keeps it.
                _ = self.changed.changed() => {}
                () = reached(due) => {}
            }
        }
    }

    /// Returns what there is to tell at this moment.
    fn look(&mut self) -> Option<Result<WatchBatch, StoreError>> {
        if self.store.faults.is_cut() {
            return None;
        }
        let news = self
            .store
            .shared
            .with(|database, _| database.changes(&self.prefix, self.next))
            .transpose()?;
        Some(news.inspect(|batch| self.next = Revision::new(batch.revision.get() + 1)))
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// One stream of keep-alives.
pub(super) struct MemoryKeepAlive {
    store: MemoryStore,
    lease: LeaseId,
    /// Changes when the store restarts, which ends the stream.
    restarts: watch::Receiver<()>,
}

impl MemoryKeepAlive {
    pub(super) fn new(store: MemoryStore, lease: LeaseId) -> Self {
        let restarts = store.shared.restarts.subscribe();
        Self {
            store,
            lease,
            restarts,
        }
    }
}

#[async_trait]
impl KeepAlive for MemoryKeepAlive {
    async fn ping(&mut self) -> Result<Revision, StoreError> {
        self.store.faults.arrive_keep_alive().await?;
        if self.restarts.has_changed().unwrap_or(true) {
            return Err(faults::refused());
        }
        let renew = |database: &mut super::Database, now| {
            database.renew(self.lease, now)?;
            Ok(database.revision())
        };
        self.store.shared.with(renew)
    }
}

impl fmt::Debug for MemoryKeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryKeepAlive")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
