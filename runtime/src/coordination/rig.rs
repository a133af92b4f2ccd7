//! Nodes for tests of this folder: the memory store, paused time, and hosts that keep watch.
//!
//! Membership is played by the test itself, so that lives begin and end when it says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::keys::{self, Keys};
use super::leader::{Leader, LeaderHandle, LeaderParts};
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
    hosts: Arc<Mutex<Hosts>>,
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
    pub(super) leader: LeaderHandle,
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
            hosts: Arc::default(),
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
        let host = Arc::new(FakeHost::new(id.clone(), self.hosts.clone()));
        let rights = Rights::new(membership.subscribe(), fence.clone());
        let store: Arc<dyn Store> = Arc::new(client.clone());
        let (watcher, watching) = Watcher::new(WatcherParts {
            store: store.clone(),
            keys: self.keys.clone(),
            view: view.clone(),
            metrics: metrics.clone(),
        });
        let (leader, leader_handle) = Leader::new(LeaderParts {
            store: store.clone(),
            keys: self.keys.clone(),
            view: view.clone(),
            rights: rights.clone(),
            clock: self.clock,
            settings: PlanSettings::default(),
            loads: watch::Sender::default().subscribe(),
            arrivals: watch::Sender::default().subscribe(),
            ask_nodes: Arc::default(),
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
                value: keys::encode_targets(&targets),
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

/// What the hosts of a test have in common: where each shard is open, and the states that travel.
#[derive(Debug, Default)]
struct Hosts {
    open: BTreeMap<ShardId, NodeId>,
    /// The present life of each process.
    lives: BTreeMap<NodeId, Incarnation>,
    /// What each host was sent and did not take in yet.
    staged: BTreeMap<(NodeId, ShardId), (Parcel, u64)>,
    taken: BTreeSet<(ShardId, Parcel)>,
    /// The calls that each shard has answered, which its state counts.
    answered: BTreeMap<ShardId, u64>,
    /// The states that objects saved at their end.
    saved: BTreeMap<ShardId, u64>,
    /// Shards whose state a crash or a lost lease may have taken along.
    endangered: BTreeSet<ShardId>,
}

/// A host with one object a shard, which counts its calls. Panics if a shard is opened while
/// another node has it open, if a parcel is taken in twice or is not there, and if the state of an
/// object is lost without a crash.
pub(super) struct FakeHost {
    id: NodeId,
    hosts: Arc<Mutex<Hosts>>,
    state: Mutex<HostState>,
    pub(super) changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct HostState {
    open: BTreeMap<ShardId, Token>,
    /// The states of the objects, also of closed shards.
    objects: BTreeMap<ShardId, u64>,
    /// Shards whose turns do not end.
    stuck: BTreeSet<ShardId>,
    slow: Duration,
    slow_sending: Duration,
    slow_ending: Duration,
    send_errors: VecDeque<SendError>,
    most_closed: usize,
    closed: BTreeSet<ShardId>,
    history: Vec<String>,
}

impl FakeHost {
    fn new(id: NodeId, hosts: Arc<Mutex<Hosts>>) -> Self {
        Self {
            id,
            hosts,
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

    /// Returns what happened, as `open 3`, `close 3`, `closed 3`, `overdue 3`, `send 3 to b`,
    /// `unsent 3`, `end 3`, `let go 3`, `discard 3`.
    pub(super) fn history(&self) -> Vec<String> {
        self.state.lock().history.clone()
    }

    /// Returns the most shards that were closed here at the same time.
    pub(super) fn most_closed(&self) -> usize {
        self.state.lock().most_closed
    }

    pub(super) fn closings_take(&self, slow: Duration) {
        self.state.lock().slow = slow;
    }

    pub(super) fn sendings_take(&self, slow: Duration) {
        self.state.lock().slow_sending = slow;
    }

    pub(super) fn endings_take(&self, slow: Duration) {
        self.state.lock().slow_ending = slow;
    }

    /// Lets the next sending fail, after those which are to fail already.
    pub(super) fn fail_sending(&self, error: SendError) {
        self.state.lock().send_errors.push_back(error);
    }

    pub(super) fn stick(&self, shard: ShardId, stuck: bool) {
        let mut state = self.state.lock();
        if stuck {
            state.stuck.insert(shard);
        } else {
            state.stuck.remove(&shard);
        }
    }

    /// Calls the object of a shard, if that is open here.
    pub(super) fn call(&self, shard: ShardId) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if !state.open.contains_key(&shard) {
            return;
        }
        let counted = state.objects.entry(shard).or_default();
        *counted += 1;
        hosts.answered.insert(shard, *counted);
        hosts.endangered.remove(&shard);
    }

    /// Calls the object of every open shard once.
    pub(super) fn call_all(&self) {
        let open: Vec<ShardId> = self.state.lock().open.keys().copied().collect();
        for shard in open {
            self.call(shard);
        }
    }

    /// Lets the state of a shard be lost without a panic.
    pub(super) fn endanger(&self, shard: ShardId) {
        self.hosts.lock().endangered.insert(shard);
    }

    /// Returns how many calls the object of a shard has counted, wherever it counted them.
    pub(super) fn counted(&self, shard: ShardId) -> Option<u64> {
        self.state.lock().objects.get(&shard).copied()
    }

    /// Forgets everything, as the end of the process does.
    fn crash(&self) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        hosts.lives.remove(&self.id);
        hosts.open.retain(|_, node| *node != self.id);
        let staged = hosts.staged.keys().filter(|(node, _)| *node == self.id);
        let staged: Vec<ShardId> = staged.map(|(_, shard)| *shard).collect();
        hosts.endangered.extend(staged);
        hosts.endangered.extend(state.objects.keys());
        hosts.staged.retain(|(node, _), _| *node != self.id);
        state.open.clear();
        state.objects.clear();
        state.closed.clear();
        drop((hosts, state));
        self.note(String::new());
    }

    fn shut(&self, shard: ShardId) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if state.open.remove(&shard).is_some() {
            hosts.open.remove(&shard);
        }
    }

    /// Returns the state that a shard begins with which has no objects here.
    fn take_in(&self, hosts: &mut Hosts, shard: ShardId, parcel: Option<Parcel>) -> Option<u64> {
        let staged = hosts.staged.remove(&(self.id.clone(), shard));
        let Some(parcel) = parcel else {
            return hosts.saved.get(&shard).copied();
        };
        assert!(
            hosts.taken.insert((shard, parcel)),
            "{parcel:?} of {shard} is taken in twice"
        );
        let found = staged.filter(|(name, _)| *name == parcel);
        assert!(
            found.is_some() || hosts.endangered.contains(&shard),
            "{} never got {parcel:?} of {shard}, but {staged:?}",
            self.id
        );
        found.map(|(_, counted)| counted)
    }

    fn note(&self, what: String) {
        let mut state = self.state.lock();
        state.history.push(what);
        state.most_closed = state.most_closed.max(state.closed.len());
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

#[async_trait]
impl ShardHost for FakeHost {
    fn open(&self, shard: ShardId, token: Token, parcel: Option<Parcel>) {
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        let other = hosts.open.insert(shard, self.id.clone());
        assert!(
            other.as_ref().is_none_or(|other| *other == self.id),
            "shard {shard} is open at {other:?} and opens at {}",
            self.id
        );
        let kept = state.objects.get(&shard).copied();
        let counted = kept.or_else(|| self.take_in(&mut hosts, shard, parcel));
        let answered = hosts.answered.get(&shard).copied();
        assert!(
            counted == answered || hosts.endangered.contains(&shard),
            "{shard} has answered {answered:?} calls and its state at {} counts {counted:?}",
            self.id
        );
        if let Some(counted) = counted {
            state.objects.insert(shard, counted);
        }
        state.open.insert(shard, token);
        state.closed.remove(&shard);
        drop((hosts, state));
        self.note(format!("open {shard}"));
    }

    async fn close(&self, shard: ShardId, limit: Duration) -> Closing {
        self.note(format!("close {shard}"));
        let token = self.token(shard);
        let slow = self.state.lock().slow;
        tokio::time::sleep(slow.min(limit)).await;
        if self.state.lock().stuck.contains(&shard) {
            tokio::time::sleep(limit.saturating_sub(slow)).await;
            self.note(format!("overdue {shard}"));
            let object = ObjectKey::new("Sleeper", "s").expect("a good key");
            return Closing::Overdue(vec![(object, "sleep".into())]);
        }
        if token.is_some() && self.token(shard) == token {
            self.shut(shard);
            self.state.lock().closed.insert(shard);
            self.note(format!("closed {shard}"));
        }
        Closing::Closed
    }

    async fn send_ahead(
        &self,
        shard: ShardId,
        to: &Owner,
        parcel: Parcel,
        limit: Duration,
    ) -> Result<Sent, SendError> {
        self.note(format!("send {shard} to {}", to.node));
        let slow = self.state.lock().slow_sending;
        if tokio::time::timeout(limit, tokio::time::sleep(slow))
            .await
            .is_err()
        {
            return Err(SendError::Late);
        }
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if let Some(error) = state.send_errors.pop_front() {
            state.history.push(format!("unsent {shard}"));
            return Err(error);
        }
        if hosts.lives.get(&to.node) != Some(&to.incarnation) {
            state.history.push(format!("unsent {shard}"));
            return Err(SendError::Unreachable(to.node.clone(), "gone".into()));
        }
        let Some(counted) = state.objects.get(&shard) else {
            return Ok(Sent::Nothing);
        };
        let place = (to.node.clone(), shard);
        hosts.staged.insert(place, (parcel, *counted));
        Ok(Sent::Staged)
    }

    async fn end(&self, shard: ShardId, _: Duration) {
        let slow = self.state.lock().slow_ending;
        tokio::time::sleep(slow).await; // Also beyond the limit, as a bad host may.
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        if let Some(counted) = state.objects.remove(&shard) {
            hosts.saved.insert(shard, counted);
        }
        drop((hosts, state));
        self.note(format!("end {shard}"));
    }

    fn let_go(&self, shard: ShardId) {
        let mut state = self.state.lock();
        state.objects.remove(&shard);
        state.closed.remove(&shard);
        drop(state);
        self.note(format!("let go {shard}"));
    }

    fn discard(&self, shard: ShardId) {
        self.shut(shard);
        let (mut hosts, mut state) = (self.hosts.lock(), self.state.lock());
        state.closed.remove(&shard);
        if state.objects.remove(&shard).is_some() {
            hosts.endangered.insert(shard);
        }
        drop((hosts, state));
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
