//! Nodes of a test, with real tasks: the view, the leader, the reconciler.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::host::FakeHost;
use super::{Rig, node};
use crate::coordination::leader::{Leader, LeaderHandle, LeaderParts};
use crate::coordination::membership::{Identity, MembershipState};
use crate::coordination::reconciler::{Reconciler, ReconcilerHandle, ReconcilerParts};
use crate::coordination::store::Store;
use crate::coordination::watcher::{WatchState, Watcher, WatcherParts};
use crate::coordination::{MemoryStore, Rights, SharedView, keys};
use crate::fence::Fence;
use crate::ids::{Incarnation, NodeId};
use crate::placement::planner::PlanSettings;
use crate::placement::{ClusterView, NodeRecord, NodeState, Owner, Weight};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Far above every expected time; paused time makes it cheap.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Which tasks a node of a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    Everything,
    LeaderOnly,
    ReconcilerOnly,
    /// The view stays as it is, but for what the reconciler itself learns.
    BlindReconciler,
}

#[derive(Debug)]
pub(crate) struct TestNode {
    pub(crate) id: NodeId,
    pub(crate) client: MemoryStore,
    pub(crate) view: Arc<SharedView>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) membership: watch::Sender<MembershipState>,
    pub(crate) host: Arc<FakeHost>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    pub(crate) watching: watch::Receiver<WatchState>,
    pub(crate) reconciler: ReconcilerHandle,
    pub(crate) leader: LeaderHandle,
    rig: Rig,
    record: NodeRecord,
    pub(crate) identity: Identity,
}

/// What all tasks of a node work with.
struct Common {
    store: Arc<dyn Store>,
    view: Arc<SharedView>,
    rights: Rights,
    metrics: Arc<Metrics>,
}

impl Rig {
    /// Registers a node and starts its tasks.
    pub(crate) async fn join(&self, name: &str, runs: Runs) -> TestNode {
        self.join_as(name, runs, NodeState::Active, Weight::ONE)
            .await
    }

    pub(crate) async fn join_as(
        &self,
        name: &str,
        runs: Runs,
        state: NodeState,
        weight: Weight,
    ) -> TestNode {
        let client = self.store.client();
        let id = node(name);
        let mut record = record(state, weight);
        let identity = self.register(&id, &mut record).await;
        let fence = Arc::new(Fence::new(self.clock));
        fence.open(self.clock.now().plus(Duration::from_secs(1_000_000)));
        let membership = watch::Sender::new(MembershipState::Active(identity.clone()));
        let host = Arc::new(FakeHost::new(id.clone(), self.hosts.clone()));
        let tasks = Tasks::new();
        let common = Common {
            store: Arc::new(client.clone()),
            view: Arc::new(SharedView::new(self.meta())),
            rights: Rights::new(membership.subscribe(), fence.clone()),
            metrics: Arc::new(Metrics::new()),
        };
        let (watcher, watching) = Watcher::new(common.watcher_parts(self));
        let (leader, leader_handle) = Leader::new(common.leader_parts(self));
        let parts = common.reconciler_parts(self, host.clone(), tasks.clone());
        let (reconciler, handle) = Reconciler::new(parts);
        runs.start(&tasks, watcher, leader, reconciler);
        TestNode {
            id,
            client,
            view: common.view,
            fence,
            membership,
            host,
            metrics: common.metrics,
            tasks,
            watching,
            reconciler: handle,
            leader: leader_handle,
            rig: self.clone(),
            record,
            identity,
        }
    }

    async fn register(&self, id: &NodeId, record: &mut NodeRecord) -> Identity {
        let lease = self
            .store
            .grant(Duration::from_secs(1_000_000))
            .await
            .expect("a lease");
        record.lease = lease;
        let reply = self
            .put_leased(self.keys.node(id), keys::encode_node(record), Some(lease))
            .await;
        record.incarnation = Incarnation::new(reply.revision.get());
        let mut hosts = self.hosts.lock();
        hosts.lives.insert(id.clone(), record.incarnation);
        Identity {
            node: id.clone(),
            incarnation: record.incarnation,
            lease,
        }
    }
}

impl Common {
    fn watcher_parts(&self, rig: &Rig) -> WatcherParts {
        WatcherParts {
            store: self.store.clone(),
            keys: rig.keys.clone(),
            view: self.view.clone(),
            metrics: self.metrics.clone(),
        }
    }

    fn leader_parts(&self, rig: &Rig) -> LeaderParts {
        LeaderParts {
            store: self.store.clone(),
            keys: rig.keys.clone(),
            view: self.view.clone(),
            rights: self.rights.clone(),
            clock: rig.clock,
            settings: PlanSettings::default(),
            loads: watch::Sender::default().subscribe(),
            arrivals: watch::Sender::default().subscribe(),
            ask_nodes: Arc::default(),
            reach: None,
            metrics: self.metrics.clone(),
        }
    }

