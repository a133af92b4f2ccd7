//! Who has a turn when.

use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use steading::{CallError, Outcome};
use tokio::time::{Instant, timeout};

use crate::world::{BUSTLING, Counter, Probe, World};

#[tokio::test]
async fn o3_the_first_call_makes_the_object_and_later_ones_find_it() {
    let world = World::new();
    let counter = world.object::<Counter>("c");
    assert_eq!(counter.add(2).await, Ok(2));
    assert_eq!(counter.add(3).await, Ok(5));
    assert_eq!(world.object::<Counter>("c").total().await, Ok(5));
    assert_eq!(world.live("Counter"), ["c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o6_turns_of_many_callers_are_strictly_one_after_the_other() {
    let world = World::new();
    let callers = (0..20).map(|_| {
        let counter = world.object::<Counter>("c");
        world.tasks.spawn_work(async move {
            for _ in 0..50 {
                counter.slowly_add(1).await.expect("a good call");
            }
        })
    });
    join_all(callers).await;
    assert_eq!(world.object::<Counter>("c").total().await, Ok(1000));
}

#[tokio::test(start_paused = true)]
async fn shared_turns_run_together_and_exclusive_ones_alone() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    let began = Instant::now();
    let together = join_all((0..3).map(|_| probe.together(100))).await;
    assert_eq!(together, [Ok(3), Ok(3), Ok(3)]);
    assert!(began.elapsed() < Duration::from_millis(200));
    join_all((0..3).map(|n| probe.alone(n, 100))).await;
    assert!(began.elapsed() >= Duration::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn calls_have_their_turns_in_the_order_in_which_they_came() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    join_all((0..6).map(|n| probe.alone(n, 10))).await;
    assert_eq!(probe.order().await, Ok(vec![0, 1, 2, 3, 4, 5]));
}

#[tokio::test(start_paused = true)]
async fn a_waiting_writer_is_not_overtaken_by_readers() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    let (first, second, late) = (probe.clone(), probe.clone(), probe.clone());
    let began = Instant::now();
    let reader = world
        .tasks
        .spawn_work(async move { first.together(100).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    let writer = world
        .tasks
        .spawn_work(async move { second.alone(1, 100).await });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(late.order().await, Ok(vec![1]), "it came after the writer");
    assert!(began.elapsed() >= Duration::from_millis(200));
    reader.await.expect("no panic").expect("a good call");
    writer.await.expect("no panic").expect("a good call");
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_refuses_at_once() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    let results = join_all((0..12).map(|n| probe.alone(n, 10))).await;
    let refused = results.iter().filter(|result| {
        matches!(result, Err(error @ CallError::Overloaded(_)) if error.outcome() == Outcome::NotRun)
    });
    assert_eq!(refused.count(), 3, "one runs, eight wait: {results:?}");
}

#[tokio::test(start_paused = true)]
async fn a_turn_runs_to_its_end_though_its_caller_went_away() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    let gone = timeout(Duration::from_millis(5), probe.alone(7, 100)).await;
    assert!(gone.is_err());
    assert_eq!(probe.order().await, Ok(vec![7]));
}

#[tokio::test(start_paused = true)]
async fn s2_29_a_call_that_waited_too_long_never_runs() {
    let world = World::new();
    let probe = world.object::<Probe>("p");
    let hasty = probe.clone().with_timeout(Duration::from_millis(20));
    let (long, short) = tokio::join!(probe.alone(1, 100), hasty.alone(2, 1));
    assert_eq!(long, Ok(1));
    let error = short.expect_err("its deadline passed");
    assert!(
        matches!(error, CallError::DeadlineBeforeStart(_)),
        "{error}"
    );
    assert_eq!(probe.order().await, Ok(vec![1]));
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_takes_too_long_goes_on_without_its_caller() {
    let world = World::new();
    let probe = world
        .object::<Probe>("p")
        .with_timeout(Duration::from_millis(20));
    let error = probe.alone(1, 100).await.expect_err("its deadline passed");
    assert_eq!(
        (error.code(), error.outcome()),
        ("deadline", Outcome::Unknown)
    );
    let patient = probe.with_timeout(Duration::from_secs(1));
    assert_eq!(patient.order().await, Ok(vec![1]));
}

#[tokio::test]
async fn n18_a_panic_fails_that_call_alone_and_the_object_begins_anew() {
    let world = World::new();
    let counter = world.object::<Counter>("c");
    assert_eq!(counter.add(1).await, Ok(1));
    let (failed, queued) = tokio::join!(counter.fail_later(), counter.add(3));
    let error = failed.expect_err("it panicked");
    assert_eq!(error.code(), "panicked");
    assert!(error.to_string().contains("on purpose, later"), "{error}");
    assert_eq!(queued, Ok(3), "a fresh activation");
    assert_eq!(
        counter.fail().await.expect_err("it panicked").code(),
        "panicked"
    );
    assert_eq!(counter.add(4).await, Ok(4));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_wait_for_itself_fails_at_once_with_its_path() {
    let world = World::new();
    let began = Instant::now();
    let path = ["b", "c", "a"].map(str::to_owned).to_vec();
    let error = world.object::<Probe>("a").relay(path).await;
    let error = error.expect("the outer call is good").expect_err("a cycle");
    assert!(
        error.contains("Probe/a -> Probe/b -> Probe/c -> Probe/a"),
        "{error}"
    );
    assert!(error.contains("NotRun"), "{error}");
    assert!(began.elapsed() < Duration::from_millis(10));
}

#[tokio::test]
async fn deep_chains_of_calls_are_served_up_to_the_paths_limit() {
    let world = World::new();
    let chain = |len: usize| (0..len).map(|n| n.to_string()).collect();
    let first = world.object::<Probe>("first");
    assert_eq!(first.relay(chain(63)).await, Ok(Ok(63)));
    let error = first
        .relay(chain(65))
        .await
        .expect("the outer call is good");
    assert!(error.expect_err("too deep").contains("64 objects"));
}

#[tokio::test(start_paused = true)]
async fn a_calls_deadline_binds_the_calls_made_for_it() {
    let world = World::new();
    let probe = world
        .object::<Probe>("a")
        .with_timeout(Duration::from_millis(300));
    assert_eq!(probe.patience().await, Ok(300));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_from_the_call_however_late_the_turn_asks() {
    let world = World::new();
    let probe = world
        .object::<Probe>("a")
        .with_timeout(Duration::from_millis(300));
    assert_eq!(probe.later_patience(100).await, Ok(200));
}

#[tokio::test]
async fn a_caller_in_a_loop_lets_other_tasks_run() {
    let world = World::new();
    let counter = world.object::<Counter>("c");
    let other = world.tasks.spawn_work(async {});
    let mut calls = 0;
    while !other.is_finished() {
        calls = counter.add(1).await.expect("a good call");
        assert!(calls < 10_000, "one thread runs both tasks");
    }
    assert!(calls > 1, "and no call waits for itself");
}

#[tokio::test(start_paused = true)]
async fn turns_that_wait_for_a_brief_one_follow_it_in_order() {
    let world = World::new();
    let counter = world.object::<Counter>("bustling");
    BUSTLING.lock().insert("bustling".into(), counter.clone());
    assert_eq!(counter.bustle().await, Ok(0));
    let after = counter.total().now_or_never();
    assert_eq!(after, Some(Ok(110)), "they had their turns in passing");
    assert_eq!(counter.slowly_add(1).await, Ok(111));
}

#[tokio::test]
async fn o4_objects_make_call_and_delete_others_from_their_turns() {
    let world = World::new();
    let sum = world.object::<Probe>("p").meddle("other".to_owned()).await;
    assert_eq!(sum, Ok(Ok(5)), "after its end the other begins at 0");
}

#[tokio::test]
async fn a_methods_own_error_is_its_answer() {
    let world = World::new();
    let counter = world.object::<Counter>("c");
    assert_eq!(counter.checked(-1).await, Ok(Err("negative".to_owned())));
    assert_eq!(counter.checked(1).await, Ok(Ok(1)));
}

#[tokio::test]
async fn o1_bad_ids_are_refused_in_words() {
    let world = World::new();
    for id in ["", "shard#99/x", "shard#x/y", "node#/x", &"x".repeat(1025)] {
        let error = world
            .object::<Counter>(id)
            .total()
            .await
            .expect_err("a bad ID");
        assert_eq!(error.code(), "invalid_id", "{error}");
    }
    assert!(world.live("Counter").is_empty());
}
