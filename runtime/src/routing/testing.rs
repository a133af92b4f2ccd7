//! What the tests of routing share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::service::Routes;

use super::network::MemoryNetwork;
use super::{OwnerClaims, Router, RouterSettings, serve};
use crate::Tasks;
use crate::clock::Clock;
use crate::connections::Connections;
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{Incarnation, NodeId, ObjectKey, Revision, ShardCount, ShardId, Token};
use crate::object::{
    CallPath, Closing, EncodedCall, Format, Host, HostSettings, PAYLOAD_LEN_MAX, Registry,
    RemoteCalls,
};
use crate::placement::{ClusterMeta, ClusterView, News, NodeRecord, Owner, OwnerRecord, Parcel};
use crate::storage::MemoryStorage;
use crate::telemetry::{ExportMetrics, Metrics, Recorder, Trace, Traces};

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

pub(super) fn shard(number: u32) -> ShardId {
    ShardId::new(number, ShardCount::DEFAULT).expect("in range")
}

/// A view made by hand. Every step has a revision of its own.
#[derive(Debug)]
pub(super) struct ViewBuilder {
    view: ClusterView,
    /// What a read of the store finds: the same view, unless the store is away.
    store: Arc<Mutex<Option<ClusterView>>>,
}

impl ViewBuilder {
    pub(super) fn new(shard_count: u32) -> Self {
        let meta = ClusterMeta::new(
            "test",
            ShardCount::new(shard_count).expect("a power of two"),
        );
        let view = ClusterView::empty(meta);
        let store = Arc::new(Mutex::new(Some(view.clone())));
        Self { view, store }
    }

    pub(super) fn count(&self) -> ShardCount {
        self.view.meta.shard_count
    }

    pub(super) fn view(&self) -> &ClusterView {
        &self.view
    }

    /// A node lives, at the address `name:life`.
    pub(super) fn node(&mut self, name: &str, life: u64) -> &mut Self {
        self.node_at(name, life, &format!("{name}:{life}"))
    }

    pub(super) fn node_at(&mut self, name: &str, life: u64, address: &str) -> &mut Self {
        let record = NodeRecord {
            grpc: address.into(),
            version: "test".into(),
            ..NodeRecord::of(Incarnation::new(life))
        };
        self.step(News::Node(node(name), Some(record)))
    }

    /// A node's key is gone.
    pub(super) fn gone(&mut self, name: &str) -> &mut Self {
        self.step(News::Node(node(name), None))
    }

    /// A life of a node claims a shard.
    pub(super) fn owner(&mut self, number: u32, name: &str, life: u64) -> &mut Self {
        self.given(number, name, life, None)
    }

    /// A life of a node is given a shard, and this state with it.
    pub(super) fn given(
        &mut self,
        number: u32,
        name: &str,
        life: u64,
        parcel: Option<Parcel>,
    ) -> &mut Self {
        let owner = Owner {
            node: node(name),
            incarnation: Incarnation::new(life),
        };
        let (revision, owner) = (Revision::new(self.view.revision.get() + 1), Some(owner));
        self.step(News::Owner(
            shard(number),
            OwnerRecord {
                revision,
                owner,
                parcel,
            },
        ))
    }

    /// A shard is released.
    pub(super) fn nobody(&mut self, number: u32) -> &mut Self {
        let revision = Revision::new(self.view.revision.get() + 1);
        self.step(News::Owner(
            shard(number),
            OwnerRecord {
                revision,
                ..OwnerRecord::default()
            },
        ))
    }

    fn step(&mut self, news: News) -> &mut Self {
        self.view.revision = Revision::new(self.view.revision.get() + 1);
        self.view.apply(news);
        if let Some(store) = &mut *self.store.lock() {
            store.clone_from(&self.view);
        }
        self
    }

    /// From now on nothing can be read from the store.
    pub(super) fn take_store_away(&self) {
        *self.store.lock() = None;
    }
}

/// An object that does what a test needs.
#[derive(Default, steading::Object)]
#[object(mailbox = 20_000)]
pub(super) struct Probe {
    notes: Vec<u64>,
}

#[steading::methods]
impl Probe {
    /// Notes a number and returns how many there are.
    async fn note(&mut self, n: u64) -> usize {
        self.notes.push(n);
        self.notes.len()
    }

    /// Returns the numbers in the order in which they came.
    async fn notes(&self) -> Vec<u64> {
        self.notes.clone()
    }

    async fn echo(&self, text: String) -> String {
        text
    }

    /// Computes for a while, then notes a number.
    async fn spin(&mut self, ms: u64, n: u64) -> usize {
        let end = Instant::now() + Duration::from_millis(ms);
        while Instant::now() < end {}
        self.notes.push(n);
        self.notes.len()
    }

