//! Whole clusters in one process, on tokio's paused clock: for tests of Steading and of yours.
//!
//! Everything is real but the store, the network and the time: nodes register, elect a leader,
//! claim and serve as in production, over a [`MemoryStore`] and a [`MemoryNetwork`]. Waiting
//! costs nothing, since the clock jumps to the next timer when every task is idle.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use steading::testing::TestCluster;
//! use steading::{Object, methods};
//!
//! #[derive(Default, Serialize, Deserialize, Object)]
//! #[object(storage)]
//! struct Counter {
//!     total: i64,
//! }
//!
//! #[methods]
//! impl Counter {
//!     fn add(&mut self, n: i64) -> i64 {
//!         self.total += n;
//!         self.total
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let mut cluster = TestCluster::builder().nodes(3).register::<Counter>().start().await;
//! let counter = cluster.node("n1").object::<Counter>("c");
//! assert_eq!(counter.add(2).await, Ok(2));
//!
//! cluster.crash("n2").await; // No goodbye: its lease must run out.
//! assert_eq!(counter.add(3).await, Ok(5));
//! cluster.stop_all().await;
//! # }
//! ```

mod history;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::coordination::keys::Keys;
use crate::coordination::store::{Store, StoreError};
use crate::coordination::watcher::{Watcher, WatcherParts};
use crate::coordination::{Cut, MemoryStore, SharedView};
use crate::ids::{NodeId, Revision, ShardCount};
use crate::node::{Node, NodeBuilder};
use crate::object::Methods;
use crate::placement::{ClusterMeta, ClusterView};
use crate::routing::network::MemoryNetwork;
use crate::storage::{MemoryStorage, Storage};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;
pub use history::{OwnerHistory, TwoOwners};

/// How long [`TestCluster::wait_until`] waits, on the paused clock: far above every expected
/// time, so that running out of it means a defect.
pub const WAIT_MAX: Duration = Duration::from_mins(2);

/// The keys of a test cluster.
const PREFIX: &str = "/test/";

type Setup = Arc<dyn Fn(NodeBuilder) -> NodeBuilder + Send + Sync>;

/// Sets up a [`TestCluster`].
#[must_use = "a builder does nothing until it is started"]
#[derive(Clone)]
pub struct TestClusterBuilder {
    nodes: usize,
    shard_count: ShardCount,
    storage: Arc<dyn Storage>,
    setup: Setup,
}

impl fmt::Debug for TestClusterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestClusterBuilder")
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

impl TestClusterBuilder {
    /// Sets how many nodes to start, named `n1`, `n2` and so on. Default: 1.
    pub fn nodes(self, nodes: usize) -> Self {
        Self { nodes, ..self }
    }

    /// Sets how many shards there are. Default: 64.
    pub fn shard_count(self, shard_count: ShardCount) -> Self {
        Self {
            shard_count,
            ..self
        }
    }

    /// Adds a type of objects to every node.
    pub fn register<T: Methods>(self) -> Self {
        self.setup(NodeBuilder::register::<T>)
    }

    /// Sets where the state of stored objects is kept; all nodes share it. Default: in memory.
    pub fn storage(self, storage: Arc<dyn Storage>) -> Self {
        Self { storage, ..self }
    }

    /// Changes the settings of every node, such as its lease.
    pub fn setup(self, more: impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static) -> Self {
        let before = self.setup;
        Self {
            setup: Arc::new(move |builder| more(before(builder))),
            ..self
        }
    }

    /// Starts the nodes together and waits until every shard is owned by its target.
    ///
    /// # Panics
    ///
    /// If the runtime's clock is not paused, a node does not start, or the cluster does not
    /// settle.
    pub async fn start(self) -> TestCluster {
        let nodes = self.nodes;
        let mut cluster = TestCluster::empty(self);
        let names: Vec<String> = (1..=nodes).map(|i| format!("n{i}")).collect();
        let starting = names
            .iter()
            .map(|name| cluster.launch(name, |builder| builder));
        for node in futures::future::join_all(starting).await {
            node.joined().await.expect("the node joins");
            cluster.nodes.insert(node.id().to_string(), node);
        }
        if nodes > 0 {
            cluster.settled().await;
        }
        cluster
    }
}

