//! Lists every invariant that a plan breaks.
//!
//! For tests, for the leader before it writes a plan, and for tools. Works from the outcome alone,
//! and knows nothing of how the planner came to it.

use std::collections::BTreeMap;
use std::fmt;

use super::planner::{Move, Plan, Planning, Share, Standing, Standings, Waiting, quotas, tie};
use super::{ClusterView, ShardTable, Target};
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
    /// A shard has no target that could serve it, though there are nodes that take shards.
    Unplaced {
        /// Which shard.
        shard: ShardId,
    },
    /// A shard is taken from a node that could keep it, though joins wait or the shard is pinned.
    Taken {
        /// Which shard.
        shard: ShardId,
        /// Who could keep it.
        from: NodeId,
    },
    /// A shard in quarantine gets a target.
    QuarantineBroken {
        /// Which shard.
        shard: ShardId,
    },
    /// A shard's flags change, which only operators and the quarantine may do.
    FlagsChanged {
        /// Which shard.
        shard: ShardId,
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
            Self::Unplaced { shard } => {
                write!(
                    f,
                    "shard {shard} is left without a target, though nodes take shards"
                )
            }
            Self::Taken { shard, from } => {
                write!(f, "shard {shard} is taken from {from}, which may keep it")
            }
            Self::QuarantineBroken { shard } => {
                write!(f, "shard {shard} is in quarantine and gets a target")
            }
            Self::FlagsChanged { shard } => write!(f, "the flags of shard {shard} change"),
            Self::Uneven { node, count, quota } => {
                write!(f, "{node} gets {count} shards, its quota is {quota}")
            }
            Self::TooManyMoves { moves, least } => {
                write!(
                    f,
                    "{moves} shards are taken from nodes that could keep them, {least} would do"
                )
            }
            Self::MovesDiffer { shard } => {
                write!(
                    f,
                    "the moves and the targets of the plan differ at shard {shard}"
                )
            }
        }
    }
}

/// Returns what is wrong with a plan made of this; nothing, if all is well.
pub fn check(planning: &Planning<'_>, plan: &Plan) -> Vec<Broken> {
    let outcome = Outcome::of(planning, plan);
    let mut broken: Vec<_> = outcome.listed(plan).into_iter().collect();
    if outcome.takers.is_empty() {
        broken.extend(plan.moves.iter().map(|step| Broken::NotATaker {
            shard: step.shard,
            target: step.to.clone(),
        }));
        return broken;
    }
    for shard in planning.view.meta.shard_count.shards() {
        broken.extend(outcome.shard(shard));
    }
    broken.extend(outcome.divided(plan));
    broken
}

/// Returns the fewest shards that must be taken from nodes that could keep them, to reach the
/// spread that such a plan should reach.
pub fn least_moves(planning: &Planning<'_>, plan: &Plan) -> usize {
    Outcome::of(planning, plan).division().least
}

/// The cluster before and after a plan.
struct Outcome<'a> {
    view: &'a ClusterView,
    after: ShardTable<Target>,
    standings: Standings<'a>,
    /// In order of their places.
    takers: Vec<&'a NodeId>,
    /// Joins wait.
    waits: bool,
    /// Shards that are nobody's wait too.
    first_placement_waits: bool,
}

/// What each taker has after the plan and should have, and the fewest moves that takes.
struct Division {
    after: Vec<u32>,
    quotas: Vec<u32>,
    least: usize,
}

impl<'a> Outcome<'a> {
    fn of(planning: &Planning<'a>, plan: &Plan) -> Self {
        let view = planning.view;
        let standings = Standings::of(planning);
        let is_taker = |node: &&NodeId| matches!(standings.get(node), Some(Standing::Taker(_)));
        let takers = view.nodes.keys().filter(is_taker).collect();
        let waiting = Waiting::of(planning);
        let mut after = view.targets.clone();
        for (shard, target) in &plan.targets {
            after.set(*shard, target.clone());
        }
        Self {
            view,
            after,
            standings,
            takers,
            waits: waiting.until().is_some(),
            first_placement_waits: waiting.puts_off_first_placement(view),
        }
    }

