//! The cluster and its shards as HTTP shows them, made from one view.

mod heard;
mod nodes;
mod shards;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::ids::NodeId;
use steading::placement::{ClusterView, NodeRecord};
use utoipa::ToSchema;

pub(crate) use self::heard::Heard;
pub use self::nodes::{Addresses, NodeHealthInfo, NodeInfo, NodeLoadInfo};
pub use self::shards::{ShardInfo, ShardState, ShardTotals};

/// The cluster as the asked node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// A random name, given when the cluster was created.
    pub cluster_id: String,
    /// How many shards there are; fixed when the cluster was created.
    pub shard_count: u32,
    /// The node that plans; none while one is elected.
    pub leader: Option<String>,
    /// The leader's term; a later leader has a greater one.
    pub term: Option<u64>,
    /// Whether an operator paused balancing.
    pub paused: bool,
    /// The store's revision up to which the asked node knows everything.
    pub revision: u64,
    /// The live nodes, by ID.
    pub nodes: Vec<NodeInfo>,
    /// Counts of shards.
    pub shards: ShardTotals,
}

impl Cluster {
    /// Reads the cluster off a view, and of what its nodes answered.
    pub(crate) fn of(view: &ClusterView, heard: &Heard) -> Self {
        let mut owned: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut targeted: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for shard in view.meta.shard_count.shards() {
            if let Some(owner) = view.live_owner(shard) {
                *owned.entry(&owner.node).or_default() += 1;
            }
            if let Some(node) = &view.targets.get(shard).node {
                *targeted.entry(node).or_default() += 1;
            }
        }
        let node = |(id, record): (&NodeId, &NodeRecord)| {
            let shards_owned = owned.get(id).copied().unwrap_or_default();
            let report = heard.reports.get(id);
            let health = heard.health(id);
            NodeInfo {
                state: heard.status(id, record).as_str().into(),
                at_risk: heard.at_risk(id, record, shards_owned),
                shards_owned,
                shards_targeted: targeted.get(id).copied().unwrap_or_default(),
                cordoned: view.orders.cordoned.contains(id),
                objects: report.map(|report| report.objects),
                load: report.and_then(|report| NodeLoadInfo::of(&report.load)),
                health: health.map(|(health, answers)| NodeHealthInfo::of(health, answers)),
                ..NodeInfo::of(id, record)
            }
        };
        let nodes: Vec<_> = view.nodes.iter().map(node).collect();
        let at_risk = nodes.iter().filter_map(|node| node.at_risk.as_ref());
        let at_risk = at_risk.map(|risk| risk.shards).sum();
        Self {
            cluster_id: view.meta.cluster_id.clone(),
            shard_count: view.meta.shard_count.get(),
            leader: view.live_leader().map(|leader| leader.node.to_string()),
            term: view.live_leader().map(|leader| leader.term.get()),
            paused: view.orders.paused,
            revision: view.revision.get(),
            shards: ShardTotals {
                at_risk,
                ..ShardTotals::of(view)
            },
            nodes,
        }
    }

    /// Adds which nodes others do not reach.
    pub(crate) fn with_reach(mut self, reach: &BTreeMap<NodeId, BTreeSet<NodeId>>) -> Self {
        for node in &mut self.nodes {
            let from = reach.iter().find(|(id, _)| id.as_str() == node.id);
            let from = from.into_iter().flat_map(|(_, from)| from);
            node.unreachable_from = from.map(ToString::to_string).collect();
        }
        self
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people, who need no 53 bits"
)]
fn per_second(count: u64, window: Duration) -> f64 {
    if window.is_zero() {
        0.0
    } else {
        count as f64 / window.as_secs_f64()
    }
}
