//! Nodes for tests of this folder: the memory store, paused time, and hosts that keep watch.
//!
//! Membership is played by the test itself, so that lives begin and end when it says.

mod host;
mod node;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use self::host::Hosts;
pub(super) use self::node::{DRAIN_TIMEOUT, Runs, TestNode, registered};
use super::MemoryStore;
use super::keys::{self, Keys};
use super::store::{Listing, Op, Store, Txn, TxnReply};
use crate::clock::Clock;
use crate::ids::{LeaseId, NodeId, Revision, ShardCount, ShardId, Term};
use crate::placement::{ClusterMeta, Owner, OwnerRecord, Target};

/// A store and what all nodes of a test have in common.
#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) store: MemoryStore,
    pub(super) keys: Keys,
    pub(super) count: ShardCount,
    pub(super) clock: Clock,
    hosts: Arc<Mutex<Hosts>>,
}

impl Rig {
    pub(super) fn new(shards: u32) -> Self {
        Self {
            store: MemoryStore::new(),
            keys: Keys::new("/t/"),
            count: ShardCount::new(shards).expect("a power of two"),
            clock: Clock::tokio(),
            hosts: Arc::default(),
        }
    }

    pub(super) fn meta(&self) -> ClusterMeta {
        ClusterMeta::new("test", self.count)
    }

    pub(super) async fn put(&self, key: String, value: Vec<u8>) -> TxnReply {
        self.put_leased(key, value, None).await
    }

    async fn put_leased(&self, key: String, value: Vec<u8>, lease: Option<LeaseId>) -> TxnReply {
        let then = vec![Op::Put { key, value, lease }];
        self.run(then).await
    }

    pub(super) async fn run(&self, then: Vec<Op>) -> TxnReply {
        let txn = Txn {
            then,
            ..Txn::default()
        };
        self.store.commit(txn).await.expect("no faults here")
    }

    /// Writes targets as a leader would; `target` says whose each shard should be.
    pub(super) async fn aim(&self, target: impl Fn(u32) -> Option<&'static str>) {
        self.aim_as(|shard| Target {
            node: target(shard).map(node),
            ..Target::default()
        })
        .await;
    }

    pub(super) async fn aim_as(&self, target: impl Fn(u32) -> Target) {
        let len = self.count.block_len();
        let blocks = (0..self.count.blocks()).map(|block| {
            let shards = block * len..(block + 1) * len;
            let targets: Vec<Target> = shards.map(&target).collect();
            Op::Put {
                key: self.keys.target(block),
                value: keys::encode_targets(&targets),
                lease: None,
            }
        });
        self.run(blocks.collect()).await;
    }

    /// Writes an owner key by hand.
    pub(super) async fn own(&self, shard: u32, owner: &Owner) -> Revision {
        let key = self.keys.owner(self.shard(shard));
        self.put(key, keys::encode_owner(owner, None))
            .await
            .revision
    }

    pub(super) fn shard(&self, shard: u32) -> ShardId {
        ShardId::new(shard, self.count).expect("in range")
    }

    pub(super) async fn list(&self) -> Listing {
        self.store
            .list(self.keys.prefix())
            .await
            .expect("no faults here")
    }

    /// Returns who owns each shard by the store, without regard to lives.
    pub(super) async fn owners(&self) -> BTreeMap<u32, String> {
        let owners = self
            .store
            .list(&self.keys.owners())
            .await
            .expect("no faults here");
        let owners = owners.entries.iter().map(|entry| {
            let shard = entry
                .key
                .rsplit('/')
                .next()
                .and_then(|shard| shard.parse().ok());
            let OwnerRecord { owner, .. } = keys::decode_owner(entry).expect("readable");
            (
                shard.expect("a number"),
                owner.expect("an owner").node.to_string(),
            )
        });
        owners.collect()
    }

    pub(super) async fn term(&self) -> Option<Term> {
        let listing = self.list().await;
        let key = self.keys.leader();
        let entry = listing.entries.iter().find(|entry| entry.key == key)?;
        Some(Term::new(entry.create_revision.get()))
    }

    pub(super) async fn revision(&self) -> u64 {
        self.list().await.revision.get()
    }
}

/// Lets everything that can happen now happen.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}
