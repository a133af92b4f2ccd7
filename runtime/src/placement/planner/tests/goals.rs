//! Each goal beside evenness, in small worlds.

use super::super::*;
use super::world::World;

/// Shards 0 and 1 belong into zone `x`.
fn rule(world: &World, strength: Strength) -> ZoneRule {
    let mut shards = world.view.meta.shard_count.shards();
    ZoneRule {
        first: shards.next().expect("a shard"),
        last: shards.next().expect("another shard"),
        zone: "x".into(),
        strength,
    }
}

fn ruled(nodes: &str, layout: &str, strength: Strength) -> World {
    let mut world = World::new(nodes, layout);
    world.settings.zone_rules = vec![rule(&world, strength)];
    world
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

fn shard(number: usize) -> ShardId {
    let shards = crate::ids::ShardCount::DEFAULT.shards();
    shards.clone().nth(number).expect("in range")
}

#[track_caller]
fn check(world: &mut World, after: &str, advice: &[&str]) {
    let plan = world.plan_at(super::LATER);
    assert_eq!(world.after(&plan), after);
    let said: Vec<_> = plan.advice.iter().map(ToString::to_string).collect();
    assert_eq!(said, advice);
    world.check_invariants();
}

mod commands {
    use super::*;

    #[test]
    fn s2_39_a_shard_is_pinned_and_stays_against_all_evenness() {
        let mut world = World::new("a b", "aabb");
        world.commands.insert(shard(0), Command::Pin(node("b")));
        let plan = world.plan_at(super::super::LATER);
        assert_eq!(plan.moves[0].reason, Reason::Pin);
        check(&mut world, "Baba", &[]);
        world.commands.clear();
        world.target("Bbbb");
        check(&mut world, "Bbaa", &[]);
    }

    #[test]
    fn a_pinned_shard_is_pinned_elsewhere_and_unpinned() {
        let mut world = World::new("a b", "Abab");
        world.commands.insert(shard(0), Command::Pin(node("b")));
        check(&mut world, "Bbaa", &[]);
        world.commands.insert(shard(0), Command::Unpin);
        world.target("Bbbb");
        check(&mut world, "bbaa", &[]);
    }

    #[test]
    fn s1_42_a_moved_shard_goes_and_another_comes_back_for_it() {
        let mut world = World::new("a b", "abab");
        world.commands.insert(shard(0), Command::Move(node("b")));
        check(&mut world, "bbaa", &[]);
        assert!(
            world.plan_at(super::super::LATER).is_empty(),
            "it stays done"
        );
    }

    #[test]
    fn a_command_that_is_done_already_changes_nothing() {
        let mut world = World::new("a b", "Abab");
        for command in [
            Command::Pin(node("a")),
            Command::Move(node("a")),
            Command::Release,
        ] {
            world.commands.insert(shard(0), command);
            let plan = world.plan_at(super::super::LATER);
            assert!(plan.is_empty() && plan.refused.is_empty());
        }
    }

    #[test]
    fn a_released_shard_is_placed_again() {
        let mut world = World::new("a b", "*bab");
        world.commands.insert(shard(0), Command::Release);
        check(&mut world, "abab", &[]);
    }

    #[test]
    fn s2_39_what_cannot_be_is_refused_with_the_reason() {
        let refusals = |command: Command, nodes: &str, layout: &str| {
            let mut world = ruled(nodes, layout, Strength::Hard);
            world.commands.insert(shard(0), command);
            let plan = world.plan_at(super::super::LATER);
            world.check_invariants();
            plan.refused.get(&shard(0)).map(ToString::to_string)
        };
        let (pin, go) = (|| Command::Pin(node("b")), || Command::Move(node("b")));
        for (command, nodes, layout, why) in [
            (pin(), "a@x", "aaaa", "there is no live node b"),
            (
                go(),
                "a@x b!@x",
                "aaaa",
                "b takes no shards: it is joining, draining or a gate",
            ),
            (
                go(),
                "a@x b0@x",
                "aaaa",
                "b takes no shards: it is joining, draining or a gate",
            ),
            (pin(), "a@x b^@x", "aaaa", "b is cordoned"),
            (pin(), "a@x b@x#1", "aBaa", "b has no capacity left"),
            (go(), "a@x b@y", "aabb", "a rule keeps the shard in zone x"),
            (go(), "a@x b@x", "Abab", "the shard is pinned to a"),
            (pin(), "a@x b@x", "*bab", "the shard is in quarantine"),
        ] {
            assert_eq!(refusals(command, nodes, layout).as_deref(), Some(why));
        }
    }
}

mod pins {
    use super::*;

    #[test]
    fn s2_53_a_pinned_shard_of_a_dead_node_fails_over_loudly() {
        let said = "z is gone or leaves, and 2 shards that were pinned to it, from 0 on, are pinned elsewhere now";
        check(&mut World::new("a b", "ZaZb"), "AaBb", &[said]);
    }

    #[test]
    fn s2_53_a_pinned_shard_waits_for_its_node_if_the_policy_says_so() {
        let mut world = World::new("a b", "ZaZb");
        world.settings.pin_policy = PinPolicy::Wait;
        let said =
            "z is gone or leaves, and 2 shards that were pinned to it, from 0 on, wait for it";
        check(&mut world, "ZaZb", &[said]);
        let mut world = World::new("a b z!", "ZazB");
        world.settings.pin_policy = PinPolicy::Wait;
        let said =
            "z is gone or leaves, and 1 shards that were pinned to it, from 0 on, wait for it";
        check(&mut world, "ZaaB", &[said]);
    }
}

mod zones {
    use super::*;

    #[test]
    fn s0_11_a_hard_rule_brings_shards_into_their_zone_and_nowhere_else() {
        check(&mut ruled("a@x b@y", "bbaa", Strength::Hard), "aabb", &[]);
        check(&mut ruled("a@x b@y", "----", Strength::Hard), "aabb", &[]);
        check(
            &mut ruled("a@x b@y c@y", "bbaaabcc", Strength::Hard),
            "aaabcbcc",
            &[],
        );
    }

    #[test]
    fn s0_11_shards_of_a_zone_without_nodes_stay_where_they_are_served_or_wait() {
        let said = "2 shards, from 0 on, belong into zone x, which has no room for them";
        check(
            &mut ruled("b@y c@y", "b-cc", Strength::Hard),
            "b-cc",
            &[said],
        );
        check(
            &mut ruled("b@y c@y", "bbcc", Strength::Hard),
            "bbcc",
            &[said],
        );
    }

    #[test]
    fn a_pin_stays_in_the_wrong_zone_and_says_so() {
        let said = "1 shards, from 0 on, belong into zone x, which has no room for them";
        check(
            &mut ruled("a@x b@y", "Baab", Strength::Hard),
            "Baab",
            &[said],
        );
    }

    #[test]
    fn a_zone_whose_shards_outweigh_it_has_only_those() {
        let mut world = ruled("a@x b@y c@y d@y", "bcd-----", Strength::Hard);
        world.settings.zone_rules[0].last = shard(4);
        check(&mut world, "aaaaabcd", &[]);
    }

    #[test]
    fn bound_shards_make_others_leave_full_nodes() {
        check(
            &mut ruled("a@x b@y", "bbaaaabb", Strength::Hard),
            "aaaabbbb",
            &[],
        );
    }

    #[test]
    fn s0_11_soft_rules_are_met_by_swaps_that_leave_counts_as_they_are() {
        check(&mut ruled("a@x b@y", "bbaa", Strength::Soft), "aabb", &[]);
        check(
            &mut ruled("a@x b@y c@y", "bbac", Strength::Soft),
            "abbc",
            &[],
        );
    }

    #[test]
    fn a_soft_rule_gives_way_to_evenness() {
        let mut world = ruled("a@x b@y c@y", "--------", Strength::Soft);
        world.settings.zone_rules[0].last = shard(7);
        let after = world.planned();
        assert!(after.matches('a').count() <= 3, "{after}");
        world.check_invariants();
    }

    #[test]
    fn odd_shards_are_spread_over_zones() {
        let world = World::new("a@x b@x c@y d@y", "------**");
        let after = world.planned();
        let in_x = after.matches(['a', 'b']).count();
        assert_eq!(in_x, 3, "{after}");
    }

    #[test]
    fn the_loss_of_a_zone_is_thought_of_before() {
        let said = "without zone x, 1 shards would find no room";
        check(&mut World::new("a@x#4 b@y#3", "abab"), "abab", &[said]);
    }
}

mod capacity {
    use super::*;

    #[test]
    fn s1_40_nobody_gets_more_than_its_capacity() {
        let near = "80.0 % of the nodes' capacity is used";
        check(&mut World::new("a#1 b", "----"), "abbb", &[]);
        check(&mut World::new("a#2 b#8", "--------"), "ababbbbb", &[near]);
        check(&mut World::new("a#1 b", "aaaa"), "abbb", &[]);
    }

    #[test]
    fn s1_40_what_finds_no_room_is_named_and_what_is_served_stays() {
        let (none, near) = (
            "2 shards find no room: start or uncordon a node, or raise capacities",
            "100.0 % of the nodes' capacity is used",
        );
        check(&mut World::new("a#1 b#1", "----"), "ab--", &[none, near]);
        check(&mut World::new("a#1 b#1 c!", "cccc"), "abcc", &[none, near]);
        let near = "200.0 % of the nodes' capacity is used";
        check(&mut World::new("a#1 b#1", "aabb"), "aabb", &[none, near]);
    }

    #[test]
    fn what_nobody_serves_gets_the_last_room() {
        let (none, near) = (
            "2 shards find no room: start or uncordon a node, or raise capacities",
            "100.0 % of the nodes' capacity is used",
        );
        check(&mut World::new("a#1 b#1 c!", "ccz-"), "ccab", &[none, near]);
    }

    #[test]
    fn headroom_counts_what_the_other_zones_would_have_to_take() {
        check(
            &mut World::new("a@x#4 b@y#4 c@z#4", "abcabcab"),
            "abcabcab",
            &[],
        );
        let near = "88.8 % of the nodes' capacity is used";
        let short = |zone| format!("without zone {zone}, 2 shards would find no room");
        let (x, y, z) = (short("x"), short("y"), short("z"));
        let mut world = World::new("a@x#3 b@y#3 c@z#3", "abcabcab");
        check(&mut world, "abcabcab", &[near, &x, &y, &z]);
        world.settings.zone_headroom = false;
        check(&mut world, "abcabcab", &[near]);
    }

    #[test]
    fn headroom_leaves_out_what_a_rule_or_a_pin_keeps_in_the_lost_zone() {
        let near = "80.0 % of the nodes' capacity is used";
        let y = "without zone y, 2 shards would find no room";
        let mut world = ruled("a@x#2 b@y#3", "aabb", Strength::Hard);
        check(&mut world, "aabb", &[near, y]);
        let x = "without zone x, 1 shards would find no room";
        let mut world = World::new("a@x#2 b@y#3", "AAbb");
        check(&mut world, "AAbb", &[near, x, y]);
        world.settings.pin_policy = PinPolicy::Wait;
        check(&mut world, "AAbb", &[near, y]);
    }

    #[test]
    fn a_capacity_that_is_no_number_is_ignored_loudly() {
        let said = "the capacity that a states is no number, and is ignored";
        check(&mut World::new("a#x b", "----"), "abab", &[said]);
    }

    #[test]
    fn cordoned_nodes_keep_what_they_have_and_get_nothing() {
        check(&mut World::new("a^ b c", "aaa-----"), "aaabcbcb", &[]);
        check(&mut World::new("a^ b", "zzbb"), "bbbb", &[]);
        let said = "2 shards find no room: start or uncordon a node, or raise capacities";
        check(&mut World::new("a^ b^", "zzbb"), "zzbb", &[said]);
    }
}

mod budget {
    use super::*;

    fn owned(nodes: &str, layout: &str) -> World {
        let mut world = World::new(nodes, layout);
        world.own(layout);
        world
    }

    #[test]
    fn s0_23_moves_beyond_the_budget_wait_and_begin_as_others_end() {
        let mut world = owned("a b", "aaaaaaaa");
        world.settings.moves_per_node_max = 3;
        let plan = world.plan_at(super::super::LATER);
        assert_eq!((plan.moves.len(), plan.pending.len()), (3, 1));
        world.check_invariants();
        world.own("aaaaabbb");
        let plan = world.plan_at(super::super::LATER);
        assert_eq!((plan.moves.len(), plan.pending.len()), (1, 0));
    }

    #[test]
    fn the_whole_clusters_budget_counts_too() {
        let mut world = owned("a b c d", "aaaabbbb");
        world.settings.moves_in_flight_max = 3;
        let plan = world.plan_at(super::super::LATER);
        assert_eq!((plan.moves.len(), plan.pending.len()), (3, 1));
        world.settings.moves_in_flight_max = 0;
        assert!(world.plan_at(super::super::LATER).is_empty());
    }

    #[test]
    fn shards_that_nobody_serves_are_never_put_off() {
        let mut world = World::new("a b", "zzzzzzzz");
        world.settings.moves_in_flight_max = 0;
        assert_eq!(world.plan_at(super::super::LATER).moves.len(), 8);
    }

    #[test]
    fn drains_go_before_evenness() {
        let mut world = owned("a! b c", "abbbbbbb");
        world.settings.moves_in_flight_max = 1;
        let plan = world.plan_at(super::super::LATER);
        assert_eq!(plan.moves[0].reason, Reason::Drain);
    }

    #[test]
    fn what_operators_paused_waits_and_what_they_order_does_not() {
        let mut world = owned("a b", "aaaa");
        world.view.orders.paused = true;
        let plan = world.plan_at(super::super::LATER);
        assert_eq!((plan.moves.len(), plan.pending.len()), (0, 2));
        world.commands.insert(shard(0), Command::Move(node("b")));
        let plan = world.plan_at(super::super::LATER);
        assert_eq!((plan.moves.len(), plan.pending.len()), (1, 1));
        world.check_invariants();
    }
}
