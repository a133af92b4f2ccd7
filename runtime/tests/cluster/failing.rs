//! Calls while nodes are dead, or cut from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steading::Outcome;
use tokio::time::{Instant, sleep};

use crate::world::{Counter, TTL, cluster, finish, id_on, owned_by};

#[tokio::test(start_paused = true)]
async fn p18_a_call_to_an_ownerless_shard_waits_for_the_next_owner() {
    let mut cluster = cluster(2).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    let counter = cluster.node("n1").object::<Counter>(&on_n2);
    counter.add(1).await.expect("served");
    cluster.crash("n2").await;
    let began = Instant::now();
    let total = counter.with_timeout(TTL * 2).add(1).await;
    assert_eq!(total, Ok(2));
    let limit = TTL + Duration::from_millis(600);
    assert!(
        began.elapsed() <= limit,
        "crash to first good call took {:?}",
        began.elapsed()
    );
    finish(cluster).await;
}

/// A paused process, as others see it: its connections stay, take everything and bring nothing back.
#[tokio::test(start_paused = true)]
async fn s0_16_callers_of_a_node_that_hangs_wait_no_longer_than_for_one_that_crashed() {
    for (asks, hangs) in [("n1", "n2"), ("n2", "n1")] {
        let cluster = cluster(2).await;
        let on_hanging = id_on(cluster.node(asks), hangs);
        let counter = cluster.node(asks).object::<Counter>(&on_hanging);
        counter.add(1).await.expect("served");
        let led = cluster.view().leader.clone().expect("a leader").node;
        cluster.cut_from_store(hangs);
        cluster.network().partition(asks, hangs);
        let began = Instant::now();
        let counter = counter.with_timeout(TTL * 2);
        let lost = counter.add(1).await.expect_err("it does not answer");
        assert_eq!(lost.outcome(), Outcome::Unknown, "{lost}");
        assert_eq!(counter.add(1).await, Ok(2), "{led} led");
        let limit = TTL + Duration::from_millis(600);
        let took = began.elapsed();
        assert!(
            took <= limit,
            "{took:?} until {hangs} was replaced, {led} led"
        );
        cluster.network().heal(asks, hangs);
        cluster.heal_store(hangs);
        finish(cluster).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p18_a_call_that_finds_no_owner_in_time_surely_did_not_run() {
    let mut cluster = cluster(2).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    cluster.crash("n2").await;
    let counter = cluster
        .node("n1")
        .object::<Counter>(&on_n2)
        .with_timeout(Duration::from_secs(1));
    let error = counter.add(1).await.expect_err("the lease still runs");
    assert_eq!(error.outcome(), Outcome::NotRun, "{error}");
    cluster
        .wait_until("n1 owns everything", |view| owned_by(view, "n1") == 64)
        .await;
    assert_eq!(counter.total().await, Ok(0));
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn n4_a_node_cut_from_the_store_stops_serving_before_others_claim() {
    let mut cluster = cluster(2).await;
    let on_n2 = id_on(cluster.node("n1"), "n2");
    let counter = cluster.node("n2").object::<Counter>(&on_n2);
    counter.add(1).await.expect("served");
    cluster.cut_from_store("n2");
    // Serves until its fence closes, then parks; the new owner's total shows nothing was lost.
    let (node, stop) = (cluster.node("n2").clone(), Arc::new(AtomicBool::new(false)));
    let told = stop.clone();
    let acknowledged = tokio::spawn(async move {
        let counter = node
            .object::<Counter>(&on_n2)
            .with_timeout(Duration::from_millis(100));
        let mut acknowledged = 1;
        while !told.load(Ordering::Relaxed) {
            acknowledged += i64::from(counter.add(1).await.is_ok());
            sleep(Duration::from_millis(10)).await;
        }
        acknowledged
    });
    cluster
        .wait_until("n1 owns everything", |view| owned_by(view, "n1") == 64)
        .await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged = acknowledged.await.expect("no panic");
    let id = counter.key().expect("a good ID").id().to_owned();
    assert_eq!(
        cluster.node("n1").object::<Counter>(&id).total().await,
        Ok(acknowledged)
    );

    cluster.heal_store("n2");
    cluster.settled().await;
    cluster
        .wait_until("n2 is back with its share", |view| {
            owned_by(view, "n2") == 32
        })
        .await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_short_cut_from_the_store_moves_nothing_and_fails_no_call() {
    let mut cluster = cluster(2).await;
    let changes = cluster.history().changes();
    let on_n2 = id_on(cluster.node("n1"), "n2");
    cluster.cut_from_store("n2");
    let counter = cluster.node("n1").object::<Counter>(&on_n2);
    for total in 1..=30 {
        assert_eq!(counter.add(1).await, Ok(total));
        sleep(Duration::from_millis(100)).await;
    }
    cluster.heal_store("n2");
    cluster.settled().await;
    assert_eq!(cluster.history().changes(), changes);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_told_to_stop_while_the_store_is_away_hands_over_once_it_is_back() {
    let cluster = cluster(2).await;
    let led = cluster.view().leader.clone().expect("a leader").node;
    let (leads, stays) = match led.as_str() {
        "n1" => ("n1", "n2"),
        _ => ("n2", "n1"),
    };
    let on_leader = id_on(cluster.node(stays), leads);
    let counter = cluster.node(stays).object::<Counter>(&on_leader);
    counter.add(1).await.expect("served");
    cluster.cut_from_store(leads);
    let stopping = cluster.node(leads).clone();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    sleep(Duration::from_secs(2)).await;
    cluster.heal_store(leads);
    let back = Instant::now();
    stopped.await.expect("no panic");
    // Far below the drain timeout, which nothing but another leader can keep it from waiting for.
    assert!(back.elapsed() < TTL, "{:?}", back.elapsed());
    assert_eq!(counter.add(1).await, Ok(2));
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn a_last_node_told_to_stop_while_the_store_is_away_goes_when_it_is_hurried() {
    let cluster = cluster(1).await;
    let node = cluster.node("n1").clone();
    node.object::<Counter>("x").add(1).await.expect("served");
    cluster.cut_from_store("n1");
    let stopping = node.clone();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    sleep(Duration::from_secs(2)).await;
    assert!(!stopped.is_finished(), "it need not be hurried");
    node.hurry();
    let hurried = Instant::now();
    stopped.await.expect("no panic");
    // Far below the drain timeout.
    assert!(hurried.elapsed() < TTL * 2, "{:?}", hurried.elapsed());
    cluster.heal_store("n1");
    finish(cluster).await;
}
