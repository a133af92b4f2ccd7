//! The objects of this process, by shard.

use std::any::Any;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::hash::RandomState;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::activation::Live;
use super::arrivals::Arrivals;
use super::busiest::{Busiest, TimedTurns};
use super::directory::{Slot, Stage, Table};
use super::encoding::check_args;
use super::hosted::{AUTO_CLUSTER_ID, Adopted, Common, Hosted, HostedType};
use super::load::{HostLoad, Seen, Windows};
use super::mailbox::Hold;
use super::sweeper::{self, Pace};
use super::timers::{self, Timers};
use super::travel::{Arriving, Dormant, Packed, Packing, Staging, StateError};
use super::{
    AutoStart, CallPath, EncodedCall, MethodFacts, Object, Registry, RemoteCalls, closing,
};
use crate::clock::{Clock, Moment};
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{InvalidObjectKey, Layout, NodeId, ObjectKey, Place, ShardId, Token};
use crate::placement::{Arrival, Parcel};
use crate::storage::{Metered, Storage};
use crate::tasks::Tasks;
use crate::telemetry::{CountTurns, HostCounts, Metrics, Traces};

/// Objects of one shard that are woken at a time after a move.
const WOKEN_AT_ONCE: usize = 64;
/// Shards whose load is looked at before other tasks may run.
const SLOTS_PER_YIELD: usize = 128;

/// Objects whose activation failed that are tried again at a time.
const RESTARTS_AT_ONCE: usize = 64;

/// Most of the fullest shards that metrics name.
const TOP_SHARDS: usize = 10;

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
    staging: Staging,
    arrivals: Arrivals,
    pub(super) types: BTreeMap<&'static str, Arc<dyn HostedType>>,
    windows: Windows,
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
    /// No turn runs and none will. Its objects are as they were.
    Closed,
    /// These turns did not end in time; the shard is open again.
    Overdue(Vec<(ObjectKey, String)>),
}

/// In which order objects are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectOrder {
    /// By type and ID.
    #[default]
    Key,
    /// Those with most turns lately first, and no others: some hundred of a host, as seen by the
    /// turns that were timed.
    Busiest,
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
    /// Only with an ID that begins with this.
    pub prefix: Option<String>,
    /// In which order.
    pub order: ObjectOrder,
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
    /// The method whose turn began last; empty: none has.
    pub method: String,
    /// Bytes of its state as it was last saved or loaded; zero for state that is never written.
    pub state_bytes: u64,
    /// Turns that have ended since it was activated, modulo [`TURNS_COUNTED`](super::TURNS_COUNTED).
    pub turns: u32,
    /// What was seen of its turns that were timed; none if that was none, or is forgotten.
    pub timed: Option<TimedTurns>,
}

