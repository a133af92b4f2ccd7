//! Makes sure at every answer that the store is still the one that this process joined.
//!
//! etcd can lose its data, or be restored from a snapshot, under running nodes. What they know is
//! then of another history: "newer wins" would let old records with greater revisions win over what
//! the store says, and tokens of before would meet tokens of after (ADR-0032).
//!
//! [`History`] is what was seen so far, and judges answers; [`Verified`] is a store that asks it at
//! each list, transaction, watch and keep-alive. What it takes for proof is [`Evidence`]. What is
//! none: a keep-alive or a watch with a lower revision may come from a member of etcd that lags, so
//! a linearizable read decides.
//!
//! The first proof is final. It closes the fence for good, before anything else, and every later
//! request fails without being sent: nothing of this process may reach the other store.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{error, info};

use super::evidence::Evidence;
use super::keys::{BadEntry, Keys, decode_meta};
use super::store::{
    Entry, Event, KeepAlive, Listing, Store, StoreError, Txn, TxnReply, WatchBatch, WatchStream,
};
use crate::fence::Fence;
use crate::ids::{LeaseId, Revision};
use crate::placement::ClusterMeta;
use crate::telemetry::Metrics;

/// What this process has seen of the store that it joined.
pub struct History {
    joined: ClusterMeta,
    keys: Keys,
    seen: Mutex<Seen>,
    /// What is wrong with `meta/cluster`, if it is not what was joined.
    altered: Mutex<Option<String>>,
    replaced: watch::Sender<Option<Evidence>>,
    fence: Option<Arc<Fence>>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Every linearizable answer to a request sent from now on has at least this revision.
    revision: Revision,
    /// When each key that exists was last written, as far as is known.
    written: HashMap<String, Revision>,
}

/// What `meta/cluster` says, beside what was joined.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Described {
    Same,
    /// It says something that no running node can follow; the cluster is the same.
    Altered(String),
    Replaced(Evidence),
}

impl History {
    /// Begins with the description of the cluster that was joined. Proof that the store is another
    /// one closes `fence`.
    pub fn new(
        joined: ClusterMeta,
        keys: Keys,
        fence: Option<Arc<Fence>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            joined,
            keys,
            seen: Mutex::default(),
            altered: Mutex::default(),
            replaced: watch::Sender::new(None),
            fence,
            metrics,
        }
    }

    /// Returns the proof that the store is not the one that was joined, if there is one.
    pub fn evidence(&self) -> Option<Evidence> {
        self.replaced.borrow().clone()
    }

    /// Waits for proof that the store is not the one that was joined. Cancel safe.
    pub async fn replaced(&self) -> Evidence {
        let mut states = self.replaced.subscribe();
        let found = states.wait_for(Option::is_some).await;
        let found = found.expect("this history has the sender");
        found.clone().expect("it was waited for")
    }

    /// Returns what is wrong with the cluster's description in the store, if it is not the one that
    /// was joined. This process goes on with the one that it joined.
    pub fn altered(&self) -> Option<String> {
        self.altered.lock().clone()
    }

    fn check(&self) -> Result<(), StoreError> {
        match self.evidence() {
            Some(evidence) => Err(StoreError::Replaced(evidence)),
            None => Ok(()),
        }
    }

    /// Makes `evidence` final, unless there was some before.
    fn condemn(&self, evidence: Evidence) -> StoreError {
        // First of all: whatever waits for the evidence must find the fence closed.
        if let Some(fence) = &self.fence {
            fence.end();
        }
        self.replaced.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                error!(%evidence, "the store is not the one that this process joined");
                self.metrics.coordination.store_replaced.set(1);
                *known = Some(evidence.clone());
            }
            first
        });
        StoreError::Replaced(self.evidence().unwrap_or(evidence))
    }

    fn floor(&self) -> Revision {
        self.seen.lock().revision
    }

    /// Notes a revision that the store has, whichever of its members said so.
    fn saw(&self, revision: Revision) {
        let mut seen = self.seen.lock();
        seen.revision = seen.revision.max(revision);
    }

    /// Judges a linearizable answer to a request that was sent when `floor` had been seen.
    fn answered<'a>(
        &self,
        floor: Revision,
        revision: Revision,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Result<(), StoreError> {
        if revision < floor {
            return Err(self.condemn(Evidence::WentBack {
                seen: floor,
                found: revision,
            }));
        }
        let went_back = self.seen.lock().take_in(floor, revision, entries);
        went_back.map_or(Ok(()), |evidence| Err(self.condemn(evidence)))
    }

    /// Takes in what a list of keys with this prefix shows.
    fn listed(&self, floor: Revision, prefix: &str, listing: &Listing) -> Result<(), StoreError> {
        self.answered(floor, listing.revision, &listing.entries)?;
        self.seen.lock().forget_unlisted(floor, prefix, listing);
        let meta = self.keys.meta();
        if meta.starts_with(prefix) {
            let entries = &listing.entries;
            let found = entries.iter().find(|entry| entry.key == meta);
            self.described(found)?;
        }
        Ok(())
    }

    /// Takes in what a watch brings.
    fn watched(&self, batch: &WatchBatch) -> Result<(), StoreError> {
        self.seen.lock().follow(batch);
        for event in &batch.events {
            match event {
                Event::Put(entry) if entry.key == self.keys.meta() => {
                    self.described(Some(entry))?;
                }
                Event::Delete { key, .. } if *key == self.keys.meta() => self.described(None)?,
                Event::Put(_) | Event::Delete { .. } => {}
            }
        }
        Ok(())
    }

    fn described(&self, entry: Option<&Entry>) -> Result<(), StoreError> {
        let is = match described(&self.joined, entry.map(decode_meta)) {
            Described::Same => None,
            Described::Altered(what) => Some(what),
            Described::Replaced(evidence) => return Err(self.condemn(evidence)),
        };
        let mut altered = self.altered.lock();
        if *altered != is {
            if let Some(what) = &is {
                let key = self.keys.meta();
                error!(
                    key,
                    what,
                    "rejected a change of the cluster's description; going on with the old one"
                );
            } else {
                info!("the cluster's description is again the one that was joined");
            }
            let gauge = &self.metrics.coordination.description_altered;
            gauge.set(i64::from(is.is_some()));
            *altered = is;
        }
        Ok(())
    }
}

