//! What becomes of calls while their shard goes from node to node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::super::Router;
use super::super::news::Ownership;
use super::super::parking::PARKED_LINE_MAX;
use super::super::testing::{SHARDS, TestNode, World, begin, call, node, settle, shard};
use crate::error::{CallError, Outcome};
use crate::ids::{Incarnation, Place, Revision, Token};
use crate::placement::{Owner, OwnerRecord, Parcel};

const SECOND: Duration = Duration::from_secs(1);

/// An ID in shard 3.
const ID: &str = "shard#3/x";

const PARCEL: Parcel = Parcel {
    revision: Revision::new(7),
    attempt: 2,
};

/// A world in which `a` calls, `b` has closed shard 3, and `c` and `d` wait for something to do.
async fn closed() -> World {
    let world = World::owned(&["a", "c", "d", "b"]).await;
    world.at("b").close(3).await;
    world
}

#[tokio::test(start_paused = true)]
async fn n1_waiting_calls_are_forwarded_in_order() {
    let mut world = closed().await;
    let mut calls: Vec<_> = (0..100).map(|n| world.at("a").note(ID, n)).collect();
    calls.iter_mut().for_each(begin);
    settle().await;
    world.view.given(3, "c", 1, Some(PARCEL));
    world.publish_to("b").await;
    let told = world.at("c").owner(3);
    assert_eq!(
        &told,
        world.view.view().owners.get(shard(3)),
        "no watch said so"
    );
    assert_eq!(told.parcel, Some(PARCEL));
    calls.iter_mut().for_each(begin); // They wait at `c`.
    world.at("c").open(3);
    for (n, call) in (1..).zip(calls) {
        assert_eq!(call.await, Ok(json!(n)));
    }
    assert_eq!(world.at("c").notes(ID).await, (0..100).collect::<Vec<_>>());
    assert_eq!(world.at("b").metrics.routing.links.forwarded.get(), 100);
    assert_eq!(world.at("a").metrics.routing.links.moved.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn n1_who_comes_while_others_still_wait_goes_after_them() {
    let mut world = closed().await;
    let mut first = world.at("a").note(ID, 1);
    begin(&mut first);
    settle().await;
    let mut second = world.at("d").note(ID, 2);
    begin(&mut second);
    settle().await;
    world.view.owner(3, "c", 1);
    world.at("c").open(3);
    world.publish_to("b").await;
    assert_eq!((first.await, second.await), (Ok(json!(1)), Ok(json!(2))));
    assert_eq!(world.at("b").metrics.routing.links.forwarded.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn p18_who_comes_after_the_move_is_told_the_owner_and_needs_no_watch() {
    let mut world = closed().await;
    world.open(3, "c");
    world.publish_to("b").await;
    world.publish_to("c").await;
    let start = Instant::now();
    for n in 1..4 {
        assert_eq!(world.at("a").note(ID, n).await, Ok(json!(n)));
    }
    assert!(start.elapsed() < SECOND / 20, "{:?}", start.elapsed());
    assert_eq!(
        world.at("a").metrics.routing.links.moved.get(),
        1,
        "once is enough"
    );
    assert_eq!(world.at("b").metrics.routing.links.forwarded.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_claimed_owner_reads_its_parcel_from_the_store() {
    let mut world = closed().await;
    world.view.given(3, "c", 1, Some(PARCEL));
    world.publish_to("b").await;
    let mut calling = world.at("c").note(ID, 1);
    begin(&mut calling);
    settle().await;
    begin(&mut calling);
    assert_eq!(world.at("c").owner(3).parcel, Some(PARCEL));
    world.at("c").open(3);
    assert_eq!(calling.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_makes_one_hop_and_comes_back_with_what_the_receiver_knows() {
    let mut world = closed().await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    world.view.owner(3, "c", 1);
    let at_b = world.view.view().clone();
    world.open(3, "d");
    world.publish_to("c").await;
    world.publish_to("d").await;
    world.at("b").show(&at_b).await;
    assert_eq!(calling.await, Ok(json!(1)));
    assert_eq!(world.at("d").notes(ID).await, [1]);
    let links = |name: &str| world.at(name).metrics.routing.links.clone();
    assert_eq!(
        (links("b").forwarded.get(), links("c").forwarded.get()),
        (1, 0)
    );
    assert_eq!(links("a").moved.get(), 1);
    assert_eq!(
        world.at("b").owner(3),
        world.at("d").owner(3),
        "the forwarder learns it too"
    );
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_that_had_to_wait_again_still_makes_one_hop() {
    let mut world = closed().await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    world.view.owner(3, "c", 1);
    world.publish_to("b").await;
    assert_eq!(world.at("c").metrics.routing.parking.parked.get(), 1);
    world.open(3, "d");
    world.publish_to("d").await;
    world.publish_to("c").await;
    assert_eq!(calling.await, Ok(json!(1)));
    assert_eq!(world.at("c").metrics.routing.links.forwarded.get(), 0);
    assert_eq!(world.at("a").metrics.routing.links.moved.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn claims_that_cannot_be_newer_ask_no_store() {
    let world = World::owned(&["a", "c", "b"]).await;
    let known = world.at("a").owner(3);
    let inner = &world.at("a").router.inner;
    let place = Place::Shard(shard(3));
    let now = known.revision.get();
    for (number, generation, revision) in [
        (3, 0, now - 1),
        (3, 0, now),
        (3, 1, now + 1),
        (4, 0, now + 1),
    ] {
        let stale = claim(number, generation, revision);
        assert!(!inner.check(&place, &stale), "{stale:?}");
    }
    assert_eq!(world.at("a").claims(), 0);
    assert!(inner.check(&place, &claim(3, 0, now + 1)));
    assert_eq!(world.at("a").claims(), 1);
    assert_eq!(world.at("a").owner(3), known, "the store has nothing newer");
}

/// On a link without TLS anybody can claim anything with the highest revision there is.
#[tokio::test(start_paused = true)]
async fn false_claims_never_change_who_serves() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    let highest = (1 << 48) - 1;
    let truth: Vec<_> = (0..SHARDS).map(|n| world.at("b").owner(n)).collect();
    for name in ["a", "b", "c"] {
        let router = &world.at(name).router;
        for number in 0..SHARDS {
            let place = Place::Shard(shard(number));
            router.inner.check(&place, &claim(number, 0, highest));
            router.inner.check_revision(&place, Revision::new(u64::MAX));
        }
        settle().await;
        let owners: Vec<_> = (0..SHARDS).map(|n| world.at(name).owner(n)).collect();
        assert_eq!(owners, truth, "{name}");
    }
    let start = Instant::now();
    assert_eq!(world.at("a").note(ID, 1).await, Ok(json!(1)));
    assert!(start.elapsed() < SECOND / 10, "{:?}", start.elapsed());
    assert_eq!(world.at("b").notes(ID).await, [1], "its owner ran it");
    world.view.owner(3, "c", 1);
    world.publish().await;
    assert_eq!(
        world.at("a").owner(3),
        world.at("c").owner(3),
        "true news counts"
    );
}

#[tokio::test(start_paused = true)]
async fn false_redirects_harm_only_the_calls_they_answer() {
    let mut world = World::owned(&["a", "c", "b"]).await;
    let known = world.at("a").owner(3);
    world.at("b").close(3).await; // It cannot serve, and redirects falsely.
    let mut lie = world.view.view().clone();
    lie.owners.set(
        shard(3),
        OwnerRecord {
            revision: Revision::new((1 << 48) - 1),
            owner: Some(claim(3, 0, 1).owner),
            parcel: None,
        },
    );
    world.at("b").show(&lie).await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    sleep(3 * SECOND).await;
    begin(&mut calling);
    assert_eq!(world.at("a").owner(3), known);
    assert_eq!(world.at("c").owner(3), known);
    world.at("b").show(world.view.view()).await;
    world.at("b").open(3);
    let start = Instant::now();
    assert_eq!(calling.await, Ok(json!(1)));
    assert!(start.elapsed() <= 2 * SECOND, "{:?}", start.elapsed());
    world.view.owner(3, "c", 1);
}

#[tokio::test(start_paused = true)]
async fn calls_follow_redirects_while_the_store_is_away() {
    let mut world = closed().await;
    world.open(3, "c");
    world.publish_to("b").await;
    world.publish_to("c").await;
    world.view.take_store_away();
    let known = world.at("a").owner(3);
    let start = Instant::now();
    for n in 1..4 {
        assert_eq!(world.at("a").note(ID, n).await, Ok(json!(n)));
    }
    assert!(start.elapsed() < SECOND / 20, "{:?}", start.elapsed());
    assert_eq!(world.at("a").owner(3), known, "nothing was learned");
    assert_eq!(world.at("a").metrics.routing.links.moved.get(), 3);
}

/// The claim that `c` owns a shard.
fn claim(number: u32, generation: u16, revision: u64) -> Ownership {
    Ownership {
        shard: number,
        owner: Owner {
            node: node("c"),
            incarnation: Incarnation::new(1),
        },
        token: Token::of(generation, Revision::new(revision)),
    }
}

#[tokio::test(start_paused = true)]
async fn p18_news_of_a_life_that_is_not_known_yet_waits_until_it_is() {
    let mut world = closed().await;
    let address = world.at("c").address.clone();
    let before = world.view.view().clone();
    world
        .view
        .gone("c")
        .node_at("c", 9, &address)
        .owner(3, "c", 9);
    world.publish_to("b").await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    begin(&mut calling);
    assert_eq!(
        world.at("a").owner(3).revision,
        world.view.view().owners.get(shard(3)).revision
    );
    assert!(before.nodes[&node("c")].incarnation < Incarnation::new(9));
    assert_eq!(
        world.at("c").metrics.routing.links.inbound_calls.get(),
        0,
        "another life of `c` is not the owner"
    );
    world.publish().await;
    world.at("c").open(3);
    assert_eq!(calling.await, Ok(json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_forwarded_call_whose_connection_breaks_may_have_run_and_is_not_tried_again() {
    let mut world = closed().await;
    let nap = json!({"ms": 300, "n": 5});
    let mut calling = world.at("a").call(ID, "nap", &nap, 10 * SECOND);
    begin(&mut calling);
    settle().await;
    world.open(3, "c");
    world.publish().await;
    sleep(SECOND / 10).await;
    world.network.cut("b", "c");
    let error = calling.await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected(_)), "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown);
    sleep(SECOND).await;
    assert_eq!(world.at("a").notes(ID).await, [5], "it ran once");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_forwarded_goes_back_and_its_caller_tries() {
    let mut world = closed().await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    world.open(3, "c");
    world.network.partition("b", "c");
    world.publish_to("c").await;
    world.publish_to("b").await;
    assert_eq!(calling.await, Ok(json!(1)), "`a` reaches `c`");
    assert_eq!(world.at("b").metrics.routing.links.forwarded.get(), 1);
    assert_eq!(world.at("a").metrics.routing.links.moved.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn n5_a_call_forwarded_to_a_node_that_died_follows_the_shard_to_a_third() {
    let mut world = closed().await;
    let mut calling = world.at("a").note(ID, 1);
    begin(&mut calling);
    settle().await;
    world.network.refuse("c", true);
    world.view.owner(3, "c", 1);
    world.publish_to("b").await;
    sleep(SECOND).await;
    begin(&mut calling);
    world.view.gone("c");
    world.open(3, "d");
    world.publish().await;
    assert_eq!(calling.await, Ok(json!(1)));
    assert_eq!(world.at("d").notes(ID).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn p18_the_deadline_travels_along_every_hop() {
    let mut world = closed().await;
    let start = Instant::now();
    let nap = json!({"ms": 5000, "n": 1});
    let mut short = world.at("a").call(ID, "nap", &nap, SECOND / 2);
    let mut long = world.at("a").call("shard#3/y", "nap", &nap, SECOND);
    begin(&mut short);
    begin(&mut long);
    sleep(SECOND * 6 / 10).await;
    let error = short.await.unwrap_err();
    assert!(matches!(error, CallError::Deadline(_)), "{error}");
    world.open(3, "c");
    world.publish().await;
    let error = long.await.unwrap_err();
    assert_eq!(
        (start.elapsed(), error.outcome()),
        (SECOND, Outcome::Unknown)
    );
    assert_eq!(world.at("b").metrics.routing.links.forwarded.get(), 1);
    sleep(10 * SECOND).await;
    assert_eq!(world.at("c").notes(ID).await, [0_u64; 0], "it never ran");
}

#[tokio::test(start_paused = true)]
async fn s0_22_calls_beyond_the_line_are_refused_and_all_others_forwarded() {
    let mut world = closed().await;
    let half = PARKED_LINE_MAX as u64 / 2 + 100;
    let callers = ["a", "d"].map(|from| (0..half).map(move |n| (from, n)));
    let calls = callers.into_iter().flatten();
    let mut calls: Vec<_> = calls.map(|(from, n)| world.at(from).note(ID, n)).collect();
    calls.iter_mut().for_each(begin);
    settle().await;
    let parking = world.at("b").metrics.routing.parking.clone();
    assert_eq!(
        (parking.parked.get(), parking.overflows.get()),
        (16_384, 200)
    );
    world.open(3, "c");
    world.publish().await;
    let results = join_all(calls).await;
    let refused: Vec<_> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert_eq!(refused.len(), 200);
    for error in refused {
        assert!(matches!(error, CallError::Overloaded(_)), "{error}");
        assert_eq!(error.outcome(), Outcome::NotRun);
    }
    assert_eq!(world.at("c").notes(ID).await.len(), PARKED_LINE_MAX);
    assert_eq!(
        (parking.parked.get(), parking.parked_total.get()),
        (0, 16_384)
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_can_wait_for_the_answers_of_what_it_forwarded() {
    let mut world = closed().await;
    let nap = json!({"ms": 700, "n": 5});
    let mut calling = world.at("a").call(ID, "nap", &nap, 10 * SECOND);
    begin(&mut calling);
    settle().await;
    world.open(3, "c");
    world.publish().await;
    let start = Instant::now();
    world.at("b").router.answered().await;
    assert!(start.elapsed() > SECOND / 2, "{:?}", start.elapsed());
    assert_eq!(calling.await, Ok(json!(1)));
    world.at("b").router.answered().await;
}

/// Every caller has one call under way while shards go round. No call fails, each runs once, and
/// each object sees the calls of a caller in their order.
#[tokio::test(start_paused = true)]
async fn n1_moves_under_steady_calls_lose_none_and_run_none_twice() {
    let mut world = World::start(&["a", "b", "c", "d"]).await;
    let openers: Vec<_> = TAKERS.map(|name| open_what_is_mine(world.at(name))).into();
    for number in 0..MOVING {
        world.view.owner(number, TAKERS[0], 1);
    }
    world.publish().await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers = (0..).zip(["a", "b", "c", "d"].repeat(4));
    let callers = callers.map(|(n, from)| {
        let from = world.at(from).router.clone();
        call_until(from, n, stop.clone())
    });
    let calls = join_all(callers.collect::<Vec<_>>());
    let moves = async {
        for round in 0..60 {
            move_on(&mut world, round).await;
        }
        stop.store(true, Ordering::Release);
        world
    };
    let (made, world) = tokio::select! {
        done = async { tokio::join!(calls, moves) } => done,
        _ = join_all(openers) => unreachable!("they go on for ever"),
    };
    assert_each_ran_once_in_order(&world, &made).await;
    let forwarded = TAKERS.map(|name| world.at(name).metrics.routing.links.forwarded.get());
    assert!(
        forwarded.iter().sum::<u64>() > 20,
        "{forwarded:?}: the test tests nothing"
    );
}

/// The nodes that shards go round on.
const TAKERS: [&str; 3] = ["b", "c", "d"];

/// How many shards do.
const MOVING: u32 = 4;

fn ledger(number: u32) -> String {
    format!("shard#{number}/ledger")
}

/// Opens shards as soon as the node knows that they are its own, as a reconciler does.
fn open_what_is_mine(at: &TestNode) -> impl Future<Output = ()> + use<> {
    let (host, router, mut views) = (at.host.clone(), at.router.clone(), at.views());
    let mut open_at = [Revision::default(); MOVING as usize];
    async move {
        loop {
            let view = views.borrow_and_update().clone();
            for number in 0..MOVING {
                let (shard, open_at) = (shard(number), &mut open_at[number as usize]);
                let revision = view.owners.get(shard).revision;
                let owner = view.live_owner(shard);
                if owner.is_some_and(|o| o.node == *router.node()) && revision > *open_at {
                    *open_at = revision;
                    host.open(shard, view.token(shard));
                    router.shard_changed(shard);
                }
            }
            views.changed().await.expect("the node lives");
        }
    }
}

/// Gives one shard to the next node; the other nodes' watches lag.
async fn move_on(world: &mut World, round: u32) {
    sleep(Duration::from_millis(u64::from(round % 7))).await;
    let (number, turn) = (round % MOVING, (round / MOVING) as usize);
    let (from, to) = (TAKERS[turn % 3], TAKERS[(turn + 1) % 3]);
    world.at(from).close(number).await;
    sleep(Duration::from_millis(2)).await; // Calls come meanwhile.
    world.view.given(number, to, 1, Some(PARCEL));
    world.publish_to(from).await;
    world.at(from).host.let_go(shard(number));
    sleep(Duration::from_millis(u64::from(round % 5))).await;
    world.publish().await;
}

/// Calls one object after the other until it is told to stop; returns how many calls it made.
async fn call_until(from: Arc<Router>, caller: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut made = 0;
    while !stop.load(Ordering::Acquire) {
        for number in 0..MOVING {
            let note = json!({ "n": caller * CALLER + made });
            let id = ledger(number);
            let done = call(&from, ("Ledger", &id), "note", &note, 10 * SECOND).await;
            done.expect("no call fails because a shard moves");
            made += 1;
            settle().await;
        }
    }
    made
}

/// Numbers of one caller begin at a multiple of this.
const CALLER: u64 = 1_000_000;

async fn assert_each_ran_once_in_order(world: &World, made: &[u64]) {
    let mut ran = vec![0; made.len()];
    for number in 0..MOVING {
        let from = &world.at("a").router;
        let notes = call(
            from,
            ("Ledger", &ledger(number)),
            "notes",
            &json!({}),
            SECOND,
        )
        .await;
        let notes: Vec<u64> = serde_json::from_value(notes.expect("an answer")).expect("numbers");
        let mut last = vec![None; made.len()];
        for note in notes {
            let caller = usize::try_from(note / CALLER).expect("few");
            assert!(Some(note) > last[caller], "{note} came again or late");
            last[caller] = Some(note);
            ran[caller] += 1;
        }
    }
    assert_eq!(ran, made, "lost or run twice");
    assert!(
        made.iter().sum::<u64>() > 500,
        "{made:?}: the test tests nothing"
    );
}