    /// Waits, then notes a number.
    async fn nap(&mut self, ms: u64, n: u64) -> usize {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.notes.push(n);
        self.notes.len()
    }
}

/// A probe whose notes outlive its node.
#[derive(Default, serde::Serialize, serde::Deserialize, steading::Object)]
#[object(storage)]
pub(super) struct Ledger {
    notes: Vec<u64>,
}

#[steading::methods]
impl Ledger {
    /// Notes a number and returns how many there are.
    async fn note(&mut self, n: u64) -> usize {
        self.notes.push(n);
        self.notes.len()
    }

    /// Returns the numbers in the order in which they came.
    async fn notes(&self) -> Vec<u64> {
        self.notes.clone()
    }
}

/// How many shards the clusters of [`World`] have.
pub(super) const SHARDS: u32 = 16;

/// How long the body of a request may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// Several routers over a network in memory, whose views are made by hand.
#[derive(Debug)]
pub(super) struct World {
    pub(super) network: MemoryNetwork,
    pub(super) view: ViewBuilder,
    pub(super) recorder: Recorder,
    storage: Arc<MemoryStorage>,
    nodes: BTreeMap<String, TestNode>,
}

/// A router with its host and server.
#[derive(Debug)]
pub(super) struct TestNode {
    pub(super) router: Arc<Router>,
    pub(super) host: Arc<Host>,
    pub(super) fence: Arc<Fence>,
    pub(super) tasks: Tasks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) address: String,
    view: Arc<TestView>,
}

/// A node's copy of the cluster, which a test writes. It reads the store when another node claims
/// something.
#[derive(Debug)]
struct TestView {
    view: watch::Sender<Arc<ClusterView>>,
    store: Arc<Mutex<Option<ClusterView>>>,
    claims: AtomicU64,
}

impl OwnerClaims for TestView {
    fn claimed(&self, shard: ShardId, _revision: Revision) {
        self.claims.fetch_add(1, Ordering::Relaxed);
        let store = self.store.lock();
        let Some(record) = store.as_ref().map(|store| store.owners.get(shard).clone()) else {
            return;
        };
        self.view
            .send_if_modified(|view| Arc::make_mut(view).apply(News::Owner(shard, record)));
    }
}

impl World {
    /// Starts nodes, all in their first life, that know of each other. Nobody owns anything.
    pub(super) async fn start(names: &[&str]) -> Self {
        let mut world = Self {
            network: MemoryNetwork::new(),
            view: ViewBuilder::new(SHARDS),
            recorder: Recorder::default(),
            storage: Arc::new(MemoryStorage::new()),
            nodes: BTreeMap::new(),
        };
        for name in names {
            let node = TestNode::start(name, &world).await;
            world.view.node_at(name, 1, &node.address);
            world.nodes.insert((*name).into(), node);
        }
        world.publish().await;
        world
    }

    /// Starts nodes, of which the last one owns every shard.
    pub(super) async fn owned(names: &[&str]) -> Self {
        let mut world = Self::start(names).await;
        for number in 0..SHARDS {
            world.open(number, names[names.len() - 1]);
        }
        world.publish().await;
        world
    }

    pub(super) fn at(&self, name: &str) -> &TestNode {
        &self.nodes[name]
    }

    /// Lets a node own a shard and open it. Nobody is told.
    pub(super) fn open(&mut self, number: u32, name: &str) {
        self.view.owner(number, name, 1);
        self.at(name).open(number);
    }

    /// Lets every node know the view.
    pub(super) async fn publish(&self) {
        for name in self.nodes.keys() {
            self.publish_to(name).await;
        }
    }

    /// Lets one node know the view.
    pub(super) async fn publish_to(&self, name: &str) {
        self.at(name).show(self.view.view()).await;
    }
}

impl TestNode {
    async fn start(name: &str, world: &World) -> Self {
        let (network, view) = (&world.network, world.view.view());
        let traces = Traces::new(world.recorder.of(name));
        let metrics = Metrics::beside(traces, &ExportMetrics::default());
        let (tasks, metrics) = (Tasks::new(), Arc::new(metrics));
        let fence = Arc::new(Fence::new(Clock::tokio()));
        fence.open(fence.clock().now().plus(Duration::from_hours(1)));
        let mut registry = Registry::default();
        registry.register::<Probe>();
        registry.register::<Ledger>();
        let host = Host::new(HostSettings {
            node: node(name),
            layout: view.meta.layout(),
            fence: fence.clone(),
            storage: world.storage.clone(),
            registry,
            payload_max: PAYLOAD_LEN_MAX,
            budget: crate::memory_budget::MemoryBudget::new(512 << 20),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
        });
        let view = Arc::new(TestView {
            view: watch::Sender::new(Arc::new(view.clone())),
            store: world.view.store.clone(),
            claims: AtomicU64::new(0),
        });
        let router = Router::start(RouterSettings {
            node: node(name),
            host: host.clone(),
            view: view.view.subscribe(),
            claims: view.clone(),
            network: network.port(name),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
            payload_max: PAYLOAD_LEN_MAX,
        });
        let remote: Arc<dyn RemoteCalls> = router.clone();
        host.connect(&remote);
        let listener = network
            .port(name)
            .listen("127.0.0.1:0", &Connections::for_tests())
            .await
            .expect("any port is free");
        let address = listener.address.to_string();
        let (served, more) = (router.clone(), Routes::default());
        tasks.spawn("server", |shutdown| {
            serve(
                served,
                listener,
                more,
                BODY_TIMEOUT,
                shutdown.cancelled_owned(),
            )
        });
        Self {
            router,
            host,
            fence,
            tasks,
            metrics,
            address,
            view,
        }
    }