/// Some nodes in one process, over a store, a network and a storage that they share.
#[derive(Debug)]
pub struct TestCluster {
    builder: TestClusterBuilder,
    clock: Clock,
    store: MemoryStore,
    clients: Mutex<BTreeMap<String, MemoryStore>>,
    network: MemoryNetwork,
    nodes: BTreeMap<String, Node>,
    view: watch::Receiver<Arc<ClusterView>>,
    history: Arc<Mutex<OwnerHistory>>,
    observer: Tasks,
}

impl TestCluster {
    /// Begins to set a cluster up.
    pub fn builder() -> TestClusterBuilder {
        TestClusterBuilder {
            nodes: 1,
            shard_count: ShardCount::new(64).expect("a power of two"),
            storage: Arc::new(MemoryStorage::new()),
            setup: Arc::new(|builder| builder),
        }
    }

    fn empty(builder: TestClusterBuilder) -> Self {
        let store = MemoryStore::new();
        let view = Arc::new(SharedView::new(ClusterMeta::new(
            String::new(),
            builder.shard_count,
        )));
        let observer = Tasks::new();
        let (watcher, _) = Watcher::new(WatcherParts {
            store: Arc::new(store.client()),
            keys: Keys::new(PREFIX),
            view: view.clone(),
            metrics: Arc::new(Metrics::new()),
        });
        observer.spawn("observer", |shutdown| watcher.run(shutdown));
        let history = OwnerHistory::new(Keys::new(PREFIX), builder.shard_count);
        let history = Arc::new(Mutex::new(history));
        let (client, record) = (store.client(), history.clone());
        observer.spawn("historian", |shutdown| {
            write_history(client, record, shutdown)
        });
        Self {
            clock: Clock::tokio(),
            store,
            clients: Mutex::default(),
            network: MemoryNetwork::new(),
            nodes: BTreeMap::new(),
            view: view.subscribe(),
            history,
            observer,
            builder,
        }
    }

    /// Returns a running node.
    ///
    /// # Panics
    ///
    /// If there is none of this name.
    #[track_caller]
    pub fn node(&self, name: &str) -> &Node {
        self.nodes
            .get(name)
            .unwrap_or_else(|| panic!("there is no node {name}"))
    }

    /// Returns the running nodes, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Returns the store, for scripted faults and for looking inside. Nodes do not share this
    /// handle's faults.
    pub fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// Returns the network, for scripted faults. Nodes are known there by their names.
    pub fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// Returns the prefix of the cluster's keys in the store.
    pub fn keys(&self) -> Keys {
        Keys::new(PREFIX)
    }

    /// Returns the cluster as an observer sees it, whom no fault reaches.
    pub fn view(&self) -> Arc<ClusterView> {
        self.view.borrow().clone()
    }

    /// Returns what the store's history tells about owners so far.
    pub fn history(&self) -> OwnerHistory {
        self.history.lock().clone()
    }

    /// Starts one more node and waits until it has joined, not until it has shards.
    pub async fn add(&mut self, name: &str) -> &Node {
        self.add_with(name, |builder| builder).await
    }

    /// Starts one more node with settings of its own.
    ///
    /// # Panics
    ///
    /// If the node does not join.
    pub async fn add_with(
        &mut self,
        name: &str,
        setup: impl FnOnce(NodeBuilder) -> NodeBuilder,
    ) -> &Node {
        let node = self.launch(name, setup).await;
        node.joined().await.expect("the node joins");
        self.nodes.insert(name.into(), node);
        &self.nodes[name]
    }

    /// Begins to start a node, which is not yet one of [`TestCluster::nodes`].
    ///
    /// # Panics
    ///
    /// If the settings are wrong or the name cannot be a node's.
    pub async fn launch(&self, name: &str, setup: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
        let client = self.store.client();
        self.clients.lock().insert(name.into(), client.clone());
        let builder = Node::builder()
            .id(NodeId::new(name).expect("a good name"))
            .store(Arc::new(client))
            .prefix(PREFIX)
            .shard_count(self.builder.shard_count)
            .storage(self.builder.storage.clone())
            .network(self.network.port(name))
            .clock(self.clock);
        let builder = setup((self.builder.setup)(builder));
        builder.launch().await.expect("the settings are right")
    }

