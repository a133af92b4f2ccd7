//! Decides which node should own each shard.
//!
//! Pure: the same input gives the same plan, to the byte. Reads no clock and speaks to no store;
//! the leader feeds it the view and writes the result.
//!
//! Two phases share one division. First every shard finds its home: its target if that can hold
//! it, else the owner that its owner key names. Then the takers (active nodes that are no gates)
//! get quotas by their weights; shards without a home fill the rooms, and what a taker has above
//! its quota goes to those below. Nothing else moves.
//!
//! Invariants, checked by [`super::checker`] and in every small world by the tests below:
//! - every shard's target is a taker, while there is any; shards in quarantine are left alone;
//! - a node that drains is emptied at once, and one that is gone as soon as it is sure that it was
//!   no restart, whatever else waits;
//! - when nothing waits, every taker has its quota, reached by the least number of moves;
//! - planning a finished plan changes nothing.
//!
//! Deliberately absent: a stability period, gates (they come and go without effect), and nodes
//! that are still joining.

mod census;
mod quota;
#[cfg(test)]
pub(super) mod tests;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ClusterView, OwnerRecord, Target};
use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};
use census::{Census, Homeless, Taker};

pub(super) use census::{Standing, Standings, tie};
pub(super) use quota::{Share, quotas};
pub(super) use waiting::Waiting;

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Planning<'a> {
    /// The cluster as it is.
    pub view: &'a ClusterView,
    /// When each node was last seen to come, to change its state or to go. A node of which nothing
    /// is said has been as it is for long.
    pub changed: &'a BTreeMap<NodeId, Moment>,
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
pub struct PlanSettings {
    /// How long a join waits for further joins, to be planned with them. Default: 300 ms.
    ///
    /// Ten nodes that join one by one cost a third more moves than ten that join together.
    pub join_delay: Duration,
    /// How long the oldest waiting join waits at most, and how long shards are kept for a node
    /// that is registered again and still joining. Default: 2 s.
    pub join_delay_max: Duration,
    /// How long a node that has just gone keeps its shards. Default: 50 ms.
    ///
    /// A restarted process ends its predecessor's lease and registers a moment later. Without this
    /// delay all of its shards would move in between.
    pub return_delay: Duration,
}

impl Default for PlanSettings {
    fn default() -> Self {
        Self {
            join_delay: Duration::from_millis(300),
            join_delay_max: Duration::from_secs(2),
            return_delay: Duration::from_millis(50),
        }
    }
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
}

/// Why a shard changes its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It had none.
    Unplaced,
    /// Its target died.
    Failure,
    /// Another node takes its share: it joined, or weights changed.
    Join,
    /// Its target gives its shards up.
    Drain,
}

impl Reason {
    /// Every reason, the weightiest first.
    pub const ALL: [Self; 4] = [Self::Failure, Self::Unplaced, Self::Drain, Self::Join];

    /// Returns the stable name: in the store, in answers and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unplaced => "unplaced",
            Self::Failure => "failure",
            Self::Join => "join",
            Self::Drain => "drain",
        }
    }

    /// Returns the reason of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Returns the weightiest of some reasons.
    pub fn weightiest(reasons: impl IntoIterator<Item = Self>) -> Option<Self> {
        reasons.into_iter().min_by_key(|reason| reason.rank())
    }

    /// Returns its place among all reasons; the weightiest has the first.
    pub fn rank(self) -> usize {
        let place = Self::ALL.iter().position(|other| *other == self);
        place.expect("all reasons are listed")
    }
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

impl Plan {
    /// Whether the plan leaves every target as it is.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }
}

/// Returns what should change now.
///
/// Takes time in proportion to the shards plus the nodes: under a millisecond for 8192 shards
/// on 100 nodes.
pub fn plan(planning: Planning<'_>) -> Plan {
    let view = planning.view;
    let mut census = Census::of(&planning);
    if census.takers.is_empty() {
        return Plan::default();
    }
    let waiting = Waiting::of(&planning);
    let mut put_off = false;
    if !census.homeless.is_empty() && waiting.puts_off_first_placement(view) {
        census.homeless.clear();
        put_off = true;
    }
    let quotas = census.quotas();
    if waiting.until().is_some() {
        put_off |= census.is_any_above(&quotas);
    } else {
        census.give_up_excess(view, &quotas);
    }
    let rooms = census.rooms(&quotas);
    let until = waiting.until().filter(|_| put_off);
    let again_at = [census.kept_until, until].into_iter().flatten().min();
    let placed = census
        .returned
        .into_iter()
        .chain(place(census.homeless, rooms));
    finish(view, &census.takers, placed, again_at)
}

/// Hands the shards out in order, one to each taker with room in turn, so that many receivers
/// share the work of one that left.
fn place(
    mut homeless: Vec<Homeless>,
    mut rooms: Vec<u32>,
) -> impl Iterator<Item = (Homeless, usize)> {
    homeless.sort_unstable_by_key(|homeless| homeless.shard);
    let mut receivers: Vec<usize> = (0..rooms.len()).filter(|taker| rooms[*taker] > 0).collect();
    let mut turn = 0;
    homeless.into_iter().map(move |shard| {
        turn = if turn < receivers.len() { turn } else { 0 };
        let taker = receivers[turn];
        rooms[taker] -= 1;
        if rooms[taker] == 0 {
            receivers.remove(turn);
        } else {
            turn += 1;
        }
        (shard, taker)
    })
}

fn finish(
    view: &ClusterView,
    takers: &[Taker<'_>],
    placed: impl Iterator<Item = (Homeless, usize)>,
    again_at: Option<Moment>,
) -> Plan {
    let mut moves: Vec<Move> = placed
        .map(|(Homeless { shard, reason }, taker)| Move {
            shard,
            from: view.targets.get(shard).node.clone(),
            to: takers[taker].node.clone(),
            reason,
        })
        .collect();
    // A shard can return to its owner, and be given up by it at once.
    moves.sort_by_key(|step| step.shard);
    moves.dedup_by(|later, first| {
        let same = later.shard == first.shard;
        if same {
            first.to = later.to.clone();
        }
        same
    });
    let target = |step: &Move| Target {
        node: Some(step.to.clone()),
        ..view.targets.get(step.shard).clone()
    };
    let targets = moves
        .iter()
        .map(|step| (step.shard, target(step)))
        .collect();
    Plan {
        targets,
        moves,
        again_at,
    }
}

/// Whether a life of this node owns the shard and is registered.
fn is_owned_by(view: &ClusterView, record: &OwnerRecord, node: &NodeId) -> bool {
    record
        .owner
        .as_ref()
        .is_some_and(|owner| owner.node == *node && view.is_live(owner))
}
