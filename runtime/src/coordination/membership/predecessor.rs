//! What to do about a node key of our own node ID that names another lease.
//!
//! It is a predecessor's, or that of a process which replaced us. Ending its lease lets others
//! take its shards over at once, so that takes proof that its process is gone; a refused
//! connection proves nothing. Without proof we wait until its lease ends, and if it turns out to
//! be alive this process must not be a node: two of one name would share one key.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::settings::LEASE_TTL_MAX;
use super::{JoinError, NodePort, Replace, Shared};
use crate::coordination::keys::decode_node;
use crate::coordination::store::{Compare, Entry, Op, Txn};
use crate::placement::NodeRecord;

/// The pause between two looks at a predecessor's key.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// A key that is still there after this time is kept alive by somebody.
const PATIENCE: Duration = LEASE_TTL_MAX.saturating_add(Duration::from_secs(5));

impl Shared {
    /// Returns once the predecessor's key is gone.
    pub(super) async fn outlive(
        &self,
        predecessor: &NodeRecord,
        node: &dyn NodePort,
        first: bool,
    ) -> Result<(), JoinError> {
        let (lease, address) = (predecessor.lease, &predecessor.grpc);
        info!(%lease, address, "a predecessor is registered");
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if self.may_end(predecessor, first) {
                info!(%lease, "ending the predecessor's lease: its process is gone");
                self.parts.store.revoke(lease).await?;
                return Ok(());
            }
            if self.is_alive(predecessor, node).await {
                return Err(self.in_use(predecessor));
            }
            self.set_trouble(format!(
                "waiting for the lease of a predecessor at {address} to end"
            ));
            sleep(LOOK_PAUSE).await;
            if !self.is_registered(predecessor).await? {
                return Ok(());
            }
            self.take_lock(); // It may have ended meanwhile.
        }
        Err(self.in_use(predecessor))
    }

    /// Deletes a key of our own node ID that hangs on no lease, or on another one than it names, once
    /// no process can serve under it any more. No node writes such a key: it was written by hand,
    /// perhaps over the key of a process that lives.
    ///
    /// At once if that was this process's own incarnation, which is over, or if our lock proves that
    /// the other process is gone. Otherwise the lease that the key names is ended first; nobody
    /// serves longer than the longest time to live after that. Guard: the key is as it was seen.
    pub(super) async fn clear_unheld(&self, entry: &Entry) -> Result<(), JoinError> {
        let own = *self.last.lock() == Some(entry.create_revision);
        let record = decode_node(entry).ok();
        let gone = record.as_ref().is_some_and(|record| self.has_proof(record));
        warn!(
            key = entry.key,
            own, gone, "our node key hangs on no lease of its own"
        );
        if let Some(record) = &record {
            let view = self.parts.view.current();
            let shared = view.nodes.values().any(|node| node.lease == record.lease);
            if !shared {
                self.parts.store.revoke(record.lease).await?;
            } else if !own && !gone {
                // Copied from another node's key. Nothing is known of a lease of ours.
                return Err(self.in_use(record));
            }
        }
        if !own && !gone {
            let wait = PATIENCE.as_secs();
            self.set_trouble(format!(
                "deletes the key {:?}, which no lease keeps, in {wait} s",
                entry.key
            ));
            sleep(PATIENCE).await;
        }
        let txn = Txn {
            compares: vec![Compare::Modified(entry.key.clone(), entry.mod_revision)],
            then: vec![Op::Delete(entry.key.clone())],
            otherwise: Vec::new(),
        };
        self.parts.store.commit(txn).await?;
        Ok(())
    }

    /// Whether there is proof that the predecessor's process is gone.
    fn may_end(&self, predecessor: &NodeRecord, first: bool) -> bool {
        match self.parts.settings.replace {
            Replace::Lock => self.has_proof(predecessor),
            // In a later life the key is that of the process which replaced this one, by the same
            // guarantee; ending its lease would begin an endless fight.
            Replace::Always => first,
            Replace::Never => false,
        }
    }

    /// Whether this process holds the lock that the predecessor held as long as it lived.
    fn has_proof(&self, predecessor: &NodeRecord) -> bool {
        let lock = self.lock.lock();
        lock.as_ref()
            .is_some_and(|lock| lock.proof() == predecessor.boot_id)
    }

    async fn is_alive(&self, predecessor: &NodeRecord, node: &dyn NodePort) -> bool {
        // Behind our own address there is nobody but us.
        let ours = predecessor.grpc == self.parts.registration.grpc;
        let name = &self.parts.registration.node;
        !ours && node.answers(name, &predecessor.grpc).await
    }

    async fn is_registered(&self, predecessor: &NodeRecord) -> Result<bool, JoinError> {
        let read = Txn {
            then: vec![Op::Get(self.node_key())],
            ..Txn::default()
        };
        let reply = self.parts.store.commit(read).await?;
        match reply.reads.into_iter().flatten().next() {
            Some(entry) => Ok(decode_node(&entry)?.incarnation == predecessor.incarnation),
            None => Ok(false),
        }
    }

    fn in_use(&self, predecessor: &NodeRecord) -> JoinError {
        JoinError::NodeIdInUse {
            node: self.parts.registration.node.clone(),
            address: predecessor.grpc.clone(),
        }
    }
}
