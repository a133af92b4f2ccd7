//! The activations of one shard, and whether the shard is open here.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::RwLock;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::activation::Live;
use super::mailbox::Hold;
use super::meter::Meter;
use super::travel::Dormant;
use super::watching::Watching;
use crate::ids::{ObjectKey, ShardId, Token};

/// The place of one shard's objects, or of those that are bound to the node.
pub(super) struct Slot {
    /// `None`: of the objects that are bound to the node.
    pub(super) shard: Option<ShardId>,
    /// Never locked while a mailbox is, and held by no code of users.
    pub(super) table: RwLock<Table>,
    /// Told when a turn ends in a paused object.
    pub(super) quiet: Notify,
    /// Held by whoever closes it.
    pub(super) closing: Mutex<()>,
    /// What its turns cost.
    pub(super) meter: Meter,
    /// Whether its new work is watched, since its last owner crashed.
    pub(super) watching: Watching,
}

/// Whether calls may run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Closed,
    Open,
    /// No new turn starts but for the calls of running ones, so that these can end.
    Closing,
    /// No turn runs nor starts. The objects are as they were, and go on if the shard opens again.
    Sealed,
    /// No turn runs nor starts; objects end.
    Ending,
}

pub(super) struct Table {
    pub(super) stage: Stage,
    pub(super) token: Token,
    /// Counts openings and discards, so that a closing sees that it was overtaken.
    pub(super) round: u64,
    /// Since when the shard is sealed or its objects end.
    pub(super) held: Option<Instant>,
    objects: HashTable<Arc<dyn Live>>,
    /// State that came with the shard, of objects that have no activation yet.
    pub(super) dormant: BTreeMap<ObjectKey, Dormant>,
    hasher: RandomState,
}

impl Slot {
    pub(super) fn new(shard: Option<ShardId>, hasher: RandomState) -> Self {
        Self {
            shard,
            table: RwLock::new(Table {
                stage: Stage::Closed,
                token: Token::default(),
                round: 0,
                held: None,
                dormant: BTreeMap::new(),
                objects: HashTable::new(),
                hasher,
            }),
            quiet: Notify::new(),
            closing: Mutex::new(()),
            meter: Meter::default(),
            watching: Watching::default(),
        }
    }

    /// Takes the state that came with the shard for an object that is activated now.
    pub(super) fn take_dormant(&self, key: &ObjectKey) -> Option<Dormant> {
        if self.table.read().dormant.is_empty() {
            return None;
        }
        self.table.write().dormant.remove(key)
    }

    /// Gives back what [`Slot::take_dormant`] took.
    pub(super) fn put_dormant(&self, key: ObjectKey, dormant: Dormant) {
        self.table.write().dormant.insert(key, dormant);
    }

    pub(super) fn count_turn(&self, failed: bool) {
        self.meter.count_turn(failed);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("shard", &self.shard)
            .finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Whether a call may have its turn here; `hold` is asked only if the shard is being closed.
    pub(super) fn admits(&self, hold: impl FnOnce() -> Hold) -> bool {
        match self.stage {
            Stage::Open => true,
            Stage::Closing => hold() == Hold::Held,
            Stage::Closed | Stage::Sealed | Stage::Ending => false,
        }
    }

    pub(super) fn find(&self, key: &ObjectKey) -> Option<&Arc<dyn Live>> {
        let hash = self.hasher.hash_one(key);
        self.objects.find(hash, |live| live.key() == key)
    }

    /// Adds an activation whose key has none.
    pub(super) fn insert(&mut self, live: Arc<dyn Live>) {
        let hash = self.hasher.hash_one(live.key());
        let hasher = &self.hasher;
        self.objects
            .insert_unique(hash, live, |live| hasher.hash_one(live.key()));
    }

    /// Removes this very activation, not a later one of the same key; returns whether it was there.
    pub(super) fn remove(&mut self, live: &dyn Live) -> bool {
        let hash = self.hasher.hash_one(live.key());
        let same = |other: &Arc<dyn Live>| std::ptr::addr_eq(Arc::as_ptr(other), live);
        match self.objects.find_entry(hash, same) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// Counts the objects that live here, with or without an activation.
    pub(super) fn len(&self) -> usize {
        self.objects.len() + self.dormant.len()
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Live>> {
        self.objects.iter()
    }

    /// Removes all, in no order.
    pub(super) fn take_all(&mut self) -> Vec<Arc<dyn Live>> {
        std::mem::take(&mut self.objects).into_iter().collect()
    }
}
