//! Operators' commands to real processes, by any of them.

use serde_json::{Value, json};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::until;

use super::cluster;

/// Gives a command by HTTP and returns status and answer.
async fn post(node: &Node, path: &str, body: Value) -> (u16, Value) {
    let answer = node.post(path, &body).await.expect("it answers");
    (answer.status, answer.body)
}

async fn get(node: &Node, path: &str) -> Value {
    node.get(path).await.expect("it answers").body
}

async fn three(name: &str) -> (Cluster, [Node; 3]) {
    let cluster = cluster(name).await;
    let nodes = cluster.ready(["a", "b", "c"]).await;
    nodes[0].is_settled(["a", "b", "c"]).await;
    (cluster, nodes)
}

/// A node that does not own the shard.
async fn another(node: &Node, shard: u32) -> String {
    let shard = get(node, &format!("/v1/shards/{shard}")).await;
    let is_b = shard["owner"] == "b";
    if is_b { "c".into() } else { "b".into() }
}

#[tokio::test]
async fn s2_any_node_takes_commands_and_the_leader_carries_them_out() {
    let (cluster, nodes) = three("commands").await;
    for (shard, node) in (0..).zip(&nodes) {
        let to = another(node, shard).await;
        let path = format!("/v1/shards/{shard}/move");
        let (status, answer) = post(node, &path, json!({ "node": to })).await;
        assert_eq!(
            (status, &answer["changed"]),
            (200, &json!(true)),
            "{answer}"
        );
        let plan = answer["plan"]["id"].as_u64().expect("a plan");
        until("the plan is done", async || {
            let plan = get(node, &format!("/v1/plans/{plan}")).await;
            let is_done = plan["outcome"] == "done" && plan["as_planned"] == true;
            if is_done {
                Ok(())
            } else {
                Err(plan.to_string())
            }
        })
        .await;
        let (_, again) = post(node, &path, json!({ "node": to })).await;
        assert_eq!(again["changed"], false, "{again}");
    }
    let (status, refusal) = post(&nodes[1], "/v1/shards/3/move", json!({ "node": "z" })).await;
    assert_eq!((status, &refusal["code"]), (404, &json!("unknown_node")));
    let (status, refusal) = post(&nodes[1], "/v1/plans/1/abort", json!({})).await;
    assert_eq!((status, &refusal["code"]), (404, &json!("unknown_plan")));
    let (status, _) = post(&nodes[1], "/v1/shards/3/move", json!({ "nod": "a" })).await;
    assert_eq!(status, 400);
    cluster.history().await.assert_single_owners();
}

#[tokio::test]
async fn p13_a_node_drained_by_command_serves_until_it_has_given_all_up_and_exits() {
    let (cluster, [a, b, c]) = three("drained").await;
    for n in 0..100 {
        a.add_one(&n.to_string()).await.expect("it serves");
    }
    let (status, answer) = post(&a, "/v1/nodes/c/drain", json!({})).await;
    assert_eq!(status, 200, "{answer}");
    // No call fails while the shards move, whichever node is asked.
    for n in 0..100 {
        let node = if n % 2 == 0 { &a } else { &b };
        let total = node.add_one(&n.to_string()).await.expect("it serves");
        assert_eq!(total, 2, "counter {n} has lost nothing");
    }
    let status = c.end().await;
    assert_eq!(status.code(), Some(0), "{}", c.output());
    a.is_settled(["a", "b"]).await;
    let (status, refusal) = post(&a, "/v1/nodes/c/drain", json!({})).await;
    assert_eq!((status, &refusal["code"]), (404, &json!("unknown_node")));
    cluster.history().await.assert_single_owners();
}
