//! Nodes that join, stop, die, drain, lead, or are refused.

use std::sync::Arc;

use steading::Node;
use steading::coordination::Cut;
use steading::coordination::membership::Replace;
use steading::ids::ShardCount;
use steading::node::{Condition, Readiness};
use steading::placement::{ClusterView, NodeState};
use steading::testing::WAIT_MAX;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::world::{Counter, TTL, cluster, finish, id, id_on, owned_by};

/// How often readiness is asked for even if the view does not change.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

#[tokio::test(start_paused = true)]
async fn m1_m2_nodes_that_join_are_seen_by_all() {
    let mut cluster = cluster(1).await;
    cluster.add("n2").await;
    for name in ["n1", "n2"] {
        let mut view = cluster.node(name).subscribe();
        view.wait_for(|view| view.nodes.len() == 2)
            .await
            .expect("the node runs");
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m3_a_node_that_stops_is_gone_at_once() {
    let mut cluster = cluster(2).await;
    let began = Instant::now();
    cluster.stop("n2").await;
    cluster
        .wait_until("n2 is gone", |view| !view.nodes.contains_key(&id("n2")))
        .await;
    assert!(
        began.elapsed() < TTL,
        "it revoked its lease: {:?}",
        began.elapsed()
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m4_all_nodes_agree_on_one_leader() {
    let cluster = cluster(3).await;
    let leader = cluster.view().leader.clone();
    assert!(leader.is_some());
    for node in cluster.nodes() {
        assert_eq!(node.view().leader, leader);
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn m5_another_leads_when_the_leader_stops_or_dies() {
    let mut cluster = cluster(3).await;
    for end in ["stop", "crash"] {
        let leader = cluster.view().leader.clone().expect("somebody leads");
        match end {
            "stop" => cluster.stop(leader.node.as_str()).await,
            _ => cluster.crash(leader.node.as_str()).await,
        }
        let goal = format!("another leads after a {end}");
        cluster
            .wait_until(&goal, |view| {
                view.leader.as_ref().is_some_and(|l| l.term > leader.term)
            })
            .await;
        cluster.settled().await;
    }
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn v2_a_node_is_ready_once_it_serves_and_no_more_when_it_stops() {
    let mut cluster = cluster(1).await;
    let node = cluster.launch("n2", |builder| builder).await;
    assert!(!node.readiness().is_ready(), "not joined yet");
    node.joined().await.expect("joins");
    cluster
        .wait_until("n2 owns its half", |view| owned_by(view, "n2") == 32)
        .await;
    ready(&node).await; // It opens a shard a moment after others see it as the owner.
    node.stop().await;
    assert!(!node.readiness().is_ready());
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_that_restarts_becomes_ready() {
    let mut cluster = cluster(3).await;
    let operator = cluster.node("n1").cluster();
    operator.cordon(id("n3")).await.expect("carried out");
    cluster.stop("n3").await; // Its shards go to the others.
    cluster.add("n3").await;
    let node = cluster.node("n3");
    ready(node).await;
    let readiness = node.readiness();
    assert_eq!((readiness.claimed, readiness.targeted), (0, 0));
    let waiting_for = readiness.waiting_for.expect("the directive is named");
    assert!(
        waiting_for.contains("steading uncordon n3"),
        "{waiting_for}"
    );
    finish(cluster).await;
}

/// A rolling update of a paused cluster: each node leaves, comes back, and becomes ready.
#[tokio::test(start_paused = true)]
async fn a_rolling_update_proceeds_while_balancing_is_paused() {
    let mut cluster = cluster(3).await;
    let operator = cluster.node("n1").cluster();
    operator.pause().await.expect("carried out");
    for name in ["n3", "n2", "n1"] {
        cluster.stop(name).await;
        cluster.settled().await;
        cluster.add(name).await;
        ready(cluster.node(name)).await;
    }
    cluster.add("n4").await;
    let node = cluster.node("n4");
    ready(node).await;
    let readiness = node.readiness();
    let waiting_for = readiness
        .waiting_for
        .clone()
        .expect("the directive is named");
    assert!(waiting_for.contains("steading resume"), "{waiting_for}");
    let planned = readiness
        .conditions
        .iter()
        .find(|state| state.condition == Condition::Planned);
    assert_eq!(
        planned.and_then(|state| state.waiting_for.as_ref()),
        Some(&waiting_for)
    );
    let resumed = node.cluster().resume().await;
    resumed.expect("carried out");
    cluster
        .wait_until("n4 owns its share", |view| owned_by(view, "n4") == 16)
        .await;
    // Others see it as the owner a moment before it opens the shards.
    let is_settled = |readiness: &Readiness| readiness.waiting_for.is_none();
    until_readiness(cluster.node("n4"), "n4 waits for nothing", is_settled).await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_names_the_drain() {
    let cluster = cluster(2).await;
    let node = cluster.node("n2").clone();
    node.cluster().drain(&id("n2")).await.expect("carried out");
    let mut views = node.subscribe();
    let drains = |view: &ClusterView| view.nodes[&id("n2")].state == NodeState::Draining;
    views.wait_for(|view| drains(view)).await.expect("it runs");
    let readiness = node.readiness();
    assert!(!readiness.is_ready());
    let waiting_for = readiness.waiting_for.expect("the directive is named");
    assert!(waiting_for.contains("steading undrain n2"), "{waiting_for}");
    finish(cluster).await;
}

/// Waits until a node is ready, for as long as a cluster may take to settle.
async fn ready(node: &Node) {
    until_readiness(node, "the node is ready", Readiness::is_ready).await;
}

/// Waits until `holds` of a node's readiness, for as long as a cluster may take to settle.
async fn until_readiness(node: &Node, goal: &str, holds: impl Fn(&Readiness) -> bool) {
    let reached = async {
        let mut views = node.subscribe();
        while !holds(&node.readiness()) {
            let _ = timeout(LOOK_AGAIN, views.changed()).await;
        }
    };
    let reached = timeout(WAIT_MAX, reached).await.is_ok();
    assert!(
        reached,
        "never reached: {goal}; last: {:?}",
        node.readiness()
    );
}

#[tokio::test(start_paused = true)]
async fn n10_a_node_that_cannot_reach_the_store_says_so_and_joins_later() {
    let mut cluster = cluster(1).await;
    let store = cluster.store().client();
    store.faults().cut(Some(Cut::Refused));
    let faulty = store.clone();
    let node = cluster
        .launch("n2", move |builder| builder.store(Arc::new(faulty)))
        .await;
    sleep(TTL * 2).await; // Long enough to have joined.
    assert!(
        !cluster.view().nodes.contains_key(&id("n2")),
        "never half joined"
    );
    let readiness = node.readiness();
    assert!(
        !readiness.is_ready() && readiness.waiting_for.is_some(),
        "{readiness:?}"
    );
    store.faults().cut(None);
    node.joined().await.expect("joins");
    cluster
        .wait_until("n2 owns its half", |view| owned_by(view, "n2") == 32)
        .await;
    node.stop().await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_expects_another_shard_count_is_refused() {
    let cluster = cluster(1).await;
    let other = ShardCount::new(128).expect("a power of two");
    let node = cluster
        .launch("n2", |builder| builder.shard_count(other))
        .await;
    let error = node
        .joined()
        .await
        .expect_err("64 shards, not 128")
        .to_string();
    assert!(error.contains("64") && error.contains("128"), "{error}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_node_id_takes_its_shards_back() {
    let mut cluster = cluster(3).await;
    let before = cluster.view().targets.clone();
    cluster.crash("n2").await;
    cluster.add_with("n2", |b| b.replace(Replace::Always)).await;
    cluster.settled().await;
    assert_eq!(cluster.view().targets, before, "nothing was planned");
    assert!(owned_by(&cluster.view(), "n2") > 0);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn two_live_nodes_with_one_id_are_refused() {
    let cluster = cluster(2).await;
    let twin = cluster.launch("n2", |builder| builder).await;
    let error = twin.joined().await.expect_err("n2 lives").to_string();
    assert!(error.contains("n2") && error.contains("in use"), "{error}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_draining_node_is_emptied_while_it_serves() {
    let mut cluster = cluster(3).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    let counter = cluster.node("n1").object::<Counter>(&on_n2);
    counter.add(1).await.expect("served");
    let leaving = cluster.node("n2").clone();
    let stopping = tokio::spawn(async move { leaving.stop().await });
    cluster
        .wait_until("n2 says that it drains", |view| {
            view.nodes
                .get(&id("n2"))
                .is_none_or(|n| n.state == NodeState::Draining)
        })
        .await;
    assert_eq!(counter.add(1).await, Ok(2));
    stopping.await.expect("no panic");
    assert_eq!(counter.add(1).await, Ok(3));
    finish(cluster).await;
}
