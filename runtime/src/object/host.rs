//! The objects of this process, by shard.

use std::any::Any;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::directory::{Slot, Stage};
use super::encoding::check_args;
use super::hosted::{AUTO_CLUSTER_ID, Common, Hosted, HostedType};
use super::mailbox::Hold;
use super::sweeper::{self, Pace};
use super::{AutoStart, CallPath, EncodedCall, Object, Registry, RemoteCalls, closing};
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{InvalidObjectKey, Layout, NodeId, ObjectKey, Place, ShardId, Token};
use crate::storage::Storage;
use crate::tasks::Tasks;
use crate::telemetry::{CountTurns, HostCounts, Metrics};

/// What a host is made of.
#[derive(Debug)]
pub struct HostSettings {
    /// The node it is part of.
    pub node: NodeId,
    /// How the cluster's keys map to its shards.
    pub layout: Layout,
    /// Whether the node may serve now.
    pub fence: Arc<Fence>,
    /// Where stored state lives.
    pub storage: Arc<dyn Storage>,
    /// What it can host.
    pub registry: Registry,
    /// The largest arguments and replies, in bytes. Default: [`super::PAYLOAD_LEN_MAX`].
    pub payload_max: usize,
    /// Where turns that suspend run, and the sweeper.
    pub tasks: Tasks,
    /// Where it counts.
    pub metrics: Arc<Metrics>,
}

/// The objects of this process, by shard.
pub struct Host {
    pub(super) common: Arc<Common>,
    slots: Box<[Arc<Slot>]>,
    node_bound: Arc<Slot>,
    pub(super) types: BTreeMap<&'static str, Arc<dyn HostedType>>,
}

/// What became of a call that was given to a host.
#[derive(Debug)]
pub enum Dispatch {
    /// It was served, or failed in a way that no other node would cure.
    Done(Result<Bytes, CallError>),
    /// The shard is not open here, or the node is fenced; the call did not run and comes back.
    NotHere(EncodedCall),
}

/// How closing a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// No turn runs and none will; its objects are saved, deactivated and dropped.
    Closed,
    /// These turns did not end in time; the shard is open again.
    Overdue(Vec<(ObjectKey, String)>),
}

/// Which objects to list.
#[derive(Clone, Debug, Default)]
pub struct ObjectQuery {
    /// Only of this type.
    pub object_type: Option<String>,
    /// Only of this shard.
    pub shard: Option<ShardId>,
    /// At most this many.
    pub limit: usize,
    /// Only after this one, in order of type and ID.
    pub after: Option<ObjectKey>,
}

/// A live object.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its key.
    pub key: ObjectKey,
    /// Its shard, unless it is bound to its node.
    pub shard: Option<ShardId>,
    /// Calls waiting for their turn.
    pub waiting: usize,
    /// Time since its last turn ended; zero while one runs.
    pub idle: Duration,
}

impl Host {
    /// Makes a host with every shard closed. Must be called inside a tokio runtime, for it spawns
    /// the sweeper that ends idle objects.
    pub fn new(settings: HostSettings) -> Arc<Self> {
        let registry = settings.registry.clone();
        let host = Arc::new_cyclic(|host| Self::of(settings, host.clone()));
        let settings = || host.types.values().map(|hosted| hosted.settings());
        let pace = Pace::of(
            settings().map(|settings| settings.idle),
            settings().filter_map(|settings| settings.save_every),
        );
        let swept = Arc::downgrade(&host);
        let tasks = &host.common.tasks;
        tasks.spawn("sweeper", |shutdown| sweeper::run(swept, pace, shutdown));
        debug!(types = ?registry.type_names(), "the host is ready");
        host
    }

    fn of(settings: HostSettings, host: Weak<Self>) -> Self {
        let hasher = RandomState::new();
        let shards = settings.layout.count().shards();
        let slots = shards
            .map(|shard| Arc::new(Slot::new(Some(shard), hasher.clone())))
            .collect();
        let node_bound = Arc::new(Slot::new(None, hasher));
        let common = Arc::new(Common {
            node: settings.node,
            layout: settings.layout,
            fence: settings.fence,
            storage: settings.storage,
            payload_max: settings.payload_max,
            tasks: settings.tasks,
            metrics: settings.metrics,
            host,
            remote: OnceLock::new(),
            millis: AtomicU64::new(0),
            restarts: Mutex::new(Vec::new()),
        });
        let types = settings.registry.types.into_iter();
        let types = types.map(|(name, host_type)| (name, host_type(common.clone())));
        let types = types.collect();
        common.metrics.collect_from(TurnCounts {
            host: common.host.clone(),
        });
        Self {
            common,
            slots,
            node_bound,
            types,
        }
    }

