//! What the page shows of a view, as plain numbers and names.

use std::collections::BTreeMap;

use serde::Serialize;
use steading::ids::NodeId;
use steading::placement::{ClusterView, NodeRecord, NodeState};

/// A cluster as one process sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ViewSummary {
    /// The cluster's random name.
    pub cluster_id: String,
    /// Everything up to this revision of the store is in the view.
    pub revision: u64,
    /// Who plans, if anybody does.
    pub leader: Option<LeaderSummary>,
    /// What is true of all shards together.
    pub shards: ShardTotals,
    /// The live nodes, in order of their names.
    pub nodes: Vec<NodeSummary>,
    /// Where each block of shards is, in order.
    pub blocks: Vec<BlockSummary>,
}

/// Who plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaderSummary {
    /// The node.
    pub node: String,
    /// Its reign.
    pub term: u64,
}

/// How many shards are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShardTotals {
    /// How many the cluster has.
    pub total: u32,
    /// How many a live node owns.
    pub owned: u32,
    /// How many nobody owns who lives.
    pub unowned: u32,
    /// How many of those owned should be owned by another node.
    pub moving: u32,
}

/// A live node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSummary {
    /// Its stable name.
    pub id: String,
    /// Its present life.
    pub incarnation: u64,
    /// `joining`, `active` or `draining`.
    pub state: &'static str,
    /// The failure domain it stands in.
    pub zone: Option<String>,
    /// How much it takes beside others; a gate has 0.
    pub weight: f64,
    /// The version of Steading it runs.
    pub version: String,
    /// `host:port` of its gRPC server.
    pub grpc: String,
    /// `host:port` of its HTTP server.
    pub http: Option<String>,
    /// How many shards it owns.
    pub shards_owned: u32,
    /// How many shards it should own.
    pub shards_targeted: u32,
}

/// Neighbouring shards, and who owns how many of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BlockSummary {
    /// The first shard.
    pub first: u32,
    /// The last shard.
    pub last: u32,
    /// How many nobody owns who lives.
    pub unowned: u32,
    /// How many each node owns.
    pub owned: BTreeMap<String, u32>,
    /// How many of those that each node owns should be owned by another.
    pub moving: BTreeMap<String, u32>,
}

impl ViewSummary {
    /// Sums a view up.
    pub fn of(view: &ClusterView) -> Self {
        let blocks: Vec<_> = (0..view.meta.shard_count.blocks())
            .map(|block| BlockSummary::of(view, block))
            .collect();
        let leader = view.leader.as_ref().map(|leader| LeaderSummary {
            node: leader.node.to_string(),
            term: leader.term.get(),
        });
        let mut targeted: BTreeMap<&NodeId, u32> = BTreeMap::new();
        for node in view
            .targets
            .iter()
            .filter_map(|(_, target)| target.node.as_ref())
        {
            *targeted.entry(node).or_default() += 1;
        }
        let nodes = view.nodes.iter().map(|(node, record)| {
            let owned = blocks
                .iter()
                .filter_map(|block| block.owned.get(node.as_str()))
                .sum();
            NodeSummary::of(
                node,
                record,
                owned,
                targeted.get(node).copied().unwrap_or(0),
            )
        });
        Self {
            cluster_id: view.meta.cluster_id.clone(),
            revision: view.revision.get(),
            leader,
            shards: ShardTotals::of(view, &blocks),
            nodes: nodes.collect(),
            blocks,
        }
    }
}

impl ShardTotals {
    fn of(view: &ClusterView, blocks: &[BlockSummary]) -> Self {
        let total = view.meta.shard_count.get();
        let unowned = blocks.iter().map(|block| block.unowned).sum();
        let moving = blocks.iter().flat_map(|block| block.moving.values()).sum();
        Self {
            total,
            owned: total - unowned,
            unowned,
            moving,
        }
    }
}

impl NodeSummary {
    fn of(node: &NodeId, record: &NodeRecord, owned: u32, targeted: u32) -> Self {
        Self {
            id: node.to_string(),
            incarnation: record.incarnation.get(),
            state: match record.state {
                NodeState::Joining => "joining",
                NodeState::Active => "active",
                NodeState::Draining => "draining",
            },
            zone: record.zone.clone(),
            weight: f64::from(record.weight.thousandths()) / 1000.0,
            version: record.version.clone(),
            grpc: record.grpc.clone(),
            http: record.http.clone(),
            shards_owned: owned,
            shards_targeted: targeted,
        }
    }
}

impl BlockSummary {
    fn of(view: &ClusterView, block: u32) -> Self {
        let len = view.meta.shard_count.block_len();
        let mut summary = Self {
            first: block * len,
            last: block * len + len - 1,
            ..Self::default()
        };
        for shard in view.targets.shards_of_block(block) {
            let Some(owner) = view.live_owner(shard) else {
                summary.unowned += 1;
                continue;
            };
            let target = view.targets.get(shard).node.as_ref();
            *summary.owned.entry(owner.node.to_string()).or_default() += 1;
            if target.is_some_and(|target| *target != owner.node) {
                *summary.moving.entry(owner.node.to_string()).or_default() += 1;
            }
        }
        summary
    }
}
