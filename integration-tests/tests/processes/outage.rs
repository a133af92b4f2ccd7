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
