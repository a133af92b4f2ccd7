//! How activations begin and end.

use std::time::Duration;

use futures::future::join_all;
use steading::CallError;
use steading::object::{ObjectOrder, ObjectQuery};

use crate::world::{Counter, Hooked, Saved, Watch, World, hooks, shard, until, until_hook};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o2_many_first_calls_at_once_make_one_activation() {
    let world = World::new();
    let callers = (0..16).map(|_| {
        let object = world.object::<Hooked>("o2");
        world.tasks.spawn_work(async move { object.ready().await })
    });
    for ready in join_all(callers).await {
        assert_eq!(ready.expect("no panic"), Ok(true));
    }
    assert_eq!(hooks("o2"), ["activated"]);
}

#[tokio::test(start_paused = true)]
async fn o5_no_turn_begins_before_the_activation_hook_has_ended() {
    let world = World::new();
    let object = world.object::<Hooked>("o5");
    assert_eq!(
        join_all((0..3).map(|_| object.ready())).await,
        vec![Ok(true); 3]
    );
}

#[tokio::test(start_paused = true)]
async fn o4_a_hook_may_call_other_objects() {
    let world = World::new();
    assert_eq!(world.object::<Hooked>("caller").ready().await, Ok(true));
    assert_eq!(
        world.object::<Counter>("called-from-hook").total().await,
        Ok(1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_activation_fails_the_calls_that_wait_and_leaves_nothing() {
    let world = World::new();
    let object = world.object::<Hooked>("bad");
    for result in join_all((0..3).map(|_| object.ready())).await {
        let error = result.expect_err("it is bad");
        assert!(matches!(&error, CallError::Activation(why) if why.contains("it is bad")));
    }
    assert!(world.live("Hooked").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_idle_object_ends_with_its_hook_and_a_used_one_stays() {
    let world = World::new();
    let (idle, used) = (
        world.object::<Hooked>("idle-1"),
        world.object::<Hooked>("used-1"),
    );
    assert_eq!(idle.ready().await, Ok(true));
    for _ in 0..20 {
        assert_eq!(used.ready().await, Ok(true));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(hooks("idle-1"), ["activated", "deactivated"]);
    assert_eq!(world.live("Hooked"), ["used-1"]);
    assert_eq!(idle.ready().await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn deactivating_runs_the_hook_and_the_next_call_begins_anew() {
    let world = World::new();
    let object = world.object::<Hooked>("told");
    assert_eq!(object.ready().await, Ok(true));
    assert_eq!(object.deactivate().await, Ok(()));
    assert_eq!(hooks("told"), ["activated", "deactivated"]);
    assert!(world.live("Hooked").is_empty());
    assert_eq!(
        object.deactivate().await,
        Ok(()),
        "again, which changes nothing"
    );
    assert_eq!(object.ready().await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn a_turn_can_end_its_own_activation() {
    let world = World::new();
    let object = world.object::<Hooked>("itself");
    let (told, next) = tokio::join!(object.again(), object.ready());
    assert_eq!(
        (told, next),
        (Ok(()), Ok(true)),
        "the next call found a new activation"
    );
    assert_eq!(hooks("itself"), ["activated", "deactivated", "activated"]);
    let counter = world.object::<Counter>("c");
    assert_eq!(counter.add(1).await, Ok(1));
    assert_eq!(counter.give_up().await, Ok(1));
    assert_eq!(counter.total().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn o10_the_objects_token_is_cancelled_however_it_ends() {
    let world = World::new();
    for (id, way) in [
        ("w1", "deactivate"),
        ("w2", "delete"),
        ("w3", "idle"),
        ("w4", "discard"),
    ] {
        let object = world.object::<Hooked>(id);
        object.watch().await.expect("a good call");
        match way {
            "deactivate" => object.deactivate().await.expect("a good call"),
            "delete" => object.delete().await.expect("a good call"),
            "idle" => tokio::time::sleep(Duration::from_secs(3)).await,
            _ => world.host.discard_all(),
        }
        until_hook(id, "cancelled").await;
    }
}

#[tokio::test]
async fn o7_deleting_an_object_that_is_called_harms_no_call() {
    let world = World::new();
    let counter = world.object::<Saved>("c");
    let calls = join_all((0..20).map(|_| counter.slowly_add(1, 1)));
    let (results, deleted) = tokio::join!(calls, counter.delete());
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(deleted, Ok(()));
    assert_eq!(
        counter.delete().await,
        Ok(()),
        "again, which changes nothing"
    );
    assert_eq!(counter.total().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn auto_started_objects_live_and_are_kept_so() {
    let world = World::new();
    let all = |world: &World| world.live("Watch").len() == 16;
    until("one in each shard", || all(&world)).await;
    let error = world.object::<Watch>("shard#3/auto").fail().await;
    assert_eq!(error.expect_err("it panicked").code(), "panicked");
    until("again one in each shard", || all(&world)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(all(&world), "none has ended though all were idle");
}

#[tokio::test]
async fn o16_bound_objects_live_where_their_id_says() {
    let world = World::new();
    let bound = world.object::<Counter>("shard#5/x");
    assert_eq!(bound.add(1).await, Ok(1));
    assert!(
        world
            .host
            .counts()
            .iter()
            .any(|(shard, _)| shard.get() == 5)
    );
    assert_eq!(world.object::<Counter>("node#n1/x").add(1).await, Ok(1));
    let elsewhere = world.object::<Counter>("node#n2/x").add(1).await;
    assert_eq!(elsewhere.expect_err("bound to another").code(), "no_owner");
    assert_eq!(world.live("Counter"), ["node#n1/x", "shard#5/x"]);
}

#[tokio::test]
async fn objects_are_listed_in_order_page_by_page() {
    let world = World::new();
    for i in 0..25 {
        world
            .object::<Counter>(&format!("{i:02}"))
            .add(1)
            .await
            .expect("a good call");
    }
    let mut query = ObjectQuery {
        object_type: Some("Counter".into()),
        limit: 10,
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = world.host.objects(&query);
        let Some(last) = page.last() else { break };
        query.after = Some(last.key.clone());
        seen.extend(page.iter().map(|object| object.key.id().to_owned()));
    }
    assert_eq!(seen, (0..25).map(|i| format!("{i:02}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn s2_16_the_busiest_objects_come_first_with_what_their_last_turn_took() {
    let world = World::new();
    let ids = ["shard#1/some", "shard#2/most", "shard#3/least"];
    for _ in 0..5 {
        for (id, turns) in ids.into_iter().zip([5, 50, 1]) {
            for _ in 0..turns {
                let called = world.object::<Counter>(id).add(1).await;
                called.expect("a good call");
            }
        }
        // The first turn of each second is timed.
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let busiest = |shard| {
        let found = world.host.objects(&ObjectQuery {
            object_type: Some("Counter".into()),
            limit: 2,
            order: ObjectOrder::Busiest,
            shard,
            ..ObjectQuery::default()
        });
        assert!(found.iter().all(|object| object.timed.is_some()));
        let ids = found.iter().map(|object| object.key.id().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(busiest(None), ["shard#2/most", "shard#1/some"]);
    assert_eq!(busiest(Some(shard(3))), ["shard#3/least"]);
}
