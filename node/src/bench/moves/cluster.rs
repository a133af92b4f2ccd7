//! A cluster to measure: one of our own, of real processes, or one that exists.
//!
//! Either is entered through a gate in this process, which hosts nothing, so that nothing that is
//! moved, restarted or killed takes the load with it.

use anyhow::{Context, bail};
use futures::future::try_join_all;
use steading::coordination::keys::{Keys, decode_meta};
use steading::coordination::store::Store;
use steading::coordination::{EtcdSettings, EtcdStore};
use steading::ids::NodeId;
use steading::placement::{Balance, ClusterMeta, ClusterView, Weight};
use steading::{Node, NodeBuilder};
use tokio::time::timeout;

use super::super::children::{Etcd, NodeProcess};
use super::super::views::{LIMIT, all_owned, sees, takers};

/// Processes of our own, with a gate in this one.
pub(super) struct Cluster<'a> {
    etcd: &'a Etcd,
    prefix: String,
    pub(super) nodes: Vec<NodeProcess>,
    pub(super) gate: Node,
}

impl<'a> Cluster<'a> {
    /// Starts nodes named `n0`, `n1` and so on, and waits until each has its share.
    pub(super) async fn start(etcd: &'a Etcd, prefix: &str, nodes: usize) -> anyhow::Result<Self> {
        let ids = (0..nodes).map(name);
        let started = ids.map(async |id| NodeProcess::start(etcd, prefix, &id).await);
        let nodes = try_join_all(started).await?;
        try_join_all(nodes.iter().map(NodeProcess::ready)).await?;
        let gate = gate(Node::builder().etcd([etcd.endpoint()]).prefix(prefix)).await?;
        let cluster = Self {
            etcd,
            prefix: prefix.into(),
            nodes,
            gate,
        };
        cluster.is_settled(cluster.nodes.len()).await?;
        Ok(cluster)
    }

    /// Starts a process with the ID of node `n`: one more node, or one that comes again.
    pub(super) async fn launch(&self, n: usize) -> anyhow::Result<NodeProcess> {
        NodeProcess::start(self.etcd, &self.prefix, &name(n)).await
    }

    /// Waits until so many nodes share all shards evenly, and none is on its way.
    pub(super) async fn is_settled(&self, nodes: usize) -> anyhow::Result<()> {
        let settled = |view: &ClusterView| is_settled(view, nodes);
        sees(&self.gate, "every node has its share", settled).await?;
        Ok(())
    }

    /// Ends everything.
    pub(super) async fn stop(self) {
        self.gate.stop().await;
    }
}

/// Names the nodes of our own clusters.
pub(super) fn name(n: usize) -> String {
    format!("n{n}")
}

/// Enters a cluster that exists.
pub(super) async fn enter(endpoints: &[String], prefix: &str) -> anyhow::Result<Node> {
    let meta = description(endpoints, prefix).await?;
    let builder = Node::builder().etcd(endpoints).prefix(prefix);
    gate(builder.shard_count(meta.shard_count).regions(meta.regions)).await
}

/// Returns what the cluster was created as; a gate must expect the same.
async fn description(endpoints: &[String], prefix: &str) -> anyhow::Result<ClusterMeta> {
    let store = EtcdStore::connect(EtcdSettings::new(endpoints));
    let store = timeout(LIMIT, store).await.context("etcd is silent")??;
    let listing = store.list(&Keys::new(prefix).meta()).await?;
    match listing.entries.first() {
        Some(entry) => Ok(decode_meta(entry)?),
        None => bail!("there is no cluster under the prefix {prefix}"),
    }
}

async fn gate(builder: NodeBuilder) -> anyhow::Result<Node> {
    let id = NodeId::new(&format!("bench-{}", std::process::id()))?;
    let gate = builder.id(id).weight(Weight::GATE).start();
    let gate = timeout(LIMIT, gate).await.context("no gate in time")??;
    sees(&gate, "every shard has an owner", all_owned).await?;
    Ok(gate)
}

/// Whether so many nodes share all shards evenly, and none is on its way.
fn is_settled(view: &ClusterView, nodes: usize) -> bool {
    let balance = Balance::of(view);
    let even = balance.shards.is_some_and(|s| s.max - s.min <= 1.0);
    even && balance.settled == view.meta.shard_count.get() as usize && takers(view).len() == nodes
}
