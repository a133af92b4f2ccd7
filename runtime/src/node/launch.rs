//! Starting a node: listen, make the parts, begin to join.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::follow::{self, Overview};
use super::join::Joining;
use super::loads::{self, ProcessLoad};
use super::readiness::Tracker;
use super::report::Reporter;
use super::{Node, NodeBuilder, Progress, Shared, StartError, Stopping, operator, probing, zeros};
use crate::clock::Clock;
use crate::coordination::SharedView;
use crate::coordination::keys::Keys;
use crate::coordination::membership::{MembershipSettings, Registration};
use crate::fence::Fence;
use crate::ids::{Layout, NodeId};
use crate::object::{Host, HostSettings, RemoteCalls};
use crate::placement::ClusterMeta;
use crate::routing::network::Listener;
use crate::routing::{Router, RouterSettings, serve};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

impl Node {
    /// Listens, makes the parts, and begins to join in the background.
    pub(super) async fn launch(builder: NodeBuilder) -> Result<Self, StartError> {
        let id = match &builder.id {
            Some(id) => id.clone(),
            None => host_name()?,
        };
        let fence = fence(builder.clock)?;
        let listener = listen(&builder).await?;
        let grpc_address = listener.address;

        let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
        zeros::begin_at_zero(&metrics);
        let view = Arc::new(SharedView::new(ClusterMeta {
            cluster_id: String::new(), // Known once the store is reached.
            shard_count: builder.shard_count,
            restore_generation: 0,
            regions: builder.regions.clone(),
        }));
        let host = Host::new(HostSettings {
            node: id.clone(),
            layout: Layout::new(builder.shard_count, builder.regions),
            fence: fence.clone(),
            storage: builder.storage,
            registry: builder.registry,
            payload_max: builder.payload_max,
            tasks: tasks.clone(),
            metrics: metrics.clone(),
        });
        let router = Router::start(RouterSettings {
            node: id.clone(),
            host: host.clone(),
            view: view.subscribe(),
            news: view.clone(),
            network: builder.network.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            payload_max: builder.payload_max,
        });
        let remote: Arc<dyn RemoteCalls> = router.clone();
        host.connect(&remote);

        let joining = Joining {
            store: builder.store,
            keys: Keys::new(&builder.prefix),
            settings: MembershipSettings {
                lease_ttl: builder.lease_ttl,
                replace: builder.replace,
                lock_dir: builder.lock_dir,
            },
            registration: Registration {
                node: id.clone(),
                grpc: builder
                    .advertise
                    .unwrap_or_else(|| grpc_address.to_string()),
                http: builder.http_address,
                zone: builder.zone,
                weight: builder.weight,
                labels: builder.labels,
                version: env!("CARGO_PKG_VERSION").into(),
                object_types: host.type_names().into_iter().map(Into::into).collect(),
            },
            plan_settings: builder.plan_settings,
        };
        let shared = Shared {
            id,
            gate: builder.weight.is_gate(),
            grpc_address,
            drain_timeout: builder.drain_timeout,
            host,
            router,
            network: builder.network,
            view,
            fence,
            metrics,
            tasks,
            progress: watch::Sender::new(Progress::Waiting("the store".into())),
            taking: OnceLock::new(),
            lease: watch::Sender::new(None),
            readiness: Mutex::new(Tracker::new(Instant::now())),
            process: ProcessLoad::new(),
            spans: Mutex::default(),
            reports: Mutex::default(),
            loads: watch::Sender::default(),
            arrivals: watch::Sender::default(),
            ask_nodes: Arc::default(),
            health: Mutex::default(),
            health_settings: builder.health,
            stopping: watch::Sender::new(Stopping::No),
            draining: watch::Sender::new(None),
            hurry: CancellationToken::new(),
        };
        let node = Self {
            shared: Arc::new(shared),
        };
        node.begin(listener, builder.routes, joining);
        Ok(node)
    }

    fn begin(&self, listener: Listener, routes: tonic::service::Routes, joining: Joining) {
        let Shared { tasks, router, .. } = &*self.shared;
        router.report_from(Arc::new(Reporter(Arc::downgrade(&self.shared))));
        self.shared
            .metrics
            .tell_cluster(Overview(Arc::downgrade(&self.shared)));
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
        let routes = operator::add_to(routes, Arc::downgrade(&self.shared));
        tasks.spawn("grpc server", |shutdown| {
            serve(router.clone(), listener, routes, shutdown.cancelled_owned())
        });
        tasks.spawn("join", |shutdown| self.clone().join(joining, shutdown));
    }
}

async fn listen(builder: &NodeBuilder) -> Result<Listener, StartError> {
    builder
        .network
        .listen(&builder.listen)
        .await
        .map_err(|error| StartError::Listen {
            address: builder.listen.clone(),
            reason: error.to_string(),
            kind: error.kind(),
        })
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
