//! Starting a node: listen, make the parts, begin to join.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::builder::StoreChoice;
use super::follow::{self, Overview};
use super::join::Joining;
use super::loads::{self, ProcessLoad};
use super::readiness::Tracker;
use super::report::Reporter;
use super::{
    Node, NodeBuilder, Progress, Shared, StartError, Stopping, operator, probing, store_limits,
    zeros,
};
use crate::clock::Clock;
use crate::connections::{Accepting, Connections};
use crate::coordination::keys::Keys;
use crate::coordination::membership::{MembershipSettings, Registration};
use crate::coordination::{OwnerChecks, SharedView};
use crate::fence::Fence;
use crate::ids::{Layout, NodeId};
use crate::memory_budget::{MemoryBudget, default_memory_budget};
use crate::object::{Host, HostSettings, PAYLOAD_LEN_LIMIT, RemoteCalls};
use crate::placement::{ClusterMeta, Reach};
use crate::routing::network::{Listener, Network, TlsNetwork, host};
use crate::routing::{Router, RouterSettings, serve};
use crate::storage::Storage;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
use crate::tls::{self, Tls};

/// An idle gRPC connection is kept this many times as long as one of HTTP: clients keep a channel
/// open between calls.
const GRPC_IDLE_FACTOR: u32 = 10;

impl Node {
    /// Listens, makes the parts, and begins to join in the background.
    pub(super) async fn launch(builder: NodeBuilder) -> Result<Self, StartError> {
        let id = match &builder.id {
            Some(id) => id.clone(),
            None => host_name()?,
        };
        if builder.payload_max > PAYLOAD_LEN_LIMIT {
            return Err(StartError::PayloadMax(builder.payload_max));
        }
        let fence = fence(builder.clock)?;
        let metrics = Metrics::beside(builder.traces.clone(), &builder.exports);
        let (tasks, metrics) = (Tasks::new(), Arc::new(metrics));
        let network = network(&builder, &metrics);
        let accepting = Accepting::default();
        let connections = connections(&builder, &metrics, &accepting);
        let listener = listen(&*network, &builder.listen, &connections).await?;
        let grpc_address = listener.address;
        let grpc = advertised(&builder, grpc_address)?;
        zeros::begin_at_zero(&metrics);
        let view = first_view(&builder);
        follow_certificates(&tasks, &metrics, builder.tls.clone(), &builder.store);
        let storage = builder.storage.clone();
        let (host, router, owner_checks) =
            serving(&builder, &id, &fence, &view, &network, &tasks, &metrics);
        let registration = registration(&builder, id.clone(), grpc, &host);
        registration.check()?;
        let joining = Joining {
            registration,
            store: builder.store,
            keys: Keys::new(&builder.prefix),
            settings: MembershipSettings {
                lease_ttl: builder.lease_ttl,
                replace: builder.replace,
                lock_dir: builder.lock_dir,
            },
            plan_settings: builder.plan_settings.clone(),
        };
        let reach = Arc::new(Reach::new(id.clone()));
        let shared = Shared {
            id,
            gate: builder.weight.is_gate(),
            grpc_address,
            drain_timeout: builder.drain_timeout,
            lease_ttl: builder.lease_ttl,
            health_settings: builder.health,
            host,
            router,
            network,
            view,
            owner_checks,
            storage,
            fence,
            metrics,
            tasks,
            progress: watch::Sender::new(Progress::Waiting("the store".into())),
            taking: OnceLock::new(),
            history: OnceLock::new(),
            lease: watch::Sender::new(None),
            readiness: Mutex::new(Tracker::new(Instant::now())),
            shortfall: Mutex::default(),
            plan_settings: builder.plan_settings,
            limits: Mutex::default(),
            process: ProcessLoad::new(),
            spans: Mutex::default(),
            reports: Mutex::default(),
            loads: watch::Sender::default(),
            arrivals: watch::Sender::default(),
            ask_nodes: Arc::default(),
            health: Mutex::default(),
            reach: watch::Sender::new(reach),
            stopping: watch::Sender::new(Stopping::No),
            draining: watch::Sender::new(None),
            accepting,
            hurry: CancellationToken::new(),
        };
        let node = Self {
            shared: Arc::new(shared),
        };
        let body_timeout = builder.connections.timeouts.body;
        node.serve(listener, connections, builder.routes, body_timeout);
        node.begin(joining);
        Ok(node)
    }

