//! Everything that can be set about a node, and what a wrong setting says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

use super::{HealthSettings, Node, StartError};
use crate::clock::Clock;
use crate::connections::ConnectionLimits;
use crate::coordination::EtcdSettings;
use crate::coordination::membership::{Replace, default_lock_dir};
use crate::coordination::store::Store;
use crate::ids::{NodeId, Regions, ShardCount};
#[allow(unused_imports, reason = "the documentation names it")]
use crate::memory_budget::{MemoryBudget, default_memory_budget};
use crate::object::{Methods, PAYLOAD_LEN_MAX, Registry};
use crate::placement::Weight;
use crate::placement::planner::PlanSettings;
use crate::routing::network::{Network, TcpNetwork};
use crate::storage::{MemoryStorage, Storage};
use crate::telemetry::{ExportMetrics, Spans, Traces};
use crate::tls::Tls;

/// Where a node finds the store that its cluster agrees through.
#[derive(Clone, Debug)]
pub(super) enum StoreChoice {
    /// One of its own, in memory: the node is a cluster by itself.
    Embedded,
    /// A store that other nodes of this process share, or a test's.
    Given(Arc<dyn Store>),
    /// An etcd cluster.
    Etcd(EtcdSettings),
}

/// Sets up a [`Node`]. Every setting has a default; what must be checked is checked at the start.
#[derive(Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct NodeBuilder {
    pub(super) id: Option<NodeId>,
    pub(super) store: StoreChoice,
    pub(super) prefix: String,
    pub(super) shard_count: ShardCount,
    pub(super) regions: Regions,
    pub(super) listen: String,
    pub(super) advertise: Option<String>,
    pub(super) http_address: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) weight: Weight,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) lease_ttl: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) plan_settings: PlanSettings,
    pub(super) health: HealthSettings,
    pub(super) replace: Replace,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) registry: Registry,
    pub(super) network: Arc<dyn Network>,
    pub(super) tls: Option<Tls>,
    pub(super) clock: Clock,
    pub(super) payload_max: usize,
    pub(super) connections: ConnectionLimits,
    pub(super) budget: Option<MemoryBudget>,
    pub(super) lock_dir: Option<PathBuf>,
    pub(super) routes: Routes,
    pub(super) traces: Traces,
    pub(super) exports: ExportMetrics,
}

impl NodeBuilder {
    pub(super) fn new() -> Self {
        Self {
            id: None,
            store: StoreChoice::Embedded,
            prefix: "/steading/".into(),
            shard_count: ShardCount::DEFAULT,
            regions: Regions::default(),
            listen: "127.0.0.1:0".into(),
            advertise: None,
            http_address: None,
            zone: None,
            weight: Weight::ONE,
            labels: BTreeMap::new(),
            lease_ttl: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
            plan_settings: PlanSettings::default(),
            health: HealthSettings::default(),
            replace: Replace::Lock,
            storage: Arc::new(MemoryStorage::new()),
            registry: Registry::default(),
            network: Arc::new(TcpNetwork),
            tls: None,
            clock: Clock::Boot,
            payload_max: PAYLOAD_LEN_MAX,
            connections: ConnectionLimits::default(),
            budget: None,
            lock_dir: None,
            routes: Routes::default(),
            traces: Traces::default(),
            exports: ExportMetrics::default(),
        }
    }

    /// Adds a type of objects that this node can host. Every node of a cluster that may own
    /// shards should host the same types.
    pub fn register<T: Methods>(mut self) -> Self {
        self.registry.register::<T>();
        self
    }

    /// Sets the node's stable name. Default: the machine's host name.
    ///
    /// A process that starts with the name of one that died takes its shards back.
    pub fn id(self, id: NodeId) -> Self {
        Self {
            id: Some(id),
            ..self
        }
    }

    /// Gives the spans of sampled calls, and of shards on their way, to `spans`. Default: none are
    /// made. Calls that are not sampled cost nothing more either way.
    pub fn spans(self, spans: Arc<dyn Spans>) -> Self {
        Self {
            traces: Traces::new(spans),
            ..self
        }
    }

