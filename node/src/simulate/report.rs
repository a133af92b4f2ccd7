//! What a simulation found, as numbers with names: printed as tables, or as JSON.

use serde::Serialize;

use super::lints::Lint;
use super::spread::Evenness;

/// What a simulation found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// How many shards the cluster has.
    pub(crate) shard_count: u32,
    /// The keys and where they went; none if the load is that of a running cluster.
    pub(crate) keys: Option<KeyFigures>,
    /// The nodes that take shards, with their load after balancing.
    pub(crate) nodes: Vec<NodeFigures>,
    /// What the planner did about loads.
    pub(crate) balancing: BalancingFigures,
    /// The shards that cost most.
    pub(crate) hot_shards: Vec<HotShard>,
    /// What changes of the nodes would move.
    pub(crate) changes: Vec<ChangeFigures>,
    /// Whether the nodes suffice, today and grown.
    pub(crate) capacity: Vec<CapacityFigures>,
    /// What is wrong with the IDs.
    pub(crate) lints: Vec<Lint>,
}

/// Keys, and how they are spread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct KeyFigures {
    /// Different keys.
    pub(crate) keys: usize,
    /// Those that name a node themselves, and so are in no shard.
    pub(crate) bound_to_nodes: usize,
    /// Calls a second to all of them.
    pub(crate) calls_per_s: f64,
    /// Keys of each shard.
    pub(crate) per_shard: Evenness,
    /// The variation over shards that chance gives to as many keys.
    pub(crate) chance: f64,
    /// Keys of each node, when shards are divided by count.
    pub(crate) per_node: Evenness,
    /// The keys that are called most.
    pub(crate) hot_keys: Vec<HotKey>,
}

/// A key that is called much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HotKey {
    /// `Type/id`.
    pub(crate) key: String,
    /// Its shard, if it is in one.
    pub(crate) shard: Option<u32>,
    /// Calls a second.
    pub(crate) calls_per_s: f64,
    /// What part of all calls that is.
    pub(crate) of_all: f64,
}

/// A shard that costs much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct HotShard {
    /// Its number.
    pub(crate) shard: u32,
    /// The node it is on.
    pub(crate) node: Option<String>,
    /// Keys in it.
    pub(crate) keys: u64,
    /// Calls a second.
    pub(crate) calls_per_s: f64,
    /// What it costs, in parts of a node's share of all.
    pub(crate) of_node_share: f64,
}

/// A node and what it does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeFigures {
    /// Its name.
    pub(crate) node: String,
    /// Its zone.
    pub(crate) zone: Option<String>,
    /// How much it takes beside others.
    pub(crate) weight: f64,
    /// Its shards.
    pub(crate) shards: u64,
    /// Keys in them.
    pub(crate) keys: u64,
    /// Calls a second.
    pub(crate) calls_per_s: f64,
    /// What part of its CPUs they take.
    pub(crate) cpu: f64,
    /// What part of its memory they take.
    pub(crate) memory: f64,
    /// Its load in parts of its share, with shards divided by count.
    pub(crate) of_share_before: f64,
    /// The same when loads are balanced.
    pub(crate) of_share: f64,
}

/// What the planner did about loads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct BalancingFigures {
    /// Moves.
    pub(crate) moves: usize,
    /// Each node's load in parts of its share, before.
    pub(crate) before: Evenness,
    /// The same afterwards.
    pub(crate) after: Evenness,
    /// What the planner cannot mend.
    pub(crate) advice: Vec<String>,
}

/// What a change of the nodes would move.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ChangeFigures {
    /// What changes.
    pub(crate) change: String,
    /// Shards that move.
    pub(crate) moves: usize,
    /// The fewest that reach the same division.
    pub(crate) fewest: u64,
    /// Shards for which there is no room.
    pub(crate) unplaced: usize,
    /// The node that is busiest then.
    pub(crate) busiest: Option<String>,
    /// What part of its CPUs it uses then.
    pub(crate) cpu: f64,
    /// What part of the memory of the fullest node is used then.
    pub(crate) memory: f64,
    /// Whether nodes are lost by it.
    pub(crate) is_loss: bool,
}

/// Whether the nodes suffice for a multiple of the load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CapacityFigures {
    /// Which multiple.
    pub(crate) growth: f64,
    /// Calls a second then.
    pub(crate) calls_per_s: f64,
    /// Bytes of all objects then.
    pub(crate) memory_bytes: u64,
    /// What part of its CPUs the busiest node uses.
    pub(crate) cpu: f64,
    /// What part of the memory of the fullest node is used.
    pub(crate) memory: f64,
    /// The same after the loss that is worst for the others.
    pub(crate) cpu_after_loss: f64,
    /// The same after the loss that is worst for the others.
    pub(crate) memory_after_loss: f64,
    /// How many such nodes it takes, one node or zone to spare.
    pub(crate) nodes_needed: u64,
    /// What there is too little of; nothing if the nodes suffice.
    pub(crate) short_of: Vec<String>,
}

impl Report {
    /// Whether nothing speaks against these IDs on these nodes: no warning, and enough of everything.
    pub(crate) fn is_good(&self) -> bool {
        let warns = |lint: &Lint| lint.level == super::lints::Level::Warning;
        let suffices = self.capacity.iter().all(|grown| grown.short_of.is_empty());
        suffices && !self.lints.iter().any(warns)
    }
}
