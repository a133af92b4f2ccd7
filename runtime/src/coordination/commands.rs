//! What operators can ask of the leader, and what it answers. Pure values.

use std::fmt;

use super::plans::PlanRecord;
use crate::ids::{NodeId, PlanId, ShardId};
use crate::placement::planner::{self, Strategy};

/// Most shards that one command moves.
pub const MOVES_MAX: usize = 1024;

/// Something that an operator asks of the cluster.
///
/// Each says what should be, so that asking twice is as good as asking once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A shard should be pinned to a node; `None`: to the one that owns it, or else should.
    Pin {
        /// Which shard.
        shard: ShardId,
        /// Where to.
        node: Option<NodeId>,
    },
    /// A shard should be pinned no longer.
    Unpin {
        /// Which shard.
        shard: ShardId,
    },
    /// Shards should move, at most [`MOVES_MAX`].
    Move {
        /// Which shards, and where to.
        moves: Vec<(ShardId, NodeId)>,
    },
    /// A node should keep what it has and get nothing more.
    Cordon {
        /// Which node.
        node: NodeId,
    },
    /// A node should get shards again.
    Uncordon {
        /// Which node.
        node: NodeId,
    },
    /// A shard should be in quarantine no longer.
    Release {
        /// Which shard.
        shard: ShardId,
    },
    /// The planner should look now whether shards are well divided, without waiting.
    Rebalance {
        /// Only tell what it would do.
        dry_run: bool,
        /// What to balance; `None`: as the settings say.
        strategy: Option<Strategy>,
    },
    /// Moves that nobody's absence asks for should wait.
    Pause,
    /// They should go on.
    Resume,
    /// A plan should end early.
    Abort {
        /// Which plan.
        plan: PlanId,
        /// What is done or under way should be undone too.
        reverse: bool,
    },
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// What is so now, in words.
    pub text: String,
    /// Whether it was not so before.
    pub changed: bool,
    /// The plan that carries it out, or would.
    pub plan: Option<PlanRecord>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The kind of reason.
    pub code: RefusalCode,
    /// The reason in words.
    pub detail: String,
    /// Who leads, if another node than the asked one does.
    pub leader: Option<NodeId>,
}

/// Kinds of reasons for which commands are not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RefusalCode {
    /// No live node has this name.
    UnknownNode,
    /// The cluster has no such shard.
    UnknownShard,
    /// No plan of this ID is kept.
    UnknownPlan,
    /// The node joins, drains or is a gate.
    NotATaker,
    /// The node is cordoned.
    Cordoned,
    /// The node has no capacity left.
    Full,
    /// A rule keeps the shard in another zone.
    ZoneRule,
    /// The shard is pinned.
    Pinned,
    /// The shard is in quarantine.
    Quarantined,
    /// The shard is nowhere, so it cannot be pinned to where it is.
    Nowhere,
    /// The plan moves shards that cannot stay.
    NotAbortable,
    /// Balancing is paused.
    Paused,
    /// The command is too large, or says two things of one shard.
    Malformed,
    /// Too many plans run, or too many commands wait.
    Busy,
    /// The node has begun to leave.
    Leaving,
    /// Nobody leads at the moment.
    NoLeader,
    /// The asked node does not lead.
    NotLeader,
    /// The leader does not answer. The command may have been carried out, or may yet be.
    NoAnswer,
}

impl Command {
    /// Returns the stable name of its kind.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pin { .. } => "pin",
            Self::Unpin { .. } => "unpin",
            Self::Move { .. } => "move",
            Self::Cordon { .. } => "cordon",
            Self::Uncordon { .. } => "uncordon",
            Self::Release { .. } => "release",
            Self::Rebalance { .. } => "rebalance",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort { .. } => "abort",
        }
    }
}

impl Done {
    /// Says what was so already.
    pub fn already(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            changed: false,
            plan: None,
        }
    }
}

impl Refusal {
    /// Makes a refusal.
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            leader: None,
        }
    }

    /// Makes the refusal of a node that does not lead.
    pub fn not_leader(leader: Option<NodeId>) -> Self {
        let (code, detail) = match &leader {
            Some(leader) => (RefusalCode::NotLeader, format!("{leader} leads")),
            None => (RefusalCode::NoLeader, "nobody leads at the moment".into()),
        };
        Self {
            leader,
            ..Self::new(code, detail)
        }
    }

    /// Makes the refusal of a shard that the planner does not treat as asked.
    pub fn of_shard(shard: ShardId, why: &planner::Refusal) -> Self {
        let code = match why {
            planner::Refusal::UnknownNode(_) => RefusalCode::UnknownNode,
            planner::Refusal::NotATaker(_) => RefusalCode::NotATaker,
            planner::Refusal::Cordoned(_) => RefusalCode::Cordoned,
            planner::Refusal::Full(_) => RefusalCode::Full,
            planner::Refusal::ZoneRule(_) => RefusalCode::ZoneRule,
            planner::Refusal::Pinned(_) => RefusalCode::Pinned,
            planner::Refusal::Quarantined => RefusalCode::Quarantined,
        };
        Self::new(code, format!("shard {shard}: {why}"))
    }
}

impl RefusalCode {
    /// Every code with its meaning, for documentation.
    pub const ALL: [(Self, &'static str); 18] = [
        (Self::UnknownNode, "no live node has this name"),
        (Self::UnknownShard, "the cluster has no such shard"),
        (Self::UnknownPlan, "no plan of this ID is kept"),
        (Self::NotATaker, "the node joins, drains or is a gate"),
        (Self::Cordoned, "the node is cordoned"),
        (Self::Full, "the node has no capacity left"),
        (Self::ZoneRule, "a rule keeps the shard in another zone"),
        (Self::Pinned, "the shard is pinned"),
        (Self::Quarantined, "the shard is in quarantine"),
        (
            Self::Nowhere,
            "the shard is nowhere, so it cannot be pinned to where it is",
        ),
        (Self::NotAbortable, "the plan moves shards that cannot stay"),
        (Self::Paused, "balancing is paused"),
        (
            Self::Malformed,
            "the command is too large, or says two things of one shard",
        ),
        (Self::Busy, "too many plans run, or too many commands wait"),
        (Self::Leaving, "the node has begun to leave"),
        (Self::NoLeader, "nobody leads at the moment"),
        (Self::NotLeader, "the asked node does not lead"),
        (
            Self::NoAnswer,
            "the leader does not answer; it may have done it",
        ),
    ];

    /// Returns the stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownNode => "unknown_node",
            Self::UnknownShard => "unknown_shard",
            Self::UnknownPlan => "unknown_plan",
            Self::NotATaker => "not_a_taker",
            Self::Cordoned => "cordoned",
            Self::Full => "full",
            Self::ZoneRule => "zone_rule",
            Self::Pinned => "pinned",
            Self::Quarantined => "quarantined",
            Self::Nowhere => "nowhere",
            Self::NotAbortable => "not_abortable",
            Self::Paused => "paused",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Leaving => "leaving",
            Self::NoLeader => "no_leader",
            Self::NotLeader => "not_leader",
            Self::NoAnswer => "no_answer",
        }
    }

    /// Returns the code of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().map(|(code, _)| code);
        all.find(|code| code.as_str() == name)
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
