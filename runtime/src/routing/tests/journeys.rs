//! How calls find their object.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::testing::{World, begin, node, settle, shard};
use crate::error::{CallError, Outcome};

const SECOND: Duration = Duration::from_secs(1);

/// An ID in shard 3.
const ID: &str = "shard#3/x";

#[tokio::test(start_paused = true)]
async fn a_call_reaches_an_object_on_another_node_and_on_its_own() {
    let world = World::owned(&["a", "b"]).await;
    for from in ["a", "b"] {
        let echo = world
            .at(from)
            .call(ID, "echo", &json!({"text": "ä"}), SECOND)
            .await;
        assert_eq!(echo, Ok(json!("ä")));
    }
    let found = world
        .at("a")
        .router
        .locate(&"Probe/shard#3/x".parse().unwrap())
        .unwrap();
    assert_eq!(
        (found.shard, found.owner),
        (Some(shard(3)), Some(node("b")))
    );
    assert_eq!(found.token, Some(world.view.view().token(shard(3))));
}

#[tokio::test(start_paused = true)]
async fn p18_a_call_waits_until_its_shard_has_an_owner() {
    let mut world = World::start(&["a", "b"]).await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    sleep(5 * SECOND).await;
    world.open(3, "b");
    let owned_at = Instant::now();
    world.publish().await;
    assert_eq!(calling.await, Ok(json!(1)));
    assert!(
        owned_at.elapsed() < SECOND / 100,
        "{:?}",
        owned_at.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn p18_without_an_owner_the_deadline_says_so() {
    let world = World::start(&["a"]).await;
    let start = Instant::now();
    let error = world
        .at("a")
        .call(ID, "notes", &json!({}), SECOND)
        .await
        .unwrap_err();
    assert_eq!(
        (start.elapsed(), error.outcome()),
        (SECOND, Outcome::NotRun)
    );
    assert_eq!(error, CallError::NoOwner("shard 3".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_sent_to_a_former_owner_is_followed_to_the_present_one() {
    let mut world = World::start(&["a", "b", "c"]).await;
    world.open(3, "b");
    world.publish().await;
    world.at("b").close(3).await;
    world.open(3, "c");
    world.publish_to("b").await;
    world.publish_to("c").await;
    assert_eq!(world.at("a").note(ID, 1).await, Ok(json!(1)));
    assert_eq!(world.at("c").notes(ID).await, [1]);
    assert_eq!(world.at("a").metrics.routing.links.moved.get(), 1);
    assert_eq!(
        world.at("a").owner(3),
        *world.view.view().owners.get(shard(3))
    );
    assert_eq!(
        world.at("b").metrics.routing.links.forwarded.get(),
        0,
        "it came late"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_sent_to_a_former_owner_that_knows_of_no_other_waits_for_news() {
    let mut world = World::start(&["a", "b", "c"]).await;
    world.open(3, "b");
    world.publish().await;
    world.at("b").close(3).await;
    world.view.nobody(3);
    world.publish_to("b").await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    begin(&mut calling);
    assert_eq!(world.at("a").metrics.routing.links.not_owner.get(), 1);
    world.open(3, "c");
    world.publish().await;
    assert_eq!(calling.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_view_lags_behind_the_caller_waits_for_it() {
    let mut world = World::start(&["a", "b"]).await;
    world.view.owner(3, "b", 1);
    world.publish_to("a").await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    begin(&mut calling);
    world.publish_to("b").await;
    world.at("b").open(3);
    assert_eq!(calling.await, Ok(json!(1)));
    assert_eq!(world.at("a").metrics.routing.links.not_owner.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn p18_a_call_to_a_closing_shard_waits_at_its_owner_and_runs_when_it_opens_again() {
    let world = World::owned(&["a", "b"]).await;
    world.at("b").close(3).await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    assert_eq!(world.at("b").metrics.routing.parking.parked.get(), 1);
    world.at("b").open(3);
    assert_eq!(calling.await, Ok(json!(1)));
    assert_eq!(world.at("b").metrics.routing.parking.parked.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn n1_calls_that_wait_for_a_closing_shard_follow_it_to_its_next_owner_in_order() {
    let mut world = World::owned(&["a", "b", "c"]).await;
    world.at("c").close(3).await;
    let mut calls: Vec<_> = (0..100).map(|n| world.at("a").note(ID, n)).collect();
    calls.iter_mut().for_each(begin);
    settle().await;
    world.open(3, "b");
    world.publish().await;
    for (n, call) in (1..).zip(calls) {
        assert_eq!(call.await, Ok(json!(n)));
    }
    assert_eq!(world.at("b").notes(ID).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_fenced_owner_lets_calls_wait_and_serves_them_when_the_fence_opens() {
    let world = World::owned(&["a", "b"]).await;
    let fence = &world.at("b").fence;
    fence.close();
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    sleep(SECOND / 2).await;
    begin(&mut calling);
    fence.open(fence.clock().now().plus(10 * SECOND));
    world.at("b").router.all_changed();
    assert_eq!(calling.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_node_bound_object_is_found_on_its_node_or_waited_for() {
    let mut world = World::start(&["a", "b"]).await;
    world
        .at("b")
        .host
        .open_node_bound(crate::ids::Token::from_raw(1));
    assert_eq!(world.at("a").note("node#b/x", 1).await, Ok(json!(1)));
    let address = world.at("b").address.clone();
    world.view.gone("b");
    world.publish_to("a").await;
    let error = world.at("a").note("node#b/x", 2).await.unwrap_err();
    assert_eq!(error, CallError::NoOwner("node b".into()));
    let mut calling = world.at("a").note("node#b/x", 3);
    begin(&mut calling);
    world.view.node_at("b", 2, &address);
    world.publish().await;
    assert_eq!(calling.await, Ok(json!(2)));
}

#[tokio::test(start_paused = true)]
async fn p19_an_id_that_names_no_place_is_refused() {
    let world = World::start(&["a"]).await;
    for id in ["shard#", "shard#x/y", "shard#16/y", "node#/x"] {
        let error = world.at("a").note(id, 1).await.unwrap_err();
        assert!(matches!(error, CallError::InvalidId(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_object_come_back_as_they_are() {
    let world = World::owned(&["a", "b"]).await;
    let error = world
        .at("a")
        .call(ID, "nonsense", &json!({}), SECOND)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::UnknownMethod(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn arguments_over_the_limit_are_refused_before_they_are_sent() {
    let world = World::owned(&["a", "b"]).await;
    let max = crate::object::PAYLOAD_LEN_MAX;
    let text = |len: usize| json!({ "text": "x".repeat(len) });
    let fits = world
        .at("a")
        .call(ID, "echo", &text(max - 100), 10 * SECOND)
        .await;
    assert!(fits.is_ok(), "{fits:?}");
    let error = world
        .at("a")
        .call(ID, "echo", &text(max), SECOND)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::TooLarge(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn g12_a_slow_method_is_not_waited_for_beyond_the_deadline_but_runs_on() {
    let world = World::owned(&["a", "b"]).await;
    let start = Instant::now();
    let nap = json!({"ms": 2000, "n": 5});
    let error = world
        .at("a")
        .call(ID, "nap", &nap, SECOND / 2)
        .await
        .unwrap_err();
    assert_eq!(
        (start.elapsed(), error.outcome()),
        (SECOND / 2, Outcome::Unknown)
    );
    assert!(matches!(error, CallError::Deadline(_)), "{error}");
    assert_eq!(
        world.at("a").notes(ID).await,
        [5],
        "the turn ran to its end"
    );
}
