//! Nodes that leave under load: by signal, by HTTP, by the command line, with turns that never end.

use std::process::Command;

use serde_json::json;
use steading_integration_tests::cluster::{Answer, Node, node_ids};
use steading_integration_tests::load::Load;
use steading_integration_tests::until;

use super::{ALL, PROGRAM, cluster};

/// Adds 1 to an object in each shard that begins anew wherever it goes, and returns the totals.
async fn scratches(gate: &Node) -> Vec<i64> {
    let mut totals = Vec::new();
    for shard in ALL {
        let object = format!("Scratch/shard%23{shard}%2Fscratch");
        let answer = gate.call(&object, "add", &json!({ "n": 1 })).await;
        let Answer { status, body } = answer.expect("the gate runs");
        assert_eq!(status, 200, "{body}");
        totals.push(body.as_i64().expect("a total"));
    }
    totals
}

#[tokio::test]
async fn n7_s2_54_a_rolling_restart_by_signal_http_and_command_fails_no_call_and_loses_nothing() {
    let cluster = cluster("rolling").await;
    let [a, b, c] = cluster.ready(["a", "b", "c"]).await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["a", "b", "c"]).await;
    let load = Load::begin(&gate, "load", ALL).await;
    let mut leaders = 0;
    let mut nodes = vec![a, b, c];
    for number in 0..3 {
        let node = nodes.remove(0);
        let id = node.id().to_owned();
        leaders += u32::from(gate.leader().await == id);
        let (before, owners) = (scratches(&gate).await, gate.owners().await);
        match number {
            0 => node.ask_to_end(),
            1 => drop(
                gate.order(&format!("/v1/nodes/{id}/drain"), &json!({}))
                    .await,
            ),
            _ => {
                let address = format!("http://{}", gate.http());
                let mut drain = Command::new(PROGRAM);
                drain.args(["drain", &id, "--address", &address]);
                let status = drain.status().expect("it runs");
                assert!(status.success(), "{status}");
            }
        }
        let status = node.end().await;
        assert_eq!(status.code(), Some(0), "{}", node.output());
        assert!(node.output().contains("left the cluster"));
        // What its author said is not worth a journey begins anew, and nothing else does.
        let after = scratches(&gate).await;
        for (shard, owner) in owners.iter().enumerate() {
            let begins_anew = owner.as_deref() == Some(id.as_str());
            let expected = if begins_anew { 1 } else { before[shard] + 1 };
            assert_eq!(after[shard], expected, "shard {shard} of {owner:?}");
        }
        nodes.push(cluster.start(&id).await);
        gate.is_spread(["a", "b", "c"]).await;
        load.goes_round().await;
    }
    assert!(leaders > 0, "each was drained, so one of them led");
    load.end_unharmed().await;
    cluster.history().await.assert_single_owners();
}

/// Waits until a node has nothing left but the one shard.
pub(super) async fn has_only(gate: &Node, id: &str, shard: u32) {
    until("all is drained but one", async || {
        let left = gate.shards_of(id).await;
        (left == [shard])
            .then_some(())
            .ok_or_else(|| format!("{left:?}"))
    })
    .await;
}

#[tokio::test]
async fn n8_a_turn_that_never_ends_delays_no_other_shard_and_a_leader_that_leaves_resigns_first() {
    let cluster = cluster("held").await;
    let patiently = ["--drain-timeout", "10m"];
    let [a, b] = cluster.ready_with(["a", "b"], &patiently).await;
    let mut c = cluster.launch("c", &["--drain-timeout", "2s"]);
    c.listens().await;
    let gate = cluster.gate("gate").await;
    gate.is_spread(["a", "b", "c"]).await;

    // The drain timeout passes with a turn that does not end: the process ends all the same.
    let shard = gate.shards_of("c").await[0];
    let held = gate.hold(shard).await;
    let load = Load::begin(&gate, "timeout", ALL.filter(|of| *of != shard)).await;
    assert_eq!(c.terminate().await.code(), Some(0), "{}", c.output());
    let said = c.output();
    let object = format!("Holder/shard#{shard}/x");
    assert!(said.contains("did not end in time"), "{said}");
    assert!(said.contains(&object) && said.contains("hold"), "{said}");
    gate.is_settled(["a", "b", "gate"]).await;
    load.goes_round().await;
    load.end_unharmed().await;
    held.abort();

    // The leader's time limit is far away, so that it must be hurried.
    let (leader, other) = match gate.leader().await.as_str() {
        "a" => (a, b),
        _ => (b, a),
    };
    let shard = gate.shards_of(leader.id()).await[0];
    let held = gate.hold(shard).await;
    let load = Load::begin(&gate, "hurry", ALL.filter(|of| *of != shard)).await;
    leader.ask_to_end();
    gate.sees("another leads before the old one is gone", |cluster| {
        cluster["leader"] == other.id() && node_ids(cluster).contains(&leader.id())
    })
    .await;
    has_only(&gate, leader.id(), shard).await;
    let ready = leader.get("/ready").await.expect("it still runs");
    assert_eq!(ready.status, 503, "{}", ready.body);
    load.goes_round().await;
    leader.ask_to_end();
    assert_eq!(leader.end().await.code(), Some(0), "{}", leader.output());
    assert!(
        leader.output().contains("forced shutdown"),
        "{}",
        leader.output()
    );
    gate.is_settled([other.id(), "gate"]).await;
    load.end_unharmed().await;
    held.abort();
    cluster.history().await.assert_single_owners();
}
