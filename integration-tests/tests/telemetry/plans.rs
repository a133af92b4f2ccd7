//! Traces of plans.

use std::collections::BTreeSet;

use steading_integration_tests::otlp::{Got, Receiver, Span};

use super::cluster;

/// Returns the trace of the plan that moved this shard from `a` to `b`, once it is whole.
fn trace_of_move(got: &Got, shard: &str) -> Option<Vec<Span>> {
    let is_of_move = |span: &&Span| {
        span.attributes
            .get("steading.shard")
            .is_some_and(|s| s == shard)
    };
    let open = got.spans.iter().filter(is_of_move);
    let mut open = open.filter(|span| span.name == "steading.open" && span.node == "b");
    let trace = got.trace(&open.next()?.trace);
    let names: BTreeSet<_> = trace.iter().map(|span| span.name.as_str()).collect();
    (names.len() == 5).then_some(trace)
}

#[tokio::test]
async fn a_plan_and_the_hand_over_of_its_shard_are_one_connected_trace_of_both_nodes() {
    let receiver = Receiver::start().await;
    let cluster = cluster("plan", &receiver.variables("grpc")).await;
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_spread(["a", "b"]).await;
    let shard = a.shards_of("a").await[0];
    let plan = b.move_shards([(shard, "b")]).await;
    let plan = b.plan_ends(plan).await;
    assert_eq!(plan["outcome"], "done", "{plan}");

    let shard = shard.to_string();
    let spans = receiver
        .gets("the whole trace", |got| trace_of_move(got, &shard))
        .await;
    let mut parent = "";
    for (name, node) in [
        ("steading.plan", None),
        ("steading.wave", None),
        ("steading.move", None),
        ("steading.hand_over", Some("a")),
        ("steading.open", Some("b")),
    ] {
        let children: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
        let [span] = children[..] else {
            panic!("{parent} has not one child: {spans:#?}");
        };
        assert_eq!(span.name, name);
        assert!(node.is_none_or(|node| node == span.node), "{span:?}");
        assert_eq!(span.attributes["steading.plan"], plan["id"].to_string());
        assert!(!span.failed, "{span:?}");
        parent = &span.id;
    }
    assert_eq!(spans.len(), 5, "{spans:#?}");
}
