//! Nodes that do not act: the leader gives up after a limit, says so, and plans without them.

use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::cluster::{Answer, Cluster, Node, node_ids};
use steading_integration_tests::load::Load;
use steading_integration_tests::{signals, until};

use super::{ALL, cluster};

/// The next version of the program: one type has another form.
const NEXT_PROGRAM: &str = env!("CARGO_BIN_EXE_test-node-next");

/// Limits that no test waits long for.
const SOON: [&str; 6] = [
    "--leaving-limit",
    "3s",
    "--claiming-limit",
    "3s",
    "--drain-timeout",
    "1s",
];

/// A cluster whose leases outlast every test.
async fn with_long_leases(name: &str) -> Cluster {
    cluster(name).await.with_lease_ttl(Duration::from_mins(1))
}

/// Lets nothing move that the test does not order.
async fn rests(gate: &Node) {
    gate.order("/v1/pause", &json!({})).await;
}

/// Returns how many moves leaders have given up in this phase.
async fn given_up(nodes: &[&Node], phase: &str) -> f64 {
    let labels = format!(r#"phase="{phase}""#);
    let mut sum = 0.0;
    for node in nodes {
        sum += node.metric("steading_moves_given_up_total", &labels).await;
    }
    sum
}

/// Waits until a move was given up, with an event that says so, and the shard is where it was.
async fn is_given_up(gate: &Node, plan: u64, shard: u32, owner: &str) {
    let plan = gate.plan_ends(plan).await;
    assert_eq!(plan["outcome"], "failed", "{plan}");
    let event = &plan["events"][0];
    assert_eq!(event["kind"], "stuck", "{plan}");
    let text = format!("{owner} has not handed shard {shard} over");
    let told = event["text"].as_str().unwrap_or_default();
    assert!(told.contains(&text), "{plan}");
    assert_eq!(gate.owners().await[shard as usize].as_deref(), Some(owner));
}

/// Orders a move until it is carried out: a shard that was stuck may rest for a while, or be on its
/// way already, since a node that does not answer for long gives its shards up.
async fn moves_at_last(gate: &Node, shard: u32, to: &str) {
    until("the shard moves", async || {
        if let Some(plan) = gate.order_moves([(shard, to)]).await {
            gate.plan_ends(plan).await;
        }
        match gate.owners().await[shard as usize].as_deref() {
            Some(owner) if owner == to => Ok(()),
            owner => Err(format!("{owner:?} has it")),
        }
    })
    .await;
}

/// Calls an object in this shard, once.
async fn call(gate: &Node, object_type: &str, shard: u32, method: &str, body: &Value) -> Value {
    let object = format!("{object_type}/shard%23{shard}%2Fx");
    let answer = gate
        .call(&object, method, body)
        .await
        .expect("the gate runs");
    let Answer { status, body } = answer;
    assert_eq!(status, 200, "{body}");
    body
}

#[tokio::test]
async fn n8_s2_2_what_an_owner_cannot_give_up_stays_and_is_reported_and_moves_once_it_can() {
    let cluster = with_long_leases("kept").await;
    let [a, b] = cluster.ready_with(["a", "b"], &SOON).await;
    let gate = cluster.gate("gate").await;
    let next = cluster.clone().program(NEXT_PROGRAM);
    let [c] = next.ready_with(["c"], &SOON).await;
    gate.is_spread(["a", "b", "c"]).await;
    let nodes = [&a, &b, &c];
    rests(&gate).await;

    // A turn that never ends.
    let shard = gate.shards_of("b").await[0];
    let held = gate.hold(shard).await;
    let load = Load::begin(&gate, "held", ALL.filter(|of| *of != shard)).await;
    let plan = gate.move_shards([(shard, "a")]).await;
    is_given_up(&gate, plan, shard, "b").await;
    assert!(given_up(&nodes, "leaving").await >= 1.0);
    b.says("a turn did not end in time").await;
    assert!(b.output().contains(&format!("Holder/shard#{shard}/x")));
    call(&gate, "Holder", shard, "let_go", &json!({})).await;
    held.await.expect("the turn has ended");
    moves_at_last(&gate, shard, "a").await;

    // A state that the new owner cannot read.
    let shard = gate.shards_of("a").await[0];
    let one = json!({ "n": 1 });
    assert_eq!(call(&gate, "Changed", shard, "add", &one).await, 1);
    let plan = gate.move_shards([(shard, "c")]).await;
    is_given_up(&gate, plan, shard, "a").await;
    let unreadable = a.metric("steading_sends_failed_total", r#"reason="unreadable""#);
    assert!(unreadable.await >= 1.0);
    a.says(&format!("Changed/shard#{shard}/x cannot travel"))
        .await;
    assert_eq!(call(&gate, "Changed", shard, "add", &one).await, 2);
    moves_at_last(&gate, shard, "b").await;
    assert_eq!(call(&gate, "Changed", shard, "add", &one).await, 3);

    load.goes_round().await;
    load.end_unharmed().await;
    cluster.history().await.assert_single_owners();
}

#[tokio::test]
async fn s2_3_what_a_frozen_node_neither_gives_nor_takes_is_planned_around() {
    let cluster = with_long_leases("frozen-nodes").await;
    let [a, b, d] = cluster.ready_with(["a", "b", "d"], &SOON).await;
    let mut c = cluster.launch("c", &["--supervise"]);
    c.listens().await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["a", "b", "c", "d"]).await;
    rests(&gate).await;
    let leader = gate.leader().await;
    let (frozen, others) = if leader == "a" {
        (d, [a, b])
    } else {
        (a, [b, d])
    };
    let lead: [&Node; 2] = [&others[0], &others[1]];
    let mut served = gate.shards_of(others[0].id()).await;
    served.extend(gate.shards_of(others[1].id()).await);
    let load = Load::begin(&gate, "load", served).await;

    // It gives nothing: its shard stays, and nobody else's waits for that.
    frozen.freeze().await;
    let shard = gate.shards_of(frozen.id()).await[0];
    let stuck = gate.move_shards([(shard, others[0].id())]).await;
    let free = gate.shards_of(others[0].id()).await[0];
    let plan = gate.move_shards([(free, others[1].id())]).await;
    assert_eq!(gate.plan_ends(plan).await["outcome"], "done");
    is_given_up(&gate, stuck, shard, frozen.id()).await;
    assert!(given_up(&lead, "leaving").await >= 1.0);

    // Nor does it take what another would give: calls wait for a while, and none fails.
    let giver = others[1].id();
    let given = gate.shards_of(giver).await[0];
    let plan = gate.move_shards([(given, frozen.id())]).await;
    is_given_up(&gate, plan, given, giver).await;
    frozen.thaw().await;
    moves_at_last(&gate, shard, others[0].id()).await;

    // Nor does it claim anything: what nobody serves goes to others.
    frozen.freeze().await;
    let child = c.supervised().expect("it runs the node as its child");
    signals::kill(child).await;
    gate.sees("c is gone and every shard is owned", |cluster| {
        let shards = &cluster["shards"];
        let is_gone = !node_ids(cluster).contains(&"c");
        is_gone && shards["owned"] == shards["total"] && shards["moving"] == 0
    })
    .await;
    assert!(given_up(&lead, "claiming").await >= 1.0);
    let text = format!("{} has not claimed shard", frozen.id());
    let leads = lead.into_iter().find(|node| node.id() == leader);
    leads.expect("it still leads").says(&text).await;
    frozen.thaw().await;
    gate.is_settled(["a", "b", "d", "gate"]).await;
    load.goes_round().await;
    load.end_unharmed().await;
    cluster.history().await.assert_single_owners();
}
