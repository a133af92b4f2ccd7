//! The protocol against the memory store on a paused clock, step by step and fault by fault.

mod joining;
mod leaving;
mod living;
mod losing;
mod scripted;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use self::scripted::Scripted;
use super::*;
use crate::Tasks;
use crate::clock::Clock;
use crate::coordination::MemoryStore;
use crate::coordination::keys::{decode_node, encode_node};
use crate::coordination::store::{Entry, Op, Txn};
use crate::ids::{Incarnation, ShardCount};
use crate::placement::{ClusterMeta, NodeRecord, Weight};

const TTL: Duration = Duration::from_secs(5);
const SERVING: Duration = Duration::from_millis(4_500);

/// A node named `n` whose membership runs against a scripted store.
struct Rig {
    /// The store, as the node reaches it.
    store: Scripted,
    /// The same store, as others reach it.
    others: MemoryStore,
    keys: Keys,
    fence: Arc<Fence>,
    view: Arc<SharedView>,
    metrics: Arc<Metrics>,
    membership: Membership,
    node: Arc<FakeNode>,
    tasks: Tasks,
    running: Option<JoinHandle<Result<(), JoinError>>>,
}

/// What is around the membership.
struct FakeNode {
    membership: Membership,
    fence: Arc<Fence>,
    /// Whether a process answers at every address.
    answers: AtomicBool,
    /// For each time that everything was dropped: whether the fence was open, and the state.
    discards: Mutex<Vec<(bool, MembershipState)>>,
}

#[async_trait]
impl NodePort for FakeNode {
    async fn answers(&self, _node: &NodeId, _address: &str) -> bool {
        self.answers.load(Ordering::SeqCst)
    }

    fn discard_all(&self) {
        let seen = (self.fence.is_open(), self.membership.state());
        self.discards.lock().push(seen);
    }
}

impl Rig {
    fn new() -> Self {
        Self::with(MembershipSettings::default(), &MemoryStore::new(), "n:1")
    }

    /// A rig that has joined.
    async fn joined() -> (Self, Identity) {
        let mut rig = Self::new();
        rig.start();
        let identity = rig.membership.joined().await.expect("joins");
        (rig, identity)
    }

    fn with(settings: MembershipSettings, others: &MemoryStore, address: &str) -> Self {
        let store = Scripted::new(others.client());
        let keys = Keys::new("/t/");
        let fence = Arc::new(Fence::new(Clock::tokio()));
        let view = Arc::new(SharedView::new(ClusterMeta::new(
            "test",
            ShardCount::new(4).expect("a power of two"),
        )));
        let metrics = Arc::new(Metrics::new());
        let membership = Membership::new(MembershipParts {
            store: Arc::new(store.clone()),
            keys: keys.clone(),
            registration: registration(address),
            settings,
            fence: fence.clone(),
            view: view.clone(),
            metrics: metrics.clone(),
        });
        let node = Arc::new(FakeNode {
            membership: membership.clone(),
            fence: fence.clone(),
            answers: AtomicBool::new(false),
            discards: Mutex::default(),
        });
        Self {
            store,
            others: others.clone(),
            keys,
            fence,
            view,
            metrics,
            membership,
            node,
            tasks: Tasks::new(),
            running: None,
        }
    }

    fn start(&mut self) {
        let (membership, node) = (self.membership.clone(), self.node.clone());
        let shutdown = self.tasks.shutdown().clone();
        let run = async move { membership.run(node, shutdown).await };
        self.running = Some(self.tasks.spawn_work(run));
    }

    /// Waits until `run` has returned.
    async fn ended(&mut self) -> Result<(), JoinError> {
        let running = self.running.take().expect("it was started");
        let limit = Duration::from_mins(5);
        let ended = timeout(limit, running).await.expect("it ends");
        ended.expect("no panic")
    }

    async fn until(
        &self,
        goal: &str,
        wanted: impl Fn(&MembershipState) -> bool,
    ) -> MembershipState {
        let mut states = self.membership.subscribe();
        let limit = Duration::from_mins(2);
        if let Ok(state) = timeout(limit, states.wait_for(wanted)).await {
            return state.expect("the handle has the sender").clone();
        }
        panic!("never {goal}; last {:?}", self.membership.state())
    }

    async fn until_suspended(&self) {
        let suspended = |state: &_| matches!(state, MembershipState::Suspended(_));
        self.until("suspended", suspended).await;
    }

    /// Waits for a life other than `before`.
    async fn until_another_life(&self, before: &Identity) -> Identity {
        let other = |state: &MembershipState| state.active().is_some_and(|now| now != before);
        let state = self.until("another life", other).await;
        state.active().expect("it was waited for").clone()
    }

    async fn key(&self) -> Option<Entry> {
        entry(&self.others, &self.keys.node(&name())).await
    }

    async fn record(&self) -> Option<NodeRecord> {
        let entry = self.key().await?;
        Some(decode_node(&entry).expect("readable"))
    }

    async fn write(&self, op: Op) {
        write(&self.others, op).await;
    }

    /// Lets the view know what the store has now about the node key.
    async fn show_view(&self) {
        self.show_view_as(self.record().await).await;
    }

    /// Lets the view know this of the node key, as of now.
    async fn show_view_as(&self, record: Option<NodeRecord>) {
        let listing = self.others.list(self.keys.prefix()).await.expect("listed");
        let news = crate::placement::News::Node(name(), record);
        self.view.advance(listing.revision, [news]);
    }
}

fn name() -> NodeId {
    NodeId::new("n").expect("a good name")
}

fn registration(address: &str) -> Registration {
    Registration {
        node: name(),
        grpc: address.into(),
        http: None,
        zone: None,
        weight: Weight::ONE,
        labels: BTreeMap::new(),
        version: "0".into(),
        object_types: vec![],
    }
}

fn settings(replace: Replace, lock_dir: Option<&Path>) -> MembershipSettings {
    MembershipSettings {
        replace,
        lock_dir: lock_dir.map(Path::to_path_buf),
        ..MembershipSettings::default()
    }
}

async fn entry(store: &MemoryStore, key: &str) -> Option<Entry> {
    let read = Txn {
        then: vec![Op::Get(key.into())],
        ..Txn::default()
    };
    let reply = store.commit(read).await.expect("others reach the store");
    reply.reads.into_iter().flatten().next()
}

async fn write(store: &MemoryStore, op: Op) {
    let txn = Txn {
        then: vec![op],
        ..Txn::default()
    };
    store.commit(txn).await.expect("others reach the store");
}

/// Registers another process under the name `n`, whose lease nobody keeps alive.
async fn register_other(store: &MemoryStore, proof: &str) -> LeaseId {
    let lease = store.grant(TTL).await.expect("granted");
    let record = registration("other:1").record((lease, TTL), NodeState::Active, proof);
    write(
        store,
        Op::Put {
            key: Keys::new("/t/").node(&name()),
            value: encode_node(&record),
            lease: Some(lease),
        },
    )
    .await;
    lease
}
