//! Planned moves under load: no call fails, and nothing is lost or runs twice.

use std::time::Duration;

use futures::future::join_all;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::load::Load;
use steading_integration_tests::until;

use super::{ALL, PROGRAM, cluster};

/// Moves each of these shards by a plan of its own, all at the same time, each ordered through
/// another node.
async fn move_each(through: &[&Node], shards: &[u32], to: impl Fn(u32) -> &'static str) {
    let moves = shards.iter().zip(through.iter().cycle());
    let moves = moves.map(async |(shard, node)| {
        let plan = node.move_shards([(*shard, to(*shard))]).await;
        let plan = node.plan_ends(plan).await;
        assert_eq!(plan["outcome"], "done", "{plan}");
    });
    join_all(moves).await;
}

#[tokio::test]
async fn n1_n2_s2_49_no_call_fails_while_shards_move_whoever_leads_and_a_node_joins() {
    let cluster = cluster("moves").await;
    let [a, b, c] = cluster.ready(["a", "b", "c"]).await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["a", "b", "c"]).await;
    let load = Load::begin(&gate, "load", ALL).await;

    // Many shards, one by one, to and fro between all pairs of nodes.
    let shards: Vec<u32> = (0..24).collect();
    for targets in [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]] {
        let to = |shard: u32| targets[shard as usize % targets.len()];
        let there = gate.owners().await;
        let away = shards.iter().copied();
        let away = away.filter(|shard| there[*shard as usize].as_deref() != Some(to(*shard)));
        move_each(&[&a, &b, &c, &gate], &away.collect::<Vec<_>>(), to).await;
    }

    // Everything that the leader has, by one plan.
    let leader = gate.leader().await;
    let others = ["a", "b", "c"].into_iter().filter(|node| *node != leader);
    let of_leader = gate.shards_of(&leader).await;
    assert!(!of_leader.is_empty());
    let plan = gate
        .move_shards(of_leader.iter().copied().zip(others.cycle()))
        .await;
    let plan = gate.plan_ends(plan).await;
    assert_eq!(plan["outcome"], "done", "{plan}");
    assert_eq!(plan["counts"]["done"], of_leader.len(), "{plan}");

    // And a node more.
    let _d = cluster.start("d").await;
    gate.is_spread(["a", "b", "c", "d"]).await;
    load.goes_round().await;
    load.end_unharmed().await;
    let changes = cluster.history().await.assert_single_owners();
    println!("{changes} changes of owner under load, and no call failed");
}

/// How often etcd may have to stand still until that leaves a hand-over in doubt.
const STANDSTILLS_MAX: usize = 20;

#[tokio::test]
async fn s2_7_no_call_fails_though_the_store_stands_still_in_the_middle_of_moves() {
    let etcd = Etcd::start().await;
    // Such a lease that no fence closes meanwhile.
    let cluster = Cluster::new(&etcd, "standstill").program(PROGRAM);
    let cluster = cluster.with_lease_ttl(Duration::from_mins(1));
    let slowly = ["--rebalance-batch-size", "2"];
    let [a, b] = cluster.ready_with(["a", "b"], &slowly).await;
    let gate = cluster.gate("gate").await;
    gate.is_settled(["a", "b", "gate"]).await;
    let load = Load::begin(&gate, "load", ALL).await;
    let in_doubt = async || {
        let mut sum = 0.0;
        for node in [&a, &b] {
            let labels = r#"step="hand_over",outcome="unknown""#;
            sum += node.metric("steading_batches_total", labels).await;
        }
        sum
    };
    let unanswered = async || {
        let mut sum = 0.0;
        for node in [&a, &b] {
            let labels = r#"outcome="transient""#;
            sum += node.metric("steading_store_writes_total", labels).await;
        }
        sum
    };
    let mut standstills = 0;
    while in_doubt().await < 1.0 {
        assert!(
            standstills < STANDSTILLS_MAX,
            "no hand-over was ever in doubt"
        );
        standstills += 1;
        let (from, to) = if standstills % 2 == 0 {
            ("a", "b")
        } else {
            ("b", "a")
        };
        let shards = gate.shards_of(from).await;
        let plan = gate
            .move_shards(shards.iter().map(|shard| (*shard, to)))
            .await;
        // The record of a plan is written twice a second: owners show at once how far it is.
        let left = async || gate.shards_of(from).await.len();
        until("the plan is under way", async || {
            let left = left().await;
            (left < shards.len())
                .then_some(())
                .ok_or_else(|| format!("{left} are left"))
        })
        .await;
        let before = unanswered().await;
        etcd.freeze().await;
        until("a write stays unanswered, or all had moved", async || {
            let (now, left) = (unanswered().await, left().await);
            (now > before || left == 0)
                .then_some(())
                .ok_or_else(|| format!("{now} as before, {left} are left"))
        })
        .await;
        etcd.thaw().await;
        let plan = gate.plan_ends(plan).await;
        assert_eq!(plan["outcome"], "done", "{plan}");
    }
    gate.sees("every shard where it should be", |cluster| {
        cluster["shards"]["moving"] == 0
    })
    .await;
    load.goes_round().await;
    load.end_unharmed().await;
    cluster.history().await.assert_single_owners();
    println!("a hand-over was in doubt after {standstills} standstills of etcd");
}