    /// Stops a node in order and returns when it is gone.
    pub async fn stop(&mut self, name: &str) {
        self.take(name).stop().await;
    }

    /// Stops every node in order, and the observer.
    pub async fn stop_all(&mut self) {
        let names: Vec<String> = self.nodes.keys().cloned().collect();
        for name in names {
            self.stop(&name).await;
        }
        self.observer.stop(WAIT_MAX).await;
    }

    /// Ends a node without a goodbye: its lease must run out.
    pub async fn crash(&mut self, name: &str) {
        let node = self.take(name);
        self.faults(name, |client| client.faults().cut(Some(Cut::Refused)));
        self.network.refuse(name, true);
        self.network.cut_all(name);
        node.crash().await;
        self.network.refuse(name, false);
    }

    /// Cuts a node off from the store; other nodes still reach it.
    pub fn cut_from_store(&self, name: &str) {
        self.faults(name, |client| client.faults().cut(Some(Cut::Refused)));
    }

    /// Lets a node reach the store again.
    pub fn heal_store(&self, name: &str) {
        self.faults(name, |client| client.faults().cut(None));
    }

    /// Waits until every shard is owned by its target and every target is an active node.
    pub async fn settled(&mut self) {
        self.wait_until("every shard is owned by its target", |view| {
            view.owners.iter().all(|(shard, _)| {
                let target = view.targets.get(shard).node.as_ref();
                target.is_some() && view.live_owner(shard).map(|owner| &owner.node) == target
            })
        })
        .await;
    }

    /// Waits until `holds` of the observer's view.
    ///
    /// # Panics
    ///
    /// With `goal` and the last view, after [`WAIT_MAX`] on the paused clock.
    pub async fn wait_until(&mut self, goal: &str, mut holds: impl FnMut(&ClusterView) -> bool) {
        let reached = self.view.wait_for(|view| holds(view));
        let reached = tokio::time::timeout(WAIT_MAX, reached)
            .await
            .is_ok_and(|seen| seen.is_ok());
        assert!(
            reached,
            "never reached: {goal}; last view: {:#?}",
            Summary(&self.view.borrow())
        );
    }

    fn take(&mut self, name: &str) -> Node {
        self.nodes
            .remove(name)
            .unwrap_or_else(|| panic!("there is no node {name}"))
    }

    fn faults(&self, name: &str, set: impl FnOnce(&MemoryStore)) {
        let clients = self.clients.lock();
        set(clients
            .get(name)
            .unwrap_or_else(|| panic!("there was never a node {name}")));
    }
}

/// Follows the store from its first revision.
async fn write_history(
    store: MemoryStore,
    history: Arc<Mutex<OwnerHistory>>,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    let mut changes = store.watch(PREFIX, Revision::new(1)).await?;
    loop {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(batch) = changes.next() => batch?,
        };
        let mut history = history.lock();
        batch.events.iter().for_each(|event| history.record(event));
    }
}

/// A view in few enough lines to be read in a failed test.
struct Summary<'a>(&'a ClusterView);

impl fmt::Debug for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.0;
        let mut shards: BTreeMap<(String, String), usize> = BTreeMap::new();
        for (shard, target) in view.targets.iter() {
            let name = |node: Option<&NodeId>| node.map_or("nobody".into(), NodeId::to_string);
            let owner = name(view.live_owner(shard).map(|owner| &owner.node));
            *shards
                .entry((name(target.node.as_ref()), owner))
                .or_default() += 1;
        }
        f.debug_struct("ClusterView")
            .field("revision", &view.revision)
            .field("leader", &view.leader)
            .field("nodes", &view.nodes)
            .field("shards by (target, owner)", &shards)
            .finish_non_exhaustive()
    }
}
