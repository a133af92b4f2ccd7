//! Many calls at once.

use std::time::Duration;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use tokio::time::sleep;

use super::super::testing::{World, begin};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_thousand_concurrent_calls_of_one_caller_keep_their_order() {
    let world = World::owned(&["a", "b"]).await;
    let calls: Vec<_> = (0..1000)
        .map(|n| world.at("a").note("shard#3/x", n))
        .collect();
    let replies = join_all(calls).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(
        world.at("a").notes("shard#3/x").await,
        (0..1000).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_holds_with_several_threads_too() {
    let world = World::owned(&["a", "b"]).await;
    let calls: Vec<_> = (0..1000)
        .map(|n| world.at("a").note("shard#3/x", n))
        .collect();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    assert_eq!(
        world.at("a").notes("shard#3/x").await,
        (0..1000).collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_can_be_under_way_at_once() {
    let world = World::owned(&["a", "b"]).await;
    let nap = |n: u64| {
        let args = json!({"ms": 5000, "n": n});
        world
            .at("a")
            .call(&format!("x{n}"), "nap", &args, 20 * SECOND)
    };
    let mut calls: Vec<_> = (0..10_000).map(nap).collect();
    calls.iter_mut().for_each(begin);
    sleep(SECOND).await;
    assert_eq!(
        world.at("b").metrics.routing.links.inbound_running.get(),
        10_000
    );
    assert!(
        join_all(calls)
            .await
            .iter()
            .all(|reply| *reply == Ok(json!(1)))
    );
    assert_eq!(world.at("b").metrics.routing.links.inbound_running.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn methods_that_compute_for_long_hold_up_no_other_call_and_keep_their_order() {
    let world = World::owned(&["a", "b"]).await;
    let spin = |id: String, n: u64| {
        let args = json!({"ms": 20, "n": n});
        world.at("a").call(&id, "spin", &args, 30 * SECOND)
    };
    for n in 0..2 {
        spin("shard#3/first".into(), n).await.unwrap(); // Long: suspicious. Again: heavy.
    }
    let spins = (0..20).map(|n| spin(format!("shard#3/{}", n % 2), n));
    let mut spins: FuturesUnordered<_> = spins.collect();
    assert!(futures::poll!(spins.next()).is_pending());
    world.at("a").note("shard#3/y", 1).await.unwrap();
    assert!(spins.len() > 10, "{} of 20 still ran", spins.len());
    while spins.next().await.is_some() {}
    let odd: Vec<_> = (0..20).filter(|n| n % 2 == 1).collect();
    assert_eq!(world.at("a").notes("shard#3/1").await, odd);
}
