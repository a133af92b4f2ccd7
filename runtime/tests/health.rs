//! What nodes know of how others answer them, in whole clusters on a paused clock.

use std::time::Duration;

use steading::Node;
use steading::ids::NodeId;
use steading::node::{HealthSettings, NodeHealth};
use steading::testing::TestCluster;
use tokio::time::sleep;

const SETTINGS: HealthSettings = HealthSettings {
    interval: Duration::from_secs(4),
    failures: 2,
};

async fn cluster() -> TestCluster {
    let builder = TestCluster::builder().nodes(3);
    let builder = builder.setup(|node| node.health(SETTINGS));
    builder.start().await
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

/// Waits until what `node` knows of `other` is as wanted; a paused clock makes that free.
async fn known(
    node: &Node,
    other: &str,
    wanted: impl Fn(Option<&NodeHealth>) -> bool,
) -> Option<NodeHealth> {
    for _ in 0..100 {
        let health = node.health().remove(&id(other));
        if wanted(health.as_ref()) {
            return health;
        }
        sleep(SETTINGS.interval / 4).await;
    }
    panic!("{other} as {} knows it: {:?}", node.id(), node.health());
}

fn is_healthy(health: Option<&NodeHealth>) -> bool {
    health.is_some_and(|health| health.healthy && health.consecutive_failures == 0)
}

#[tokio::test(start_paused = true)]
async fn s0_15_a_node_out_of_reach_is_unhealthy_to_those_who_cannot_reach_it_and_keeps_its_shards()
{
    let mut cluster = cluster().await;
    for other in ["n2", "n3"] {
        let health = known(cluster.node("n1"), other, is_healthy).await;
        let health = health.expect("it was probed");
        assert!(health.latency.is_some() && health.last_failure.is_none());
    }
    let before = cluster.view().owners.clone();

    cluster.network().partition("n1", "n2");
    let silent = |health: Option<&NodeHealth>| health.is_some_and(|health| !health.healthy);
    let health = known(cluster.node("n1"), "n2", silent).await;
    let health = health.expect("it was probed");
    assert!(health.consecutive_failures >= SETTINGS.failures && health.error_rate > 0.0);
    let failure = health.last_failure.expect("it failed");
    assert!(failure.reason.contains("does not answer"), "{failure:?}");
    known(cluster.node("n3"), "n2", is_healthy).await;
    known(cluster.node("n2"), "n3", is_healthy).await;
    assert_eq!(cluster.view().owners, before, "its lease lives");

    cluster.network().heal("n1", "n2");
    let health = known(cluster.node("n1"), "n2", is_healthy).await;
    let health = health.expect("it was probed");
    assert!(health.error_rate > 0.0 && health.last_failure.is_some());
    cluster.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn the_record_of_a_dead_node_goes_with_it_and_its_next_life_begins_anew() {
    let mut cluster = cluster().await;
    cluster.network().partition("n1", "n2");
    let failed = |health: Option<&NodeHealth>| health.is_some_and(|health| health.error_rate > 0.0);
    known(cluster.node("n1"), "n2", failed).await;
    cluster.crash("n2").await;
    known(cluster.node("n1"), "n2", |health| health.is_none()).await;
    cluster.network().heal("n1", "n2");
    cluster.add("n2").await;
    let health = known(cluster.node("n1"), "n2", is_healthy).await;
    assert_eq!(health.expect("it was probed").last_failure, None);
    cluster.stop_all().await;
}
