//! A shard whose object aborts its process is quarantined; kills from outside quarantine nothing.

use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::until;

use super::cluster;

/// Hosts `Bomb`.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

const SHARDS: u32 = 64;

/// Every node has these: the lease of a node that aborts must run out.
const LEASE_TTL: Duration = Duration::from_secs(2);

#[tokio::test]
async fn only_the_shard_that_aborts_its_owners_is_quarantined() {
    let cluster = cluster("quarantine").await.program(PROGRAM);
    let cluster = cluster.shard_count(SHARDS).with_lease_ttl(LEASE_TTL);
    let nodes = cluster.ready(["a", "b", "c"]).await;
    let gate = cluster.gate("gate").await;
    gate.is_settled(["a", "b", "c", "gate"]).await;
    let mut nodes: Vec<Node> = nodes.into();

    // Kills from outside, while every shard is called.
    for round in 0..3 {
        call_every_shard(&gate).await;
        let killed = nodes.remove(0);
        killed.kill();
        let id = format!("k{round}");
        nodes.push(cluster.start(&id).await);
        call_every_shard(&gate).await;
        everything_is_owned(&gate, 0).await;
    }
    assert_eq!(quarantined(&cluster, &gate).await, [0_u64; 0]);

    // A caller that calls the bomb again and again.
    let shard = shard_of_bomb(&gate).await;
    let mut deaths = 0;
    while quarantined(&cluster, &gate).await.is_empty() {
        until("a node aborts, or the shard is quarantined", async || {
            let is_quarantined = !quarantined(&cluster, &gate).await.is_empty();
            let aborted = nodes.iter().position(Node::has_ended);
            if let Some(aborted) = aborted {
                nodes.remove(aborted);
                deaths += 1;
                nodes.push(cluster.start(&format!("d{deaths}")).await);
                return Ok(());
            }
            let answer = gate.call("Bomb/b", "explode", &json!({})).await;
            if is_quarantined {
                return Ok(());
            }
            Err(format!("{answer:?}"))
        })
        .await;
    }
    // One may have aborted since; and a kill before may have been the first death of its shard.
    deaths += nodes.iter().filter(|node| node.has_ended()).count();
    nodes.retain(|node| !node.has_ended());
    assert!(deaths <= 3, "{deaths} deaths");
    assert_eq!(quarantined(&cluster, &gate).await, [shard]);
    everything_is_owned(&gate, 1).await;
    for node in &nodes {
        node.is_ready().await;
    }
    call_every_other_shard(&gate, shard).await;
}

async fn call_every_shard(gate: &Node) {
    call_every_other_shard(gate, u64::MAX).await;
}

async fn call_every_other_shard(gate: &Node, but: u64) {
    let shards = (0..u64::from(SHARDS)).filter(|shard| *shard != but);
    let calls = shards.map(|shard| async move {
        let path = format!("/v1/objects/Tally/shard%23{shard}%2Ft/add");
        until(&format!("shard {shard} answers"), async || {
            let answer = gate.post(&path, &json!({ "n": 1 })).await;
            match answer {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    });
    futures::future::join_all(calls).await;
}

async fn shard_of_bomb(gate: &Node) -> u64 {
    let explained = gate.get("/v1/explain/object/Bomb/b").await;
    let explained = explained.expect("it answers").body;
    explained["shard"]["shard"]["shard"]
        .as_u64()
        .expect("a shard")
}

/// Waits until all shards but so many are owned by their targets.
async fn everything_is_owned(gate: &Node, but: u64) {
    gate.sees("every other shard is owned", |cluster| {
        let shards = &cluster["shards"];
        let unowned = shards["unowned"].as_u64();
        unowned == Some(but) && shards["moving"] == 0
    })
    .await;
}

async fn quarantined(cluster: &Cluster, gate: &Node) -> Vec<u64> {
    let args = [
        "shards",
        "--state",
        "quarantined",
        "--json",
        "--address",
        gate.http(),
    ];
    let (_, output) = cluster.command(&args).await;
    let shards: Value = serde_json::from_str(&output).expect("JSON");
    let shards = shards.as_array().expect("a list");
    let numbers = shards.iter().filter_map(|shard| shard["shard"].as_u64());
    numbers.collect()
}