impl Host {
    /// Makes a host with every shard closed. Must be called inside a tokio runtime, for it spawns
    /// the sweeper that ends idle objects, and the task that lets timers tick.
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
        let (timed, changed) = (Arc::downgrade(&host), host.common.timers.changed());
        tasks.spawn("timers", |shutdown| timers::run(timed, changed, shutdown));
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
            timers: Arc::new(Timers::new(settings.metrics.objects.clone())),
            storage: Arc::new(Metered::new(settings.storage, settings.metrics.clone())),
            payload_max: settings.payload_max,
            tasks: settings.tasks,
            metrics: settings.metrics,
            host,
            remote: OnceLock::new(),
            millis: AtomicU64::new(0),
            restarts: Mutex::new(Vec::new()),
            busiest: Busiest::default(),
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
            staging: Staging::default(),
            arrivals: Arrivals::default(),
            types,
            windows: Windows::new(Instant::now()),
        }
    }

    /// Tells the host the way to the objects of other nodes: what `Context::object` calls. Only
    /// the first counts. The host keeps no strong reference, since the router has one to it.
    pub fn connect(&self, remote: &Arc<dyn RemoteCalls>) {
        let _ = self.common.remote.set(Arc::downgrade(remote));
    }

    /// Returns where spans go.
    #[inline]
    pub(crate) fn traces(&self) -> &Traces {
        &self.common.metrics.traces
    }

    /// Returns the names of the types it hosts, sorted.
    pub fn type_names(&self) -> Vec<&'static str> {
        self.types.keys().copied().collect()
    }

    /// Returns the types it hosts with their methods, both in order of their names.
    pub fn types(&self) -> Vec<(&'static str, Vec<MethodFacts>)> {
        let types = self.types.iter();
        types
            .map(|(name, hosted)| (*name, hosted.methods()))
            .collect()
    }

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

    /// Returns what came with shards that were opened in the last minute.
    pub fn arrivals(&self) -> BTreeMap<ShardId, Arrival> {
        self.arrivals.recent()
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

    /// Opens the place of the objects that are bound to this node, under the token of its
    /// incarnation: when the node is registered.
    pub fn open_node_bound(self: &Arc<Self>, token: Token) {
        match self.open_slot(&self.node_bound, token, Vec::new()) {
            Opened::Anew(_) => self.auto_start(&self.node_bound),
            Opened::Again | Opened::Not => {}
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

    /// Notes that a shard's turns are held up no more.
    pub(super) fn unhold(&self, table: &mut Table) {
        if let Some(since) = table.held.take() {
            let metrics = &self.common.metrics.objects;
            metrics
                .lock_hold_seconds
                .observe(since.elapsed().as_secs_f64());
            metrics.locks_held_exclusive.dec();
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

    /// Closes a shard: no new turn starts and running turns end within `limit`. Its objects stay as
    /// they are, until [`Host::open`] lets them go on, [`Host::end`] ends them, or
    /// [`Host::let_go`] or [`Host::discard`] drops them. A shard that is not open is closed already.
    ///
    /// Cancel safety: once begun, closing goes on though nobody waits for it.
    pub async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        self.close_slot(&self.slots[shard.index()], limit).await
    }

    /// Closes the place of the objects that are bound to this node, as [`Host::close`] does, and
    /// ends them in what is left of the time, as [`Host::end`] does.
    pub async fn close_node_bound(self: &Arc<Self>, limit: Duration) -> Closing {
        let by = Instant::now() + limit;
        let closing = self.close_slot(&self.node_bound, limit).await;
        self.end_slot(&self.node_bound, by - Instant::now()).await;
        closing
    }

    /// Ends the objects of a closed shard in order: deactivation hooks, last saves; then drops them.
    /// Takes no longer than `limit`, and at least a second if need be; what takes longer is
    /// abandoned and logged.
    ///
    /// Cancel safety: once begun, it goes on though nobody waits for it.
    pub async fn end(self: &Arc<Self>, shard: ShardId, limit: Duration) {
        self.end_slot(&self.slots[shard.index()], limit).await;
    }

    async fn end_slot(self: &Arc<Self>, slot: &Arc<Slot>, limit: Duration) {
        let ending = closing::end(self.clone(), slot.clone(), limit);
        // If it fails the process ends.
        let _ = self.common.tasks.spawn_work(ending).await;
    }

    /// Drops the objects of a closed shard without hooks or saves: they were packed, and another
    /// node has them now.
    pub fn let_go(&self, shard: ShardId) {
        self.discard(shard);
    }

    /// Packs the objects of a closed shard one after the other, to be sent to the node that will own
    /// it.
    pub fn pack(&self, shard: ShardId) -> Packing {
        let table = self.slots[shard.index()].table.read();
        if table.stage != Stage::Sealed {
            return Packing::new(Vec::new(), VecDeque::new());
        }
        let now = self.common.now();
        let dormant = table.dormant.iter().map(|(key, dormant)| {
            let written = self.types.get(key.object_type()).map_or_else(
                || Err("its type is not hosted here".to_owned()),
                |hosted| hosted.repack(dormant),
            );
            match written {
                Ok(state) => Ok(Packed {
                    key: key.clone(),
                    state,
                    idle: Duration::from_millis(now.saturating_sub(dormant.used)),
                    timers: timers::pack(dormant.timers.clone(), Instant::now()),
                }),
                Err(reason) => Err(StateError {
                    object: key.clone(),
                    reason,
                }),
            }
        });
        Packing::new(table.iter().cloned().collect(), dormant.collect())
    }

    /// Begins to take in a parcel of state for a shard that this node may come to own.
    pub fn arriving(self: &Arc<Self>, shard: ShardId, parcel: Parcel) -> Arriving {
        Arriving::new(self.clone(), shard, parcel)
    }

    pub(super) fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Reads the state of an object that is to live here.
    pub(super) fn unpack(&self, packed: &Packed) -> Result<Dormant, StateError> {
        let object = &packed.key;
        let refuse = |reason: String| StateError {
            object: object.clone(),
            reason,
        };
        let hosted = self.types.get(object.object_type());
        let hosted = hosted.ok_or_else(|| refuse("its type is not hosted here".into()))?;
        let state = hosted.unpack(&packed.state).map_err(refuse)?;
        let idle = super::hosted::millis(packed.idle);
        let used = self.common.now().saturating_sub(idle);
        let readable = |method: &str, args: &[u8]| hosted.readable(method, args);
        let timers = timers::unpack(&packed.timers, Instant::now(), readable);
        let timers = timers.map_err(|error| refuse(format!("a timer of it: {error}")))?;
        Ok(Dormant {
            state,
            used,
            timers,
        })
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
        self.staging.clear();
        for slot in self.all_slots() {
            self.discard_slot(slot);
        }
    }

    /// Drops a shard's objects without saving and closes it: another node owns it. Ends a closing
    /// of it.
    pub fn discard(&self, shard: ShardId) {
        self.discard_slot(&self.slots[shard.index()]);
    }

    fn discard_slot(&self, slot: &Slot) {
        let mut table = slot.table.write();
        table.stage = Stage::Closed;
        table.round += 1; // A closing under way sees that it is overtaken.
        self.unhold(&mut table);
        let dormant = std::mem::take(&mut table.dormant);
        let objects = table.take_all();
        drop(table);
        drop(dormant);
        for object in objects {
            object.discard();
        }
        slot.quiet.notify_waiters();
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
        match call.key.place(&self.common.layout) {
            Ok(place) => self.dispatch_at(&place, call).await,
            Err(error) => Dispatch::Done(Err(CallError::InvalidId(error.to_string()))),
        }
    }

    /// Does the same for a caller that knows already where objects of the call's key live.
    pub(crate) async fn dispatch_at(
        self: &Arc<Self>,
        place: &Place,
        call: EncodedCall,
    ) -> Dispatch {
        if let Err(error) = check_args(&call.args, self.common.payload_max) {
            return Dispatch::Done(Err(error));
        }
        let Some(slot) = self.slot_at(place).cloned() else {
            return Dispatch::NotHere(call);
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

    pub(super) fn is_fence_open_at(&self, now: Moment) -> bool {
        self.common.fence.is_open_at(now)
    }

    /// The clock of the fence, on which deadlines are kept.
    pub(super) fn clock(&self) -> Clock {
        self.common.clock()
    }

    pub(super) fn payload_max(&self) -> usize {
        self.common.payload_max
    }

    /// Returns a type as this host runs it, if it does.
    pub(super) fn hosted<T: Object>(&self) -> Option<Arc<Hosted<T>>> {
        let hosted: Arc<dyn Any + Send + Sync> = self.types.get(T::TYPE)?.clone();
        hosted.downcast().ok()
    }

    /// Lists live objects.
    ///
    /// In order of type and ID it looks at every object of the shards in question, about 0.1 s for a million, but keeps only
    /// the listed ones. Shards are read one after the other, so the list is no snapshot.
    pub fn objects(&self, query: &ObjectQuery) -> Vec<ObjectInfo> {
        match query.order {
            ObjectOrder::Key => self.objects_by_key(query),
            ObjectOrder::Busiest => self.busiest(query),
        }
    }

    fn objects_by_key(&self, query: &ObjectQuery) -> Vec<ObjectInfo> {
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

    /// Ends the present window of load and begins the next. Looks at every shard: some
    /// milliseconds in all, with breaks for other tasks.
    ///
    /// Cancel safety: dropped before its end, the window goes on.
    pub async fn end_load_window(&self) {
        let mut seen = Vec::with_capacity(self.slots.len() + 1);
        for (i, slot) in self.all_slots().enumerate() {
            seen.push(Seen::of(slot));
            if i % SLOTS_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.windows.end(Instant::now(), &seen);
        self.common.busiest.end_window(self.common.now());
    }

    /// Returns what the shards did in the last window that ended.
    pub fn load(&self) -> Arc<HostLoad> {
        self.windows.last()
    }

    /// Counts the live objects of each shard that has any. Costs some tens of nanoseconds per
    /// shard of the cluster, however many objects there are.
    pub fn counts(&self) -> Vec<(ShardId, usize)> {
        let count = |slot: &Arc<Slot>| Some((slot.shard?, slot.table.read().len()));
        let counts = self.slots.iter().filter_map(count);
        counts.filter(|(_, count)| *count > 0).collect()
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

/// Whether a query asks for an object, as far as its key tells.
pub(super) fn is_wanted(query: &ObjectQuery, key: &ObjectKey) -> bool {
    let type_fits = query
        .object_type
        .as_ref()
        .is_none_or(|name| name == key.object_type());
    let prefix_fits = query
        .prefix
        .as_ref()
        .is_none_or(|prefix| key.id().starts_with(prefix));
    type_fits && prefix_fits && query.after.as_ref().is_none_or(|after| key > after)
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
        let mut objects = Vec::new();
        for slot in host.all_slots() {
            let totals = slot.meter.totals();
            counts.turns += totals.turns;
            counts.failures += totals.failures;
            counts.waits += totals.waits;
            counts.refusals += totals.refusals;
            let table = slot.table.read();
            counts.objects += table.len();
            if let (Some(shard), true) = (slot.shard, table.is_open()) {
                objects.push((table.len(), shard));
            }
        }
        // The fullest first; of those that are equal, the lowest number.
        objects.sort_unstable_by_key(|(count, shard)| (std::cmp::Reverse(*count), *shard));
        let named = objects.iter().filter(|(count, _)| *count > 0);
        let named = named.take(TOP_SHARDS);
        counts.fullest = named.map(|(count, shard)| (*shard, *count)).collect();
        counts.by_shard = objects.into_iter().map(|(count, _)| count).collect();
        Some(counts)
    }
}
