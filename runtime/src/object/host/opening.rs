//! How a shard's objects begin here: with the state that came with them, by themselves, or when called.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures::StreamExt;
use tracing::{error, warn};

use super::Host;
use crate::ids::{ObjectKey, ShardId, Token};
use crate::object::AutoStart;
use crate::object::activation::Live;
use crate::object::directory::{Slot, Stage};
use crate::object::hosted::{AUTO_CLUSTER_ID, Adopted};
use crate::object::travel::Dormant;
use crate::placement::{Arrival, Parcel};

/// Objects of one shard that are woken at a time after a move.
const WOKEN_AT_ONCE: usize = 64;

/// Objects whose activation failed that are tried again at a time.
const RESTARTS_AT_ONCE: usize = 64;

impl Host {
    /// Opens a shard under a token, and starts the objects that live there without being called.
    /// Opening it again under the same token changes nothing, and a lower one is ignored. A shard
    /// that was closed here and not ended goes on with its objects.
    pub fn open(self: &Arc<Self>, shard: ShardId, token: Token) {
        self.open_with(shard, token, None);
    }

    /// Opens a shard under a token with the state that was staged as `parcel`. Whatever else is
    /// staged for it is dropped.
    pub fn open_with(self: &Arc<Self>, shard: ShardId, token: Token, parcel: Option<Parcel>) {
        let slot = &self.slots[shard.index()];
        let staged = self.staging.take(shard, parcel);
        let (sent, objects) = match staged {
            Some((sum, objects)) => (Some(sum.objects), objects),
            None => (None, Vec::new()),
        };
        match self.open_slot(slot, token, objects) {
            Opened::Anew(taken) => {
                if let Some(parcel) = parcel {
                    self.note_arrival(shard, parcel, token, (sent, taken));
                }
                self.take_in(slot);
                self.auto_start(slot);
            }
            Opened::Again | Opened::Not => {}
        }
    }

    /// Opens the place of the objects that are bound to this node, under the token of its
    /// incarnation: when the node is registered.
    pub fn open_node_bound(self: &Arc<Self>, token: Token) {
        match self.open_slot(&self.node_bound, token, Vec::new()) {
            Opened::Anew(_) => self.auto_start(&self.node_bound),
            Opened::Again | Opened::Not => {}
        }
    }

    /// Returns what came with shards that were opened in the last minute.
    pub fn arrivals(&self) -> BTreeMap<ShardId, Arrival> {
        self.arrivals.recent()
    }

    fn note_arrival(
        &self,
        shard: ShardId,
        parcel: Parcel,
        token: Token,
        (sent, taken): (Option<u64>, usize),
    ) {
        if sent.is_none() {
            error!(%shard, ?parcel, "the state that came with the shard is not here");
            self.common.metrics.objects.parcels_missing.inc();
        }
        let arrival = Arrival {
            revision: token.revision(),
            sent,
            taken: taken as u64,
        };
        self.arrivals.note(shard, arrival);
    }

    /// Makes the objects whose state came with the shard, but for those that a call has woken
    /// meanwhile.
    fn take_in(self: &Arc<Self>, slot: &Arc<Slot>) {
        let keys: Vec<ObjectKey> = slot.table.read().dormant.keys().cloned().collect();
        let mut asleep = Vec::new();
        for key in keys {
            let hosted = self.types.get(key.object_type());
            let hosted = hosted.expect("its state was read by its type").clone();
            if hosted.adopt(slot, &key) == Adopted::Sleeps {
                asleep.push(key);
            }
        }
        self.wake_later(slot, asleep);
    }

    /// Activates these objects in the background, as far as their calls do not come first.
    fn wake_later(self: &Arc<Self>, slot: &Arc<Slot>, asleep: Vec<ObjectKey>) {
        if !asleep.is_empty() {
            let (host, slot) = (Arc::downgrade(self), slot.clone());
            self.common.tasks.spawn_work(wake_all(host, slot, asleep));
        }
    }