    /// Shows what became of the process's telemetry among the node's metrics. Default: zeros.
    pub fn export_metrics(self, exports: ExportMetrics) -> Self {
        Self { exports, ..self }
    }

    /// Makes the node part of the cluster on an etcd with these endpoints, such as
    /// `http://127.0.0.1:2379`. Default: an embedded store, and the node is alone.
    pub fn etcd(self, endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.etcd_settings(EtcdSettings::new(endpoints))
    }

    /// The same as [`NodeBuilder::etcd`], with user, password, certificates and time limits.
    pub fn etcd_settings(self, settings: EtcdSettings) -> Self {
        Self {
            store: StoreChoice::Etcd(settings),
            lock_dir: self.lock_dir.or_else(|| Some(default_lock_dir())),
            ..self
        }
    }

    /// Uses a store that exists already, such as a [`MemoryStore`](crate::coordination::MemoryStore)
    /// that several nodes of this process share.
    pub fn store(self, store: Arc<dyn Store>) -> Self {
        Self {
            store: StoreChoice::Given(store),
            ..self
        }
    }

    /// Sets the prefix of the cluster's keys in the store. Default: `/steading/`.
    pub fn prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            prefix: prefix.into(),
            ..self
        }
    }

    /// Sets how many shards the cluster has, if this node is the one to create it. Default: 8192.
    /// A node that expects another count than its cluster has is refused.
    pub fn shard_count(self, shard_count: ShardCount) -> Self {
        Self {
            shard_count,
            ..self
        }
    }

    /// Sets which shards the cluster keeps for which keys, if this node is the one to create it.
    /// Default: none. A node that expects other regions than its cluster has is refused.
    pub fn regions(self, regions: Regions) -> Self {
        Self { regions, ..self }
    }

    /// Sets the `host:port` on which other nodes reach this one. Default: `127.0.0.1:0`, any
    /// free port of the loopback interface.
    pub fn listen(self, address: impl Into<String>) -> Self {
        Self {
            listen: address.into(),
            ..self
        }
    }

    /// Sets the `host:port` that other nodes are told. Default: the address listened on.
    pub fn advertise(self, address: impl Into<String>) -> Self {
        Self {
            advertise: Some(address.into()),
            ..self
        }
    }

    /// Sets the `host:port` of the HTTP server that goes with this node, so that others are told.
    /// Default: none.
    pub fn http_address(self, address: impl Into<String>) -> Self {
        Self {
            http_address: Some(address.into()),
            ..self
        }
    }

    /// Sets the failure domain that the node stands in. Default: none.
    pub fn zone(self, zone: impl Into<String>) -> Self {
        Self {
            zone: Some(zone.into()),
            ..self
        }
    }

    /// Sets how much the node takes beside others. Default: 1. A node of weight zero is a gate:
    /// it routes, and hosts nothing.
    pub fn weight(self, weight: Weight) -> Self {
        Self { weight, ..self }
    }

    /// Sets free names for operators. Default: none.
    pub fn labels(self, labels: BTreeMap<String, String>) -> Self {
        Self { labels, ..self }
    }

    /// Sets how long the store keeps this node after its last heartbeat, 2 to 60 s, whole
    /// seconds. Default: 5 s.
    ///
    /// Failover after a crash takes about this long, so lower is faster; a pause longer than this
    /// loses every shard.
    pub fn lease_ttl(self, lease_ttl: Duration) -> Self {
        Self { lease_ttl, ..self }
    }

    /// Sets how long a stopping node may take to hand its shards over before it just releases
    /// them. Default: 25 s.
    pub fn drain_timeout(self, drain_timeout: Duration) -> Self {
        Self {
            drain_timeout,
            ..self
        }
    }

    /// Sets how long the leader waits after a node joined for more to join, so that they are
    /// planned together. Default: 300 ms.
    pub fn join_delay(mut self, join_delay: Duration) -> Self {
        self.plan_settings.join_delay = join_delay;
        self
    }

    /// Sets how this node plans when it leads; every node of a cluster should plan alike. Default:
    /// [`PlanSettings::default`].
    pub fn plan_settings(self, plan_settings: PlanSettings) -> Self {
        Self {
            plan_settings,
            ..self
        }
    }

    /// Sets how this node probes the others. Default: [`HealthSettings::default`].
    pub fn health(self, health: HealthSettings) -> Self {
        Self { health, ..self }
    }

    /// Sets what proves that a predecessor of the same name is gone. Default: [`Replace::Lock`].
    pub fn replace(self, replace: Replace) -> Self {
        Self { replace, ..self }
    }

    /// Sets where the state of `#[object(storage)]` types is kept. Default: in the memory of
    /// this process.
    pub fn storage(self, storage: Arc<dyn Storage>) -> Self {
        Self { storage, ..self }
    }

    /// Sets how many connections the gRPC server keeps, and for how long without a request.
    /// Default: [`ConnectionLimits::default`]; a process that may open few files needs less, see
    /// [`connections_for`](crate::connections::connections_for). Idle HTTP/2 connections are kept
    /// ten times the idle timeout, those of other nodes as long as they answer.
    pub fn connection_limits(self, connections: ConnectionLimits) -> Self {
        Self {
            connections,
            ..self
        }
    }

    /// Sets how many bytes of requests, batches, state on its way and replies may be in flight in the
    /// process; its other nodes and servers should have the same. Beyond it requests fail with
    /// [`CallError::Overloaded`](crate::CallError::Overloaded), and moves of shards are put off.
    /// Default: [`default_memory_budget`] of the machine, for this node alone.
    pub fn memory_budget(self, budget: MemoryBudget) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// Sets how nodes reach each other. Default: TCP.
    pub fn network(self, network: Arc<dyn Network>) -> Self {
        Self { network, ..self }
    }

    /// Has the node take and make connections with certificates of the cluster only. Default: none,
    /// and whoever reaches the node's address may call and command it.
    ///
    /// All nodes, gates and clients of a cluster must have it, or none. It costs a handshake for each
    /// connection, of which there are few, and encryption of every byte. The certificate must carry
    /// the host that the node is reached at ([`NodeBuilder::advertise`]) or the one name of
    /// [`TlsFiles::name`](crate::tls::TlsFiles::name). The files are looked at every two seconds;
    /// connections that are open live on with the old certificates.
    pub fn tls(self, tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// Sets the clock of the fence. Default: [`Clock::Boot`].
    pub fn clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Sets the largest arguments and replies, in bytes of their encoded form. Default: 4 MiB; with more
    /// than [`PAYLOAD_LEN_LIMIT`](crate::object::PAYLOAD_LEN_LIMIT), the node does not start. All nodes
    /// of a cluster must have the same.
    pub fn payload_max(self, payload_max: usize) -> Self {
        Self {
            payload_max,
            ..self
        }
    }

    /// Sets the folder of the lock files by which [`Replace::Lock`] tells that a predecessor's
    /// process is gone. Default: [`default_lock_dir`] with etcd; with any other store none, as
    /// its nodes share a process.
    pub fn lock_dir(self, lock_dir: impl Into<PathBuf>) -> Self {
        Self {
            lock_dir: Some(lock_dir.into()),
            ..self
        }
    }

    /// Serves further gRPC services at the node's address, such as health and reflection.
    /// Default: none.
    pub fn grpc_routes(self, routes: Routes) -> Self {
        Self { routes, ..self }
    }

    /// Starts the node and waits until it is part of its cluster.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a setting is wrong, the address cannot be listened on, or the cluster
    /// refuses the node. An unreachable store is no error: this waits, and warns.
    ///
    /// Cancel safety: dropping the future does not stop the node, which then joins with nobody to
    /// stop it. Who may not wait so long takes [`NodeBuilder::launch`].
    pub async fn start(self) -> Result<Node, StartError> {
        let node = self.launch().await?;
        node.joined().await?;
        Ok(node)
    }

    /// Starts the node and returns at once: it joins in the background, and
    /// [`Node::readiness`] and [`Node::joined`] tell how far it is.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a setting is wrong or the address cannot be listened on.
    ///
    /// Cancel safety: dropped before its end, it has started nothing that lasts.
    pub async fn launch(self) -> Result<Node, StartError> {
        Node::launch(self).await
    }
}