    fn serve(
        &self,
        listener: Listener,
        connections: Connections,
        routes: tonic::service::Routes,
        body_timeout: Duration,
    ) {
        let Shared { tasks, router, .. } = &*self.shared;
        let routes = operator::add_to(routes, Arc::downgrade(&self.shared));
        tasks.spawn("grpc connections", |shutdown| connections.enforce(shutdown));
        tasks.spawn("grpc server", |shutdown| {
            let shutdown = shutdown.cancelled_owned();
            serve(router.clone(), listener, routes, body_timeout, shutdown)
        });
    }

    fn begin(&self, joining: Joining) {
        let Shared { tasks, router, .. } = &*self.shared;
        router.report_from(Arc::new(Reporter(Arc::downgrade(&self.shared))));
        self.shared
            .metrics
            .tell_cluster(Overview(Arc::downgrade(&self.shared)));
        self.shared
            .metrics
            .tell_node(Overview(Arc::downgrade(&self.shared)));
        let following = self.clone();
        tasks.spawn("cluster metrics", |shutdown| {
            follow::follow(following, shutdown)
        });
        let asking = self.clone();
        tasks.spawn("load reports", |shutdown| loads::gather(asking, shutdown));
        let probing = self.clone();
        tasks.spawn("probes", |shutdown| probing::probe_all(probing, shutdown));
        let measured = self.clone();
        tasks.spawn("load windows", |shutdown| {
            loads::end_windows(measured, shutdown)
        });
        let waiting = self.clone();
        tasks.spawn("store limits", |shutdown| {
            store_limits::probe_while_unplanned(waiting, shutdown)
        });
        let storage = self.shared.storage.clone();
        tasks.spawn("storage", |shutdown| look_after(storage, shutdown));
        tasks.spawn("join", |shutdown| self.clone().join(joining, shutdown));
    }
}

/// Polls the storage as long as the node lives. One that has failed makes the node unready; ending
/// it in order is for the process, which can hand over what is in memory.
async fn look_after(
    storage: Arc<dyn Storage>,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        why = storage.failed() => {
            error!(%why, "the storage has failed for good: the node is not ready any more");
            shutdown.cancelled().await;
        }
    }
    Ok(())
}

/// Returns where others reach the node. Its certificate must be good for that.
fn advertised(builder: &NodeBuilder, listening: SocketAddr) -> Result<String, StartError> {
    let grpc = builder.advertise.clone();
    let grpc = grpc.unwrap_or_else(|| listening.to_string());
    if let Some(tls) = &builder.tls {
        tls.serve_as(host(&grpc))?;
    }
    Ok(grpc)
}

