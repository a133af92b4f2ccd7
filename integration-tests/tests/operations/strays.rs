//! Node and leader keys that no lease keeps, as a hand or a restore leaves them in etcd.

use std::time::Duration;

use steading::coordination::keys::{Keys, encode_leader};
use steading::coordination::store::{Entry, Store as _};
use steading::ids::NodeId;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::keys::put;
use steading_integration_tests::{LIMIT, until, until_within};

use super::doctor::{doctor, finds};

/// How long it takes until no process can serve under a lease that was ended: the longest time to live.
const LEASE_TTL_MAX: Duration = Duration::from_mins(1);

fn keys(cluster: &Cluster) -> Keys {
    Keys::new(cluster.prefix())
}

async fn entry(cluster: &Cluster, key: &str) -> Option<Entry> {
    let listing = cluster.store().await.list(key).await.expect("etcd answers");
    listing.entries.into_iter().find(|entry| entry.key == key)
}

/// Waits until the leader key hangs on a lease, and a command is carried out.
async fn is_led(cluster: &Cluster, node: &Node) {
    until("a node leads", async || {
        let leader = entry(cluster, &keys(cluster).leader()).await;
        let held = leader.as_ref().is_some_and(|leader| leader.lease.is_some());
        held.then_some(()).ok_or(format!("{leader:?}"))
    })
    .await;
    node.order("/v1/pause", &serde_json::json!({})).await;
    node.order("/v1/resume", &serde_json::json!({})).await;
}

#[tokio::test]
async fn a_leader_key_that_no_lease_keeps_is_named_and_deleted() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "unheld-leader");
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    // One names a node that is not there, the other one a node that lives.
    for leader in ["ghost", "a"] {
        let leader = NodeId::new(leader).expect("a good name");
        let key = keys(&cluster).leader();
        until("the doctor names the key", async || {
            // Written anew each time: it is deleted after some seconds.
            put(&cluster, key.clone(), encode_leader(&leader)).await;
            let unwell = doctor(&cluster, &[&a, &b], true).await.unwell();
            let names = |line: &String| line.starts_with("warn store_keys") && line.contains(&key);
            let named = unwell.iter().any(names);
            named.then_some(()).ok_or(format!("{unwell:#?}"))
        })
        .await;
        a.add_one("calls").await.expect("calls need no leader");
        is_led(&cluster, &a).await;
    }
}

#[tokio::test]
async fn a_node_key_that_no_lease_keeps_is_named_gets_nothing_and_is_deleted() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "unheld-node").with_lease_ttl(Duration::from_secs(2));
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let key = keys(&cluster).node(&NodeId::new("b").expect("a good name"));
    let registered = entry(&cluster, &key).await.expect("b is registered");
    b.kill();
    a.is_settled(["a"]).await;
    put(&cluster, key.clone(), registered.value).await;
    finds(&cluster, &[&a], true, "warn store_keys", &key).await;
    a.is_settled(["a"]).await;
    a.add_one("calls").await.expect("it serves everything");
    until_within(
        LEASE_TTL_MAX + LIMIT,
        "the key is deleted",
        async || match entry(&cluster, &key).await {
            None => Ok(()),
            Some(entry) => Err(format!("{entry:?}")),
        },
    )
    .await;
    // Its name is free again.
    let b = cluster.start("b").await;
    b.is_ready().await;
    a.is_settled(["a", "b"]).await;
}
