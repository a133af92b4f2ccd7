//! State that travels with its shard from one host to another.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use steading::ids::Revision;
use steading::memory_budget::BytesFor;
use steading::object::{Closing, Host, Packed, ParcelSum, StageError, StateError, Summing};
use steading::placement::Parcel;
use steading::storage::{MemoryStorage, StorageError};
use steading::{Context, Object, methods};

use crate::world::{Counter, Faulty, Lazy, Probe, Saved, World, shard, token, until};

pub(crate) const LIMIT: Duration = Duration::from_secs(5);

pub(crate) const PARCEL: Parcel = Parcel {
    revision: Revision::new(1),
    attempt: 7,
};

/// What the hooks of [`Guest`] did, by ID.
static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// An object with hooks whose state travels.
#[derive(Default, Serialize, Deserialize, Object)]
pub(crate) struct Guest {
    nights: u32,
}

#[methods]
impl Guest {
    #[activate]
    async fn arrive(&mut self, ctx: &Context) {
        EVENTS
            .lock()
            .push(format!("{} in {}", ctx.id(), self.nights));
    }

    #[deactivate]
    async fn leave(&mut self, ctx: &Context) {
        self.nights += 100;
        EVENTS
            .lock()
            .push(format!("{} out {}", ctx.id(), self.nights));
    }

    pub(crate) fn stay(&mut self) -> u32 {
        self.nights += 1;
        self.nights
    }
}

/// An object that could travel and does not.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(transient)]
pub(crate) struct Local {
    total: u32,
}

#[methods]
impl Local {
    pub(crate) fn add(&mut self) -> u32 {
        self.total += 1;
        self.total
    }
}

/// An object whose state cannot be read back once it is 13.
#[derive(Default, Serialize, Deserialize, Object)]
pub(crate) struct Picky {
    #[serde(deserialize_with = "not_13")]
    value: u32,
}

#[methods]
impl Picky {
    pub(crate) fn set(&mut self, value: u32) {
        self.value = value;
    }

    pub(crate) fn value(&self) -> u32 {
        self.value
    }
}

fn not_13<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        13 => Err(serde::de::Error::custom("13 is unlucky")),
        value => Ok(value),
    }
}

/// Two hosts: shards are open on the first.
pub(crate) struct Pair {
    pub(crate) old: World,
    pub(crate) new: World,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(MemoryStorage::new(), MemoryStorage::new())
    }

    pub(crate) fn with(
        old: impl steading::storage::Storage,
        new: impl steading::storage::Storage,
    ) -> Self {
        Self {
            old: World::with(old),
            new: World::closed(new),
        }
    }

    /// Closes shard 3 on the old host and sends its state to the new one.
    pub(crate) async fn send(&self) -> Result<ParcelSum, StageError> {
        assert_eq!(self.old.host.close(shard(3), LIMIT).await, Closing::Closed);
        send(&self.old, &self.new).await
    }

    /// Makes the new host the owner.
    pub(crate) fn hand_over(&self) {
        self.old.host.let_go(shard(3));
        self.new.host.open_with(shard(3), token(9), Some(PARCEL));
    }

    pub(crate) async fn moved(&self) {
        self.send().await.expect("it is staged");
        self.hand_over();
    }
}

pub(crate) async fn send(from: &World, to: &World) -> Result<ParcelSum, StageError> {
    let mut packing = from.host.pack(shard(3));
    let mut arriving = to.host.arriving(shard(3), PARCEL);
    let mut summing = Summing::default();
    while let Some(packed) = packing.next().await {
        let packed = packed?;
        summing.add(&packed);
        arriving.take(&packed)?;
    }
    arriving.finish(summing.sum())
}

