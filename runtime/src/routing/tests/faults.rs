//! What becomes of calls when connections and nodes fail.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::queue::OUTGOING_FRAMES_MAX;
use super::super::testing::{SHARDS, World, begin, settle};
use crate::error::{CallError, Outcome};

const SECOND: Duration = Duration::from_secs(1);

/// An ID in shard 3.
const ID: &str = "shard#3/x";

#[tokio::test(start_paused = true)]
async fn a_call_that_was_sent_when_the_connection_breaks_may_have_run() {
    let world = World::owned(&["a", "b"]).await;
    let nap = json!({"ms": 300, "n": 5});
    let mut calling = world.at("a").call(ID, "nap", &nap, 10 * SECOND);
    begin(&mut calling);
    sleep(SECOND / 10).await;
    world.network.cut("a", "b");
    let error = calling.await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected(_)), "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown);
    sleep(SECOND).await;
    assert_eq!(
        world.at("a").notes(ID).await,
        [5],
        "it ran once, and a new connection works"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_sent_is_tried_again_until_the_node_can_be_reached() {
    let world = World::owned(&["a", "b"]).await;
    world.network.refuse("b", true);
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    sleep(3 * SECOND).await;
    begin(&mut calling);
    world.network.refuse("b", false);
    assert_eq!(calling.await, Ok(json!(1)));
    assert!(
        world.at("a").metrics.routing.links.failed_dials.get() < 20,
        "it must not hammer"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_out_of_reach_until_the_deadline_is_named() {
    let world = World::owned(&["a", "b"]).await;
    world.network.refuse("b", true);
    let start = Instant::now();
    let error = world.at("a").note(ID, 1).await.unwrap_err();
    assert_eq!(
        (start.elapsed(), error.outcome()),
        (10 * SECOND, Outcome::NotRun)
    );
    assert!(
        matches!(&error, CallError::Unreachable(why) if why.starts_with("b: ")),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_hanging_connection_ends_at_its_deadline_unsent() {
    let world = World::owned(&["a", "b"]).await;
    world.network.partition("a", "b");
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
    world.network.heal("a", "b");
    assert_eq!(world.at("a").notes(ID).await, [0_u64; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_given_up_by_keep_alive() {
    let world = World::owned(&["a", "b"]).await;
    world.at("a").note(ID, 1).await.unwrap();
    world.network.partition("a", "b");
    let nap = json!({"ms": 0, "n": 2});
    let mut calling = world.at("a").call(ID, "nap", &nap, 60 * SECOND);
    begin(&mut calling);
    let error = calling.await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_the_view_fails_what_was_sent_and_the_rest_goes_to_its_successor() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    let nap = json!({"ms": 60_000, "n": 5});
    let mut sent = world.at("a").call(ID, "nap", &nap, 100 * SECOND);
    begin(&mut sent);
    sleep(SECOND / 10).await;
    world.view.gone("b");
    world.publish().await;
    assert!(matches!(sent.await, Err(CallError::Disconnected(_))));
    let mut later = world.at("a").note(ID, 1);
    begin(&mut later);
    world.open(3, "c");
    world.publish().await;
    assert_eq!(later.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_died_with_its_shards_holds_its_callers_up_no_longer_than_its_successor() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    world.at("a").note(ID, 1).await.unwrap();
    // It is paused: its connections take everything, and bring nothing back.
    world.network.partition("a", "b");
    let mut sent = world.at("a").note(ID, 2);
    begin(&mut sent);
    sleep(SECOND / 10).await;
    world.view.gone("b");
    world.publish_to("a").await;
    let ended = Instant::now();
    let error = sent.await.unwrap_err();
    assert!(ended.elapsed() <= SECOND / 20, "{:?}", ended.elapsed());
    assert_eq!(
        error,
        CallError::Disconnected("b: its lease ended".into()),
        "nobody knows whether it ran"
    );
    assert_eq!(error.outcome(), Outcome::Unknown);
    world.open(3, "c");
    world.publish_to("a").await;
    assert_eq!(world.at("a").note(ID, 3).await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn what_a_node_answered_before_it_died_is_still_read() {
    let mut world = World::owned(&["a", "b"]).await;
    let nap = json!({"ms": 100, "n": 5});
    let mut sent = world.at("a").call(ID, "nap", &nap, 10 * SECOND);
    begin(&mut sent);
    sleep(SECOND * 8 / 100).await;
    world.view.gone("b");
    world.publish_to("a").await;
    begin(&mut sent);
    assert_eq!(sent.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_gave_its_shards_up_is_waited_for_until_it_has_answered() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    let nap = json!({"ms": 900, "n": 5});
    let mut sent = world.at("a").call(ID, "nap", &nap, 10 * SECOND);
    begin(&mut sent);
    settle().await;
    for number in 0..SHARDS {
        world.view.owner(number, "c", 1);
    }
    world.view.gone("b");
    world.publish_to("a").await;
    assert_eq!(sent.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_holds_up_no_other_and_its_queue_is_bounded() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    world.open(4, "c");
    world.publish().await;
    world.at("a").note(ID, 0).await.unwrap();
    world.network.partition("a", "b");
    let count = OUTGOING_FRAMES_MAX as u64 + 10_000;
    let timeout = 3 * SECOND; // Before keep-alive gives the connection up.
    let call = |n: u64| world.at("a").call(ID, "note", &json!({ "n": n }), timeout);
    let mut stuck: Vec<_> = (0..count).map(call).collect();
    stuck.iter_mut().for_each(begin);
    settle().await;
    let start = Instant::now();
    world.at("a").note("shard#4/y", 1).await.unwrap();
    assert!(
        start.elapsed() < SECOND / 100,
        "held up for {:?}",
        start.elapsed()
    );
    let results = join_all(stuck).await;
    let outcomes: Vec<_> = results
        .into_iter()
        .map(|r| r.unwrap_err().outcome())
        .collect();
    let unsent = outcomes
        .iter()
        .filter(|outcome| **outcome == Outcome::NotRun)
        .count();
    assert!(unsent >= 5000, "{unsent} of {count} were held back");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_room_go_in_order_once_there_is_some() {
    let world = World::owned(&["a", "b"]).await;
    world.at("a").note(ID, 0).await.unwrap();
    world.network.partition("a", "b");
    let count = OUTGOING_FRAMES_MAX as u64 + 2000;
    let mut calls: Vec<_> = (1..=count).map(|n| world.at("a").note(ID, n)).collect();
    calls.iter_mut().for_each(begin);
    sleep(SECOND).await;
    world.network.heal("a", "b");
    for (n, call) in (2..).zip(calls) {
        assert_eq!(call.await, Ok(json!(n)));
    }
    assert!(
        world.at("a").metrics.routing.links.full.get() > 0,
        "nobody waited for room"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_answers_what_it_has_and_nothing_is_lost() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    let nap = json!({"ms": 300, "n": 5});
    let mut napping = world.at("a").call(ID, "nap", &nap, 10 * SECOND);
    begin(&mut napping);
    settle().await;
    let tasks = world.at("b").tasks.clone();
    let mut later = world.at("a").note("shard#4/y", 1);
    let (stopped, napped, ()) = tokio::join!(tasks.stop(5 * SECOND), napping, async {
        settle().await;
        begin(&mut later);
    });
    assert!(stopped, "it took too long");
    assert_eq!(napped, Ok(json!(1)), "running calls are answered");
    world.view.gone("b");
    world.open(4, "c");
    world.publish_to("a").await;
    assert_eq!(later.await, Ok(json!(1)), "later ones are tried elsewhere");
}

/// Effects and acknowledgements are counted: what was answered ran once, what surely did not run
/// did not, and nothing ran twice.
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_run_twice_while_connections_break_at_random() {
    for seed in 0..5 {
        let world = World::owned(&["a", "b"]).await;
        let cuts = async {
            let mut random = Random(seed);
            loop {
                sleep(Duration::from_micros(200 + random.below(3000))).await;
                world.network.cut("a", "b");
            }
        };
        let callers = (0..20).map(|caller| call_in_a_row(&world, caller));
        let results = tokio::select! {
            results = join_all(callers) => results.concat(),
            () = cuts => unreachable!("it goes on for ever"),
        };
        sleep(SECOND).await;
        let mut ran = Vec::new();
        for number in 0..16 {
            ran.extend(world.at("b").notes(&format!("shard#{number}/x")).await);
        }
        check_effects(&results, ran);
    }
}

/// Makes 50 calls, one after the other, and returns each number with how it went.
async fn call_in_a_row(world: &World, caller: u64) -> Vec<(u64, Result<(), Outcome>)> {
    let mut results = Vec::new();
    for n in caller * 50..(caller + 1) * 50 {
        let id = format!("shard#{}/x", n % 16);
        let result = if n % 3 == 0 {
            let nap = json!({"ms": 1, "n": n});
            world.at("a").call(&id, "nap", &nap, 10 * SECOND).await
        } else {
            world.at("a").note(&id, n).await
        };
        results.push((n, result.map(|_| ()).map_err(|error| error.outcome())));
    }
    results
}

#[track_caller]
fn check_effects(results: &[(u64, Result<(), Outcome>)], mut ran: Vec<u64>) {
    ran.sort_unstable();
    let len = ran.len();
    ran.dedup();
    assert_eq!(ran.len(), len, "something ran twice");
    let mut unknown = 0;
    for (n, result) in results {
        let did_run = ran.binary_search(n).is_ok();
        match result {
            Ok(()) => assert!(did_run, "call {n} was answered but did not run"),
            Err(Outcome::NotRun) => assert!(!did_run, "call {n} ran but should not have"),
            Err(Outcome::Unknown | Outcome::Ran) => unknown += 1,
        }
    }
    assert!(
        unknown > 0 && unknown < results.len(),
        "{unknown} unknown: the test tests nothing"
    );
}

/// A small generator of numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
