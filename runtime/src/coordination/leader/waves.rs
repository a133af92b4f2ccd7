//! Which moves that wait may begin now. Pure.
//!
//! A wave is whatever fits under the budget; the next one goes as moves end, not by the clock.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::flights::{Flights, Leg};
use crate::coordination::plans::PlannedMove;
use crate::ids::{Incarnation, NodeId, PlanId, ShardId};
use crate::placement::planner::{PlanSettings, Reason};
use crate::placement::{ClusterView, NodeState, Weight};

/// How many moves of shards that have a live owner may be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    /// In the whole cluster.
    pub(super) in_flight_max: usize,
    /// Away from one node, and towards one node.
    pub(super) per_node_max: usize,
}

impl Budget {
    pub(super) fn of(settings: &PlanSettings) -> Self {
        Self {
            in_flight_max: settings.moves_in_flight_max as usize,
            per_node_max: settings.moves_per_node_max as usize,
        }
    }
}

/// What of the cluster a plan rests on. When it changes, what was planned may be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Basis {
    nodes: BTreeMap<NodeId, (Incarnation, NodeState, Weight, Option<String>)>,
    cordoned: BTreeSet<NodeId>,
}

impl Basis {
    pub(super) fn of(view: &ClusterView) -> Self {
        let nodes = view.nodes.iter().map(|(node, record)| {
            let facts = (
                record.incarnation,
                record.state,
                record.weight,
                record.zone.clone(),
            );
            (node.clone(), facts)
        });
        Self {
            nodes: nodes.collect(),
            cordoned: view.orders.cordoned.clone(),
        }
    }
}

/// What becomes of moves that wait.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wave {
    /// They begin.
    pub(super) begin: Vec<(PlanId, ShardId)>,
    /// They are not wanted any more, since their shard or their target is not as it was planned.
    pub(super) drop: Vec<(PlanId, ShardId)>,
}

/// Returns the next wave. The moves of one plan begin in the order of their reasons' weight, then
/// of their shards.
pub(super) fn next(book: &Book, flights: &Flights, view: &ClusterView, budget: Budget) -> Wave {
    let mut room = Room::left(flights, budget);
    let mut wave = Wave::default();
    let mut waiting: Vec<(PlanId, &PlannedMove)> = book.pending().collect();
    waiting.sort_by_key(|(plan, step)| (*plan, step.reason, step.shard));
    let mut taken = BTreeSet::new();
    for (plan, step) in waiting {
        if !is_wanted(step, view) || taken.contains(&step.shard) {
            wave.drop.push((plan, step.shard));
        } else if !is_held(step.reason, view) && room.take(step, view) {
            taken.insert(step.shard);
            wave.begin.push((plan, step.shard));
        }
    }
    wave
}

/// Whether a move for this reason waits for an operator to resume.
pub(super) fn is_held(reason: Reason, view: &ClusterView) -> bool {
    view.orders.paused
        && match reason {
            Reason::Zone | Reason::Join | Reason::Load => true,
            Reason::Failure | Reason::Unplaced | Reason::Manual | Reason::Pin | Reason::Drain => {
                false
            }
        }
}

/// Whether a move that waits can still begin as it was planned.
fn is_wanted(step: &PlannedMove, view: &ClusterView) -> bool {
    let target = view.targets.get(step.shard);
    // A pin may lead a pinned shard elsewhere; every other move was planned before it was pinned.
    let may_move = !target.pinned || step.reason == Reason::Pin;
    let as_planned = target.node == step.from && may_move && !target.quarantined;
    as_planned && takes_shards(&step.to, view)
}

/// Whether a node takes shards, and no operator said that it should get no more.
pub(super) fn takes_shards(node: &NodeId, view: &ClusterView) -> bool {
    let record = view.nodes.get(node);
    let takes = record.is_some_and(|r| r.state == NodeState::Active && !r.weight.is_gate());
    takes && !view.orders.cordoned.contains(node)
}

/// What is left of the budget.
struct Room {
    left: usize,
    per_node_max: usize,
    leaving: BTreeMap<NodeId, usize>,
    coming: BTreeMap<NodeId, usize>,
}

impl Room {
    fn left(flights: &Flights, budget: Budget) -> Self {
        let mut room = Self {
            left: budget.in_flight_max,
            per_node_max: budget.per_node_max,
            leaving: BTreeMap::new(),
            coming: BTreeMap::new(),
        };
        for (_, flight) in flights.iter() {
            match &flight.leg {
                Leg::Leaving(owner) => room.count(&owner.node, &flight.to),
                Leg::Claiming => {} // Nobody serves it: that is no planned move.
            }
        }
        room
    }

