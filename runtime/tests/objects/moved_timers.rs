//! Timers of objects whose shard moves: they go along, or the object stays.

use std::time::Duration;

use steading::object::{Packed, PackedTimer, StageError, Summing, TIMERS_PER_OBJECT_MAX};
use steading::storage::{MemoryStorage, StorageError};
use tokio::time::{Instant, sleep};

use crate::alarms::{Alarm, Fleeting, Sleeper, at, metric, ms, rings};
use crate::travel::{LIMIT, PARCEL, Pair, send};
use crate::world::{Faulty, SHARDS, World, shard, token};

#[tokio::test(start_paused = true)]
async fn timers_go_along_with_the_time_that_is_left() {
    let (pair, start) = (Pair::new(), Instant::now());
    let alarm = pair.old.object::<Alarm>("shard#3/along");
    alarm
        .every("a".into(), 300)
        .await
        .expect("a call")
        .expect("set");
    alarm
        .once("b".into(), 1000)
        .await
        .expect("a call")
        .expect("set");
    sleep(ms(400)).await;
    pair.moved().await;
    assert!(metric(&pair.old, "steading_timers 0"));
    let alarm = pair.new.object::<Alarm>("shard#3/along");
    let list = alarm.list().await.expect("a good call");
    assert_eq!(
        list,
        [("a".into(), 200, Some(300)), ("b".into(), 600, None)]
    );
    sleep(ms(700)).await;
    let expected = [("a", 300), ("a", 600), ("a", 900), ("b", 1000)];
    let expected = expected.map(|(text, at)| (text.to_owned(), at));
    assert_eq!(rings("shard#3/along", start), expected, "each once");
}

#[tokio::test(start_paused = true)]
async fn what_is_due_while_the_shard_moves_ticks_once_at_the_new_owner() {
    let (pair, start) = (Pair::new(), Instant::now());
    let alarm = pair.old.object::<Alarm>("shard#3/due");
    alarm
        .once("a".into(), 100)
        .await
        .expect("a call")
        .expect("set");
    pair.old.host.close(shard(3), LIMIT).await;
    sleep(ms(250)).await; // It is due, and cannot have its turn.
    send(&pair.old, &pair.new).await.expect("it is staged");
    sleep(ms(250)).await;
    assert_eq!(rings("shard#3/due", start), []);
    pair.hand_over();
    sleep(ms(1000)).await;
    assert_eq!(rings("shard#3/due", start), at("a", &[500]));
}

#[tokio::test(start_paused = true)]
async fn timers_go_on_where_they_were_when_a_move_comes_to_nothing() {
    let (pair, start) = (Pair::new(), Instant::now());
    let alarm = pair.old.object::<Alarm>("shard#3/back");
    let sleeper = pair.old.object::<Sleeper>("shard#3/back-with-hooks");
    alarm
        .every("a".into(), 300)
        .await
        .expect("a call")
        .expect("set");
    sleeper.rings().await.expect("a good call");
    sleep(ms(100)).await;
    pair.send().await.expect("it is staged");
    pair.old.host.open(shard(3), token(1));
    sleep(ms(1100)).await;
    assert_eq!(rings("shard#3/back", start), at("a", &[300, 600, 900]));
    // Its hook had run, so it began anew: with its timer, which its hook found.
    assert_eq!(rings("shard#3/back-with-hooks", start), at("101", &[1000]));
    assert!(metric(&pair.new, "steading_timers 0"));
}

#[tokio::test(start_paused = true)]
async fn an_object_that_must_be_activated_keeps_its_timers() {
    let (pair, start) = (Pair::new(), Instant::now());
    let sleeper = pair.old.object::<Sleeper>("shard#3/wakes");
    sleeper.rings().await.expect("a good call");
    sleep(ms(400)).await;
    pair.moved().await;
    sleep(ms(700)).await;
    assert_eq!(
        rings("shard#3/wakes", start),
        at("101", &[1000]),
        "nobody has called it there"
    );
}

#[tokio::test(start_paused = true)]
async fn timers_of_what_cannot_be_activated_yet_are_kept_and_tried_again() {
    let storage = Faulty::default();
    let pair = Pair::with(MemoryStorage::new(), storage.clone());
    let start = Instant::now();
    let sleeper = pair.old.object::<Sleeper>("shard#3/later");
    sleeper.rings().await.expect("a good call");
    *storage.loads.lock() = Some(StorageError::Unavailable("down".into()));
    pair.moved().await;
    sleep(ms(5000)).await;
    assert_eq!(rings("shard#3/later", start), []);
    *storage.loads.lock() = None;
    sleep(ms(900)).await; // Its period is longer.
    assert_eq!(rings("shard#3/later", start).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_transient_object_loses_its_timers_with_its_state() {
    let (pair, start) = (Pair::new(), Instant::now());
    let fleeting = pair.old.object::<Fleeting>("shard#3/fleeting");
    fleeting.set().await.expect("a good call");
    sleep(ms(150)).await;
    pair.moved().await;
    sleep(ms(1000)).await;
    assert_eq!(rings("shard#3/fleeting", start), at("fleeting", &[100]));
}

fn packed(timers: Vec<PackedTimer>) -> Packed {
    Packed {
        key: "Alarm/shard#3/packed".parse().expect("a good key"),
        state: b"\x81\xa3set\x01".to_vec().into(),
        idle: Duration::ZERO,
        timers,
    }
}

fn timer(method: &str) -> PackedTimer {
    PackedTimer {
        name: "a".into(),
        method: method.into(),
        args: b"\x91\xa1a".to_vec().into(),
        remaining: ms(100),
        period: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_the_new_owner_cannot_let_tick_keeps_the_object_where_it_is() {
    let new = World::closed(MemoryStorage::new());
    for wrong in [timer("sing"), timer("busy")] {
        let mut arriving = new.host.arriving(shard(3), PARCEL);
        let refused = arriving.take(&packed(vec![wrong])).expect_err("not here");
        assert!(matches!(refused, StageError::State(_)), "{refused}");
    }
    let many = vec![timer("ring"); TIMERS_PER_OBJECT_MAX + 1];
    let mut arriving = new.host.arriving(shard(3), PARCEL);
    arriving.take(&packed(many)).expect_err("too many");
    assert_eq!(SHARDS.get(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_was_lost_or_changed_on_the_way_is_noticed() {
    let new = World::closed(MemoryStorage::new());
    let mut sent = Summing::default();
    sent.add(&packed(vec![timer("ring")]));
    let changed = PackedTimer {
        remaining: ms(101),
        ..timer("ring")
    };
    for came in [vec![], vec![changed]] {
        let mut arriving = new.host.arriving(shard(3), PARCEL);
        arriving.take(&packed(came)).expect("readable");
        let refused = arriving.finish(sent.sum()).expect_err("it differs");
        assert!(matches!(refused, StageError::Differs { .. }), "{refused}");
    }
    // What a version without timers sends has none, and no sum of them.
    let mut old = Summing::default();
    old.add(&packed(vec![]));
    assert_eq!((old.sum().timers, old.sum().timers_checksum), (0, 0));
}
