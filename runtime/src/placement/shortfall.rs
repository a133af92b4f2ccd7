//! Explains why a node has fewer shards than expected: none targeted at it, or some not claimed.
//!
//! Pure: asks the planner what it would give the node on this view. A node uses it to tell "the
//! leader has not planned for me yet" from "I am meant to have no shards".

use std::collections::BTreeMap;
use std::fmt;

use super::ClusterView;
use super::planner::{Loads, Memory, Move, PlanSettings, Planning, is_held, plan};
use crate::clock::Moment;
use crate::ids::NodeId;

/// Why no shard is targeted at an active node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// The leader has yet to write a plan that gives the node shards.
    NotPlanned,
    /// No node leads, so nobody plans.
    NoLeader,
    /// An operator cordoned the node.
    Cordoned(NodeId),
    /// An operator paused balancing; so many shards move to the node after `resume`.
    Paused(usize),
    /// Zone rules, pins, quarantines, capacities and weights leave the node no shard.
    Rules,
}

impl Shortfall {
    /// Returns why a node has no shards that is active and no gate.
    ///
    /// Costs one plan, about a millisecond for 8192 shards on 100 nodes.
    pub fn of(view: &ClusterView, settings: &PlanSettings, node: &NodeId) -> Self {
        let plan = plan(Planning {
            view,
            // Nothing waits for other joins: what counts is what the leader plans in the end.
            changed: &BTreeMap::new(),
            loads: &Loads::default(),
            in_flight: &[],
            commands: &BTreeMap::new(),
            memory: &Memory::default(),
            settings,
            now: Moment::START,
        });
        let held = |step: &Move| view.orders.paused && is_held(step.reason);
        let coming = || plan.moves.iter().chain(&plan.pending);
        let coming = || coming().filter(|step| step.to == *node);
        if coming().any(|step| !held(step)) {
            return match view.leader {
                Some(_) => Self::NotPlanned,
                None => Self::NoLeader,
            };
        }
        match coming().count() {
            _ if view.orders.cordoned.contains(node) => Self::Cordoned(node.clone()),
            0 => Self::Rules,
            paused => Self::Paused(paused),
        }
    }

    /// Whether the node is meant to have no shards, so that waiting would not give it any.
    pub fn is_meant(&self) -> bool {
        match self {
            Self::NotPlanned | Self::NoLeader => false,
            Self::Cordoned(_) | Self::Paused(_) | Self::Rules => true,
        }
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPlanned => f.write_str("the leader's next plan, which gives this node shards"),
            Self::NoLeader => f.write_str("the election of a leader, which plans"),
            Self::Cordoned(node) => write!(
                f,
                "`steading uncordon {node}`: an operator cordoned this node, so it gets no shards"
            ),
            Self::Paused(shards) => write!(
                f,
                "`steading resume`: an operator paused balancing, so {shards} shards do not move to this node"
            ),
            Self::Rules => f.write_str(
                "nothing: zone rules, pins, quarantines, capacities and weights leave this node no shard",
            ),
        }
    }
}

/// The shards that are targeted at a node and that it does not own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unclaimed {
    /// Pinned to this node by an operator while another live node still owns them. The leader never
    /// gives such a move up, and only the owner can end it.
    pub held_elsewhere: usize,
    /// What the first of the others waits for.
    pub first: Option<String>,
}

impl Unclaimed {
    /// Looks at every shard of the cluster.
    pub fn of(view: &ClusterView, me: &NodeId) -> Self {
        let mut unclaimed = Self::default();
        let targeted = view
            .targets
            .iter()
            .filter(|(_, target)| target.node.as_ref() == Some(me) && !target.quarantined);
        for (shard, target) in targeted {
            match view.live_owner(shard) {
                Some(owner) if owner.node == *me => {}
                Some(_) if target.pinned => unclaimed.held_elsewhere += 1,
                Some(owner) => {
                    let what =
                        || format!("{}, which has not handed shard {shard} over", owner.node);
                    unclaimed.first.get_or_insert_with(what);
                }
                None => {
                    let what = || format!("this node's claim of shard {shard}");
                    unclaimed.first.get_or_insert_with(what);
                }
            }
        }
        unclaimed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ShardCount, ShardId, Term};
    use crate::placement::Leader;
    use crate::placement::planner::tests::World;
    use crate::placement::planner::{Strength, ZoneRule};

    #[test]
    fn an_unplanned_node_waits_for_the_leader() {
        check(World::new("a b", "aaaa"), &Shortfall::NotPlanned);
    }

    #[test]
    fn a_cluster_without_leader_waits_for_one() {
        let mut world = World::new("a b", "aaaa");
        world.own("aaaa");
        world.view.leader = None;
        let seen = Shortfall::of(&world.view, &world.settings, &id("b"));
        assert_eq!(seen, Shortfall::NoLeader);
    }

    #[test]
    fn a_cordoned_node_is_meant_to_have_none() {
        check(World::new("a b^", "aaaa"), &Shortfall::Cordoned(id("b")));
    }

    #[test]
    fn a_pause_holds_joins_back() {
        let mut world = World::new("a b", "aaaa");
        world.view.orders.paused = true;
        check(world, &Shortfall::Paused(2));
    }

    #[test]
    fn a_pause_does_not_hold_failover_back() {
        let mut world = World::new("a b", "acca");
        world.view.orders.paused = true;
        check(world, &Shortfall::NotPlanned);
    }

    #[test]
    fn pins_capacities_weights_and_quarantine_leave_none() {
        check(World::new("a b", "AAAA"), &Shortfall::Rules);
        check(World::new("a b#0", "aaaa"), &Shortfall::Rules);
        check(World::new("a9 b1", "aa"), &Shortfall::Rules);
        check(World::new("a b", "****"), &Shortfall::Rules);
        check(World::new("a b", "a"), &Shortfall::Rules);
    }

    #[test]
    fn a_hard_zone_rule_leaves_none() {
        let mut world = World::new("a@x b@y", "aaaa");
        let shard = |number| ShardId::new(number, ShardCount::DEFAULT).expect("in range");
        world.settings.zone_rules = vec![ZoneRule {
            first: shard(0),
            last: shard(3),
            zone: "x".into(),
            strength: Strength::Hard,
        }];
        check(world, &Shortfall::Rules);
    }

    #[test]
    fn pinned_shards_held_elsewhere_are_left_out() {
        let mut world = World::new("a b", "BB*b");
        world.own("ab-a");
        let unclaimed = Unclaimed::of(&world.view, &id("b"));
        assert_eq!(unclaimed.held_elsewhere, 1);
        assert_eq!(
            unclaimed.first.as_deref(),
            Some("a, which has not handed shard 3 over")
        );
    }

    #[test]
    fn an_unowned_shard_waits_for_the_own_claim() {
        let world = World::new("a b", "ab");
        let unclaimed = Unclaimed::of(&world.view, &id("b"));
        assert_eq!(
            unclaimed.first.as_deref(),
            Some("this node's claim of shard 1")
        );
    }

    #[track_caller]
    fn check(mut world: World, expected: &Shortfall) {
        world.view.leader = Some(Leader {
            node: id("a"),
            term: Term::new(1),
        });
        let seen = Shortfall::of(&world.view, &world.settings, &id("b"));
        assert_eq!(seen, *expected);
    }

    fn id(name: &str) -> NodeId {
        NodeId::new(name).expect("a letter")
    }
}
