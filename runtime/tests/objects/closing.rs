//! Shards that open and close, and a node that is fenced or loses its lease.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use steading::clock::Moment;
use steading::object::Closing;
use steading::storage::MemoryStorage;
use steading::{CallError, Object, Outcome, methods};
use tokio::time::Instant;

use crate::world::{Counter, Hooked, Probe, SHARDS, Saved, World, hooks, shard, token};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn p21_closing_waits_for_running_turns_and_sends_waiting_calls_away() {
    let world = World::new();
    let probe = world.object::<Probe>("shard#3/p");
    let began = Instant::now();
    let close = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.close_and_end(shard(3), LIMIT).await
    };
    let (running, waiting, closing) = tokio::join!(probe.alone(1, 100), probe.alone(2, 100), close);
    assert_eq!(running, Ok(1));
    assert_eq!(
        waiting.expect_err("it was sent away").outcome(),
        Outcome::NotRun
    );
    assert_eq!(closing, Closing::Closed);
    assert!((100..150).contains(&began.elapsed().as_millis()));
    assert!(!world.host.serves(shard(3)));
    assert_eq!(probe.order().await.expect_err("closed").code(), "no_owner");
    assert!(world.live("Probe").is_empty());

    world.host.open(shard(3), token(2));
    assert_eq!(probe.order().await, Ok(vec![]), "a new activation");
}

#[tokio::test(start_paused = true)]
async fn n8_a_turn_that_never_ends_keeps_its_shard_and_delays_no_other() {
    let world = World::new();
    let hung = world
        .object::<Probe>("shard#1/hung")
        .with_timeout(Duration::from_millis(50));
    hung.hang().await.expect_err("it hangs");
    let neighbour = world.object::<Counter>("shard#1/c");
    neighbour.add(1).await.expect("a good call");

    let began = Instant::now();
    let others = async {
        let closings = (2..16).map(|number| world.host.close(shard(number), LIMIT));
        assert!(
            join_all(closings)
                .await
                .iter()
                .all(|closing| *closing == Closing::Closed)
        );
        assert!(began.elapsed() < Duration::from_millis(100));
    };
    let (closing, ()) = tokio::join!(world.host.close(shard(1), LIMIT), others);
    let key = "Probe/shard#1/hung".parse().expect("a good key");
    assert_eq!(closing, Closing::Overdue(vec![(key, "hang".to_owned())]));
    assert_eq!(began.elapsed(), LIMIT);
    assert_eq!(
        neighbour.add(1).await,
        Ok(2),
        "the shard is open again, nothing is lost"
    );
    assert!(
        world
            .metrics
            .encode()
            .expect("text")
            .contains("shard_lock_overdue_total 1")
    );
}

