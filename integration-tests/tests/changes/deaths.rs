//! Nodes that are killed while shards move to them or from them, and one after the other. Their
//! objects kept their state in memory alone, so that those begin anew; all others notice nothing.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::load::{Called, Load};
use steading_integration_tests::until;

use super::{ALL, cluster};

/// Slow enough that a plan can be caught in the middle.
const SLOWLY: [&str; 2] = ["--rebalance-batch-size", "1"];

/// Starts a node, and waits until all is settled.
async fn comes(cluster: &Cluster, id: &str, gate: &Node) -> Node {
    let mut node = cluster.launch(id, &SLOWLY);
    node.listens().await;
    gate.order("/v1/resume", &json!({})).await;
    gate.is_spread(["a", "b", "c", "d"]).await;
    node
}

/// How often a plan may be over before it is seen in the middle.
const LOOKS_MAX: usize = 20;

/// Orders all shards of one node to another, and waits until some are there and some are not.
/// Returns those that are.
async fn half_moved(gate: &Node, from: &str, to: &str) -> BTreeSet<u32> {
    // Nothing but this is to move.
    gate.order("/v1/pause", &json!({})).await;
    let shards = gate.shards_of(from).await;
    let all_to = |node| shards.iter().map(move |shard| (*shard, node));
    for _ in 0..LOOKS_MAX {
        gate.move_shards(all_to(to)).await;
        // The record of a plan is written twice a second: owners show at once how far it is.
        let moved = until("three shards have moved", async || {
            let owned = owned_by(gate, &[to]).await;
            let moved = shards.iter().copied().filter(|shard| owned.contains(shard));
            let moved: BTreeSet<u32> = moved.collect();
            match moved.len() {
                3.. => Ok(moved),
                len => Err(format!("{len} have")),
            }
        })
        .await;
        if moved.len() < shards.len() {
            return moved;
        }
        // It was over between two looks: once more, from the beginning.
        let back = gate.move_shards(all_to(from)).await;
        gate.plan_ends(back).await;
    }
    panic!("no plan was seen in the middle")
}

/// Those of the shards that these nodes own.
pub(super) async fn owned_by(gate: &Node, nodes: &[&str]) -> BTreeSet<u32> {
    let mut owned = BTreeSet::new();
    for node in nodes {
        owned.extend(gate.shards_of(node).await);
    }
    owned
}

/// Returns all shards, those of the bystanders first: all callers share an object in the first one,
/// and a call to it must not fail of a death.
fn led_by(bystanders: &BTreeSet<u32>) -> impl Iterator<Item = u32> {
    let others = ALL.filter(|shard| !bystanders.contains(shard));
    bystanders.iter().copied().chain(others)
}

/// Nothing happened to these objects; and those that the dead node had began anew once for each death.
#[track_caller]
pub(super) fn assert_unharmed(called: &[Called], bystanders: &BTreeSet<u32>, deaths: u32) {
    let harmed = called.iter().filter(|called| called.is_harmed());
    let wrongly = harmed.filter(|called| bystanders.contains(&called.shard));
    let wrongly: Vec<&Called> = wrongly.collect();
    assert!(wrongly.is_empty(), "{wrongly:#?}");
    let lives = called.iter().filter(|called| called.lives > deaths + 1);
    let lives: Vec<&Called> = lives.collect();
    assert!(lives.is_empty(), "{lives:#?}");
}

#[tokio::test]
async fn n5_s2_51_source_and_target_may_die_in_the_middle_of_moves_one_by_one_and_together() {
    let cluster = cluster("dying").await;
    let [a, b, mut c, mut d] = cluster.ready_with(["a", "b", "c", "d"], &SLOWLY).await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["a", "b", "c", "d"]).await;

    let bystanders = owned_by(&gate, &["a", "b"]).await;
    let load = Load::begin(&gate, "target", led_by(&bystanders)).await;
    half_moved(&gate, "d", "c").await;
    c.kill();
    gate.is_settled(["a", "b", "d", "gate"]).await;
    load.goes_round().await;
    assert_unharmed(&load.end().await, &bystanders, 1);

    c = comes(&cluster, "c", &gate).await;
    let bystanders = owned_by(&gate, &["a", "b", "d"]).await;
    let load = Load::begin(&gate, "source", led_by(&bystanders)).await;
    let moved = half_moved(&gate, "c", "d").await;
    c.kill();
    gate.is_settled(["a", "b", "d", "gate"]).await;
    load.goes_round().await;
    let called = load.end().await;
    assert_unharmed(&called, &bystanders, 1);
    let anew = called.iter().filter(|called| called.lives > 1);
    let anew: Vec<&Called> = anew
        .filter(|called| moved.contains(&called.shard))
        .collect();
    assert!(anew.is_empty(), "what was handed over is safe: {anew:#?}");

    c = comes(&cluster, "c", &gate).await;
    let bystanders = owned_by(&gate, &["a", "b"]).await;
    let load = Load::begin(&gate, "both", led_by(&bystanders)).await;
    half_moved(&gate, "c", "d").await;
    c.kill();
    // What it had goes to the others, of which the next one dies at once.
    gate.sees("c is gone", |cluster| !names(cluster).contains(&"c"))
        .await;
    d.kill();
    gate.is_settled(["a", "b", "gate"]).await;
    load.goes_round().await;
    assert_unharmed(&load.end().await, &bystanders, 2);

    d = cluster.launch("d", &SLOWLY);
    c = comes(&cluster, "c", &gate).await;
    let leader = gate.leader().await;
    let nodes = [&a, &b, &c, &d];
    let leads = nodes.iter().position(|node| node.id() == leader);
    let leads = leads.expect("one of them");
    let (first, second) = (nodes[leads], nodes[(leads + 1) % nodes.len()]);
    let left = nodes.map(Node::id).into_iter();
    let left: Vec<&str> = left
        .filter(|id| ![first.id(), second.id()].contains(id))
        .collect();
    let bystanders = owned_by(&gate, &left).await;
    let load = Load::begin(&gate, "leader", led_by(&bystanders)).await;
    first.kill();
    second.kill();
    gate.is_settled([left[0], left[1], "gate"]).await;
    assert!(left.contains(&gate.leader().await.as_str()));
    load.goes_round().await;
    assert_unharmed(&load.end().await, &bystanders, 1);
    cluster.history().await.assert_single_owners();
}

fn names(cluster: &Value) -> Vec<&str> {
    steading_integration_tests::cluster::node_ids(cluster)
}