    /// Checks that the list of moves and the new targets say the same.
    fn listed(&self, plan: &Plan) -> Option<Broken> {
        let before = |shard: &ShardId| self.view.targets.get(*shard).node.as_ref();
        let targets = plan.targets.iter();
        let meant: BTreeMap<_, _> = targets
            .map(|(shard, target)| (*shard, (before(shard), target.node.as_ref())))
            .collect();
        let moves = plan.moves.iter();
        let said: BTreeMap<_, _> = moves
            .map(|step| (step.shard, (step.from.as_ref(), Some(&step.to))))
            .collect();
        let mut shards = meant.keys().chain(said.keys());
        let differs = shards.find(|shard| meant.get(shard) != said.get(shard));
        differs.map(|shard| Broken::MovesDiffer { shard: *shard })
    }

    fn shard(&self, shard: ShardId) -> Option<Broken> {
        let (before, after) = (self.view.targets.get(shard), self.after.get(shard));
        if (before.pinned, before.quarantined) != (after.pinned, after.quarantined) {
            return Some(Broken::FlagsChanged { shard });
        }
        if before.quarantined {
            return (before != after).then_some(Broken::QuarantineBroken { shard });
        }
        let changed = before.node != after.node;
        match (self.standing(after), &after.node) {
            (Some(Standing::Taker(_)), _) => {
                let from = self
                    .home(shard)
                    .filter(|home| Some(*home) != after.node.as_ref())?;
                let may_leave = !self.waits && !before.pinned;
                (!may_leave).then(|| Broken::Taken {
                    shard,
                    from: from.clone(),
                })
            }
            (_, Some(target)) if changed => Some(Broken::NotATaker {
                shard,
                target: target.clone(),
            }),
            (Some(Standing::KeptUntil(_)), _) => None,
            (Some(Standing::Leaving) | None, _) => {
                let waits = self.first_placement_waits && self.home(shard).is_none();
                (!waits).then_some(Broken::Unplaced { shard })
            }
        }
    }

    /// Checks that everybody gets its quota, with as few moves as that takes.
    fn divided(&self, plan: &Plan) -> Vec<Broken> {
        let Division {
            after,
            quotas,
            least,
        } = self.division();
        // Where more is pinned than a share, the quotas add up to more than there is.
        let is_all_divided = quotas.iter().sum::<u32>() == after.iter().sum::<u32>();
        let counts = after.iter().zip(&quotas).zip(&self.takers);
        let uneven = counts.filter(|((count, quota), _)| {
            !self.waits && (count > quota || count < quota && is_all_divided)
        });
        let mut broken: Vec<_> = uneven
            .map(|((count, quota), node)| Broken::Uneven {
                node: (*node).clone(),
                count: *count,
                quota: *quota,
            })
            .collect();
        let moves = plan.moves.iter().filter(|step| self.was_free(step)).count();
        if moves > least {
            broken.push(Broken::TooManyMoves { moves, least });
        }
        broken
    }

    fn division(&self) -> Division {
        let (before, after) = (self.shares_before(), self.counts_after());
        let quotas = quotas(after.iter().sum(), &before);
        let excess = before.iter().zip(&quotas);
        let excess = excess.map(|(share, quota)| share.count.saturating_sub(*quota) as usize);
        let least = if self.waits { 0 } else { excess.sum() };
        Division {
            after,
            quotas,
            least,
        }
    }

    /// Whether the move could have been left out: the shard's home is a taker, and the move does
    /// not lead there, or changes nothing.
    fn was_free(&self, step: &Move) -> bool {
        let home = self.home(step.shard);
        step.from.as_ref() == Some(&step.to) || home.is_some_and(|home| *home != step.to)
    }

    /// Returns what the takers have, if every shard that has a home among them is there.
    fn shares_before(&self) -> Vec<Share> {
        let share = |node: &&NodeId| Share {
            weight: self.view.nodes[*node].weight.thousandths().into(),
            count: 0,
            pinned: 0,
            tie: tie(self.view, node),
        };
        let mut shares: Vec<Share> = self.takers.iter().map(share).collect();
        for (shard, target) in self.view.targets.iter().filter(|(_, t)| !t.quarantined) {
            if let Some(taker) = self.home(shard).and_then(|home| self.place(home)) {
                shares[taker].count += 1;
                shares[taker].pinned += u32::from(target.pinned);
            }
        }
        shares
    }

