//! Balancing what shards cost.

use super::super::*;
use super::world::{World, at, id};
use crate::placement::Target;

/// How busy the nodes are, unless a test says otherwise, in thousandths.
const BUSY: u32 = 600;

impl World {
    /// Lets every node report what its shards do, as calls a second, until a new leader has seen
    /// enough to act.
    fn report(&mut self, calls: impl Fn(ShardId) -> u64, busy: u32) {
        for window in 0..4 {
            let now = at(70_000 + 10_000 * window);
            for node in self.view.nodes.keys() {
                let targets = self.view.targets.iter();
                let own = targets.filter(|(_, target)| target.node.as_ref() == Some(node));
                let rates = |shard| ShardRates {
                    calls_per_s: calls(shard),
                    ..ShardRates::default()
                };
                let report = LoadReport {
                    node: node.clone(),
                    load: NodeUse {
                        cpu_permille: busy,
                        memory_permille: 0,
                    },
                    shards: own.map(|(shard, _)| (shard, rates(shard))).collect(),
                };
                self.loads.absorb(&report, now);
            }
            self.memory
                .see(&self.view, &self.loads, &self.settings, now);
        }
    }

    /// Returns the load of the busiest node in thousandths of the mean.
    fn max_permille(&self, calls: impl Fn(ShardId) -> u64) -> u64 {
        let mut loads: BTreeMap<&NodeId, u64> =
            self.view.nodes.keys().map(|node| (node, 0)).collect();
        for (shard, target) in self.view.targets.iter() {
            let node = target.node.as_ref().expect("everything is placed");
            *loads.get_mut(node).expect("on a live node") += calls(shard);
        }
        let max = loads.values().max().expect("some nodes");
        let sum: u64 = loads.values().sum();
        max * 1000 * loads.len() as u64 / sum
    }

    /// Plans and carries out until nothing is left to do, checking each plan.
    fn balance(&mut self) -> Vec<Move> {
        let mut moves = Vec::new();
        for _ in 0..3 {
            let plan = self.plan_at(super::LATER);
            let broken = self.broken(&plan);
            assert_eq!(broken, []);
            if plan.is_empty() {
                return moves;
            }
            moves.extend(plan.moves.iter().cloned());
            self.carry_out(&plan);
        }
        panic!("still planning after {} moves", moves.len());
    }
}

fn number(shard: ShardId) -> u64 {
    shard.get().into()
}

/// Calls a second by zipf's law: the shard of rank k gets 1/k^0.9 of those of the first. Ranks are
/// scattered over the shards.
fn zipf(shards: u32, seed: u64) -> impl Fn(ShardId) -> u64 {
    let mut ranks: Vec<u64> = (1..=u64::from(shards)).collect();
    let mut random = seed | 1;
    for place in (1..ranks.len()).rev() {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random % (place as u64 + 1)).expect("small");
        ranks.swap(place, other);
    }
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "made-up loads"
    )]
    let calls = move |shard: ShardId| {
        let rank = ranks[shard.index()] as f64;
        (10_000_000.0 / rank.powf(0.9)) as u64
    };
    calls
}

/// The share of shards that may move is that of a cluster of the usual size. With fewer shards the
/// hottest is nearly a node's share, and more has to leave its node.
#[test]
fn s2_22_zipf_load_on_ten_nodes_is_evened_out_with_few_moves() {
    for (shards, moves_permille) in [(8192, 60), (1024, 100)] {
        for seed in (1..20).step_by(2) {
            let mut world = World::large(10, shards);
            world.settle();
            let calls = zipf(shards, seed);
            world.report(&calls, BUSY);
            let before = world.max_permille(&calls);
            let all = world.view.meta.shard_count.shards();
            let hottest = all.clone().map(&calls).max().unwrap_or(0);
            let bound = hottest * 10_000 / all.map(&calls).sum::<u64>();
            let moves = world.balance().len();
            let after = world.max_permille(&calls);
            let what =
                format!("{shards} shards, seed {seed}: {before} to {after} by {moves} moves");
            assert!(after <= bound.max(1050), "{what}");
            assert!(moves * 1000 <= moves_permille * shards as usize, "{what}");
        }
    }
}

#[test]
fn s2_24_nothing_is_moved_for_load_if_counts_are_to_be_balanced() {
    let mut world = World::large(10, 1024);
    world.settle();
    world.settings.strategy = Strategy::Count;
    world.report(zipf(1024, 1), BUSY);
    assert_eq!(world.moves(), []);
}

#[test]
fn s1_45_too_much_for_two_windows_is_not_enough() {
    let mut world = World::large(10, 1024);
    world.settle();
    world.settings.load_windows = 5;
    world.report(zipf(1024, 1), BUSY);
    assert_eq!(world.moves(), []);
}

#[test]
fn a_cluster_that_does_little_is_left_alone() {
    let mut world = World::large(10, 1024);
    world.settle();
    world.report(zipf(1024, 1), 299);
    assert_eq!(world.moves(), []);
}

#[test]
fn loads_within_the_band_are_left_alone() {
    let mut world = World::new("a b", "aabb");
    world.report(|shard| [105, 124, 100, 99][shard.index()] * 1000, BUSY);
    assert_eq!(world.moves(), [], "14 % above");
    let mut world = World::new("a b", "aabb");
    world.report(|shard| [116, 120, 100, 60][shard.index()] * 1000, BUSY);
    assert_eq!(world.balance().len(), 2, "19 % above: one swap");
}

#[test]
fn s2_22_stale_reports_move_nothing() {
    let mut world = World::large(10, 1024);
    world.settle();
    world.report(zipf(1024, 1), BUSY);
    assert!(!world.moves().is_empty());
    assert_eq!(world.plan_at(100_000 + 31_000).moves, []);
}