impl Seen {
    /// Takes in keys of a linearizable answer, unless one of them proves another history: a key's
    /// mod revision never decreases, not even by deleting and writing it again.
    fn take_in<'a>(
        &mut self,
        floor: Revision,
        revision: Revision,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Option<Evidence> {
        self.revision = self.revision.max(revision);
        for entry in entries {
            let found = entry.mod_revision;
            match self.written.get_mut(&entry.key) {
                // What was seen after the request was sent may be newer than the answer.
                Some(seen) if *seen > found && *seen <= floor => {
                    return Some(Evidence::KeyWentBack {
                        key: entry.key.clone(),
                        seen: *seen,
                        found,
                    });
                }
                Some(seen) => *seen = found.max(*seen),
                None => drop(self.written.insert(entry.key.clone(), found)),
            }
        }
        None
    }

    /// Forgets keys that a list would show if they were there, so that few are remembered.
    fn forget_unlisted(&mut self, floor: Revision, prefix: &str, listing: &Listing) {
        if self.written.len() <= listing.entries.len() {
            return;
        }
        let listed: std::collections::HashSet<&str> = listing
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect();
        self.written.retain(|key, seen| {
            *seen > floor || !key.starts_with(prefix) || listed.contains(key.as_str())
        });
    }

    fn follow(&mut self, batch: &WatchBatch) {
        self.revision = self.revision.max(batch.revision);
        for event in &batch.events {
            match event {
                Event::Put(entry) => {
                    let seen = self.written.entry(entry.key.clone()).or_default();
                    *seen = entry.mod_revision.max(*seen);
                }
                Event::Delete { key, .. } => drop(self.written.remove(key)),
            }
        }
    }
}

/// Judges the cluster's description: `None` is a key that does not exist.
fn described(joined: &ClusterMeta, found: Option<Result<ClusterMeta, BadEntry>>) -> Described {
    let found = match found {
        None => return Described::Altered("it was deleted".into()),
        Some(Err(bad)) => return Described::Altered(bad.reason),
        Some(Ok(found)) => found,
    };
    if found.cluster_id != joined.cluster_id {
        return Described::Replaced(Evidence::OtherCluster {
            joined: joined.cluster_id.clone(),
            found: found.cluster_id,
        });
    }
    if found.restore_generation != joined.restore_generation {
        return Described::Replaced(Evidence::Restored {
            joined: joined.restore_generation,
            found: found.restore_generation,
        });
    }
    if found.shard_count != joined.shard_count {
        return Described::Altered(format!(
            "it has {} shards, the running cluster {}",
            found.shard_count, joined.shard_count
        ));
    }
    if found.regions != joined.regions {
        return Described::Altered("it has other regions than the running cluster".into());
    }
    Described::Same
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("joined", &self.joined)
            .field("evidence", &*self.replaced.borrow())
            .finish_non_exhaustive()
    }
}