    fn reconciler_parts(&self, rig: &Rig, host: Arc<FakeHost>, tasks: Tasks) -> ReconcilerParts {
        ReconcilerParts {
            store: self.store.clone(),
            keys: rig.keys.clone(),
            view: self.view.clone(),
            rights: self.rights.clone(),
            host,
            tasks,
            metrics: self.metrics.clone(),
            rng: StdRng::seed_from_u64(0),
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}

impl Runs {
    /// Starts those tasks that are to run, and drops the others.
    fn start(self, tasks: &Tasks, watcher: Watcher, mut leader: Leader, reconciler: Reconciler) {
        let (watches, leads, reconciles) = match self {
            Self::Everything => (true, true, true),
            Self::LeaderOnly => (true, true, false),
            Self::ReconcilerOnly => (true, false, true),
            Self::BlindReconciler => (false, false, true),
        };
        if watches {
            tasks.spawn("watcher", |shutdown| watcher.run(shutdown));
        }
        if leads {
            tasks.spawn(
                "leader",
                |shutdown| async move { leader.run(shutdown).await },
            );
        }
        if reconciles {
            tasks.spawn("reconciler", |shutdown| reconciler.run(shutdown));
        }
    }
}

impl TestNode {
    /// Waits until the node's view is as wanted.
    #[track_caller]
    pub(crate) fn sees(
        &self,
        goal: &'static str,
        ready: impl Fn(&ClusterView) -> bool,
    ) -> impl Future<Output = ()> {
        let mut views = self.view.subscribe();
        let id = self.id.clone();
        async move {
            let reached = views.wait_for(|view| ready(view));
            let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
            assert!(
                in_time,
                "{id} never saw: {goal}; owners: {:?}",
                owners_of(&views.borrow())
            );
        }
    }

    /// Waits until the node has exactly these shards open.
    pub(crate) async fn has_open(&self, shards: impl IntoIterator<Item = u32>) {
        let wanted: BTreeSet<u32> = shards.into_iter().collect();
        let mut changes = self.host.changes.subscribe();
        let reached = changes.wait_for(|_| self.host.open_shards() == wanted);
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        let (id, open) = (&self.id, self.host.open_shards());
        assert!(in_time, "{id} never had {wanted:?} open, but {open:?}");
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner {
            node: self.identity.node.clone(),
            incarnation: self.identity.incarnation,
        }
    }

    /// Says another state of this life.
    pub(crate) async fn say(&mut self, state: NodeState) {
        self.record.state = state;
        let value = keys::encode_node(&self.record);
        let (key, lease) = (self.rig.keys.node(&self.id), self.identity.lease);
        self.rig.put_leased(key, value, Some(lease)).await;
    }

    /// Ends the life as a crash and the end of its lease do.
    pub(crate) async fn crash(&self) {
        self.tasks.stop(Duration::from_secs(1)).await;
        self.host.crash();
        self.rig
            .store
            .revoke(self.identity.lease)
            .await
            .expect("no faults here");
    }

    /// Loses the lease; the process lives on.
    pub(crate) async fn lose_lease(&self) {
        self.fence.close();
        self.host.crash();
        self.membership.send_replace(MembershipState::Lost);
        self.rig
            .store
            .revoke(self.identity.lease)
            .await
            .expect("no faults here");
    }

    /// Begins another life of the same process.
    pub(crate) async fn rejoin(&mut self) {
        self.identity = self.rig.register(&self.id, &mut self.record).await;
        self.fence
            .open(self.rig.clock.now().plus(Duration::from_secs(1_000_000)));
        self.membership
            .send_replace(MembershipState::Active(self.identity.clone()));
    }

    pub(crate) fn suspend(&self) {
        self.fence.close();
        self.membership
            .send_replace(MembershipState::Suspended(self.identity.clone()));
    }

    pub(crate) fn resume(&self) {
        self.fence
            .open(self.rig.clock.now().plus(Duration::from_secs(1_000_000)));
        self.membership
            .send_replace(MembershipState::Active(self.identity.clone()));
    }

    pub(crate) fn batches(&self, step: &'static str, outcome: &'static str) -> u64 {
        let labels = crate::telemetry::BatchLabels { step, outcome };
        self.metrics
            .coordination
            .batches
            .get_or_create(&labels)
            .get()
    }
}

/// Returns what a node says of itself.
pub(crate) fn registered(node: &TestNode) -> NodeRecord {
    node.record.clone()
}

fn record(state: NodeState, weight: Weight) -> NodeRecord {
    NodeRecord {
        grpc: "127.0.0.1:1".into(),
        weight,
        state,
        ..NodeRecord::of(Incarnation::new(0))
    }
}

fn owners_of(view: &ClusterView) -> Vec<String> {
    let owners = view.owners.iter();
    let named = owners.filter_map(|(shard, record)| {
        let owner = record.owner.as_ref()?;
        Some(format!("{shard}:{}", owner.node))
    });
    named.collect()
}