#[test]
fn s1_45_a_shard_that_rests_is_not_moved_for_its_load() {
    let mut world = World::large(10, 1024);
    world.settle();
    let calls = zipf(1024, 1);
    world.report(&calls, BUSY);
    let plan = world.plan_at(super::LATER);
    world
        .memory
        .note(&plan, &world.settings.clone(), at(super::LATER));
    let again = world.plan_at(super::LATER);
    let first: Vec<_> = plan
        .moves
        .iter()
        .filter(|m| m.reason == Reason::Load)
        .collect();
    let moved = |step: &Move| first.iter().any(|other| other.shard == step.shard);
    assert!(!first.is_empty() && !again.moves.iter().any(moved));
}

#[test]
fn one_shard_that_is_the_whole_trouble_is_named_and_not_moved() {
    let mut world = World::new("a b", "abab");
    world.report(|shard| if number(shard) == 0 { 10_000 } else { 10 }, BUSY);
    let plan = world.plan_at(super::LATER);
    assert!(plan.moves.iter().all(|step| number(step.shard) != 0));
    world.balance();
    let said: Vec<_> = world.plan_at(super::LATER).advice;
    let text = said.iter().map(ToString::to_string).collect::<String>();
    assert!(text.starts_with("shard 0 on a alone is 199."), "{text}");
}

#[test]
fn others_leave_the_node_of_a_hot_shard_and_counts_give_way() {
    let mut world = World::new("a b", "aaaabbbb");
    let calls = |shard: ShardId| [60, 20, 20, 20, 10, 10, 10, 10][shard.index()] * 1000;
    world.report(calls, BUSY);
    world.balance();
    assert!(world.max_permille(calls) <= 1050, "{}", world.planned());
    let target = world
        .view
        .targets
        .get(world.view.meta.shard_count.shards().next().expect("one"));
    assert_eq!(
        target.node.as_ref().map(NodeId::as_str),
        Some("a"),
        "the hot one stays"
    );
}

#[test]
fn pinned_shards_cordoned_nodes_and_zones_are_kept_to() {
    let mut world = World::new("a@x b@x c@y", "AaaAbbbbcccc****");
    let shards: Vec<_> = world.view.meta.shard_count.shards().collect();
    world.settings.zone_rules = vec![ZoneRule {
        first: shards[0],
        last: shards[7],
        zone: "x".into(),
        strength: Strength::Hard,
    }];
    let calls = |shard: ShardId| {
        [30, 38, 38, 30, 10, 10, 10, 10, 5, 5, 5, 5, 0, 0, 0, 0][shard.index()] * 1000
    };
    world.report(calls, BUSY);
    let moves = world.balance();
    assert!(
        !moves.is_empty() && moves.iter().all(|step| step.to.as_str() != "c"),
        "{moves:?}"
    );
    assert!(
        moves
            .iter()
            .all(|step| ![0, 3].contains(&number(step.shard)))
    );
}

#[test]
fn gains_of_moves_are_said_in_thousandths_of_the_givers_share() {
    let mut world = World::new("a b", "aabb");
    world.report(|shard| [120, 80, 60, 40][shard.index()] * 1000, BUSY);
    let plan = world.plan_at(super::LATER);
    let gains: Vec<_> = plan
        .moves
        .iter()
        .map(|step| (number(step.shard), step.gain_permille))
        .collect();
    assert_eq!(gains, [(1, 266), (3, 0)], "80 for 40, of a share of 150");
}

/// Every way to spread these loads over two nodes ends within two plans, with the counts as they
/// were.
#[test]
fn every_small_world_with_loads_comes_to_rest() {
    let loads = [90, 50, 20, 10, 5, 1];
    for layout in 0..64_u32 {
        for rotated in 0..6 {
            let mut world = World::new("a b", "------**");
            for (shard, place) in world.view.meta.shard_count.shards().zip(0..6) {
                let node = if layout >> place & 1 == 0 { "a" } else { "b" };
                let node = NodeId::new(node).ok();
                world.view.targets.set(
                    shard,
                    Target {
                        node,
                        ..Target::default()
                    },
                );
            }
            let calls = |shard: ShardId| {
                loads
                    .get((shard.index() + rotated) % 6)
                    .copied()
                    .unwrap_or(0)
                    * 1000
            };
            world.settle();
            world.report(calls, BUSY);
            world.balance();
        }
    }
}

#[test]
fn ten_nodes_of_unequal_weight_get_loads_by_weight() {
    let mut world = World::large(10, 1024);
    for (number, weight) in [(0, 3000), (1, 500)] {
        let record = world.view.nodes.get_mut(&id(number)).expect("it is there");
        record.weight = crate::placement::Weight::from_thousandths(weight);
    }
    world.settle();
    let calls = |shard: ShardId| 1000 + 10 * (number(shard) % 100);
    world.report(calls, BUSY);
    world.balance();
    let heavy = world
        .view
        .targets
        .iter()
        .filter(|(_, t)| t.node == Some(id(0)));
    let heavy: u64 = heavy.map(|(shard, _)| calls(shard)).sum();
    let all: u64 = world.view.meta.shard_count.shards().map(calls).sum();
    let permille = heavy * 11_500 / (all * 3);
    assert!((850..=1150).contains(&permille), "{permille}");
}

#[test]
fn the_end_of_one_leaders_memory_moves_nothing() {
    let mut world = World::large(10, 1024);
    world.settle();
    let calls = zipf(1024, 3);
    world.report(&calls, BUSY);
    world.balance();
    world.memory = Memory::default();
    assert_eq!(world.moves(), []);
}
