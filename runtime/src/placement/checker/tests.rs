//! Each invariant, broken once.

use super::*;
use crate::placement::planner::tests::World;
use crate::placement::planner::{Reason, Strength, ZoneRule};

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
    let broken = ["shard 0 is pinned, and is moved"];
    check("a b", "Aaab", "Baab", &broken);
}

#[test]
fn quarantine_and_flags_are_not_the_planners() {
    check("a", "a-", "aA", &["the flags of shard 1 change"]);
    let world = World::new("a", "a*");
    let mut plan = world.plan_to("aa");
    for (_, target) in &mut plan.targets {
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
    let shard = plan.targets.last().expect("two targets").0;
    assert_eq!(broken, [Broken::MovesDiffer { shard }]);
}

#[test]
fn s2_53_a_cordoned_or_full_node_that_gets_shards_is_named() {
    check(
        "a b^",
        "aa--",
        "aabb",
        &[
            "shard 2 is given to b, which is cordoned",
            "shard 3 is given to b, which is cordoned",
            "a gets 2 shards, its quota is 4",
            "b gets 2 shards, its quota is 0",
        ],
    );
    check(
        "a b#1",
        "aa--",
        "aabb",
        &[
            "b is given 2 shards, its capacity is 1",
            "a gets 2 shards, its quota is 3",
            "b gets 2 shards, its quota is 1",
        ],
    );
}

#[test]
fn s0_11_a_shard_in_the_wrong_zone_is_named() {
    let mut world = World::new("a@x b@y", "ab--");
    let shards: Vec<_> = world.view.meta.shard_count.shards().collect();
    world.settings.zone_rules = vec![ZoneRule {
        first: shards[2],
        last: shards[3],
        zone: "x".into(),
        strength: Strength::Hard,
    }];
    let broken = world.broken(&world.plan_to("abab"));
    let words: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert_eq!(
        words[0],
        "shard 3 is given to b, which is in the wrong zone"
    );
}

#[test]
fn s0_23_moves_beyond_the_budget_and_paused_ones_are_named() {
    let mut world = World::new("a b", "aaaa");
    world.own("aaaa");
    world.settings.moves_in_flight_max = 1;
    let mut plan = world.plan_to("aabb");
    let said = |world: &World, plan: &Plan| -> Vec<String> {
        let broken = world.broken(plan).into_iter();
        broken.map(|broken| broken.to_string()).collect()
    };
    let over = "more moves begin from a to b than may be under way";
    assert_eq!(said(&world, &plan), [over]);
    world.settings.moves_in_flight_max = 2;
    assert_eq!(said(&world, &plan), [""; 0]);
    world.view.orders.paused = true;
    for step in &mut plan.moves {
        step.reason = Reason::Join;
    }
    let paused = [
        "shard 2 moves, though that is paused",
        "shard 3 moves, though that is paused",
    ];
    assert_eq!(said(&world, &plan), paused);
}

#[test]
fn s2_39_a_command_that_is_forgotten_is_named() {
    let mut world = World::new("a b", "abab");
    let shard = world
        .view
        .meta
        .shard_count
        .shards()
        .next()
        .expect("a shard");
    let node = NodeId::new("b").expect("a letter");
    world.commands.insert(shard, Command::Pin(node));
    let broken = world.broken(&Plan::default());
    assert!(
        broken.contains(&Broken::CommandLost { shard }),
        "{broken:?}"
    );
}

#[test]
fn a_shard_that_is_in_quarantine_and_moves_is_named() {
    let world = World::new("a b", "*bab");
    let mut plan = world.plan_to("bbab");
    for (_, target) in &mut plan.targets {
        target.quarantined = true;
    }
    let shard = plan.moves[0].shard;
    assert!(
        world
            .broken(&plan)
            .contains(&Broken::QuarantineBroken { shard })
    );
}

/// Checks a plan that leads from one layout to another; the notation is the planner's tests'.
#[track_caller]
fn check(nodes: &str, before: &str, after: &str, expected: &[&str]) {
    let world = World::new(nodes, before);
    let broken = world.broken(&world.plan_to(after));
    let words: Vec<_> = broken.iter().map(ToString::to_string).collect();
    assert_eq!(words, expected);
}
