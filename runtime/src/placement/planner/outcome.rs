//! What a plan says: moves and their reasons, what was refused, and what operators should know.

use std::collections::BTreeMap;
use std::fmt;

use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};
use crate::placement::{ClusterView, Target};

/// What an operator asks for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Its target should be this node.
    Move(NodeId),
    /// Its target should be this node, and nothing but the node's end should change that.
    Pin(NodeId),
    /// It should be pinned no longer.
    Unpin,
    /// It should be left alone no longer.
    Release,
}

/// Why a command cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such node lives.
    #[error("there is no live node {0}")]
    UnknownNode(NodeId),
    /// The node joins, drains or is a gate.
    #[error("{0} takes no shards: it is joining, draining or a gate")]
    NotATaker(NodeId),
    /// The node is cordoned.
    #[error("{0} is cordoned")]
    Cordoned(NodeId),
    /// The node has as many pinned shards as its capacity allows.
    #[error("{0} has no capacity left")]
    Full(NodeId),
    /// A hard rule keeps the shard in another zone.
    #[error("a rule keeps the shard in zone {0}")]
    ZoneRule(String),
    /// The shard is pinned; unpin it, or pin it elsewhere.
    #[error("the shard is pinned to {0}")]
    Pinned(NodeId),
    /// The shard is in quarantine; release it first.
    #[error("the shard is in quarantine")]
    Quarantined,
}

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
    /// What it takes off the busier node, in thousandths of that node's share of all load; zero for
    /// what is not moved for its load.
    pub gain_permille: u32,
}

/// A move that was ordered and has not ended: a live owner that is not the target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InFlight {
    /// Which shard.
    pub shard: ShardId,
    /// Who owns it.
    pub from: NodeId,
    /// Its target.
    pub to: NodeId,
}

impl InFlight {
    /// Returns every move that a view shows to be under way, in order of the shards.
    pub fn all_of(view: &ClusterView) -> Vec<Self> {
        let shards = view.targets.iter().zip(view.owners.iter());
        let moving = shards.filter_map(|((shard, target), (_, record))| {
            let to = target.node.as_ref().filter(|_| !target.quarantined)?;
            let owner = record.owner.as_ref().filter(|owner| owner.node != *to)?;
            view.is_live(owner).then(|| Self {
                shard,
                from: owner.node.clone(),
                to: to.clone(),
            })
        });
        moving.collect()
    }
}

/// Why a shard changes its target; the weightiest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Its target died.
    Failure,
    /// It had none.
    Unplaced,
    /// An operator moved it.
    Manual,
    /// An operator pinned it there.
    Pin,
    /// Its target gives its shards up.
    Drain,
    /// It belongs into another zone.
    Zone,
    /// Another node takes its share: it joined, or weights or capacities changed.
    Join,
    /// Its target does more than its share.
    Load,
}

impl Reason {
    /// Every reason, the weightiest first.
    pub const ALL: [Self; 8] = [
        Self::Failure,
        Self::Unplaced,
        Self::Manual,
        Self::Pin,
        Self::Drain,
        Self::Zone,
        Self::Join,
        Self::Load,
    ];

