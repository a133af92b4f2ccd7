//! The invariants that a plan can break.

use std::fmt;

use crate::ids::{NodeId, ShardId};

/// An invariant that a plan breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// A shard is given to a node that takes none.
    NotATaker {
        /// Which shard.
        shard: ShardId,
        /// Its target.
        target: NodeId,
    },
    /// A shard is given to a cordoned node.
    Cordoned {
        /// Which shard.
        shard: ShardId,
        /// Its target.
        target: NodeId,
    },
    /// A shard is given to a node in another zone than a hard rule says.
    ZoneRule {
        /// Which shard.
        shard: ShardId,
        /// Its target.
        target: NodeId,
    },
    /// A node is given more shards than its capacity allows.
    Full {
        /// Which node.
        node: NodeId,
        /// How many it has then.
        count: u32,
        /// How many it can have.
        capacity: u32,
    },
    /// A shard has no target that could serve it, though there are nodes that could take it.
    Unplaced {
        /// Which shard.
        shard: ShardId,
    },
    /// A shard is taken from a node that could keep it, though joins wait.
    Taken {
        /// Which shard.
        shard: ShardId,
        /// Who could keep it.
        from: NodeId,
    },
    /// A pinned shard is moved, though no operator said so and its node is there or is waited for.
    PinMoved {
        /// Which shard.
        shard: ShardId,
    },
    /// A shard in quarantine gets a target.
    QuarantineBroken {
        /// Which shard.
        shard: ShardId,
    },
    /// A shard's flags change, and neither a command nor the deaths of its owners explain it.
    FlagsChanged {
        /// Which shard.
        shard: ShardId,
    },
    /// A command is neither carried out nor refused, nor does it wait.
    CommandLost {
        /// Which shard's.
        shard: ShardId,
    },
    /// A move begins that operators have paused.
    Paused {
        /// Which shard.
        shard: ShardId,
    },
    /// More moves begin than may be under way.
    OverBudget {
        /// Who gives a shard too many, or one that is too many for the cluster.
        from: NodeId,
        /// Who takes it.
        to: NodeId,
    },
    /// A node gets more or fewer shards than its quota.
    Uneven {
        /// Which node.
        node: NodeId,
        /// How many shards are targeted at it.
        count: u32,
        /// How many should be.
        quota: u32,
    },
    /// More shards are taken from nodes that could keep them than have to be.
    TooManyMoves {
        /// How many are.
        moves: usize,
        /// How many have to be.
        least: usize,
    },
    /// The list of moves does not say what the new targets say.
    MovesDiffer {
        /// The first shard of which that is true.
        shard: ShardId,
    },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATaker { shard, target } => {
                write!(
                    f,
                    "shard {shard} is given to {target}, which takes no shards"
                )
            }
            Self::Cordoned { shard, target } => {
                write!(f, "shard {shard} is given to {target}, which is cordoned")
            }
            Self::ZoneRule { shard, target } => {
                write!(
                    f,
                    "shard {shard} is given to {target}, which is in the wrong zone"
                )
            }
            Self::Full {
                node,
                count,
                capacity,
            } => {
                write!(
                    f,
                    "{node} is given {count} shards, its capacity is {capacity}"
                )
            }
            Self::Unplaced { shard } => {
                write!(
                    f,
                    "shard {shard} is left without a target, though nodes take shards"
                )
            }
            Self::Taken { shard, from } => {
                write!(f, "shard {shard} is taken from {from}, which may keep it")
            }
            Self::PinMoved { shard } => write!(f, "shard {shard} is pinned, and is moved"),
            Self::QuarantineBroken { shard } => {
                write!(f, "shard {shard} is in quarantine and gets a target")
            }
            Self::FlagsChanged { shard } => write!(f, "the flags of shard {shard} change"),
            Self::CommandLost { shard } => {
                write!(
                    f,
                    "the command for shard {shard} is neither carried out nor refused"
                )
            }
            Self::Paused { shard } => write!(f, "shard {shard} moves, though that is paused"),
            Self::OverBudget { from, to } => {
                write!(
                    f,
                    "more moves begin from {from} to {to} than may be under way"
                )
            }
            Self::Uneven { node, count, quota } => {
                write!(f, "{node} gets {count} shards, its quota is {quota}")
            }
            Self::TooManyMoves { moves, least } => write!(
                f,
                "{moves} shards are taken from nodes that could keep them, {least} would do"
            ),
            Self::MovesDiffer { shard } => {
                write!(
                    f,
                    "the moves and the targets of the plan differ at shard {shard}"
                )
            }
        }
    }
}
