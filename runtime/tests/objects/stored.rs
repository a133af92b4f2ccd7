//! Objects whose state is stored: nothing acknowledged is lost, nothing stale is written.

use std::sync::atomic::Ordering;
use std::time::Duration;

use steading::storage::{MemoryStorage, Storage, StorageError};

use crate::world::{Counter, Faulty, Lazy, SHARDS, Saved, World, token, until};

const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn no_acknowledged_write_is_lost() {
    let storage = MemoryStorage::new();
    let first = World::with(storage.clone());
    assert_eq!(first.object::<Saved>("s").add(5).await, Ok(5));
    first.host.discard_all(); // As hard as a crash: nothing is saved any more.
    let second = World::closed(storage);
    SHARDS
        .shards()
        .for_each(|shard| second.host.open(shard, token(2)));
    assert_eq!(
        second.object::<Saved>("s").add(1).await,
        Ok(6),
        "O-13: restored"
    );
}

#[tokio::test]
async fn an_earlier_owner_can_not_write_any_more() {
    let storage = MemoryStorage::new();
    let (old, new) = (World::with(storage.clone()), World::closed(storage));
    assert_eq!(old.object::<Saved>("s").add(5).await, Ok(5));
    SHARDS
        .shards()
        .for_each(|shard| new.host.open(shard, token(2)));
    assert_eq!(
        new.object::<Saved>("s").total().await,
        Ok(5),
        "loading alone fences"
    );
    let error = old.object::<Saved>("s").add(100).await.expect_err("stale");
    assert_eq!(error.code(), "not_stored");
    let error = old
        .object::<Saved>("s")
        .total()
        .await
        .expect_err("discarded, and cannot load");
    assert_eq!(error.code(), "activation_failed");
    assert_eq!(new.object::<Saved>("s").add(1).await, Ok(6));
}

#[tokio::test]
async fn only_changes_of_stored_types_are_saved() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    let saved = world.object::<Saved>("s");
    saved.add(5).await.expect("a good call");
    saved.add(0).await.expect("a good call");
    saved.total().await.expect("a good call");
    world
        .object::<Counter>("c")
        .add(1)
        .await
        .expect("a good call");
    assert_eq!(storage.saved.load(Ordering::SeqCst), 1, "O-9");
}

#[tokio::test]
async fn a_failed_save_fails_the_call_and_discards_the_activation() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    let saved = world.object::<Saved>("s");
    saved.add(5).await.expect("a good call");
    *storage.saves.lock() = Some(StorageError::Unknown("no answer".into()));
    assert_eq!(
        saved.add(1).await.expect_err("not stored").code(),
        "not_stored"
    );
    *storage.saves.lock() = None;
    assert_eq!(saved.total().await, Ok(5));
}

#[tokio::test]
async fn o13_an_object_that_cannot_be_loaded_is_not_made() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    *storage.loads.lock() = Some(StorageError::Unavailable("down".into()));
    let error = world
        .object::<Saved>("s")
        .total()
        .await
        .expect_err("cannot load");
    assert_eq!(error.code(), "activation_failed");
    assert!(world.live("Saved").is_empty());
    *storage.loads.lock() = None;
    assert_eq!(world.object::<Saved>("s").total().await, Ok(0));
}

#[tokio::test]
async fn o8_deleting_takes_the_stored_state_along_or_fails_and_leaves_all() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    let saved = world.object::<Saved>("s");
    saved.add(5).await.expect("a good call");
    *storage.saves.lock() = Some(StorageError::Unavailable("down".into()));
    assert_eq!(
        saved.delete().await.expect_err("not stored").code(),
        "not_stored"
    );
    assert_eq!(saved.total().await, Ok(5), "it stays");
    *storage.saves.lock() = None;
    saved.delete().await.expect("a good call");
    assert_eq!(saved.total().await, Ok(0));
    saved.add(7).await.expect("it can be stored again");
}

#[tokio::test]
async fn an_object_without_activation_is_deleted_without_one() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    let saved = world.object::<Saved>("s");
    saved.add(5).await.expect("a good call");
    saved.deactivate().await.expect("a good call");
    saved.delete().await.expect("a good call");
    assert!(world.live("Saved").is_empty());
    let key = "Saved/s".parse().expect("a good key");
    let stored = storage.load(&key, token(1)).await.expect("a good load");
    assert_eq!(stored.state, None);
    world
        .object::<Saved>("never")
        .delete()
        .await
        .expect("idempotent");
}

#[tokio::test(start_paused = true)]
async fn o12_interval_saves_write_the_newest_value_and_stop_with_the_shard() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    let lazy = world.object::<Lazy>("l");
    let saved = || storage.saved.load(Ordering::SeqCst);
    for n in 1..=10 {
        assert_eq!(lazy.add(1).await, Ok(n));
    }
    assert_eq!(saved(), 0, "not before the reply");
    until("one save of all ten", || saved() == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(saved(), 1, "nothing changed");
    lazy.add(1).await.expect("a good call");
    for shard in SHARDS.shards() {
        world.close_and_end(shard, LIMIT).await;
    }
    assert_eq!(saved(), 2, "a last save at the end");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(saved(), 2);
    SHARDS
        .shards()
        .for_each(|shard| world.host.open(shard, token(2)));
    assert_eq!(lazy.total().await, Ok(11));
}

#[tokio::test(start_paused = true)]
async fn an_interval_save_that_failed_is_tried_again() {
    let storage = Faulty::default();
    let world = World::with(storage.clone());
    let lazy = world.object::<Lazy>("l");
    *storage.saves.lock() = Some(StorageError::Unavailable("down".into()));
    lazy.add(1).await.expect("a good call");
    tokio::time::sleep(Duration::from_secs(1)).await;
    *storage.saves.lock() = None;
    until("saved", || storage.saved.load(Ordering::SeqCst) == 1).await;
    assert_eq!(lazy.total().await, Ok(1));
}