fn events(id: &str) -> Vec<String> {
    let all = EVENTS.lock();
    let mine = all.iter().filter_map(|event| event.strip_prefix(id));
    mine.map(|event| event.trim().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn n16_state_without_storage_goes_along() {
    let pair = Pair::new();
    for n in 0..100 {
        let counter = pair.old.object::<Counter>(&format!("shard#3/{n}"));
        counter.add(n).await.expect("a good call");
    }
    pair.moved().await;
    assert!(pair.old.live("Counter").is_empty());
    assert_eq!(pair.new.live("Counter").len(), 100, "before any call");
    for n in 0..100 {
        let counter = pair.new.object::<Counter>(&format!("shard#3/{n}"));
        assert_eq!(counter.total().await, Ok(n));
    }
}

/// So many objects that taking them in takes a while.
const MANY: i64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n16_a_call_that_comes_while_the_shard_is_taken_in_finds_the_state() {
    let new = World::closed(MemoryStorage::new());
    let mut arriving = new.host.arriving(shard(3), PARCEL);
    let mut summing = Summing::default();
    for n in 0..MANY {
        let packed = Packed {
            key: format!("Counter/shard#3/{n:05}")
                .parse()
                .expect("a good key"),
            state: b"\x81\xa5total\x07".to_vec().into(),
            idle: Duration::ZERO,
            timers: Vec::new(),
        };
        summing.add(&packed);
        arriving.take(&packed).expect("readable");
    }
    arriving.finish(summing.sum()).expect("all of it came");
    // The last ones are called again and again until the shard is open.
    let last = (MANY - 100..MANY).map(|n| new.object::<Counter>(&format!("shard#3/{n:05}")));
    let last: Vec<_> = last.collect();
    let calls = new.tasks.spawn_work(async move {
        let mut totals = Vec::new();
        for counter in last {
            totals.push(loop {
                match counter.add(1).await {
                    Ok(total) => break total,
                    Err(_) => std::hint::spin_loop(), // It is not open yet.
                }
            });
        }
        totals
    });
    tokio::task::yield_now().await;
    new.host.open_with(shard(3), token(9), Some(PARCEL));
    assert_eq!(calls.await.expect("no panic"), vec![8; 100]);
}

#[tokio::test(start_paused = true)]
async fn what_is_transient_or_not_serializable_begins_anew() {
    assert!(Local::TRAVEL.is_none(), "by its attribute");
    assert!(Probe::TRAVEL.is_none(), "it is not serializable");
    assert!(Counter::TRAVEL.is_some());
    let pair = Pair::new();
    let local = pair.old.object::<Local>("shard#3/l");
    assert_eq!((local.add().await, local.add().await), (Ok(1), Ok(2)));
    pair.old
        .object::<Probe>("shard#3/p")
        .alone(1, 1)
        .await
        .expect("a good call");
    let sum = pair.send().await.expect("nothing to stage is fine");
    assert_eq!(sum.objects, 0);
    pair.hand_over();
    assert_eq!(pair.new.object::<Local>("shard#3/l").add().await, Ok(1));
    assert_eq!(
        pair.new.object::<Probe>("shard#3/p").order().await,
        Ok(vec![])
    );
}

#[tokio::test(start_paused = true)]
async fn stored_state_goes_along_whether_storage_is_shared_or_not() {
    let shared = MemoryStorage::new();
    for (old, new) in [
        (shared.clone(), shared),
        (MemoryStorage::new(), MemoryStorage::new()),
    ] {
        let pair = Pair::with(old, new.clone());
        let (saved, lazy) = (
            pair.old.object::<Saved>("shard#3/s"),
            pair.old.object::<Lazy>("shard#3/l"),
        );
        assert_eq!((saved.add(5).await, lazy.add(6).await), (Ok(5), Ok(6)));
        pair.moved().await;
        let (saved, lazy) = (
            pair.new.object::<Saved>("shard#3/s"),
            pair.new.object::<Lazy>("shard#3/l"),
        );
        assert_eq!((saved.add(1).await, lazy.add(1).await), (Ok(6), Ok(7)));
        pair.new.close_and_end(shard(3), LIMIT).await;
        let after = World::closed(new);
        after.host.open(shard(3), token(10));
        assert_eq!(after.object::<Saved>("shard#3/s").total().await, Ok(6));
        assert_eq!(after.object::<Lazy>("shard#3/l").total().await, Ok(7));
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_owner_cannot_write_once_the_new_one_has_loaded() {
    let shared = MemoryStorage::new();
    let pair = Pair::with(shared.clone(), shared);
    let saved = pair.old.object::<Saved>("shard#3/s");
    saved.add(5).await.expect("a good call");
    pair.send().await.expect("it is staged");
    // The old owner does not know that the shard is another's, and goes on.
    pair.new.host.open_with(shard(3), token(9), Some(PARCEL));
    assert_eq!(pair.new.object::<Saved>("shard#3/s").add(1).await, Ok(6));
    pair.old.host.open(shard(3), token(1));
    saved
        .add(1)
        .await
        .expect_err("storage refuses the lower token");
    assert_eq!(pair.new.object::<Saved>("shard#3/s").total().await, Ok(6));
}

#[tokio::test(start_paused = true)]
async fn hooks_run_at_the_old_owner_and_then_at_the_new_one() {
    let pair = Pair::new();
    let guest = pair.old.object::<Guest>("shard#3/hooks");
    assert_eq!(guest.stay().await, Ok(1));
    pair.moved().await;
    until("awake", || events("shard#3/hooks").len() == 3).await;
    assert_eq!(events("shard#3/hooks"), ["in 0", "out 101", "in 101"]);
    let guest = pair.new.object::<Guest>("shard#3/hooks");
    assert_eq!(guest.stay().await, Ok(102));
}

#[tokio::test(start_paused = true)]
async fn a_move_that_comes_to_nothing_loses_nothing() {
    let pair = Pair::new();
    let counter = pair.old.object::<Counter>("shard#3/c");
    let guest = pair.old.object::<Guest>("shard#3/back");
    counter.add(5).await.expect("a good call");
    guest.stay().await.expect("a good call");
    pair.send().await.expect("it is staged");
    pair.old.host.open(shard(3), token(1));
    assert_eq!(counter.add(1).await, Ok(6), "it went on as it was");
    assert_eq!(
        guest.stay().await,
        Ok(102),
        "its hook had run, so it began anew from its state"
    );
    assert_eq!(events("shard#3/back"), ["in 0", "out 101", "in 101"]);
    // The stale parcel is not taken for the newest state.
    pair.old.host.close(shard(3), LIMIT).await;
    let later = Parcel {
        attempt: 8,
        ..PARCEL
    };
    pair.new.host.open_with(shard(3), token(9), Some(later));
    assert_eq!(pair.new.object::<Counter>("shard#3/c").total().await, Ok(0));
    let text = pair.new.metrics.encode().expect("text");
    assert!(text.contains("steading_parcels_missing_total 1"), "{text}");
}

/// A stranger that knows the owner's revision can have state staged, but not replace any.
#[tokio::test(start_paused = true)]
async fn forged_state_neither_enters_nor_replaces_any() {
    let pair = Pair::new();
    let counter = pair.old.object::<Counter>("shard#3/c");
    counter.add(5).await.expect("a good call");
    pair.send().await.expect("it is staged");
    let forged = Packed {
        key: "Counter/shard#3/c".parse().expect("a good key"),
        state: rmp_serde::to_vec_named(&serde_json::json!({ "total": 666 }))
            .expect("plain values")
            .into(),
        idle: Duration::ZERO,
        timers: Vec::new(),
    };
    let mut sum = Summing::default();
    sum.add(&forged);
    let forge = |parcel: Parcel| {
        let mut arriving = pair.new.host.arriving(shard(3), parcel);
        arriving.take(&forged).expect("there is room");
        arriving.finish(sum.sum())
    };
    assert_eq!(forge(PARCEL), Err(StageError::Repeated));
    let guesses = (0..100).map(|attempt| forge(Parcel { attempt, ..PARCEL }));
    let guesses: Vec<_> = guesses.collect();
    assert_eq!(guesses.iter().filter(|guess| guess.is_ok()).count(), 7);
    assert_eq!(guesses.last(), Some(&Err(StageError::TooMany)));
    pair.new.host.open_with(shard(3), token(9), Some(PARCEL));
    assert_eq!(pair.new.object::<Counter>("shard#3/c").total().await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn state_that_was_never_woken_travels_on() {
    let storage = Faulty::default();
    let pair = Pair::with(MemoryStorage::new(), storage.clone());
    *storage.loads.lock() = Some(StorageError::Unavailable("down".into()));
    pair.old
        .object::<Saved>("shard#3/s")
        .add(5)
        .await
        .expect("a good call");
    pair.moved().await;
    // Storage is away, so it cannot wake; then the shard moves on.
    assert_eq!(pair.new.host.close(shard(3), LIMIT).await, Closing::Closed);
    let third = World::closed(MemoryStorage::new());
    send(&pair.new, &third).await.expect("it is staged");
    third.host.open_with(shard(3), token(10), Some(PARCEL));
    assert_eq!(third.object::<Saved>("shard#3/s").total().await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn state_that_cannot_be_loaded_yet_is_kept() {
    let storage = Faulty::default();
    let pair = Pair::with(MemoryStorage::new(), storage.clone());
    pair.old
        .object::<Saved>("shard#3/s")
        .add(5)
        .await
        .expect("a good call");
    *storage.loads.lock() = Some(StorageError::Unavailable("down".into()));
    pair.moved().await;
    let saved = pair.new.object::<Saved>("shard#3/s");
    saved.total().await.expect_err("storage is away");
    *storage.loads.lock() = None;
    assert_eq!(saved.total().await, Ok(5));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_the_new_owner_cannot_read_keeps_the_object_where_it_is() {
    let pair = Pair::new();
    let picky = pair.old.object::<Picky>("shard#3/p");
    picky.set(13).await.expect("a good call");
    let refused = pair.send().await.expect_err("it cannot be read");
    let StageError::State(StateError { object, reason }) = refused else {
        panic!("it is the state: {refused}");
    };
    assert_eq!(object.to_string(), "Picky/shard#3/p");
    assert!(reason.contains("unlucky"), "{reason}");
    pair.old.host.open(shard(3), token(1));
    assert_eq!(picky.value().await, Ok(13));
}

#[tokio::test(start_paused = true)]
async fn a_failed_last_save_keeps_the_object_where_it_is() {
    let storage = Faulty::default();
    let pair = Pair::with(storage.clone(), MemoryStorage::new());
    let lazy = pair.old.object::<Lazy>("shard#3/l");
    *storage.saves.lock() = Some(StorageError::Unavailable("down".into()));
    lazy.add(5).await.expect("it is saved later");
    let refused = pair.send().await.expect_err("it cannot be saved");
    assert!(refused.to_string().contains("down"), "{refused}");
    pair.old.host.open(shard(3), token(1));
    *storage.saves.lock() = None;
    assert_eq!(lazy.add(1).await, Ok(6));
}

#[tokio::test(start_paused = true)]
async fn what_differs_from_what_was_sent_is_not_staged() {
    let new = World::closed(MemoryStorage::new());
    let packed = |id: &str, state: &[u8]| Packed {
        key: format!("Counter/{id}").parse().expect("a good key"),
        state: state.to_vec().into(),
        idle: Duration::ZERO,
        timers: Vec::new(),
    };
    let (a, b) = (
        packed("a", b"\x81\xa5total\x01"),
        packed("b", b"\x81\xa5total\x02"),
    );
    let mut whole = Summing::default();
    whole.add(&a);
    whole.add(&b);
    let mut arriving = new.host.arriving(shard(3), PARCEL);
    arriving.take(&a).expect("readable");
    let refused = arriving.finish(whole.sum()).expect_err("one is missing");
    assert!(matches!(refused, StageError::Differs { .. }));
    let mut arriving = new.host.arriving(shard(3), PARCEL);
    for packed in [&a, &packed("b", b"\x81\xa5total\x03")] {
        arriving.take(packed).expect("readable");
    }
    arriving
        .finish(whole.sum())
        .expect_err("one has changed on the way");
}

#[tokio::test(start_paused = true)]
async fn what_is_staged_is_bounded_and_not_kept_for_ever() {
    let new = World::closed(MemoryStorage::new());
    let big = Packed {
        key: "Text/t".parse().expect("a good key"),
        state: text_of(60 << 20).into(),
        idle: Duration::ZERO,
        timers: Vec::new(),
    };
    let stage = |host: &std::sync::Arc<Host>, number: u32| {
        let mut arriving = host.arriving(shard(number), PARCEL);
        arriving.take(&big)?;
        let mut summing = Summing::default();
        summing.add(&big);
        arriving.finish(summing.sum())
    };
    for number in 0..4 {
        stage(&new.host, number).expect("there is room");
    }
    assert_eq!(stage(&new.host, 4), Err(StageError::Full));
    stage(&new.host, 3).expect_err("an earlier one goes only when a later one is whole");
    tokio::time::sleep(Duration::from_secs(61)).await;
    stage(&new.host, 4).expect("the others were dropped in time");
}

/// 973 MiB were staged within a limit of 256 MiB.
#[tokio::test(start_paused = true)]
async fn keys_count_as_staged_bytes() {
    const OBJECTS: usize = 200;
    let new = World::closed(MemoryStorage::new());
    let mut arriving = new.host.arriving(shard(1), PARCEL);
    let mut summing = Summing::default();
    for number in 0..OBJECTS {
        let packed = Packed {
            key: format!("Text/{number:01000}").parse().expect("a good key"),
            state: text_of(1).into(),
            idle: Duration::ZERO,
            timers: Vec::new(),
        };
        arriving.take(&packed).expect("there is room");
        summing.add(&packed);
    }
    arriving.finish(summing.sum()).expect("all of it came");
    let staged = new.host.budget().used();
    assert!(staged >= OBJECTS * 1500, "{staged}");
    tokio::time::sleep(Duration::from_secs(61)).await;
    drop(new.host.arriving(shard(2), PARCEL));
    assert_eq!(new.host.budget().used(), 0);
}

/// Staging had a limit of its own, whatever else was in memory.
#[tokio::test]
async fn staging_gets_half_of_the_memory_budget() {
    let new = World::closed(MemoryStorage::new());
    let budget = new.host.budget();
    let others = budget.reserve(BytesFor::Batch, budget.limit() / 2);
    let packed = Packed {
        key: "Text/t".parse().expect("a good key"),
        state: text_of(1).into(),
        idle: Duration::ZERO,
        timers: Vec::new(),
    };
    let take = || new.host.arriving(shard(1), PARCEL).take(&packed);
    assert!(matches!(take(), Err(StageError::Overloaded(_))));
    drop(others);
    take().expect("there is room");
    assert_eq!(budget.used(), 0, "what was not finished leaves nothing");
}

/// An object that holds a text.
#[derive(Default, Serialize, Deserialize, Object)]
pub(crate) struct Text {
    text: String,
}

#[methods]
impl Text {
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }
}

fn text_of(len: usize) -> Vec<u8> {
    let len = u32::try_from(len).expect("not that long");
    let mut state = b"\x81\xa4text\xdb".to_vec();
    state.extend(len.to_be_bytes());
    state.resize(state.len() + len as usize, b'x');
    state
}

#[tokio::test(start_paused = true)]
async fn idle_time_goes_along() {
    let pair = Pair::new();
    let lazy = pair.old.object::<Counter>("shard#3/c");
    lazy.add(1).await.expect("a good call");
    tokio::time::sleep(Duration::from_mins(10)).await;
    pair.moved().await;
    tokio::time::sleep(Duration::from_mins(6)).await;
    until("idle for 15 min in all", || {
        pair.new.live("Counter").is_empty()
    })
    .await;
}
