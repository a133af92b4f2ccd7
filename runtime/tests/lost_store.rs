//! Whole clusters on a paused clock whose store loses its data or goes back in time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::coordination::Evidence;
use steading::node::Condition;
use steading::testing::TestCluster;
use steading::{Node, Object, methods};
use tokio::time::timeout;

/// Far above the time in which a node notices; the clock is paused.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Default, Serialize, Deserialize, Object)]
struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }
}

/// Waits until a node has ended by itself, and returns what it goes by.
async fn evidence(node: &Node) -> Evidence {
    let ended = timeout(PATIENCE, node.stopped()).await;
    ended.expect("it notices, and ends");
    let error = node.joined().await.expect_err("it failed");
    let evidence = error.evidence().cloned();
    let evidence = evidence.unwrap_or_else(|| panic!("no evidence: {error}"));
    let readiness = node.readiness();
    for state in &readiness.conditions {
        let of_the_store = [Condition::StoreConnected, Condition::NotFenced];
        if of_the_store.contains(&state.condition) {
            assert!(!state.met, "{:?}", state.condition);
        }
    }
    let why = readiness.waiting_for.expect("it says why");
    assert!(why.contains("not the one"), "{why}");
    evidence
}

#[tokio::test(start_paused = true)]
async fn every_node_ends_when_the_store_loses_its_data() {
    let builder = TestCluster::builder().nodes(3).register::<Counter>();
    let mut cluster = builder.start().await;
    cluster.settled().await;
    let counter = cluster.node("n1").object::<Counter>("c");
    assert_eq!(counter.add(1).await, Ok(1));
    cluster.store().lose_data();
    for node in cluster.nodes() {
        let evidence = evidence(node).await;
        assert!(matches!(evidence, Evidence::WentBack { .. }), "{evidence}");
    }
    counter.add(1).await.expect_err("nobody serves");
}

#[tokio::test(start_paused = true)]
async fn every_node_ends_when_the_store_goes_back() {
    let builder = TestCluster::builder().nodes(2).register::<Counter>();
    let mut cluster = builder.start().await;
    cluster.settled().await;
    let snapshot = cluster.store().snapshot();
    cluster.add("n3").await;
    cluster.settled().await;
    cluster.store().restore(&snapshot);
    for node in cluster.nodes() {
        evidence(node).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_only_restarts_changes_nothing() {
    let builder = TestCluster::builder().nodes(2).register::<Counter>();
    let mut cluster = builder.start().await;
    cluster.settled().await;
    let counter = cluster.node("n1").object::<Counter>("c");
    assert_eq!(counter.add(1).await, Ok(1));
    let snapshot = cluster.store().snapshot();
    cluster.store().restore(&snapshot);
    tokio::time::sleep(PATIENCE).await;
    assert_eq!(counter.add(1).await, Ok(2), "nothing was dropped");
    cluster.stop_all().await;
}
