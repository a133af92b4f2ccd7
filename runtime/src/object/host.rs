//! The objects of this process, by shard.

mod counting;
mod leaving;
mod listing;
mod opening;
mod packing;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::RandomState;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::debug;

use self::counting::TurnCounts;
use super::arrivals::Arrivals;
use super::busiest::Busiest;
use super::common::Common;
use super::directory::Slot;
use super::encoding::check_args;
use super::hosted::{Hosted, HostedType};
use super::load::Windows;
use super::mailbox::Hold;
use super::registry::refused;
use super::sweeper::{self, Pace};
use super::timers::{self, Timers};
use super::travel::Staging;
use super::{CallPath, EncodedCall, MethodFacts, Object, Registry, RemoteCalls};
use crate::clock::{Clock, Moment};
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{InvalidObjectKey, Layout, NodeId, ObjectKey, Place, ShardId};
use crate::memory_budget::MemoryBudget;
use crate::probation::{Probation, Watch};
use crate::storage::{Metered, Storage};
use crate::tasks::Tasks;
use crate::telemetry::{Metrics, Traces};

pub use self::leaving::Closing;
pub(super) use self::listing::is_wanted;
pub use self::listing::{ObjectInfo, ObjectOrder, ObjectQuery};

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
    /// The bytes that may be in flight in the process.
    pub budget: MemoryBudget,
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
    budget: MemoryBudget,
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
            probation: Arc::default(),
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
            budget: settings.budget,
            arrivals: Arrivals::default(),
            types,
            windows: Windows::new(Instant::now()),
        }
    }

    /// Returns the bytes that may be in flight in the process.
    pub fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Tells the host the way to the objects of other nodes: what `Context::object` calls. Only
    /// the first counts. The host keeps no strong reference, since the router has one to it.
    pub fn connect(&self, remote: &Arc<dyn RemoteCalls>) {
        let _ = self.common.remote.set(Arc::downgrade(remote));
    }

    /// Watches the new work of a shard from its next opening on, since its last owner crashed.
    pub(crate) fn watch(&self, shard: ShardId, watch: Watch, limit: Duration) {
        self.slots[shard.index()].watching.begin(watch, limit);
        self.common.probation.begin(shard, watch, limit);
    }

    /// Returns the windows of the watched shards.
    pub(crate) fn probation(&self) -> &Arc<Probation> {
        &self.common.probation
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
        let Some(hosted) = self.types.get(call.key.object_type()) else {
            let unknown = CallError::UnknownType(call.key.object_type().to_owned());
            return refused(&slot, call, unknown);
        };
        hosted.clone().dispatch(slot, call).await
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
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("node", &self.common.node)
            .field("types", &self.type_names())
            .finish_non_exhaustive()
    }
}
