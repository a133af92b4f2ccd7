//! Nodes that die, come back, or are frozen: every object answers again, and no shard ever has
//! two owners.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use steading_integration_tests::cluster::Node;
use steading_integration_tests::until;
use tokio::time::Instant;

use super::cluster;

const CALLERS: usize = 64;

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("object-{i}")).collect()
}

/// Adds 1 to every counter, each through one of the nodes, again and again until it answers.
/// Returns the totals, and how long the slowest took since `start`.
async fn add_to_all(
    nodes: &[&Node],
    ids: &[String],
    start: Instant,
) -> (BTreeMap<String, i64>, Duration) {
    let calls = ids.iter().enumerate().map(|(i, id)| async move {
        let node = nodes[i % nodes.len()];
        let total = until(&format!("{id} answers"), async || node.add_one(id).await).await;
        (id.clone(), total, start.elapsed())
    });
    let answers: Vec<_> = stream::iter(calls)
        .buffer_unordered(CALLERS)
        .collect()
        .await;
    let slowest = answers.iter().map(|(_, _, took)| *took).max();
    let totals = answers.into_iter().map(|(id, total, _)| (id, total));
    (totals.collect(), slowest.unwrap_or_default())
}

#[tokio::test]
async fn n1_of_three_nodes_one_is_killed_and_every_object_answers_again() {
    let cluster = cluster("killed").await.shard_count(8192);
    let [a, b, c] = cluster.ready(["a", "b", "c"]).await;
    a.is_settled(["a", "b", "c"]).await;
    let ids = ids(1000);
    let (totals, _) = add_to_all(&[&a, &b, &c], &ids, Instant::now()).await;
    assert!(totals.values().all(|total| *total == 1), "{totals:?}");
    let mut survives = BTreeMap::new();
    for id in &ids {
        let owner = a.owner_of(&format!("Counter/{id}")).await;
        survives.insert(id.clone(), owner.expect("all are owned") != "c");
    }
    let lost = survives.values().filter(|survives| !**survives).count();
    assert!(
        (200..500).contains(&lost),
        "{lost} of 1000 objects are on the third node"
    );

    let start = Instant::now();
    c.kill();
    let (totals, slowest) = add_to_all(&[&a, &b], &ids, start).await;
    println!(
        "after SIGKILL of one of three nodes, the last of 1000 objects answers after {slowest:?}; \
         the lease lasts {:?}",
        cluster.lease_ttl()
    );
    for (id, total) in totals {
        // Those of the dead node begin anew: state was kept in memory. The others were left alone.
        let expected = if survives[&id] { 2..=2 } else { 1..=2 };
        assert!(expected.contains(&total), "{id}: {total}");
    }
    a.is_settled(["a", "b"]).await;
    let changes = cluster.history().await.assert_single_owners();
    println!("{changes} changes of owner, none of them from a live one");
}

#[tokio::test]
async fn a_node_that_restarts_under_its_id_takes_its_shards_back() {
    // Long, so that a busy machine does not take a slow restart for the end of a node.
    let patient = ["--return-delay=30s"];
    let cluster = cluster("restarted").await;
    let [a, b] = cluster.ready_with(["a", "b"], &patient).await;
    a.is_settled(["a", "b"]).await;
    let before = a.owners().await;
    b.kill();
    let start = Instant::now();
    let mut b = cluster.launch("b", &patient);
    b.listens().await;
    b.is_ready().await;
    a.is_settled(["a", "b"]).await;
    println!(
        "a killed node is back and settled {:?} after its restart",
        start.elapsed()
    );
    assert_eq!(a.owners().await, before, "nothing moved");
    cluster.history().await.assert_single_owners();
}

#[tokio::test]
async fn a_node_frozen_past_its_lease_serves_nothing_stale_and_joins_again() {
    let cluster = cluster("frozen").await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    let ids = ids(40);
    for _ in 0..5 {
        add_to_all(&[&a, &b], &ids, Instant::now()).await;
    }
    let mut frozen = Vec::new();
    for id in &ids {
        if a.owner_of(&format!("Counter/{id}")).await.as_deref() == Some("b") {
            frozen.push(id.clone());
        }
    }
    assert!(!frozen.is_empty());
    b.freeze().await;
    a.is_settled(["a"]).await;
    let (totals, _) = add_to_all(&[&a], &frozen, Instant::now()).await;
    assert!(
        totals.values().all(|total| *total == 1),
        "a new life of each: {totals:?}"
    );
    b.thaw().await;
    // Whatever it does first, it must not go on with the copies it had.
    let (totals, _) = add_to_all(&[&b], &frozen, Instant::now()).await;
    assert!(
        totals.values().all(|total| *total < 6),
        "a stale copy answered: {totals:?}"
    );
    b.is_ready().await;
    a.is_settled(["a", "b"]).await;
    cluster.history().await.assert_single_owners();
}
