//! Nodes that come and go, their leader, and where the shards are meanwhile.

use serde_json::Value;
use steading::coordination::keys::Keys;
use steading::coordination::store::Store;
use steading_integration_tests::cluster::{Node, node_ids};
use steading_integration_tests::until;
use tokio::time::Instant;

use super::cluster;

fn leader(cluster: &Value) -> Option<&str> {
    cluster["leader"].as_str()
}

/// Waits until a node sees a leader among these.
async fn led_by(node: &Node, among: &[&str]) -> String {
    let led = |cluster: &Value| leader(cluster).is_some_and(|leader| among.contains(&leader));
    let cluster = node.sees("a leader among the living", led).await;
    leader(&cluster).expect("just seen").to_owned()
}

#[tokio::test]
async fn m1_m2_m3_nodes_see_each_other_come_and_go() {
    let cluster = cluster("membership").await;
    let start = Instant::now();
    let (a, b) = tokio::join!(cluster.start("a"), cluster.start("b"));
    for node in [&a, &b] {
        node.sees("both", |cluster| node_ids(cluster) == ["a", "b"])
            .await;
    }
    println!(
        "two nodes see each other {:?} after their start",
        start.elapsed()
    );
    let start = Instant::now();
    let c = cluster.start("c").await;
    let three = |cluster: &Value| node_ids(cluster) == ["a", "b", "c"];
    a.sees("the third", three).await;
    println!("a third is seen {:?} after its start", start.elapsed());
    c.is_ready().await;
    assert!(c.terminate().await.success(), "{}", c.output());
    a.sees("two again", |cluster| node_ids(cluster) == ["a", "b"])
        .await;
    let id = "c".parse().expect("a name");
    let key = Keys::new(cluster.prefix()).node(&id);
    let listing = cluster.store().await.list(&key).await.expect("etcd runs");
    assert!(listing.entries.is_empty(), "{:?}", listing.entries);
}

#[tokio::test]
async fn m4_m5_all_agree_on_one_leader_and_on_its_successor() {
    let cluster = cluster("leaders").await;
    let mut nodes = Vec::from(cluster.ready(["a", "b", "c"]).await);
    let first = led_by(&nodes[0], &["a", "b", "c"]).await;
    for node in &nodes {
        assert_eq!(led_by(node, &["a", "b", "c"]).await, first);
    }
    let leads = nodes
        .iter()
        .position(|node| node.id() == first)
        .expect("one of them");
    let start = Instant::now();
    assert!(nodes.remove(leads).terminate().await.success());
    let left: Vec<&str> = nodes.iter().map(Node::id).collect();
    let second = led_by(&nodes[0], &left).await;
    println!(
        "another leads {:?} after the leader was told to end",
        start.elapsed()
    );
    assert_eq!(led_by(&nodes[1], &left).await, second);
}

#[tokio::test]
async fn p1_p3_every_shard_has_a_target_that_owns_it_and_all_see_the_same() {
    let cluster = cluster("placed").await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    b.is_settled(["a", "b"]).await;
    let shards = async |node: &Node| node.get("/v1/shards").await.expect("runs").body;
    let seen = until("both see the same", async || {
        let (by_a, by_b) = (shards(&a).await, shards(&b).await);
        let same = placed(&by_a) == placed(&by_b);
        if same {
            Ok(by_a)
        } else {
            Err(format!("{by_a} and {by_b}"))
        }
    })
    .await;
    let shards = seen.as_array().expect("a list");
    assert_eq!(shards.len(), 64);
    assert!(shards.iter().all(|shard| shard["target"] == shard["owner"]));
    let of_a = shards.iter().filter(|shard| shard["owner"] == "a").count();
    assert_eq!(of_a, 32);
}

/// Returns what all nodes must agree on.
fn placed(shards: &Value) -> Vec<[Value; 4]> {
    let shards = shards.as_array().expect("a list");
    let fields = ["shard", "target", "owner", "token"];
    shards
        .iter()
        .map(|shard| fields.map(|field| shard[field].clone()))
        .collect()
}
