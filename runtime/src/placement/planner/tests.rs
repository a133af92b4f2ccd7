//! Small worlds exhaustively, large ones at random.
//!
//! Nodes are single letters, with a mark for their state: `a` takes shards, `a!` drains, `a?` is
//! joining, `a~` has just begun to, `a^` is cordoned, `a0` is a gate and `a3` has three times the
//! weight; `a@x` stands in zone `x`, and `a#4` can have 4 shards. A layout has one letter a shard:
//! `ab-` puts shard 0 on `a`, 1 on `b`, 2 nowhere; `A` is pinned to `a`, `*` is in quarantine.

mod goals;
mod loads;
mod random;
mod world;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::placement::{NodeState, Weight};
use world::{LATER, at, id};

pub(in crate::placement) use world::World;

#[test]
fn p12_new_shards_are_spread_evenly() {
    check("a b", "----", "abab");
    check("a b c d", "--------", "abcdabcd");
}

#[test]
fn p12_a_single_shard_does_not_always_go_to_the_first_name() {
    let owners = (0..20).map(|cluster| {
        let mut world = World::new("a b c", "-");
        world.view.meta.cluster_id = format!("cluster {cluster}");
        world.planned()
    });
    let mut owners: Vec<_> = owners.collect();
    owners.sort();
    owners.dedup();
    assert_eq!(owners, ["a", "b", "c"]);
}

#[test]
fn a_dead_nodes_shards_go_to_the_others_and_nothing_else_moves() {
    check("a b c", "adbdcdad", "aabbccab");
}

#[test]
fn a_joining_node_gets_nothing_and_a_joined_one_its_share() {
    check("a b?", "aaaa", "aaaa");
    check("a b", "aaaa", "aabb");
}

#[test]
fn a_draining_node_is_emptied() {
    check("a! b c", "aaaabbcc", "bcbcbbcc");
    check("a!", "aaaa", "aaaa");
}

#[test]
fn gates_get_nothing_and_change_nothing() {
    check("a b g0", "abab", "abab");
    check("g0", "----", "----");
}

#[test]
fn s2_46_s2_47_weights_count_from_the_first_placement_on() {
    check("a3 b", "--------", "ababaaaa");
}

#[test]
fn p11_a_shard_with_a_live_owner_and_no_target_stays_where_it_is() {
    check_owned("a b", "----", "bbaa", "bbaa");
    check_owned("a b", "cc--", "bbaa", "bbaa");
    check_owned("a b c!", "cc--", "bbaa", "bbaa");
}

#[test]
fn a_shard_that_would_return_to_a_full_owner_goes_on_at_once() {
    check_owned("a b", "----", "aaaa", "aabb");
}

#[test]
fn shards_that_are_not_owned_yet_are_given_up_first() {
    check_owned("a b", "aaaa", "-aaa", "baab");
    check_owned("a b", "aaaa", "--aa", "bbaa");
}

#[test]
fn p14_pinned_shards_are_never_taken() {
    check("a b", "AAAA", "AAAA");
    check("a b", "AAAa", "AAAb");
    check("a b c", "aaAAAAbc", "bcAAAAbc");
}

#[test]
fn a_pinned_shard_fails_over_and_keeps_its_pin() {
    check("b", "AAbb", "BBbb");
}

#[test]
fn shards_in_quarantine_are_left_alone_and_do_not_count() {
    check("a b", "**aaaa--", "**aaabbb");
}

#[test]
fn a_node_that_is_registered_again_keeps_its_shards_while_it_joins() {
    let mut world = World::new("a b? c", "aabbcc--");
    world.change("b", 1000);
    let plan = world.plan_at(1500);
    assert_eq!(plan.again_at, Some(at(3000)));
    assert_eq!(world.after(&plan), "aabbccac");
    assert_eq!(world.after(&world.plan_at(3000)), "aaacccac");
}

#[test]
fn a_node_that_has_just_gone_keeps_its_shards_for_a_moment() {
    let mut world = World::new("a c", "aabbcc--");
    world.own("aabbcc--");
    world.change("b", 1000);
    let plan = world.plan_at(1049);
    assert_eq!(plan.again_at, Some(at(1050)));
    assert_eq!(world.after(&plan), "aabbccac");
    assert_eq!(world.after(&world.plan_at(1050)), "aaacccac");
}

#[test]
fn joins_wait_for_each_other_but_orphans_do_not() {
    let mut world = World::new("a b", "aaaaaadd");
    world.own("aaaaaadd");
    world.change("b", 1000);
    let plan = world.plan_at(1200);
    assert_eq!(world.after(&plan), "aaaaaabb");
    assert_eq!(plan.again_at, Some(at(1300)));
    assert_eq!(world.after(&world.plan_at(1300)), "aaaabbbb");
}

#[test]
fn draining_does_not_wait_for_joins() {
    let mut world = World::new("a! b", "aaaa");
    world.own("aaaa");
    world.change("b", 1000);
    assert_eq!(world.after(&world.plan_at(1001)), "bbbb");
}