#[tokio::test(start_paused = true)]
async fn o11_closing_everything_ends_every_object_with_its_hook() {
    let world = World::new();
    let objects: Vec<_> = (0..40)
        .map(|i| world.object::<Hooked>(&format!("o11-{i}.")))
        .collect();
    let calls = join_all(objects.iter().map(crate::world::HookedHandle::ready));
    let close = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        join_all(
            SHARDS
                .shards()
                .map(|shard| world.close_and_end(shard, LIMIT)),
        )
        .await
    };
    let (results, closings) = tokio::join!(calls, close);
    assert!(closings.iter().all(|closing| *closing == Closing::Closed));
    for result in results {
        assert!(result.is_ok_and(|ready| ready) || world.live("Hooked").is_empty());
    }
    assert_eq!(world.host.counts(), []);
    for i in 0..40 {
        assert_eq!(hooks(&format!("o11-{i}.")), ["activated", "deactivated"]);
    }
    assert_eq!(
        world.close_and_end(shard(0), LIMIT).await,
        Closing::Closed,
        "again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_is_closed_twice_at_once_is_closed_once() {
    let world = World::new();
    let probe = world.object::<Probe>("shard#3/p");
    let close = || async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.host.close(shard(3), LIMIT).await
    };
    let (_, one, two) = tokio::join!(probe.alone(1, 100), close(), close());
    assert_eq!((one, two), (Closing::Closed, Closing::Closed));
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_objects_that_begin_or_end_just_then() {
    let world = World::new();
    let (ending, beginning) = (
        world.object::<Hooked>("shard#3/ending"),
        world.object::<Hooked>("shard#3/beginning"),
    );
    ending.ready().await.expect("a good call");
    let close = async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        world.close_and_end(shard(3), LIMIT).await
    };
    let (ended, began, closing) = tokio::join!(ending.again(), beginning.ready(), close);
    assert_eq!((ended, closing), (Ok(()), Closing::Closed));
    assert_eq!(began.expect_err("sent away").outcome(), Outcome::NotRun);
    for id in ["shard#3/ending", "shard#3/beginning"] {
        assert_eq!(hooks(id), ["activated", "deactivated"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_drops_everything_and_silences_running_turns() {
    let storage = MemoryStorage::new();
    let world = World::with(storage.clone());
    let saved = world.object::<Saved>("s");
    saved.add(1).await.expect("a good call");
    let lose = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.host.discard_all();
        assert_eq!(world.host.len(), 0);
        for shard in SHARDS.shards() {
            world.host.open(shard, token(2));
        }
    };
    let (turn, ()) = tokio::join!(saved.slowly_add(10, 100), lose);
    let error = turn.expect_err("its lease was lost");
    assert!(matches!(error, CallError::Fenced(_)), "{error}");
    assert_eq!(saved.total().await, Ok(1), "what it did was not stored");
}

/// An object whose state tells how many of its kind there are.
#[derive(Object)]
pub(crate) struct Tracked;

static TRACKED: AtomicUsize = AtomicUsize::new(0);

impl Default for Tracked {
    fn default() -> Self {
        TRACKED.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        TRACKED.fetch_sub(1, Ordering::SeqCst);
    }
}

#[methods]
impl Tracked {
    pub(crate) async fn sleep(&mut self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_state_outlives_its_shard_though_handles_do() {
    let world = World::new();
    let (ended, running) = (world.object::<Tracked>("a"), world.object::<Tracked>("b"));
    ended.sleep(0).await.expect("a good call");
    let lose = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(TRACKED.load(Ordering::SeqCst), 2);
        world.host.discard_all();
    };
    let (turn, ()) = tokio::join!(running.sleep(100), lose);
    turn.expect_err("its lease was lost");
    assert_eq!(TRACKED.load(Ordering::SeqCst), 0);
    drop((ended, running));
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_serves_nothing_and_forgets_nothing() {
    let world = World::new();
    let counter = world.object::<Counter>("c");
    counter.add(1).await.expect("a good call");
    world.fence.close();
    assert_eq!(
        counter.add(1).await.expect_err("fenced").outcome(),
        Outcome::NotRun
    );
    assert_eq!(
        world
            .object::<Counter>("new")
            .add(1)
            .await
            .expect_err("fenced")
            .code(),
        "no_owner"
    );
    assert!(!world.host.serves(shard(0)));
    world.fence.open(Moment::from_nanos(u64::MAX));
    assert_eq!(counter.add(1).await, Ok(2));
    assert_eq!(world.live("Counter"), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_during_which_the_fence_closes_is_not_answered() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    let fence = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        world.fence.close();
    };
    let (turn, ()) = tokio::join!(probe.alone(1, 100), fence);
    let error = turn.expect_err("fenced");
    assert_eq!(
        (error.code(), error.outcome()),
        ("fenced", Outcome::Unknown)
    );
}

#[tokio::test]
async fn a_shard_does_not_open_under_a_lower_token() {
    let world = World::new();
    world.host.close(shard(1), LIMIT).await;
    world.host.open(shard(1), token(0));
    assert!(!world.host.serves(shard(1)));
    world.host.open(shard(1), token(1));
    assert!(
        world.host.serves(shard(1)),
        "the same again: the closing was called off"
    );
}

#[tokio::test]
async fn s2_13_to_s2_16_turns_and_closings_are_counted() {
    let world = World::new();
    let counter = world.object::<Counter>("shard#1/c");
    counter.add(1).await.expect("a good call");
    counter.fail().await.expect_err("it panicked");
    world.close_and_end(shard(1), LIMIT).await;
    let text = world.metrics.encode().expect("text");
    for line in [
        "steading_turns_total 2",
        "steading_turns_failed_total 1",
        "steading_panics_total 1",
        "steading_shard_lock_attempts_exclusive_total 1",
        "steading_shard_lock_held_exclusive 0",
        "steading_shard_lock_wait_seconds_count 1",
        "steading_objects_in_shard{share=\"1\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}
