//! What the spans of calls tell of their way.

use opentelemetry::trace::{SpanKind, Status};
use serde_json::json;

use super::super::testing::{World, begin, settle};
use crate::telemetry::{Recorded, Recorder};

/// An ID in shard 3.
const ID: &str = "shard#3/x";

/// Node, kind and events of each span, in the order in which they began, each of which is a
/// child of one before, and has ended.
fn outline(world: &World) -> Vec<(String, SpanKind, Vec<String>)> {
    let spans = world.recorder.spans();
    for (number, span) in spans.iter().enumerate().skip(1) {
        let is_child = spans[..number]
            .iter()
            .any(|before| before.id == span.parent);
        assert!(is_child, "{span:?}");
    }
    assert!(spans.iter().all(|span| span.ended), "{spans:?}");
    let outline = |span: Recorded| (span.node, span.kind, span.events);
    spans.into_iter().map(outline).collect()
}

fn span(node: &str, kind: SpanKind, events: &[&str]) -> (String, SpanKind, Vec<String>) {
    let events = events.iter().map(|event| format!("steading.{event}"));
    (node.into(), kind, events.collect())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waited_at_the_old_owner_tells_that_it_was_forwarded() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    world.at("b").close(3).await;
    let mut call = world.at("a").note_traced(ID, 1, Recorder::caller());
    begin(&mut call);
    settle().await;
    world.open(3, "c");
    world.publish_to("b").await;
    world.publish_to("c").await;
    assert_eq!(call.await, Ok(json!(1)));
    let expected = [
        span("a", SpanKind::Client, &["sent"]),
        span("b", SpanKind::Server, &["parked", "called", "forwarded"]),
        span("c", SpanKind::Server, &[]),
        span("c", SpanKind::Internal, &[]),
    ];
    assert_eq!(outline(&world), expected);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_told_who_has_the_shard_tells_that_it_moved() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    world.at("b").close(3).await;
    world.open(3, "c");
    world.publish_to("b").await;
    world.publish_to("c").await;
    let call = world.at("a").note_traced(ID, 1, Recorder::caller());
    assert_eq!(call.await, Ok(json!(1)));
    let events = ["sent", "moved", "sent"];
    let expected = [
        span("a", SpanKind::Client, &events),
        span("b", SpanKind::Server, &[]),
        span("c", SpanKind::Server, &[]),
        span("c", SpanKind::Internal, &[]),
    ];
    assert_eq!(outline(&world), expected);
    let refused = &world.recorder.spans()[1];
    assert_eq!(refused.status, Status::error("moved"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_sampled_has_no_span() {
    let world = World::owned(&["a", "b"]).await;
    assert_eq!(world.at("a").note(ID, 1).await, Ok(json!(1)));
    assert!(world.recorder.spans().is_empty());
}