/// A store whose every answer is checked against a [`History`].
#[derive(Debug)]
pub struct Verified {
    store: Arc<dyn Store>,
    history: Arc<History>,
}

impl Verified {
    /// Wraps a store.
    pub fn new(store: Arc<dyn Store>, history: Arc<History>) -> Self {
        Self { store, history }
    }
}

/// Makes sure by a linearizable read that the store is the one that was joined.
async fn verify(store: &dyn Store, history: &History) -> Result<(), StoreError> {
    let floor = history.floor();
    let meta = history.keys.meta();
    let listing = store.list(&meta).await;
    let listing = listing.map_err(|error| noted(history, error))?;
    history.listed(floor, &meta, &listing)
}

/// Makes what the store itself found out final too.
fn noted(history: &History, error: StoreError) -> StoreError {
    if let StoreError::Replaced(evidence) = error {
        return history.condemn(evidence);
    }
    error
}

#[async_trait]
impl Store for Verified {
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let history = &*self.history;
        history.check()?;
        let floor = history.floor();
        let listing = self.store.list(prefix).await;
        let listing = listing.map_err(|error| noted(history, error))?;
        history.listed(floor, prefix, &listing)?;
        Ok(listing)
    }

    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        let history = &*self.history;
        history.check()?;
        let floor = history.floor();
        let reply = self.store.commit(txn).await;
        let reply = reply.map_err(|error| noted(history, error))?;
        history.answered(floor, reply.revision, reply.reads.iter().flatten())?;
        Ok(reply)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.history.check()?;
        let lease = self.store.grant(ttl).await;
        let lease = lease.map_err(|error| noted(&self.history, error))?;
        // An incarnation must not begin in another store. Without keys the lease ends by itself.
        verify(&*self.store, &self.history).await?;
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        self.history.check()?;
        let inner = self.store.keep_alive(lease).await;
        let inner = inner.map_err(|error| noted(&self.history, error))?;
        // Read after it was opened: a stream to another store is found out, and no answer of it
        // moves the fence.
        verify(&*self.store, &self.history).await?;
        Ok(Box::new(VerifiedKeepAlive {
            inner,
            store: self.store.clone(),
            history: self.history.clone(),
        }))
    }

    async fn check_limits(&self, prefix: &str) -> Result<(), StoreError> {
        self.history.check()?;
        let checked = self.store.check_limits(prefix).await;
        checked.map_err(|error| noted(&self.history, error))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.history.check()?;
        let revoked = self.store.revoke(lease).await;
        revoked.map_err(|error| noted(&self.history, error))
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.history.check()?;
        let inner = self.store.watch(prefix, from).await;
        let inner = inner.map_err(|error| noted(&self.history, error))?;
        // A watch from a revision that the store does not have yet would wait in silence.
        verify(&*self.store, &self.history).await?;
        let history = self.history.clone();
        let stream = inner.map(move |batch| {
            let batch = batch.map_err(|error| noted(&history, error))?;
            history.watched(&batch)?;
            Ok(batch)
        });
        Ok(stream.boxed())
    }
}

/// Keep-alives whose answers are checked.
#[derive(Debug)]
struct VerifiedKeepAlive {
    inner: Box<dyn KeepAlive>,
    store: Arc<dyn Store>,
    history: Arc<History>,
}

#[async_trait]
impl KeepAlive for VerifiedKeepAlive {
    async fn ping(&mut self) -> Result<Revision, StoreError> {
        self.history.check()?;
        let floor = self.history.floor();
        let answer = self.inner.ping().await;
        let revision = answer.map_err(|error| noted(&self.history, error))?;
        if revision < floor {
            // A member that lags, or another store.
            verify(&*self.store, &self.history).await?;
        }
        self.history.saw(revision);
        Ok(revision)
    }
}

#[cfg(test)]
mod tests;
