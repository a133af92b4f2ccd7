//! What only the leader knows, for those who ask why.

use std::time::Duration;

use crate::ids::{NodeId, PlanId};
use crate::placement::planner::Reason;

/// What the leader knows beside what everybody can see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Insight {
    /// The move of the asked shard that waits for its wave, if one does.
    pub waiting: Option<WaitingMove>,
    /// How long the asked shard has been on its way, as this leader saw it.
    pub under_way: Option<Duration>,
    /// Nodes that get no shards for a while, since they did not act.
    pub excluded: Vec<Excluded>,
    /// What the planner cannot mend.
    pub advice: Vec<String>,
    /// When the leader plans again even if nothing happens.
    pub again_in: Option<Duration>,
}

/// A move that waits for its wave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingMove {
    /// Which plan's.
    pub plan: PlanId,
    /// Where to.
    pub to: NodeId,
    /// Why.
    pub reason: Reason,
    /// How many moves of all plans begin before it.
    pub before: u32,
    /// Whether an operator paused it.
    pub paused: bool,
}

/// A node that gets no shards for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Which node.
    pub node: NodeId,
    /// For how much longer.
    pub left: Duration,
    /// Why, in words.
    pub why: String,
}
