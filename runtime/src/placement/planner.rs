//! Decides which node should own each shard. (Skeleton.)

use std::collections::BTreeMap;

use super::{ClusterView, Target};
use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'a> {
    /// The cluster as it is.
    pub view: &'a ClusterView,
    /// When each live, active node was first seen so; a node of which nothing is said was there
    /// long ago.
    pub joined: &'a BTreeMap<NodeId, Moment>,
    /// What each shard costs its owner.
    pub loads: &'a Loads,
    /// Moves that were ordered and have not ended.
    pub in_flight: &'a [Move],
    /// How to decide.
    pub settings: &'a PlanSettings,
    /// The present.
    pub now: Moment,
}

/// What each shard costs its owner. Planning by load is not part of this version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {}

/// How to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {}

/// One shard that changes its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which shard.
    pub shard: ShardId,
    /// Its target so far.
    pub from: Option<NodeId>,
    /// Its new target.
    pub to: NodeId,
    /// Why.
    pub reason: Reason,
}

/// Why a shard changes its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It had none.
    Unplaced,
    /// Its target died.
    Failure,
    /// A node joined and takes its share.
    Join,
    /// Its target gives its shards up.
    Drain,
}

/// What should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The new targets of the shards that get another one.
    pub targets: BTreeMap<ShardId, Target>,
    /// The same as moves, with reasons, in order of the shards.
    pub moves: Vec<Move>,
    /// When to plan again even if nothing happens, because something was put off.
    pub again_at: Option<Moment>,
}

/// Returns what should change now.
pub fn plan(_planning: Planning<'_>) -> Plan {
    unimplemented!("skeleton")
}
