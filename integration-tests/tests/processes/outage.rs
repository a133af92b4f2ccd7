//! The store goes away and comes back.

use steading_integration_tests::cluster::{Cluster, node_ids};
use steading_integration_tests::etcd::Etcd;
use tokio::time::Instant;

#[tokio::test]
async fn m12_m13_nodes_outlive_etcd_and_see_what_follows() {
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "outage");
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    assert_eq!(b.add_one("x").await, Ok(1));
    etcd.kill();
    // Longer than a lease: the fences close, and nobody serves.
    for node in [&a, &b] {
        node.is_unready().await;
        assert_eq!(node.get("/healthz").await.expect("alive").status, 200);
    }
    let address = format!("http://{}", a.http());
    let (code, text) = cluster.command(&["status", "--address", &address]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("a does not follow it since"), "{text}");
    for command in [
        &["nodes"][..],
        &["shards", "--limit", "1"],
        &["objects"],
        &["explain", "shard", "0"],
    ] {
        let command = [command, &["--address", &address]].concat();
        let (code, text) = cluster.command(&command).await;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("what it tells may be old"), "{text}");
    }
    etcd.restart().await;
    let start = Instant::now();
    for node in [&a, &b] {
        node.is_ready().await;
    }
    println!("nodes are ready {:?} after etcd is back", start.elapsed());
    a.is_settled(["a", "b"]).await;
    a.add_one("x").await.expect("served again");
    let _c = cluster.start("c").await;
    for node in [&a, &b] {
        node.sees("the new node", |cluster| {
            node_ids(cluster) == ["a", "b", "c"]
        })
        .await;
    }
    cluster.history().await.assert_single_owners();
}

/// What a node says once it cannot go on with its stop.
const WAITS: &str = "the store is away: waits for it";

#[tokio::test]
async fn a_node_told_to_stop_without_etcd_keeps_what_it_has_until_etcd_is_back_or_it_is_told_again()
{
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "outage-stop");
    let patient = ["--drain-timeout", "10m"];
    let [a, b] = cluster.ready_with(["a", "b"], &patient).await;
    a.is_settled(["a", "b"]).await;
    // The leader first: another one must plan where its shards go.
    let (a, b) = match a.leader().await.as_str() {
        "b" => (a, b),
        _ => (b, a),
    };
    let ids = ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7"];
    for id in ids {
        assert_eq!(a.add_one(id).await, Ok(1));
    }
    etcd.kill();
    b.ask_to_end();
    b.says(WAITS).await;
    etcd.restart().await;
    assert_eq!(b.end().await.code(), Some(0), "{}", b.output());
    for id in ids {
        assert_eq!(a.add_one(id).await, Ok(2), "handed over");
    }

    etcd.kill();
    a.ask_to_end();
    a.says(WAITS).await;
    a.ask_to_end();
    assert_eq!(a.end().await.code(), Some(0), "{}", a.output());
    etcd.restart().await;
    cluster.history().await.assert_single_owners();
}
