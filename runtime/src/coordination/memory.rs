//! A store in this process's memory: the embedded store of `steading dev`, and the one of tests.
//!
//! It means the same as etcd by the same requests; the conformance suite runs against both. It
//! runs on tokio's clock and spawns nothing: what falls due (a lease that ends) is done by
//! whoever comes next, and watchers wake up for it, so that a paused clock just works.
//!
//! Each [`MemoryStore::client`] has [`Faults`] that tests script. They are always compiled in:
//! asking them costs one uncontended lock, on a path that a call to an object never takes.

mod database;
mod faults;
mod streams;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use self::database::Database;
pub use self::faults::{CommitFault, Cut, Faults};
use self::streams::{MemoryKeepAlive, Watcher};
use super::effect::Effect;
use super::store::{KeepAlive, Listing, Store, StoreError, Txn, TxnReply, WatchStream};
use crate::ids::{LeaseId, Revision};

/// How long a request waits for an answer that does not come.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A client of a store in memory. Clones are the same client; [`MemoryStore::client`] makes
/// another one of the same store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    faults: Faults,
}

/// What all clients of a store share.
struct Shared {
    database: Mutex<Database>,
    /// Wakes the watchers when there may be something new, or something falls due sooner.
    changed: watch::Sender<()>,
    /// Sent when the store restarts: everything that was open to it ends.
    restarts: watch::Sender<()>,
}

/// All data of a store at one moment, as a backup has it.
#[derive(Clone, Debug)]
pub struct Snapshot(Database);

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                database: Mutex::new(Database::new()),
                changed: watch::Sender::new(()),
                restarts: watch::Sender::new(()),
            }),
            faults: Faults::new(),
        }
    }

    /// Returns another client of the same store, with faults of its own: one for each node.
    #[must_use]
    pub fn client(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            faults: Faults::new(),
        }
    }

    /// Returns the faults of this client.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Returns all data of this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.shared.with(|database, _| database.clone()))
    }

    /// Restarts the store with the data of a snapshot. Its leases have all their time to live again,
    /// as in etcd; watches and keep-alives that are open end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.shared
            .with(|database, now| *database = snapshot.0.clone().restarted(now));
        self.shared.restarts.send_replace(());
        self.shared.changed.send_replace(());
    }

    /// Restarts the store without any data.
    pub fn lose_data(&self) {
        self.restore(&Snapshot(Database::new()));
    }

    /// Forgets the changes before `revision`, as etcd's compaction does. Keys stay.
    pub fn compact(&self, revision: Revision) {
        self.shared.with(|database, _| database.compact(revision));
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.faults.arrive(Effect::None).await?;
        Ok(self.shared.with(|database, _| database.list(prefix)))
    }

    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        txn.check_size()?;
        self.faults.arrive(Effect::Possible).await?;
        let run = |txn| self.shared.with(|database, _| database.commit(&txn));
        match self.faults.next_commit() {
            None => run(txn),
            Some(CommitFault::Fail) => Err(faults::refused()),
            Some(CommitFault::LoseReply) => {
                // A refused transaction's reply is lost just the same.
                drop(run(txn));
                Err(faults::unanswered(Effect::Possible))
            }
            Some(CommitFault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                run(txn)
            }
            Some(CommitFault::ApplyLater(delay)) => {
                self.shared
                    .with(|database, now| database.commit_at(now + delay, txn));
                Err(faults::unanswered(Effect::Possible))
            }
        }
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.faults.arrive(Effect::Possible).await?;
        Ok(self.shared.with(|database, now| database.grant(ttl, now)))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        let mut keep_alive = MemoryKeepAlive::new(self.clone(), lease);
        keep_alive.ping().await?; // As etcd's client does, so that a lost lease shows at once.
        Ok(Box::new(keep_alive))
    }

    /// Has no limits of its own.
    async fn check_limits(&self, _prefix: &str) -> Result<(), StoreError> {
        Ok(())
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.faults.arrive(Effect::Possible).await?;
        self.shared.with(|database, _| database.end_lease(lease));
        Ok(())
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.faults.arrive(Effect::None).await?;
        Ok(Watcher::new(self, prefix, from).into_stream().boxed())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Shared {
    /// Does what is due, then runs `request`, and wakes the watchers if they may care.
    fn with<T>(&self, request: impl FnOnce(&mut Database, Instant) -> T) -> T {
        let now = Instant::now();
        let mut database = self.database.lock();
        let before = database.stamp();
        database.advance(now);
        let result = request(&mut database, now);
        if database.stamp() != before {
            self.changed.send_replace(());
        }
        result
    }
}

#[cfg(test)]
mod tests;