    /// Lets the node know a view.
    pub(super) async fn show(&self, view: &ClusterView) {
        self.view.view.send_replace(Arc::new(view.clone()));
        settle().await;
    }

    /// Returns the node's copy of the cluster, as of now and later.
    pub(super) fn views(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.view.view.subscribe()
    }

    /// Returns what the node knows of a shard's owner.
    pub(super) fn owner(&self, number: u32) -> OwnerRecord {
        self.view.view.borrow().owners.get(shard(number)).clone()
    }

    /// Returns how often other nodes claimed something that the node did not know.
    pub(super) fn claims(&self) -> u64 {
        self.view.claims.load(Ordering::Relaxed)
    }

    /// Opens a shard, as the reconciler does.
    pub(super) fn open(&self, number: u32) {
        self.host.open(shard(number), Token::from_raw(1));
        self.router.shard_changed(shard(number));
    }

    /// Closes a shard, as the reconciler does.
    pub(super) async fn close(&self, number: u32) {
        let closing = self.host.close(shard(number), Duration::from_secs(1)).await;
        assert_eq!(closing, Closing::Closed);
    }

    /// Calls a method of a `Probe` as this node does. Begins when it is first polled.
    pub(super) fn call(
        &self,
        id: &str,
        method: &'static str,
        args: &serde_json::Value,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<serde_json::Value, CallError>> {
        call(&self.router, ("Probe", id), method, args, timeout)
    }

    /// Calls `note` with a number.
    pub(super) fn note(
        &self,
        id: &str,
        n: u64,
    ) -> BoxFuture<'static, Result<serde_json::Value, CallError>> {
        self.call(id, "note", &json!({ "n": n }), Duration::from_secs(10))
    }

    /// Calls `note` with a number, as part of a trace.
    pub(super) fn note_traced(
        &self,
        id: &str,
        n: u64,
        trace: Trace,
    ) -> BoxFuture<'static, Result<serde_json::Value, CallError>> {
        let (args, timeout) = (json!({ "n": n }), Duration::from_secs(10));
        call_traced(&self.router, ("Probe", id), "note", (&args, timeout), trace)
    }

    /// Returns what a probe noted.
    pub(super) async fn notes(&self, id: &str) -> Vec<u64> {
        let notes = self
            .call(id, "notes", &json!({}), Duration::from_secs(10))
            .await;
        serde_json::from_value(notes.expect("an answer")).expect("numbers")
    }
}

/// Calls a method of an object, given by type and ID, through a router. Begins when it is first
/// polled.
pub(super) fn call(
    router: &Router,
    (object_type, id): (&'static str, &str),
    method: &'static str,
    args: &serde_json::Value,
    timeout: Duration,
) -> BoxFuture<'static, Result<serde_json::Value, CallError>> {
    let object = (object_type, id);
    call_traced(router, object, method, (args, timeout), Trace::NONE)
}

fn call_traced(
    router: &Router,
    (object_type, id): (&'static str, &str),
    method: &'static str,
    (args, timeout): (&serde_json::Value, Duration),
    trace: Trace,
) -> BoxFuture<'static, Result<serde_json::Value, CallError>> {
    let args = rmp_serde::to_vec_named(args).expect("any JSON");
    let call = EncodedCall {
        key: ObjectKey::new(object_type, id).expect("a good ID"),
        method: method.into(),
        args: args.into(),
        format: Format::MessagePack,
        deadline: Instant::now() + timeout,
        path: CallPath::default(),
        trace,
    };
    let calling = router.call(call);
    Box::pin(async move {
        let reply = calling.await?;
        Ok(rmp_serde::from_slice(&reply).expect("what it replies"))
    })
}

/// Lets everything happen that needs no time.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Begins a future, which must not end at once.
pub(super) fn begin<T>(future: &mut (impl Future<Output = T> + Unpin)) {
    assert!(future.now_or_never().is_none(), "it ended at once");
}