    /// Returns the stable name: in the store, in answers and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Unplaced => "unplaced",
            Self::Manual => "manual",
            Self::Pin => "pin",
            Self::Drain => "drain",
            Self::Zone => "zone",
            Self::Join => "join",
            Self::Load => "load",
        }
    }

    /// Returns the reason of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Returns the weightiest of some reasons.
    pub fn weightiest(reasons: impl IntoIterator<Item = Self>) -> Option<Self> {
        reasons.into_iter().min()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What operators should know, since the planner cannot mend it. No call fails with it: it is an
/// error for its words alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Advice {
    /// No node takes shards.
    #[error("no node takes shards, and {unowned} have no owner: start a node")]
    NoTakers {
        /// How many shards are without a live owner.
        unowned: u32,
    },
    /// Shards stay where they should not, or without an owner, because no node has capacity for them.
    #[error("{shards} shards find no room: start or uncordon a node, or raise capacities")]
    CapacityExhausted {
        /// How many.
        shards: u32,
    },
    /// The nodes' stated capacity runs out.
    #[error("{} of the nodes' capacity is used", Percent(*.used_permille))]
    CapacityNear {
        /// How much of it is used, in thousandths.
        used_permille: u32,
    },
    /// A node states a capacity that is no number, so it counts as having none.
    #[error("the capacity that {node} states is no number, and is ignored")]
    CapacityUnreadable {
        /// Which node.
        node: NodeId,
    },
    /// A hard rule cannot be met, since its zone has no node with room. Shards that are served
    /// elsewhere stay there; others wait.
    #[error(
        "{shards} shards, from {first} on, belong into zone {zone}, which has no room for them"
    )]
    ZoneRuleUnmet {
        /// Which zone.
        zone: String,
        /// How many shards belong there and cannot be.
        shards: u32,
        /// The first of them.
        first: ShardId,
    },
    /// Without this zone the others could not take all shards, by their stated capacity.
    #[error("without zone {zone}, {shards} shards would find no room")]
    ZoneWithoutHeadroom {
        /// Which zone.
        zone: String,
        /// How many shards would find no room.
        shards: u32,
    },
    /// Without this zone the others would be over their CPU.
    #[error(
        "without zone {zone}, the other nodes would need {} of their CPU",
        Percent(*.cpu_permille)
    )]
    ZoneWithoutCpu {
        /// Which zone.
        zone: String,
        /// How busy the others would be, in thousandths of what they have.
        cpu_permille: u32,
    },
    /// Shards are pinned to a node that is gone or leaves. They wait, or were pinned elsewhere, as the
    /// pin policy says.
    #[error(
        "{node} is gone or leaves, and {shards} shards that were pinned to it, from {first} on, {}",
        if *.waits { "wait for it" } else { "are pinned elsewhere now" }
    )]
    PinnedToAbsent {
        /// Which node.
        node: NodeId,
        /// How many shards.
        shards: u32,
        /// The first of them.
        first: ShardId,
        /// Whether they wait.
        waits: bool,
    },
    /// One shard alone is more than any node's share: moving it would only move the trouble. Its
    /// objects have to be split, or do less.
    #[error(
        "shard {shard} on {node} alone is {} of a node's share: split its objects, or let them do less",
        Percent(*.load_permille)
    )]
    HotShard {
        /// Which shard.
        shard: ShardId,
        /// Where it is.
        node: NodeId,
        /// Its load in thousandths of that node's share.
        load_permille: u32,
    },
    /// A node does too much, and no move that is allowed would help.
    #[error("{node} does {} of its share, and no move helps", Percent(*.load_permille))]
    Overloaded {
        /// Which node.
        node: NodeId,
        /// Its load in thousandths of its share.
        load_permille: u32,
    },
}

/// Thousandths, shown as percent.
struct Percent(u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} %", self.0 / 10, self.0 % 10)
    }
}

/// What should change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The new targets of the shards that get another one, or other flags, in order of the shards.
    pub targets: Vec<(ShardId, Target)>,
    /// Those that get another node, as moves with reasons, in order of the shards.
    pub moves: Vec<Move>,
    /// Moves that are decided and wait, the next one first: for others to end, or for operators to
    /// resume.
    pub pending: Vec<Move>,
    /// Commands that cannot be carried out. One that is neither here nor among the moves that wait is
    /// carried out by this plan, or was so before.
    pub refused: BTreeMap<ShardId, Refusal>,
    /// What the planner cannot mend, in a fixed order.
    pub advice: Vec<Advice>,
    /// When to plan again even if nothing happens, because something was put off.
    pub again_at: Option<Moment>,
}

impl Plan {
    /// Whether the plan leaves everything as it is.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Returns the new target of a shard, if it gets one.
    pub fn target(&self, shard: ShardId) -> Option<&Target> {
        let place = self
            .targets
            .binary_search_by_key(&shard, |(shard, _)| *shard);
        Some(&self.targets[place.ok()?].1)
    }
}