    fn counts_after(&self) -> Vec<u32> {
        let mut counts = vec![0; self.takers.len()];
        for (_, target) in self.after.iter().filter(|(_, target)| !target.quarantined) {
            if let Some(taker) = target.node.as_ref().and_then(|node| self.place(node)) {
                counts[taker] += 1;
            }
        }
        counts
    }

    /// Returns the taker that should keep a shard: its target, else whom its owner key names.
    fn home(&self, shard: ShardId) -> Option<&NodeId> {
        let target = self.view.targets.get(shard);
        match self.standing(target) {
            Some(Standing::Taker(_)) => target.node.as_ref(),
            Some(Standing::KeptUntil(_)) => None,
            Some(Standing::Leaving) | None => {
                let owner = self.view.owners.get(shard).owner.as_ref()?;
                self.place(&owner.node).map(|_| &owner.node)
            }
        }
    }

    fn standing(&self, target: &Target) -> Option<Standing> {
        self.standings.get(target.node.as_ref()?)
    }

    fn place(&self, node: &NodeId) -> Option<usize> {
        match self.standings.get(node)? {
            Standing::Taker(place) => Some(place),
            Standing::KeptUntil(_) | Standing::Leaving => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::planner::tests::World;

    #[test]
    fn a_good_plan_breaks_nothing() {
        check("a b", "aa--", "aabb", &[]);
        check("a b!", "ab-*", "aaa*", &[]);
    }

    #[test]
    fn a_target_that_takes_no_shards_is_named() {
        check(
            "a b!",
            "a-",
            "ab",
            &["shard 1 is given to b, which takes no shards"],
        );
        check(
            "a! b!",
            "aa",
            "ab",
            &["shard 1 is given to b, which takes no shards"],
        );
    }

    #[test]
    fn a_shard_left_out_is_named() {
        check(
            "a",
            "a-",
            "a-",
            &["shard 1 is left without a target, though nodes take shards"],
        );
        check(
            "a",
            "ab",
            "ab",
            &["shard 1 is left without a target, though nodes take shards"],
        );
    }

    #[test]
    fn p14_a_pinned_shard_that_is_taken_is_named() {
        let broken = ["shard 0 is taken from a, which may keep it"];
        check("a b", "Aaab", "Baab", &broken);
    }

    #[test]
    fn quarantine_and_flags_are_not_the_planners() {
        check("a", "a-", "aA", &["the flags of shard 1 change"]);
        let world = World::new("a", "a*");
        let mut plan = world.plan_to("aa");
        for target in plan.targets.values_mut() {
            target.quarantined = true;
        }
        let broken = world.broken(&plan);
        assert_eq!(
            broken[0].to_string(),
            "shard 1 is in quarantine and gets a target"
        );
    }

    #[test]
    fn an_uneven_division_is_counted() {
        let uneven = [
            "a gets 3 shards, its quota is 2",
            "b gets 1 shards, its quota is 2",
        ];
        check("a b", "aaab", "aaab", &uneven);
    }

    #[test]
    fn moves_beyond_the_least_are_counted() {
        let broken = ["2 shards are taken from nodes that could keep them, 0 would do"];
        check("a b", "abab", "baab", &broken);
    }

    #[test]
    fn moves_that_say_otherwise_than_the_targets_are_named() {
        let world = World::new("a b", "aa--");
        let mut plan = world.plan_to("aabb");
        plan.moves.pop();
        let broken = world.broken(&plan);
        let shard = *plan.targets.keys().next_back().expect("two targets");
        assert_eq!(broken, [Broken::MovesDiffer { shard }]);
    }

    /// Checks a plan that leads from one layout to another; the notation is the planner's tests'.
    #[track_caller]
    fn check(nodes: &str, before: &str, after: &str, expected: &[&str]) {
        let world = World::new(nodes, before);
        let broken = world.broken(&world.plan_to(after));
        let words: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert_eq!(words, expected);
    }
}
