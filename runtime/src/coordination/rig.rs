//! Nodes for tests of this folder: the memory store, paused time, and a host that keeps watch.
//!
//! Membership is played by the test itself, so that lives begin and end when it says.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::keys::{self, Keys};
use super::leader::{Leader, LeaderParts};
use super::membership::{Identity, MembershipState};
use super::reconciler::{
    Closing, Reconciler, ReconcilerHandle, ReconcilerParts, SendError, Sent, ShardHost,
};
use super::store::{Listing, Op, Store, Txn, TxnReply};
use super::watcher::{WatchState, Watcher, WatcherParts};
use super::{MemoryStore, Rights, SharedView};
use crate::clock::Clock;
use crate::fence::Fence;
use crate::ids::{
    Incarnation, LeaseId, NodeId, ObjectKey, Revision, ShardCount, ShardId, Term, Token,
};
use crate::placement::planner::PlanSettings;
use crate::placement::{
    ClusterMeta, ClusterView, NodeRecord, NodeState, Owner, OwnerRecord, Parcel, Target, Weight,
};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// Far above every expected time; paused time makes it cheap.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A store and what all nodes of a test have in common.
#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) store: MemoryStore,
    pub(super) keys: Keys,
    pub(super) count: ShardCount,
    pub(super) clock: Clock,
    open: Arc<Mutex<BTreeMap<ShardId, NodeId>>>,
}

/// Which tasks a node of a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    Everything,
    LeaderOnly,
    ReconcilerOnly,
    /// The view stays as it is, but for what the reconciler itself learns.
    BlindReconciler,
}

#[derive(Debug)]
pub(super) struct TestNode {
    pub(super) id: NodeId,
    pub(super) client: MemoryStore,
    pub(super) view: Arc<SharedView>,
    pub(super) fence: Arc<Fence>,
    pub(super) membership: watch::Sender<MembershipState>,
    pub(super) host: Arc<FakeHost>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) tasks: Tasks,
    pub(super) watching: watch::Receiver<WatchState>,
    pub(super) reconciler: ReconcilerHandle,
    rig: Rig,
    record: NodeRecord,
    pub(super) identity: Identity,
}

impl Rig {
    pub(super) fn new(shards: u32) -> Self {
        Self {
            store: MemoryStore::new(),
            keys: Keys::new("/t/"),
            count: ShardCount::new(shards).expect("a power of two"),
            clock: Clock::tokio(),
            open: Arc::default(),
        }
    }

    pub(super) fn meta(&self) -> ClusterMeta {
        ClusterMeta {
            cluster_id: "test".into(),
            shard_count: self.count,
            restore_generation: 0,
            regions: crate::ids::Regions::default(),
        }
    }

    /// Registers a node and starts its tasks.
    pub(super) async fn join(&self, name: &str, runs: Runs) -> TestNode {
        self.join_as(name, runs, NodeState::Active, Weight::ONE)
            .await
    }

