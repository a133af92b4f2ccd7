//! A node: where the parts meet. Join, serve, drain, leave.
//!
//! The only module that sees both sides: what coordinates (`coordination`) and what serves
//! (`object`, `routing`). It decides nothing about placement or ownership; it wires.
//!
//! Order of joining, each step after the one before: listen, reach the store, create or check the
//! cluster, list and watch it, register under a lease, take part (plan, claim), say "active".
//! Order of leaving: say "draining" and let the leader move the shards off while still serving,
//! release what is left, give the lead up, revoke the lease, close the connections.

mod builder;
mod cluster;
mod drain;
mod error;
mod facts;
mod follow;
mod glue;
mod health;
mod join;
mod launch;
mod leave;
mod loads;
mod observer;
mod operator;
mod probing;
mod query;
mod readiness;
mod report;
mod status;
mod store_limits;
mod weigh;
mod zeros;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use builder::NodeBuilder;
pub use cluster::Cluster;
pub use error::StartError;
pub use health::{HealthSettings, LastFailure, NodeHealth};
pub use observer::{ObserveError, ObservedStore, Observer, ObserverSettings, Plans};
pub use query::{MethodInfo, QueryError, TypeInfo};
pub use readiness::{Condition, ConditionState, Readiness};
pub use status::{Contact, FIGURES_MAX_AGE, NodeStatus, Takeover};

use crate::connections::Accepting;
use crate::coordination::watcher::WatchState;
use crate::coordination::{History, OwnerChecks, SharedView};
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{InvalidObjectKey, LeaseId, NodeId, ObjectKey, ShardId};
use crate::memory_budget::MemoryBudget;
use crate::object::{Caller, EncodedCall, Host, Object, ObjectRef, RemoteCalls};
use crate::placement::planner::{Loads, PlanSettings};
use crate::placement::{Arrival, ClusterView, Reach, Spans};
use crate::routing::network::Network;
use crate::routing::{Location, Router};
pub use crate::routing::{NodeLoad, NodeReport};
use crate::storage::Storage;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use cluster::Way;
use facts::LastShortfall;
use join::Taking;
use readiness::Tracker;

/// A running node. A cheap handle: clones are the same node.
///
/// Dropping the last handle does not stop the node; [`Node::stop`] does.
#[derive(Clone, Debug)]
pub struct Node {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: NodeId,
    gate: bool,
    grpc_address: SocketAddr,
    drain_timeout: Duration,
    lease_ttl: Duration,
    host: Arc<Host>,
    router: Arc<Router>,
    network: Arc<dyn Network>,
    view: Arc<SharedView>,
    /// Checks in the store what other nodes claim about owners.
    owner_checks: Arc<OwnerChecks>,
    storage: Arc<dyn Storage>,
    fence: Arc<Fence>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    progress: watch::Sender<Progress>,
    /// What takes part in the cluster, once the node has joined.
    taking: OnceLock<Taking>,
    /// What proves that the store is still the one that the node joined, once it has reached it.
    history: OnceLock<Arc<History>>,
    /// The lease of the present life, once there is one and until the node has left.
    lease: watch::Sender<Option<LeaseId>>,
    readiness: Mutex<Tracker>,
    shortfall: Mutex<LastShortfall>,
    plan_settings: PlanSettings,
    /// Which limit of the store keeps plans from being written, if one does.
    limits: Mutex<Option<String>>,
    /// What the process took in the last window of load.
    process: loads::ProcessLoad,
    /// Since when shards are on their way.
    spans: Mutex<Spans>,
    /// What each node last reported while this one leads; else empty.
    reports: Mutex<Arc<BTreeMap<NodeId, NodeReport>>>,
    /// What the planner weighs: made of those reports.
    loads: watch::Sender<Arc<Loads>>,
    /// What came with shards lately, by those reports.
    arrivals: watch::Sender<Arc<BTreeMap<ShardId, Arrival>>>,
    /// Told when nodes should be asked for their reports at once.
    ask_nodes: Arc<Notify>,
    /// How other nodes answer this one's probes.
    health: Mutex<BTreeMap<NodeId, health::Record>>,
    /// Who reaches whom, as this node knows it.
    reach: watch::Sender<Arc<Reach>>,
    health_settings: HealthSettings,
    /// Set once by whoever stops the node first.
    stopping: watch::Sender<Stopping>,
    /// Since when an operator has had the node drain.
    draining: watch::Sender<Option<Instant>>,
    /// Whether the listeners of the process take connections.
    accepting: Accepting,
    /// Cancelled when a stop must not take its time.
    hurry: CancellationToken,
}

