//! What is written into etcd behind a cluster's back.

use serde_json::{Value, json};
use steading::coordination::store::{Op, Store, Txn};

use crate::cluster::Cluster;

/// Writes a key that no lease keeps.
///
/// # Panics
///
/// If etcd does not answer.
pub async fn put(cluster: &Cluster, key: String, value: impl Into<Vec<u8>>) {
    let value = value.into();
    let lease = None;
    commit(cluster, vec![Op::Put { key, value, lease }]).await;
}

/// Deletes a key.
///
/// # Panics
///
/// If etcd does not answer.
pub async fn delete(cluster: &Cluster, key: String) {
    commit(cluster, vec![Op::Delete(key)]).await;
}

/// Puts the shards of which this holds into quarantine, as the leader does. For clusters of at most 64
/// shards: each has a target key of its own.
///
/// # Panics
///
/// If etcd does not answer, or with what a node wrote.
pub async fn quarantine(cluster: &Cluster, is_wanted: impl Fn(u32) -> bool) {
    let store = cluster.store().await;
    let targets = format!("{}target/", cluster.prefix());
    let listing = store.list(&targets).await.expect("etcd answers");
    let mut marked = Vec::new();
    for entry in listing.entries {
        let shard = entry.key.strip_prefix(&targets).expect("a target key");
        let mut value: Value = serde_json::from_slice(&entry.value).expect("JSON");
        assert_eq!(
            value["targets"].as_array().map(Vec::len),
            Some(1),
            "{value}"
        );
        if is_wanted(shard.parse().expect("a number")) {
            value["quarantined"] = json!([0]);
            marked.push(Op::Put {
                key: entry.key,
                value: value.to_string().into_bytes(),
                lease: None,
            });
        }
    }
    commit(cluster, marked).await;
}

async fn commit(cluster: &Cluster, then: Vec<Op>) {
    let txn = Txn {
        then,
        ..Txn::default()
    };
    let reply = cluster.store().await.commit(txn).await;
    assert!(reply.expect("etcd answers").succeeded);
}