    /// Tells the host the way to the objects of other nodes: what `Context::object` calls. Only
    /// the first counts. The host keeps no strong reference, since the router has one to it.
    pub fn connect(&self, remote: &Arc<dyn RemoteCalls>) {
        let _ = self.common.remote.set(Arc::downgrade(remote));
    }

    /// Returns the names of the types it hosts, sorted.
    pub fn type_names(&self) -> Vec<&'static str> {
        self.types.keys().copied().collect()
    }

    /// Opens a shard under a token, and starts the objects that live there without being called.
    /// Opening it again under the same token changes nothing, and a lower one is ignored.
    pub fn open(self: &Arc<Self>, shard: ShardId, token: Token) {
        let slot = &self.slots[shard.index()];
        if open(slot, token) {
            self.auto_start(slot);
        }
    }

    /// Opens the place of the objects that are bound to this node, under the token of its
    /// incarnation: when the node is registered.
    pub fn open_node_bound(self: &Arc<Self>, token: Token) {
        if open(&self.node_bound, token) {
            self.auto_start(&self.node_bound);
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

    pub(super) fn restart_failed(&self) {
        let failed = std::mem::take(&mut *self.common.restarts.lock());
        for (slot, key) in failed {
            if let Some(hosted) = self.types.get(key.object_type()) {
                hosted.clone().activate(&slot, &key);
            }
        }
    }

    /// Closes a shard: no new turn starts, running turns end within `limit`, then its objects are
    /// deactivated with their hooks, saved and dropped. A shard that is not open is closed
    /// already. Hooks and last saves get what is left of `limit`, at least 1 s; those that take
    /// longer are abandoned and logged.
    ///
    /// Cancel safety: once begun, closing goes on though nobody waits for it.
    pub async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        self.close_slot(&self.slots[shard.index()], limit).await
    }

    /// Closes the place of the objects that are bound to this node, as [`Host::close`] does.
    pub async fn close_node_bound(&self, limit: Duration) -> Closing {
        self.close_slot(&self.node_bound, limit).await
    }

    async fn close_slot(&self, slot: &Arc<Slot>, limit: Duration) -> Closing {
        let metrics = self.common.metrics.objects.clone();
        let closing = closing::close(slot.clone(), limit, metrics);
        let ended = self.common.tasks.spawn_work(closing).await;
        ended.unwrap_or_else(|_| Closing::Overdue(Vec::new())) // The process ends.
    }

    /// Drops every activation of every shard without saving, and closes every shard: the lease
    /// is lost. Running turns cannot store or answer any more.
    pub fn discard_all(&self) {
        for slot in self.all_slots() {
            discard(slot);
        }
    }

    /// Drops a shard's objects without saving and closes it: another node owns it. Ends a closing
    /// of it.
    pub fn discard(&self, shard: ShardId) {
        discard(&self.slots[shard.index()]);
    }

    /// Counts all live objects, node-bound ones too.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.all_slots().map(|slot| slot.table.read().len()).sum()
    }

    /// Whether calls to objects of this shard can run here now (open, and the node not fenced).
    pub fn serves(&self, shard: ShardId) -> bool {
        self.slots[shard.index()].table.read().is_open() && self.common.fence.is_open()
    }

    /// Whether a turn of the shard (or of the objects that are bound to this node) waits for a call
    /// with this path. Such a call has its turn even while the shard is being closed.
    pub fn is_awaited(&self, place: &Place, path: &CallPath) -> bool {
        let slot = self.slot_at(place);
        slot.is_some_and(|slot| self.common.hold(slot, path) == Hold::Held)
    }

    /// Runs a call if its object lives here.
    ///
    /// Cancel safety: as for a typed call, a turn that has begun runs to its end.
    pub async fn dispatch(self: &Arc<Self>, call: EncodedCall) -> Dispatch {
        if let Err(error) = check_args(&call.args, self.common.payload_max) {
            return Dispatch::Done(Err(error));
        }
        let slot = match self.slot_of(&call.key) {
            Ok(Some(slot)) => slot.clone(),
            Ok(None) => return Dispatch::NotHere(call),
            Err(error) => return Dispatch::Done(Err(CallError::InvalidId(error.to_string()))),
        };
        match self.types.get(call.key.object_type()) {
            Some(hosted) => hosted.clone().dispatch(slot, call).await,
            None if slot.table.read().is_open() => {
                let unknown = CallError::UnknownType(call.key.object_type().to_owned());
                Dispatch::Done(Err(unknown))
            }
            None => Dispatch::NotHere(call),
        }
    }

    /// Returns where objects of this key live; `None`: they are bound to another node.
    fn slot_of(&self, key: &ObjectKey) -> Result<Option<&Arc<Slot>>, InvalidObjectKey> {
        Ok(self.slot_at(&key.place(&self.common.layout)?))
    }

    pub(super) fn slot_at(&self, place: &Place) -> Option<&Arc<Slot>> {
        match place {
            Place::Shard(shard) => self.slots.get(shard.index()),
            Place::Node(node) => (*node == self.common.node).then_some(&self.node_bound),
        }
    }

    pub(super) fn all_slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.slots.iter().chain([&self.node_bound])
    }

    /// Returns how the cluster's keys map to its shards.
    pub fn layout(&self) -> &Layout {
        &self.common.layout
    }

    pub(super) fn payload_max(&self) -> usize {
        self.common.payload_max
    }

    /// Returns a type as this host runs it, if it does.
    pub(super) fn hosted<T: Object>(&self) -> Option<Arc<Hosted<T>>> {
        let hosted: Arc<dyn Any + Send + Sync> = self.types.get(T::TYPE)?.clone();
        hosted.downcast().ok()
    }

    /// Lists live objects in order of type and ID.
    ///
    /// Looks at every object of the shards in question, about 0.1 s for a million, but keeps only
    /// the listed ones. Shards are read one after the other, so the list is no snapshot.
    pub fn objects(&self, query: &ObjectQuery) -> Vec<ObjectInfo> {
        let now = self.common.now();
        let mut first: BinaryHeap<Listed> = BinaryHeap::new();
        let slots = match query.shard {
            Some(shard) => self.slots.get(shard.index()).into_iter().collect(),
            None => self.all_slots().collect::<Vec<_>>(),
        };
        for slot in slots {
            for object in slot.table.read().iter() {
                let fits = first.len() < query.limit
                    || first.peek().is_some_and(|last| object.key() < &last.0.key);
                if fits && query.limit > 0 && is_wanted(query, object.key()) {
                    first.push(Listed(object.info(now)));
                    if first.len() > query.limit {
                        first.pop();
                    }
                }
            }
        }
        let listed = first.into_sorted_vec();
        listed.into_iter().map(|Listed(info)| info).collect()
    }

    /// Counts the live objects of each shard that has any. Costs some tens of nanoseconds per
    /// shard of the cluster, however many objects there are.
    pub fn counts(&self) -> Vec<(ShardId, usize)> {
        let count = |slot: &Arc<Slot>| Some((slot.shard?, slot.table.read().len()));
        let counts = self.slots.iter().filter_map(count);
        counts.filter(|(_, count)| *count > 0).collect()
    }
}

