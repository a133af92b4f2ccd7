//! What a gate sees of its cluster, and waiting for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use steading::Node;
use steading::ids::{NodeId, ShardId};
use steading::placement::{ClusterView, NodeState};
use tokio::time::timeout;

/// Far above the expected of anything that is waited for: expiry means a bug.
pub(super) const LIMIT: Duration = Duration::from_mins(1);

/// Waits until a view shows something, and returns it.
pub(super) async fn sees(
    gate: &Node,
    goal: &str,
    mut shows: impl FnMut(&ClusterView) -> bool,
) -> anyhow::Result<Arc<ClusterView>> {
    let mut views = gate.subscribe();
    let seen = async {
        loop {
            // A look may take some time, and must not keep the gate from learning more.
            let view = views.borrow_and_update().clone();
            if shows(&view) {
                return Ok(view);
            }
            views.changed().await.context("the gate ended")?;
        }
    };
    let seen = timeout(LIMIT, seen).await;
    seen.with_context(|| format!("never so: {goal}"))?
}

/// Whether every shard has a live owner.
pub(super) fn all_owned(view: &ClusterView) -> bool {
    let mut shards = view.meta.shard_count.shards();
    shards.all(|shard| view.live_owner(shard).is_some())
}

/// Returns the nodes that take shards, in order.
pub(super) fn takers(view: &ClusterView) -> Vec<NodeId> {
    let takes = view.nodes.iter().filter(|(id, node)| {
        node.state == NodeState::Active
            && !node.weight.is_gate()
            && !view.orders.cordoned.contains(id)
    });
    takes.map(|(id, _)| id.clone()).collect()
}

/// Returns the shards of one node.
pub(super) fn owned_by(view: &ClusterView, node: &NodeId) -> Vec<ShardId> {
    let owns = |shard: &ShardId| {
        view.live_owner(*shard)
            .is_some_and(|owner| owner.node == *node)
    };
    view.meta.shard_count.shards().filter(owns).collect()
}

/// Counts the shards of each node that owns some.
pub(super) fn counts(view: &ClusterView) -> BTreeMap<NodeId, u32> {
    let mut counts = BTreeMap::new();
    let owners = view.meta.shard_count.shards();
    for owner in owners.filter_map(|shard| view.live_owner(shard)) {
        *counts.entry(owner.node.clone()).or_default() += 1;
    }
    counts
}
