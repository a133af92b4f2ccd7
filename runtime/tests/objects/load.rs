//! What a host tells about the load of its shards.

use std::time::Duration;

use steading::object::ShardLoad;

use crate::world::{Counter, Probe, Saved, World, shard, until};

#[tokio::test(start_paused = true)]
async fn s2_21_a_window_tells_turns_and_objects_of_each_shard() {
    let world = World::new();
    for (shard, calls) in [(1, 3), (2, 7)] {
        let counter = world.object::<Counter>(&format!("shard#{shard}/c"));
        for _ in 0..calls {
            counter.add(1).await.expect("a good call");
        }
    }
    assert_eq!(world.host.load().number, 0, "no window has ended");
    tokio::time::advance(Duration::from_secs(10)).await;
    world.host.end_load_window().await;
    let load = world.host.load();
    let with_turns = load.shards.values().filter(|load| load.turns > 0);
    assert_eq!((load.number, with_turns.count()), (1, 2));
    let told = |number| {
        let ShardLoad { turns, objects, .. } = load.shards[&shard(number)];
        (turns, objects)
    };
    // Each shard of this world has one object that lives without being called.
    assert_eq!((told(1), told(2)), ((3, 2), (7, 2)));
    assert!(
        load.shards[&shard(1)].cpu > Duration::ZERO,
        "its first turn was timed"
    );

    world.host.end_load_window().await;
    let load = world.host.load();
    let at_rest = ShardLoad {
        objects: 2,
        ..ShardLoad::default()
    };
    assert_eq!(load.shards[&shard(1)], at_rest, "a window of its own");
}

#[tokio::test(start_paused = true)]
async fn s2_23_the_size_of_stored_state_is_told() {
    let world = World::new();
    for i in 0..10 {
        let saved = world.object::<Saved>(&format!("shard#1/{i}"));
        saved.add(1).await.expect("it is saved");
        world
            .object::<Counter>("shard#2/c")
            .add(1)
            .await
            .expect("a good call");
    }
    world.host.end_load_window().await;
    let load = world.host.load();
    let bytes = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([("total", 1_i64)]));
    let each = bytes.expect("it can be written").len() as u64;
    assert_eq!(load.shards[&shard(1)].state_bytes, 10 * each);
    assert_eq!(load.shards[&shard(2)].state_bytes, 0, "never written");
}

#[tokio::test(start_paused = true)]
async fn s1_3_calls_that_wait_for_their_turn_are_counted() {
    let world = World::new();
    let probe = world.object::<Probe>("shard#1/p");
    let calls = (0..3).map(|n| probe.alone(n, 10));
    for call in futures::future::join_all(calls).await {
        call.expect("a good call");
    }
    world.host.end_load_window().await;
    let load = world.host.load();
    assert_eq!((load.waits, load.refusals), (2, 0));
    assert_eq!(load.shards[&shard(1)].turns, 3);
}

#[tokio::test]
async fn s1_7_a_turn_that_suspends_is_timed_each_time_it_runs() {
    let world = World::new();
    let probe = world.object::<Probe>("shard#1/p");
    probe.alone(1, 20).await.expect("a good call");
    until("the turn has ended", || {
        world
            .metrics
            .encode()
            .expect("text")
            .contains("steading_turns_total 1")
    })
    .await;
    world.host.end_load_window().await;
    let cpu = world.host.load().shards[&shard(1)].cpu;
    // It slept for 20 ms, which is no work.
    let worked = Duration::from_nanos(1)..Duration::from_millis(15);
    assert!(worked.contains(&cpu), "{cpu:?}");
    let text = world.metrics.encode().expect("text");
    let line = "steading_turn_seconds_count{object_type=\"Probe\"} 1";
    assert!(text.contains(line), "{line} is missing in\n{text}");
}