/// Opens a slot; returns whether it was closed before.
fn open(slot: &Slot, token: Token) -> bool {
    let mut table = slot.table.write();
    match table.stage {
        Stage::Closed if token >= table.token => {
            table.stage = Stage::Open;
            table.token = token;
            table.round += 1;
            true
        }
        Stage::Open if token >= table.token => {
            table.token = token;
            false
        }
        Stage::Closed | Stage::Open | Stage::Closing | Stage::Ending => {
            let (shard, known, stage) = (slot.shard, table.token, table.stage);
            warn!(?shard, %token, %known, ?stage, "cannot open the shard now");
            false
        }
    }
}

fn discard(slot: &Slot) {
    let mut table = slot.table.write();
    table.stage = Stage::Closed;
    table.round += 1; // A closing under way sees that it is overtaken.
    let objects = table.take_all();
    drop(table);
    for object in objects {
        object.discard();
    }
    slot.quiet.notify_waiters();
}

fn is_wanted(query: &ObjectQuery, key: &ObjectKey) -> bool {
    let type_fits = query
        .object_type
        .as_ref()
        .is_none_or(|name| name == key.object_type());
    type_fits && query.after.as_ref().is_none_or(|after| key > after)
}

/// An object in order of its key.
struct Listed(ObjectInfo);

impl Ord for Listed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Listed {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Listed {}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.common.node)
            .field("types", &self.type_names())
            .finish_non_exhaustive()
    }
}

/// Reads the turns' counts when metrics are asked for: turns themselves count in their shard,
/// where no other shard's turns write.
struct TurnCounts {
    host: Weak<Host>,
}

impl CountTurns for TurnCounts {
    fn counts(&self) -> Option<HostCounts> {
        let host = self.host.upgrade()?;
        let mut counts = HostCounts::default();
        for slot in host.all_slots() {
            counts.turns += slot.turns.load(Ordering::Relaxed);
            counts.failures += slot.failures.load(Ordering::Relaxed);
            let objects = slot.table.read().len();
            counts.objects += objects;
            counts.most_in_a_shard = counts.most_in_a_shard.max(objects);
        }
        Some(counts)
    }
}