/// How far a node is with joining.
#[derive(Clone, Debug)]
enum Progress {
    /// Not there yet, and what it waits for, in words.
    Waiting(String),
    Joined,
    Failed(StartError),
}

/// How far a node is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    Began,
    Done,
}

impl Node {
    /// Begins to set a node up.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }

    /// Returns the node's name.
    pub fn id(&self) -> &NodeId {
        &self.shared.id
    }

    /// Returns the address that its gRPC server really listens on.
    pub fn grpc_address(&self) -> SocketAddr {
        self.shared.grpc_address
    }

    /// Returns a handle of the object with this ID, wherever it lives. Costs no call; a bad ID
    /// shows when the handle is called, as [`CallError::InvalidId`].
    pub fn object<T: Object>(&self, id: impl AsRef<str>) -> T::Handle {
        ObjectRef::new(self.caller(), id.as_ref()).into()
    }

    /// Brings a call with encoded arguments to its object and returns the encoded reply.
    ///
    /// # Errors
    ///
    /// [`CallError`], which tells whether the method may have run. Dropping the future does not
    /// stop a method that has begun.
    pub async fn call(&self, call: EncodedCall) -> Result<Bytes, CallError> {
        self.shared.router.call(call).await
    }

    /// Returns where an object lives, without activating it.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if the ID names a shard or node that cannot exist.
    pub fn locate(&self, key: &ObjectKey) -> Result<Location, InvalidObjectKey> {
        self.shared.router.locate(key)
    }

    /// Returns the node's present copy of the cluster.
    pub fn view(&self) -> Arc<ClusterView> {
        self.shared.view.current()
    }

    /// Returns whether the node's copy of the cluster follows the store. If not, it is as it was.
    pub fn is_followed(&self) -> bool {
        let taking = self.shared.taking.get();
        taking.is_some_and(|taking| *taking.watching.borrow() == WatchState::CaughtUp)
    }

    /// Returns a receiver that is woken by each change of the node's copy of the cluster.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.shared.view.subscribe()
    }

    /// Returns the cluster as operators see it, by way of this node.
    pub fn cluster(&self) -> Cluster {
        Cluster {
            way: Way::Node(self.clone()),
        }
    }

    /// Returns where listeners report whether they take connections: one that cannot makes the
    /// node not ready. Servers of the process share it with the node's own.
    pub fn accepting(&self) -> &Accepting {
        &self.shared.accepting
    }

    /// Returns the bytes that may be in flight in the process.
    pub fn memory_budget(&self) -> &MemoryBudget {
        self.shared.host.budget()
    }

    /// Returns the node's metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Returns the objects of this process.
    pub fn host(&self) -> &Arc<Host> {
        &self.shared.host
    }

    /// Returns the names of the object types that the node can host, sorted.
    pub fn object_types(&self) -> Vec<&'static str> {
        self.shared.host.type_names()
    }

    /// Waits until the node has joined its cluster.
    ///
    /// # Errors
    ///
    /// [`StartError`] if it never will; the node then stops by itself.
    ///
    /// Cancel safety: only waits; dropping the future changes nothing.
    pub async fn joined(&self) -> Result<(), StartError> {
        let mut progress = self.shared.progress.subscribe();
        let settled = progress
            .wait_for(|now| !matches!(now, Progress::Waiting(_)))
            .await;
        match settled.as_deref() {
            Ok(Progress::Joined) => Ok(()),
            Ok(Progress::Failed(error)) => Err(error.clone()),
            Ok(Progress::Waiting(_)) | Err(_) => Err(StartError::Stopped),
        }
    }

    /// Follows the lease on which the node's present life hangs: none before its first, nor once it
    /// has left its cluster and ended it. Who ends that lease ends this life at once.
    pub fn leases(&self) -> watch::Receiver<Option<LeaseId>> {
        self.shared.lease.subscribe()
    }

    /// Waits until every task of the node has ended, because it was stopped or could not go on.
    ///
    /// Cancel safety: only waits; dropping the future changes nothing.
    pub async fn stopped(&self) {
        self.shared.tasks.shutdown().cancelled().await;
        let mut stopping = self.shared.stopping.subscribe();
        if *stopping.borrow() == Stopping::Began {
            // `shared` lives as long as `self`, so the sender does too.
            let _ = stopping.wait_for(|stage| *stage == Stopping::Done).await;
        }
    }

    fn caller(&self) -> Caller {
        let remote: Arc<dyn RemoteCalls> = self.shared.router.clone();
        Caller {
            host: self.shared.host.clone(),
            remote,
        }
    }
}
