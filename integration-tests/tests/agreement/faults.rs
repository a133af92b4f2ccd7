//! Faults of etcd's content, of operators' orders and of the network, while they are active.

use std::time::Duration;

use serde_json::json;
use steading_integration_tests::agreement::{Observation, Ready, agrees};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;

/// Returns whether all nodes are ready and every sample call is served.
pub(super) fn is_served(seen: &Observation) -> bool {
    let ready = seen.ready.values().all(|ready| *ready == Ready::Yes);
    let called = !seen.samples.is_empty();
    ready && called && seen.samples.iter().all(|call| call.failed.is_none())
}

/// Returns whether the doctor has a finding that begins and contains this.
pub(super) fn finds(seen: &Observation, begin: &str, contains: &str) -> bool {
    let findings = seen.doctor.findings.iter();
    findings
        .filter(|of| of.starts_with(begin))
        .any(|of| of.contains(contains))
}

pub(super) async fn two(cluster: &Cluster) -> [Node; 2] {
    let nodes = cluster.ready(["a", "b"]).await;
    nodes[0].is_spread(["a", "b"]).await;
    nodes
}

#[tokio::test]
async fn a_healthy_cluster_contradicts_nothing() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "well");
    let [a, b] = two(&cluster).await;
    let seen = agrees(&cluster, &[&a, &b], "all is well", is_served).await;
    assert_eq!(
        (seen.doctor.code, seen.status.code),
        (Some(0), Some(0)),
        "{seen:#?}"
    );
}

#[tokio::test]
async fn orders_are_warnings_and_serve_all_the_same() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "ordered");
    let [a, b] = two(&cluster).await;
    a.order("/v1/nodes/b/cordon", &json!({})).await;
    a.order("/v1/pause", &json!({})).await;
    let ordered = |seen: &Observation| {
        is_served(seen)
            && finds(seen, "warn orders", "b is cordoned")
            && seen.doctor.code == Some(0)
    };
    agrees(
        &cluster,
        &[&a, &b],
        "b is cordoned and balancing paused",
        ordered,
    )
    .await;
    // A node that joins meanwhile gets nothing, and is ready to serve nothing.
    let c = cluster.start("c").await;
    agrees(
        &cluster,
        &[&a, &b, &c],
        "c has joined and gets nothing",
        ordered,
    )
    .await;
}

#[tokio::test]
async fn a_cordoned_node_that_restarts_is_ready_without_shards() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "cordoned");
    let [a, b] = two(&cluster).await;
    a.order("/v1/nodes/b/cordon", &json!({})).await;
    assert!(b.terminate().await.success(), "{}", b.output());
    agrees(&cluster, &[&a], "a serves everything", is_served).await;
    let b = cluster.start("b").await;
    agrees(&cluster, &[&a, &b], "b is back and gets nothing", |seen| {
        is_served(seen) && finds(seen, "warn orders", "b is cordoned")
    })
    .await;
    assert!(a.shards_of("b").await.is_empty());
}

#[tokio::test]
async fn a_dead_leader_key_is_reported() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "no-leader");
    let [a, b] = two(&cluster).await;
    let mut client = etcd.client().await;
    let key = format!("{}leader", cluster.prefix());
    client
        .put(key, r#"{"node":"ghost"}"#, None)
        .await
        .expect("written");
    agrees(
        &cluster,
        &[&a, &b],
        "the leader is no member, or it was replaced",
        |seen| {
            let samples = seen.samples.iter().all(|call| call.failed.is_none());
            samples && (seen.doctor.code == Some(1) || is_served(seen))
        },
    )
    .await;
}

#[tokio::test]
async fn a_node_key_without_a_process_is_silent() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "ghost");
    let [a, b] = two(&cluster).await;
    let key = format!("{}nodes/ghost", cluster.prefix());
    // On a lease that lives: a key without one would be removed.
    let lease = etcd.lease().await;
    let value = format!(
        r#"{{"grpc":"127.0.0.1:1","http":"127.0.0.1:1","weight":1,"version":"0.1.0",
        "object_types":["Counter"],"state":"active","lease":{lease},"boot_id":""}}"#
    );
    etcd.put_on(lease, key, value).await;
    agrees(&cluster, &[&a, &b], "the ghost is reported", |seen| {
        finds(seen, "bad", "ghost")
            && seen
                .status
                .nodes
                .get("ghost")
                .is_none_or(|is| is != "active")
    })
    .await;
}

#[tokio::test]
async fn an_unreachable_address_is_reported() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "unreachable").with_lease_ttl(Duration::from_secs(5));
    let [a, b] = two(&cluster).await;
    let mut c = cluster.launch("c", &["--grpc-advertise", "127.0.0.1:1"]);
    c.listens().await;
    agrees(&cluster, &[&a, &b, &c], "c is not reached", |seen| {
        finds(seen, "bad", "c ")
    })
    .await;
}

#[tokio::test]
async fn a_dead_node_with_a_pinned_shard_stays_reported() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "pinned");
    let more = ["--pin-policy", "wait"];
    let [a, b] = cluster.ready_with(["a", "b"], &more).await;
    a.is_spread(["a", "b"]).await;
    let shard = a.shards_of("b").await[0];
    a.order(&format!("/v1/shards/{shard}/pin"), &json!({ "node": "b" }))
        .await;
    b.kill();
    agrees(&cluster, &[&a], "the pinned shard has no owner", |seen| {
        finds(seen, "bad pins", "pinned to b") && seen.status.unowned == 1
    })
    .await;
}