    pub(super) async fn join_as(
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
        let view = Arc::new(SharedView::new(self.meta()));
        let metrics = Arc::new(Metrics::new());
        let tasks = Tasks::new();
        let host = Arc::new(FakeHost::new(id.clone(), self.open.clone()));
        let rights = Rights::new(membership.subscribe(), fence.clone());
        let store: Arc<dyn Store> = Arc::new(client.clone());
        let (watcher, watching) = Watcher::new(WatcherParts {
            store: store.clone(),
            keys: self.keys.clone(),
            view: view.clone(),
            metrics: metrics.clone(),
        });
        let leader = Leader::new(LeaderParts {
            store: store.clone(),
            keys: self.keys.clone(),
            view: view.clone(),
            rights: rights.clone(),
            clock: self.clock,
            settings: PlanSettings::default(),
            metrics: metrics.clone(),
        });
        let (reconciler, handle) = Reconciler::new(ReconcilerParts {
            store,
            keys: self.keys.clone(),
            view: view.clone(),
            rights,
            host: host.clone(),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            drain_timeout: DRAIN_TIMEOUT,
        });
        let (watches, leads, reconciles) = match runs {
            Runs::Everything => (true, true, true),
            Runs::LeaderOnly => (true, true, false),
            Runs::ReconcilerOnly => (true, false, true),
            Runs::BlindReconciler => (false, false, true),
        };
        if watches {
            tasks.spawn("watcher", |shutdown| watcher.run(shutdown));
        }
        if leads {
            tasks.spawn("leader", |shutdown| leader.run(shutdown));
        }
        if reconciles {
            tasks.spawn("reconciler", |shutdown| reconciler.run(shutdown));
        }
        TestNode {
            id,
            client,
            view,
            fence,
            membership,
            host,
            metrics,
            tasks,
            watching,
            reconciler: handle,
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
        Identity {
            node: id.clone(),
            incarnation: record.incarnation,
            lease,
        }
    }

    pub(super) async fn put(&self, key: String, value: Vec<u8>) -> TxnReply {
        self.put_leased(key, value, None).await
    }

    async fn put_leased(&self, key: String, value: Vec<u8>, lease: Option<LeaseId>) -> TxnReply {
        let then = vec![Op::Put { key, value, lease }];
        self.run(then).await
    }

    pub(super) async fn run(&self, then: Vec<Op>) -> TxnReply {
        let txn = Txn {
            then,
            ..Txn::default()
        };
        self.store.commit(txn).await.expect("no faults here")
    }

    /// Writes targets as a leader would; `target` says whose each shard should be.
    pub(super) async fn aim(&self, target: impl Fn(u32) -> Option<&'static str>) {
        self.aim_as(|shard| Target {
            node: target(shard).map(node),
            ..Target::default()
        })
        .await;
    }

    pub(super) async fn aim_as(&self, target: impl Fn(u32) -> Target) {
        let len = self.count.block_len();
        let blocks = (0..self.count.blocks()).map(|block| {
            let shards = block * len..(block + 1) * len;
            let targets: Vec<Target> = shards.map(&target).collect();
            Op::Put {
                key: self.keys.target(block),
                value: keys::encode_targets(&targets, 1),
                lease: None,
            }
        });
        self.run(blocks.collect()).await;
    }

    /// Writes an owner key by hand.
    pub(super) async fn own(&self, shard: u32, owner: &Owner) -> Revision {
        let key = self.keys.owner(self.shard(shard));
        self.put(key, keys::encode_owner(owner, None))
            .await
            .revision
    }

    pub(super) fn shard(&self, shard: u32) -> ShardId {
        ShardId::new(shard, self.count).expect("in range")
    }

    pub(super) async fn list(&self) -> Listing {
        self.store
            .list(self.keys.prefix())
            .await
            .expect("no faults here")
    }

    /// Returns who owns each shard by the store, without regard to lives.
    pub(super) async fn owners(&self) -> BTreeMap<u32, String> {
        let owners = self
            .store
            .list(&self.keys.owners())
            .await
            .expect("no faults here");
        let owners = owners.entries.iter().map(|entry| {
            let shard = entry
                .key
                .rsplit('/')
                .next()
                .and_then(|shard| shard.parse().ok());
            let OwnerRecord { owner, .. } = keys::decode_owner(entry).expect("readable");
            (
                shard.expect("a number"),
                owner.expect("an owner").node.to_string(),
            )
        });
        owners.collect()
    }

    pub(super) async fn term(&self) -> Option<Term> {
        let listing = self.list().await;
        let key = self.keys.leader();
        let entry = listing.entries.iter().find(|entry| entry.key == key)?;
        Some(Term::new(entry.create_revision.get()))
    }

    pub(super) async fn revision(&self) -> u64 {
        self.list().await.revision.get()
    }
}

impl TestNode {
    /// Waits until the node's view is as wanted.
    #[track_caller]
    pub(super) fn sees(
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
    pub(super) async fn has_open(&self, shards: impl IntoIterator<Item = u32>) {
        let wanted: BTreeSet<u32> = shards.into_iter().collect();
        let mut changes = self.host.changes.subscribe();
        let reached = changes.wait_for(|_| self.host.open_shards() == wanted);
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        let (id, open) = (&self.id, self.host.open_shards());
        assert!(in_time, "{id} never had {wanted:?} open, but {open:?}");
    }

    pub(super) fn owner(&self) -> Owner {
        Owner {
            node: self.identity.node.clone(),
            incarnation: self.identity.incarnation,
        }
    }

    /// Says another state of this life.
    pub(super) async fn say(&mut self, state: NodeState) {
        self.record.state = state;
        let value = keys::encode_node(&self.record);
        let (key, lease) = (self.rig.keys.node(&self.id), self.identity.lease);
        self.rig.put_leased(key, value, Some(lease)).await;
    }

    /// Ends the life as a crash and the end of its lease do.
    pub(super) async fn crash(&self) {
        self.tasks.stop(Duration::from_secs(1)).await;
        self.host.crash();
        self.rig
            .store
            .revoke(self.identity.lease)
            .await
            .expect("no faults here");
    }

    /// Loses the lease; the process lives on.
    pub(super) async fn lose_lease(&self) {
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
    pub(super) async fn rejoin(&mut self) {
        self.identity = self.rig.register(&self.id, &mut self.record).await;
        self.fence
            .open(self.rig.clock.now().plus(Duration::from_secs(1_000_000)));
        self.membership
            .send_replace(MembershipState::Active(self.identity.clone()));
    }

    pub(super) fn suspend(&self) {
        self.fence.close();
        self.membership
            .send_replace(MembershipState::Suspended(self.identity.clone()));
    }

    pub(super) fn resume(&self) {
        self.fence
            .open(self.rig.clock.now().plus(Duration::from_secs(1_000_000)));
        self.membership
            .send_replace(MembershipState::Active(self.identity.clone()));
    }

    pub(super) fn batches(&self, step: &'static str, outcome: &'static str) -> u64 {
        let labels = crate::telemetry::BatchLabels { step, outcome };
        self.metrics
            .coordination
            .batches
            .get_or_create(&labels)
            .get()
    }
}

/// Returns what a node says of itself.
pub(super) fn registered(node: &TestNode) -> NodeRecord {
    node.record.clone()
}

/// Lets everything that can happen now happen.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn record(state: NodeState, weight: Weight) -> NodeRecord {
    NodeRecord {
        incarnation: Incarnation::new(0),
        lease: LeaseId::new(0),
        grpc: "127.0.0.1:1".into(),
        http: None,
        zone: None,
        weight,
        labels: BTreeMap::new(),
        version: "0".into(),
        object_types: Vec::new(),
        state,
        boot_id: "b".into(),
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

/// A host without objects. Panics if a shard is opened while another node has it open.
pub(super) struct FakeHost {
    id: NodeId,
    everywhere: Arc<Mutex<BTreeMap<ShardId, NodeId>>>,
    state: Mutex<HostState>,
    pub(super) changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct HostState {
    open: BTreeMap<ShardId, Token>,
    /// Shards whose turns do not end.
    stuck: BTreeSet<ShardId>,
    slow: Duration,
    history: Vec<String>,
}

impl FakeHost {
    fn new(id: NodeId, everywhere: Arc<Mutex<BTreeMap<ShardId, NodeId>>>) -> Self {
        Self {
            id,
            everywhere,
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }

    pub(super) fn open_shards(&self) -> BTreeSet<u32> {
        self.state
            .lock()
            .open
            .keys()
            .map(|shard| shard.get())
            .collect()
    }

    pub(super) fn token(&self, shard: ShardId) -> Option<Token> {
        self.state.lock().open.get(&shard).copied()
    }

    /// Returns what happened, as `open 3`, `close 3`, `closed 3`, `overdue 3`, `discard 3`.
    pub(super) fn history(&self) -> Vec<String> {
        self.state.lock().history.clone()
    }

    pub(super) fn closings_take(&self, slow: Duration) {
        self.state.lock().slow = slow;
    }

    pub(super) fn stick(&self, shard: ShardId, stuck: bool) {
        let mut state = self.state.lock();
        if stuck {
            state.stuck.insert(shard);
        } else {
            state.stuck.remove(&shard);
        }
    }

    /// Forgets everything, as the end of the process does.
    fn crash(&self) {
        for shard in std::mem::take(&mut self.state.lock().open).into_keys() {
            self.everywhere.lock().remove(&shard);
        }
        self.note(String::new());
    }

    fn shut(&self, shard: ShardId) {
        if self.state.lock().open.remove(&shard).is_some() {
            self.everywhere.lock().remove(&shard);
        }
    }

    fn note(&self, what: String) {
        self.state.lock().history.push(what);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

#[async_trait]
impl ShardHost for FakeHost {
    fn open(&self, shard: ShardId, token: Token, _: Option<Parcel>) {
        let other = self.everywhere.lock().insert(shard, self.id.clone());
        assert!(
            other.as_ref().is_none_or(|other| *other == self.id),
            "shard {shard} is open at {other:?} and opens at {}",
            self.id
        );
        self.state.lock().open.insert(shard, token);
        self.note(format!("open {shard}"));
    }

    async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        self.note(format!("close {shard}"));
        let slow = self.state.lock().slow;
        tokio::time::sleep(slow.min(limit)).await;
        if self.state.lock().stuck.contains(&shard) {
            tokio::time::sleep(limit.saturating_sub(slow)).await;
            self.note(format!("overdue {shard}"));
            let object = ObjectKey::new("Sleeper", "s").expect("a good key");
            return Closing::Overdue(vec![(object, "sleep".into())]);
        }
        self.shut(shard);
        self.note(format!("closed {shard}"));
        Closing::Closed
    }

    async fn send_ahead(
        &self,
        _: ShardId,
        _: &Owner,
        _: Parcel,
        _: Duration,
    ) -> Result<Sent, SendError> {
        Ok(Sent::Nothing)
    }

    async fn end(&self, shard: ShardId, _: Duration) {
        self.note(format!("end {shard}"));
    }

    fn let_go(&self, shard: ShardId) {
        self.note(format!("let go {shard}"));
    }

    fn discard(&self, shard: ShardId) {
        self.shut(shard);
        self.note(format!("discard {shard}"));
    }
}

impl fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHost")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
