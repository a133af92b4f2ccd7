//! What to do about a node key of our own node ID that names another lease.
//!
//! It is a predecessor's, or that of a process which replaced us. Ending its lease lets others
//! take its shards over at once, so that takes proof that its process is gone; a refused
//! connection proves nothing. Without proof we wait until its lease ends, and if it turns out to
//! be alive this process must not be a node: two of one name would share one key.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;

use super::settings::LEASE_TTL_MAX;
use super::{JoinError, NodePort, Replace, Shared};
use crate::coordination::keys::decode_node;
use crate::coordination::store::{Op, Txn};
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

    /// Whether there is proof that the predecessor's process is gone.
    fn may_end(&self, predecessor: &NodeRecord, first: bool) -> bool {
        match self.parts.settings.replace {
            Replace::Lock => {
                let lock = self.lock.lock();
                lock.as_ref()
                    .is_some_and(|lock| lock.proof() == predecessor.boot_id)
            }
            // In a later life the key is that of the process which replaced this one, by the same
            // guarantee; ending its lease would begin an endless fight.
            Replace::Always => first,
            Replace::Never => false,
        }
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
