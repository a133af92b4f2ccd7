//! etcd loses its data, goes back in time, or is rewritten by hand, while nodes run.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use steading::coordination::keys::{Keys, encode_meta};
use steading::coordination::store::{Op, Store as _, Txn};
use steading::ids::ShardCount;
use steading::placement::ClusterMeta;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;

use super::doctor::{doctor, finds};

/// The exit code of a node whose store is not the one that it joined.
const REPLACED: i32 = 5;

/// The object that all nodes are asked for.
const OBJECT: &str = "shared";

/// Keeps adding to one object by way of `old` nodes until they are gone. Fails if one of them serves
/// it after a node of the new history did, which sets `is_new`.
async fn is_served_by_one_history(old: &[Node], is_new: &AtomicBool) {
    loop {
        let mut reached = 0;
        for node in old {
            // Looked at before the request is sent: an answer that overlaps proves nothing.
            let late = is_new.load(Ordering::SeqCst);
            let answer = node
                .call(&format!("Counter/{OBJECT}"), "add", &json!({ "n": 1 }))
                .await;
            let Ok(answer) = answer else {
                continue;
            };
            reached += 1;
            assert!(
                !late || answer.status != 200,
                "{} answers next to the new owner: {}",
                node.id(),
                answer.body
            );
        }
        if reached == 0 {
            return;
        }
    }
}

/// Starts a node in what etcd is now, and waits until it alone serves everything.
async fn begins_anew(cluster: &Cluster, is_new: &AtomicBool) -> Node {
    let mut node = cluster.launch("new", &[]);
    node.listens().await;
    until("the new node serves", async || {
        let added = node.add_one(OBJECT).await;
        added.inspect(|_| is_new.store(true, Ordering::SeqCst))
    })
    .await;
    node.is_ready().await;
    node
}

async fn ends_as_replaced(nodes: &[Node]) {
    for node in nodes {
        let status = node.end().await;
        assert_eq!(status.code(), Some(REPLACED), "{}", node.output());
        let said = node.output();
        assert!(
            said.contains("the store is not the one that this process joined"),
            "{said}"
        );
    }
}

/// What operators are told agrees with what callers see.
async fn all_is_well(cluster: &Cluster, node: &Node) {
    node.is_settled([node.id()]).await;
    let said = doctor(cluster, &[node], true).await;
    assert_eq!((said.unwell(), said.code), (Vec::new(), Some(0)));
    let address = ["--address", node.http()];
    let (code, status) = cluster.command(&[&["status"], &address[..]].concat()).await;
    assert_eq!(code, Some(0), "{status}");
    assert!(status.contains("0 unowned"), "{status}");
    let object = format!("Counter/{OBJECT}");
    let subject = ["explain", "object", &object];
    let (code, why) = cluster.command(&[&subject, &address[..]].concat()).await;
    assert_eq!(code, Some(0), "{why}");
    assert!(why.contains("new"), "{why}");
}

#[tokio::test]
async fn nodes_end_when_etcd_loses_its_data() {
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "lost");
    let nodes = cluster.ready(["a", "b"]).await;
    nodes[0].is_settled(["a", "b"]).await;
    nodes[0].add_one(OBJECT).await.expect("it serves");
    etcd.lose_data().await;
    let is_new = AtomicBool::new(false);
    let (new, ()) = tokio::join!(
        begins_anew(&cluster, &is_new),
        is_served_by_one_history(&nodes, &is_new)
    );
    ends_as_replaced(&nodes).await;
    all_is_well(&cluster, &new).await;
}

#[tokio::test]
async fn nodes_end_when_etcd_goes_back_in_time() {
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "back");
    let [a] = cluster.ready(["a"]).await;
    a.is_settled(["a"]).await;
    let snapshot = etcd.snapshot();
    let [b] = cluster.ready(["b"]).await;
    a.is_settled(["a", "b"]).await;
    a.add_one(OBJECT).await.expect("it serves");
    etcd.restore(&snapshot).await;
    let nodes = [a, b];
    let is_new = AtomicBool::new(false);
    let (new, ()) = tokio::join!(
        begins_anew(&cluster, &is_new),
        is_served_by_one_history(&nodes, &is_new)
    );
    ends_as_replaced(&nodes).await;
    all_is_well(&cluster, &new).await;
}

#[tokio::test]
async fn endpoints_of_two_etcd_clusters_are_refused() {
    let (one, other) = (Etcd::start().await, Etcd::start().await);
    let endpoints = format!("{},{}", one.endpoint(), other.endpoint());
    let cluster = Cluster::at(endpoints, "mixed");
    let node = cluster.launch("a", &[]);
    assert_eq!(node.end().await.code(), Some(4), "{}", node.output());
    let said = node.output();
    assert!(said.contains("different etcd clusters"), "{said}");
}

#[tokio::test]
async fn a_rewritten_description_is_rejected_and_reported() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "rewritten");
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let seen = a.get("/v1/cluster").await.expect("it runs").body;
    let id = seen["cluster_id"].as_str().expect("an ID").to_owned();
    let count = ShardCount::new(16).expect("a power of two");
    let key = Keys::new(cluster.prefix()).meta();
    let other = encode_meta(&ClusterMeta::new(id, count));
    for value in [other, b"garbage".to_vec()] {
        let put = Op::Put {
            key: key.clone(),
            value,
            lease: None,
        };
        let txn = Txn {
            then: vec![put],
            ..Txn::default()
        };
        cluster.store().await.commit(txn).await.expect("it answers");
        let said = finds(&cluster, &[&a, &b], false, "bad views", "meta/cluster").await;
        assert_eq!(said.code, Some(1));
        for node in [&a, &b] {
            let ready = node.get("/ready").await.expect("it runs");
            assert_eq!(ready.status, 200, "callers notice nothing");
            let warning = ready.body["warnings"][0].as_str().expect("a warning");
            assert!(warning.contains("meta/cluster"), "{warning}");
            node.add_one(OBJECT).await.expect("it serves");
        }
    }
}
