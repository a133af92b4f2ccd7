//! Many threads against the mailbox and the per-shard lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use steading::object::Closing;
use steading::storage::MemoryStorage;
use steading::{CallError, Outcome};

use crate::world::{Counter, SHARDS, Saved, World, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s2_55_n16_shards_that_close_and_open_under_load_lose_and_double_nothing() {
    let world = Arc::new(World::with(MemoryStorage::new()));
    let over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicI64::new(0));
    let callers: Vec<_> = (0..32)
        .map(|caller| {
            let (over, acknowledged) = (over.clone(), acknowledged.clone());
            let objects: Vec<_> = (0..8)
                .map(|i| world.object::<Saved>(&format!("shard#{}/{i}", i % 4)))
                .collect();
            world.tasks.spawn_work(async move {
                let mut turn: usize = caller;
                while !over.load(Ordering::Relaxed) {
                    let object = &objects[turn % objects.len()];
                    turn += 1;
                    match add(object, turn).await {
                        Ok(_) => {
                            acknowledged.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => assert_eq!(error.outcome(), Outcome::NotRun, "{error}"),
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 0..200 {
        for shard in SHARDS.shards().take(4) {
            let closing = world.host.close(shard, Duration::from_secs(10)).await;
            assert_eq!(closing, Closing::Closed);
            world.host.open(shard, token(2 + round));
        }
    }
    over.store(true, Ordering::Relaxed);
    for ended in join_all(callers).await {
        ended.expect("no panic");
    }
    let mut total = 0;
    for i in 0..8 {
        let object = world.object::<Saved>(&format!("shard#{}/{i}", i % 4));
        total += object.total().await.expect("a good call");
    }
    assert_eq!(total, acknowledged.load(Ordering::Relaxed));
    assert!(total > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_one_caller_has_under_way_keep_their_order_at_a_crowded_object() {
    let world = World::new();
    let callers = (0..16).map(|_| {
        let counter = world.object::<Counter>("crowded");
        world.tasks.spawn_work(async move {
            let mut last = 0;
            for _ in 0..1_000 {
                // Begins them one after the other, always in this order.
                for total in join_all((0..3).map(|_| counter.add(1))).await {
                    let total = total.expect("a good call");
                    assert!(total > last, "{total} after {last}");
                    last = total;
                }
            }
        })
    });
    for ended in join_all(callers).await {
        ended.expect("no panic");
    }
    assert_eq!(world.object::<Counter>("crowded").total().await, Ok(48_000));
}

async fn add(object: &crate::world::SavedHandle, turn: usize) -> Result<i64, CallError> {
    if turn.is_multiple_of(7) {
        object.slowly_add(1, 1).await
    } else {
        object.add(1).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hot_object_serves_every_kind_of_call_exactly_once() {
    const CALLS: i64 = 2_000;
    let world = World::new();
    let callers = (0..16).map(|caller: i64| {
        let counter = world.object::<Counter>("hot");
        world.tasks.spawn_work(async move {
            let mut last = 0;
            for turn in 0..CALLS {
                let total = match (caller + turn) % 3 {
                    0 => counter.slowly_add(1).await,
                    1 => counter.add(1).await,
                    _ => counter.total().await,
                };
                let total = total.expect("a good call");
                assert!(total >= last, "one caller's calls keep their order");
                last = total;
            }
        })
    });
    for ended in join_all(callers).await {
        ended.expect("no panic");
    }
    let adds = (0..16).flat_map(|caller| (0..CALLS).map(move |turn| (caller + turn) % 3));
    let adds = i64::try_from(adds.filter(|kind| *kind < 2).count()).expect("a small number");
    assert_eq!(world.object::<Counter>("hot").total().await, Ok(adds));
}