    /// Opens a slot, with the state that came with it if it was closed: no call may find the shard
    /// open and that state not there, or the object would begin anew.
    fn open_slot(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        token: Token,
        arrived: Vec<(ObjectKey, Dormant)>,
    ) -> Opened {
        let mut table = slot.table.write();
        if token < table.token {
            let (shard, known) = (slot.shard, table.token);
            warn!(?shard, %token, %known, "cannot open the shard under a lower token");
            return Opened::Not;
        }
        match table.stage {
            Stage::Closed => {
                table.dormant.extend(arrived);
                table.stage = Stage::Open;
                table.token = token;
                table.round += 1;
                Opened::Anew(table.dormant.len())
            }
            Stage::Sealed => {
                table.stage = Stage::Open;
                table.token = token;
                self.unhold(&mut table);
                let objects: Vec<_> = table.iter().cloned().collect();
                let mut asleep: Vec<_> = table.dormant.keys().cloned().collect();
                drop(table);
                asleep.extend(reopen(slot, objects));
                self.wake_later(slot, asleep);
                Opened::Again
            }
            Stage::Open => {
                table.token = token;
                Opened::Again
            }
            Stage::Closing | Stage::Ending => {
                let (shard, stage) = (slot.shard, table.stage);
                warn!(?shard, %token, ?stage, "cannot open the shard now");
                Opened::Not
            }
        }
    }

    fn auto_start(&self, slot: &Arc<Slot>) {
        for (name, hosted) in &self.types {
            let id = match (hosted.settings().auto_start, slot.shard) {
                (AutoStart::PerShard, Some(shard)) => format!("shard#{shard}/auto"),
                (AutoStart::PerNode, None) => format!("node#{}/auto", self.common.node),
                (AutoStart::PerCluster, Some(_)) => AUTO_CLUSTER_ID.to_owned(),
                (AutoStart::Never, _)
                | (AutoStart::PerShard | AutoStart::PerCluster, None)
                | (AutoStart::PerNode, Some(_)) => continue,
            };
            let Ok(key) = ObjectKey::new(*name, id) else {
                continue; // A type with a bad name has no objects.
            };
            let is_here = self
                .slot_of(&key)
                .is_ok_and(|here| here.is_some_and(|here| Arc::ptr_eq(here, slot)));
            if is_here {
                hosted.clone().activate(slot, &key);
            }
        }
    }

    pub(in crate::object) fn restart_failed(&self) {
        let failed: Vec<_> = {
            let mut restarts = self.common.restarts.lock();
            let few = restarts.len().min(RESTARTS_AT_ONCE);
            restarts.drain(..few).collect()
        };
        for (slot, key) in failed {
            if let Some(hosted) = self.types.get(key.object_type()) {
                hosted.clone().activate(&slot, &key);
            }
        }
    }
}

/// What became of opening a slot.
enum Opened {
    /// It was closed, and without objects but for so many that came with it.
    Anew(usize),
    /// It was open, or goes on with the objects that it had.
    Again,
    /// It cannot be opened now.
    Not,
}

/// Lets the objects of a slot go on that was sealed. Returns those that must be activated anew.
fn reopen(slot: &Arc<Slot>, objects: Vec<Arc<dyn Live>>) -> Vec<ObjectKey> {
    let mut asleep = Vec::new();
    for object in objects {
        if let Some(dormant) = object.clone().reopen() {
            let mut table = slot.table.write();
            table.remove(&*object);
            table.dormant.insert(object.key().clone(), dormant);
            asleep.push(object.key().clone());
        }
    }
    slot.quiet.notify_waiters();
    asleep
}

/// Activates objects whose state came with their shard, unless their calls have done so.
async fn wake_all(host: Weak<Host>, slot: Arc<Slot>, keys: Vec<ObjectKey>) {
    let waking = futures::stream::iter(keys).for_each_concurrent(WOKEN_AT_ONCE, |key| {
        let hosted = host.upgrade().and_then(|host| {
            let is_asleep = slot.table.read().dormant.contains_key(&key);
            let hosted = host.types.get(key.object_type());
            hosted.filter(|_| is_asleep).cloned()
        });
        let slot = slot.clone();
        async move {
            if let Some(hosted) = hosted {
                hosted.wake(slot, key).await;
            }
        }
    });
    waking.await;
}