#[test]
fn a_cluster_that_serves_nothing_waits_for_its_nodes_to_start() {
    let mut world = World::new("a", "----");
    world.change("a", 1000);
    let plan = world.plan_at(1000);
    assert!(plan.is_empty());
    assert_eq!(plan.again_at, Some(at(1300)));
    assert_eq!(world.after(&world.plan_at(1300)), "aaaa");
}

#[test]
fn a_settled_cluster_needs_no_further_planning() {
    let mut world = World::new("a b", "abab");
    world.change("b", 1000);
    assert_eq!(world.plan_at(1000), Plan::default());
}

#[test]
fn s2_37_an_eleventh_node_costs_exactly_744_moves() {
    let mut world = World::large(10, 8192);
    world.settle();
    assert_eq!(world.with_nodes(11).moves().len(), 744);
}

#[test]
fn ten_joins_at_once_cost_4092_moves_and_one_by_one_a_third_more() {
    let mut world = World::large(10, 8192);
    world.settle();
    let mut apart = world.clone();
    let apart: usize = (11..=20)
        .map(|nodes| apart.with_nodes(nodes).settle())
        .sum();
    assert_eq!(world.with_nodes(20).settle(), 4092);
    assert_eq!(apart, 5475);
}

#[test]
fn a_failure_moves_only_what_the_dead_node_had() {
    let mut world = World::large(100, 8192);
    world.settle();
    world.view.nodes.remove(&id(7));
    let moves = world.moves();
    assert!(
        moves
            .iter()
            .all(|step| step.from == Some(id(7)) && step.reason == Reason::Failure)
    );
    let mut receivers: Vec<_> = moves.iter().map(|step| &step.to).collect();
    receivers.sort();
    receivers.dedup();
    assert!(
        receivers.len() >= moves.len() - 1,
        "spread over many receivers"
    );
}

/// Every layout of up to 5 shards over up to 4 nodes, each active, draining, joining or dead.
#[test]
fn every_small_world_keeps_the_invariants() {
    for shards in 1..=5 {
        for states in states(4, b" !x~") {
            let mut world = World::new(&states, &spare(shards));
            for layout in layouts(shards, b"-abcd") {
                world.target(&layout);
                world.check_invariants();
            }
        }
    }
}

/// Every combination of 3 targets and 3 owners over 2 nodes in any state, and over 3 nodes that
/// are active, heavy or dead.
#[test]
fn every_small_world_with_owners_keeps_the_invariants() {
    for (states, owners, targets) in [
        (states(2, b" !3x~"), b"-ab".as_slice(), b"-aB".as_slice()),
        (states(3, b" 3x"), b"-abc", b"-abC"),
    ] {
        for states in states {
            let mut world = World::new(&states, &spare(3));
            for owners in layouts(3, owners) {
                world.own(&owners);
                for layout in layouts(3, targets) {
                    world.target(&layout);
                    world.check_invariants();
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn large_worlds_keep_the_invariants(
        weights in prop::collection::vec(prop_oneof![4 => 1000_u32..=1000, 4 => 1..5000_u32, 1 => 0..1_u32], 1..=100),
        states in prop::collection::vec(0..20_u8, 100),
        bits in prop::sample::select(vec![6_u32, 10, 13]),
        seed in any::<u64>(),
    ) {
        let mut world = World::large(weights.len(), 1 << bits);
        for ((record, weight), state) in world.view.nodes.values_mut().zip(weights).zip(states) {
            record.weight = Weight::from_thousandths(weight);
            record.state = match state {
                0 => NodeState::Joining,
                1 | 2 => NodeState::Draining,
                _ => NodeState::Active,
            };
        }
        world.scatter(seed);
        prop_assert_eq!(world.plan_at(LATER), world.clone().plan_at(LATER));
        world.check_invariants();
    }
}

/// Returns every way to give `nodes` nodes one of these marks (`x`: dead), except for their names.
fn states(nodes: usize, marks: &[u8]) -> Vec<String> {
    let marks = layouts(nodes, marks);
    let sorted = marks
        .into_iter()
        .filter(|marks| marks.as_bytes().is_sorted());
    let name = |(name, mark): (char, char)| match mark {
        'x' => String::new(),
        mark => format!("{name}{mark} "),
    };
    sorted
        .map(|marks| ('a'..).zip(marks.chars()).map(name).collect())
        .collect()
}

/// Returns every text of this length made of these letters.
fn layouts(len: usize, letters: &[u8]) -> Vec<String> {
    let mut layouts = vec![String::new()];
    for _ in 0..len {
        let longer = |text: String| letters.iter().map(move |l| format!("{text}{}", *l as char));
        layouts = layouts.into_iter().flat_map(longer).collect();
    }
    layouts
}

/// Returns a layout for `shards` shards, with others in quarantine up to a power of two.
fn spare(shards: usize) -> String {
    let quarantined = shards.next_power_of_two() - shards;
    "-".repeat(shards) + &"*".repeat(quarantined)
}

#[track_caller]
fn check(nodes: &str, before: &str, after: &str) {
    let mut world = World::new(nodes, before);
    assert_eq!(world.planned(), after);
    world.check_invariants();
}

#[track_caller]
fn check_owned(nodes: &str, before: &str, owners: &str, after: &str) {
    let mut world = World::new(nodes, before);
    world.own(owners);
    assert_eq!(world.planned(), after);
    world.check_invariants();
}