/// Makes the host and the router, which know the way to each other.
fn serving(
    builder: &NodeBuilder,
    node: &NodeId,
    fence: &Arc<Fence>,
    view: &Arc<SharedView>,
    network: &Arc<dyn Network>,
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> (Arc<Host>, Arc<Router>, Arc<OwnerChecks>) {
    let owner_checks = Arc::new(OwnerChecks::new(view.clone(), metrics.clone()));
    let host = Host::new(HostSettings {
        node: node.clone(),
        layout: Layout::new(builder.shard_count, builder.regions.clone()),
        fence: fence.clone(),
        storage: builder.storage.clone(),
        registry: builder.registry.clone(),
        payload_max: builder.payload_max,
        budget: budget(builder, metrics),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
    });
    let router = Router::start(RouterSettings {
        node: node.clone(),
        host: host.clone(),
        view: view.subscribe(),
        claims: owner_checks.clone(),
        network: network.clone(),
        tasks: tasks.clone(),
        metrics: metrics.clone(),
        payload_max: builder.payload_max,
    });
    let remote: Arc<dyn RemoteCalls> = router.clone();
    host.connect(&remote);
    (host, router, owner_checks)
}

/// Returns what the node says of itself in the store.
fn registration(builder: &NodeBuilder, node: NodeId, grpc: String, host: &Host) -> Registration {
    Registration {
        node,
        grpc,
        http: builder.http_address.clone(),
        zone: builder.zone.clone(),
        weight: builder.weight,
        labels: builder.labels.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        object_types: host.type_names().into_iter().map(Into::into).collect(),
    }
}

/// Returns what is known of the cluster before the store is reached.
fn first_view(builder: &NodeBuilder) -> Arc<SharedView> {
    Arc::new(SharedView::new(ClusterMeta {
        regions: builder.regions.clone(),
        ..ClusterMeta::new(String::new(), builder.shard_count)
    }))
}

/// Returns how nodes reach each other: with certificates if the node has any.
fn network(builder: &NodeBuilder, metrics: &Metrics) -> Arc<dyn Network> {
    match &builder.tls {
        None => builder.network.clone(),
        Some(tls) => {
            let (inner, metrics) = (builder.network.clone(), metrics.certificates.clone());
            Arc::new(TlsNetwork::new(inner, tls.clone(), metrics))
        }
    }
}

/// Returns the bytes that may be in flight, which the node's metrics show from now on.
fn budget(builder: &NodeBuilder, metrics: &Metrics) -> MemoryBudget {
    let own = || MemoryBudget::new(default_memory_budget(Path::new("/")));
    let budget = builder.budget.clone().unwrap_or_else(own);
    budget.report_to(&metrics.budget);
    budget
}

/// Returns what counts and limits the connections of the gRPC server.
fn connections(builder: &NodeBuilder, metrics: &Metrics, accepting: &Accepting) -> Connections {
    let mut limits = builder.connections;
    limits.timeouts.idle *= GRPC_IDLE_FACTOR;
    let metrics = metrics.connections.clone();
    Connections::new("grpc", limits, metrics, accepting.clone())
}

async fn listen(
    network: &dyn Network,
    address: &str,
    connections: &Connections,
) -> Result<Listener, StartError> {
    let listener = network.listen(address, connections).await;
    listener.map_err(|error| StartError::Listen {
        address: address.to_owned(),
        reason: error.to_string(),
        kind: error.kind(),
    })
}

/// Has the certificates of the node looked at as long as it lives, if it has any.
fn follow_certificates(tasks: &Tasks, metrics: &Metrics, tls: Option<Tls>, store: &StoreChoice) {
    let store = match store {
        StoreChoice::Etcd(settings) => settings.tls.clone(),
        StoreChoice::Embedded | StoreChoice::Given(_) => None,
    };
    if tls.is_some() || store.is_some() {
        let metrics = metrics.certificates.clone();
        tasks.spawn("certificates", |shutdown| {
            tls::follow(tls, store, metrics, shutdown)
        });
    }
}

fn fence(clock: Clock) -> Result<Arc<Fence>, StartError> {
    let fence = Arc::new(Fence::new(clock));
    match clock {
        Clock::Boot => {
            fence
                .watch_over()
                .map_err(|error| StartError::Watchdog(error.to_string()))?;
        }
        Clock::Tokio(_) => {} // No thread can follow a paused clock; every use asks anyway.
    }
    Ok(fence)
}

fn host_name() -> Result<NodeId, StartError> {
    let uname = rustix::system::uname();
    NodeId::new(&uname.nodename().to_string_lossy()).map_err(StartError::HostName)
}