    fn count(&mut self, from: &NodeId, to: &NodeId) {
        self.left = self.left.saturating_sub(1);
        *self.leaving.entry(from.clone()).or_default() += 1;
        *self.coming.entry(to.clone()).or_default() += 1;
    }

    /// Takes the room for a move, if there is any. A shard that nobody serves needs none.
    fn take(&mut self, step: &PlannedMove, view: &ClusterView) -> bool {
        let owner = view
            .live_owner(step.shard)
            .filter(|owner| owner.node != step.to);
        let Some(owner) = owner else { return true };
        let used = |counts: &BTreeMap<_, usize>, node| counts.get(node).copied().unwrap_or(0);
        let busiest = used(&self.leaving, &owner.node).max(used(&self.coming, &step.to));
        let fits = self.left > 0 && busiest < self.per_node_max;
        if fits {
            let from = owner.node.clone();
            self.count(&from, &step.to);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::world::{World, budget};
    use super::*;

    #[test]
    fn moves_begin_in_order_as_far_as_the_budget_goes() {
        let moves = "0:a>c 1:a>c 2:a>c 3:b>c 4:b>c";
        check("a b c", "aaabbb", "aaabbb", moves, (2, 9), "0 1", "");
        check("a b c", "aaabbb", "aaabbb", moves, (9, 2), "0 1", "");
        check(
            "a b c d",
            "aaabbb",
            "aaabbb",
            "0:a>c 1:a>d 2:a>d 3:b>d",
            (9, 2),
            "0 1 3",
            "",
        );
        check("a b c", "aaabbb", "aaabbb", moves, (0, 9), "", "");
    }

    #[test]
    fn moves_under_way_count_whoever_ordered_them() {
        check("a b c", "ccabbb", "aaabbb", "2:a>c 3:b>c", (9, 3), "2", "");
        check("a b c", "ccabbb", "aaabbb", "2:a>c 3:b>c", (3, 9), "2", "");
    }

    #[test]
    fn a_shard_that_nobody_serves_needs_no_room() {
        check(
            "a b",
            "aaaa",
            "a--a",
            "0:a>b 1:a>b 2:a>b",
            (0, 0),
            "1 2",
            "",
        );
    }

    #[test]
    fn p14_what_is_not_as_it_was_planned_is_dropped() {
        check(
            "a b",
            "Aab*",
            "aab-",
            "0:a>b 1:a>b 2:a>b 3:a>b",
            (9, 9),
            "1",
            "0 2 3",
        );
        check("a b!", "aa", "aa", "0:a>b 1:a>c", (9, 9), "", "0 1");
    }

    #[test]
    fn one_shard_moves_for_one_plan_at_a_time() {
        let mut world = World::new("a b c", "aa", "aa");
        world.plan(1, "0:a>b");
        world.plan(2, "0:a>c 1:a>c");
        let wave = next(&world.book, &world.flights(), &world.view, budget(9, 9));
        assert_eq!(
            (shards(&wave.begin), shards(&wave.drop)),
            ("0 1".into(), "0".into())
        );
        assert_eq!(wave.drop[0].0, PlanId::new(2));
    }

    #[test]
    fn what_an_operator_paused_waits_and_a_cordoned_node_gets_nothing() {
        let mut world = World::new("a b", "aa", "aa");
        world.plan(1, "0:a>b 1:a>b");
        world.view.orders.paused = true;
        let wave = next(&world.book, &world.flights(), &world.view, budget(9, 9));
        assert_eq!(wave, Wave::default());
        world.view.orders.paused = false;
        world
            .view
            .orders
            .cordoned
            .insert(super::super::tests::world::id("b"));
        let wave = next(&world.book, &world.flights(), &world.view, budget(9, 9));
        assert_eq!(shards(&wave.drop), "0 1");
    }

    /// Checks which shards of a plan begin and which are dropped.
    #[track_caller]
    fn check(
        nodes: &str,
        targets: &str,
        owners: &str,
        moves: &str,
        (all, node): (usize, usize),
        begin: &str,
        drop: &str,
    ) {
        let mut world = World::new(nodes, targets, owners);
        world.plan(1, moves);
        let wave = next(
            &world.book,
            &world.flights(),
            &world.view,
            budget(all, node),
        );
        assert_eq!(
            (shards(&wave.begin).as_str(), shards(&wave.drop).as_str()),
            (begin, drop)
        );
    }

    fn shards(moves: &[(PlanId, ShardId)]) -> String {
        let shards: Vec<_> = moves.iter().map(|(_, shard)| shard.to_string()).collect();
        shards.join(" ")
    }
}
