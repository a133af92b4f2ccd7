//! Faults of what is in etcd, and of etcd itself.

use steading::coordination::keys::{Keys, encode_meta};
use steading::ids::ShardCount;
use steading::placement::ClusterMeta;
use steading_integration_tests::agreement::{Observation, Ready, agrees};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::keys::{delete, put, quarantine};

use super::faults::{finds, is_served, two};

#[tokio::test]
async fn a_rewritten_description_is_reported_and_calls_are_served() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "rewritten");
    let [a, b] = two(&cluster).await;
    let seen = a.get("/v1/cluster").await.expect("it runs").body;
    let id = seen["cluster_id"].as_str().expect("an ID").to_owned();
    let count = ShardCount::new(16).expect("a power of two");
    let other = encode_meta(&ClusterMeta::new(id, count));
    put(&cluster, Keys::new(cluster.prefix()).meta(), other).await;
    agrees(&cluster, &[&a, &b], "meta/cluster is reported", |seen| {
        is_served(seen) && finds(seen, "bad views", "meta/cluster")
    })
    .await;
}

#[tokio::test]
async fn a_second_key_for_a_shard_is_reported_and_its_deletion_harms_nobody() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "second-key");
    let [a, b] = two(&cluster).await;
    let owner = r#"{"node":"ghost","incarnation":1}"#;
    let strange = ["owner/17", "owner/9999"].map(|key| format!("{}{key}", cluster.prefix()));
    for key in &strange {
        put(&cluster, key.clone(), owner).await;
    }
    agrees(&cluster, &[&a, &b], "the keys are reported", |seen| {
        is_served(seen) && finds(seen, "warn views", "ignores 2 keys")
    })
    .await;
    for key in strange {
        delete(&cluster, key).await;
    }
    agrees(&cluster, &[&a, &b], "the keys are gone", |seen| {
        is_served(seen) && !finds(seen, "warn views", "ignores")
    })
    .await;
}

#[tokio::test]
async fn a_shard_in_quarantine_is_reported_and_calls_to_it_fail() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "quarantined").shard_count(4);
    let [a, b] = two(&cluster).await;
    let shard = a.shards_of("b").await[0];
    quarantine(&cluster, |of| of == shard).await;
    b.kill();
    agrees(&cluster, &[&a], "the shard has no owner", |seen| {
        let fails = |of: u32| {
            seen.samples
                .iter()
                .any(|call| call.shard == of && call.failed.is_some())
        };
        seen.ready.values().all(|ready| *ready == Ready::Yes)
            && fails(shard)
            && finds(seen, "bad quarantine", &shard.to_string())
    })
    .await;
}

#[tokio::test]
async fn low_limits_of_etcd_are_reported_and_nothing_is_served() {
    let etcd = Etcd::start_flagged(&["--max-txn-ops=16"]).await;
    let cluster = Cluster::new(&etcd, "low-limits").shard_count(8192);
    let mut nodes = [cluster.launch("a", &[]), cluster.launch("b", &[])];
    for node in &mut nodes {
        node.listens().await;
    }
    let [a, b] = &nodes;
    let is_named = |seen: &Observation| {
        let names = |ready: &Ready| match ready {
            Ready::No(why) => why.contains("--max-txn-ops"),
            Ready::Yes | Ready::Silent => false,
        };
        seen.ready.values().all(names) && finds(seen, "bad", "--max-txn-ops")
    };
    let seen = agrees(&cluster, &[a, b], "the limit is named", is_named).await;
    assert!(!seen.samples.is_empty(), "{seen:#?}");
    assert!(
        seen.samples.iter().all(|call| call.failed.is_some()),
        "{seen:#?}"
    );
}

/// Waits until the nodes of before have ended and all agree by way of a new one.
async fn begins_anew(cluster: &Cluster, old: [Node; 2]) {
    let new = cluster.start("new").await;
    for node in &old {
        assert_eq!(node.end().await.code(), Some(5), "{}", node.output());
    }
    let seen = agrees(cluster, &[&new], "the new node serves", |seen| {
        is_served(seen) && seen.status.unowned == 0
    })
    .await;
    assert_eq!(
        (seen.doctor.code, seen.status.code),
        (Some(0), Some(0)),
        "{seen:#?}"
    );
}

#[tokio::test]
async fn nodes_whose_etcd_lost_its_data_serve_nothing_and_a_new_one_everything() {
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "lost");
    let old = two(&cluster).await;
    etcd.lose_data().await;
    begins_anew(&cluster, old).await;
}

#[tokio::test]
async fn nodes_whose_etcd_went_back_in_time_serve_nothing_and_a_new_one_everything() {
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "back");
    let [a] = cluster.ready(["a"]).await;
    a.is_spread(["a"]).await;
    let snapshot = etcd.snapshot();
    let [b] = cluster.ready(["b"]).await;
    a.is_spread(["a", "b"]).await;
    etcd.restore(&snapshot).await;
    begins_anew(&cluster, [a, b]).await;
}
