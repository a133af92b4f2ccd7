//! Views on the memory store, over broken, late and lying watches.

use std::time::Duration;

use async_trait::async_trait;
use futures::future;

use super::*;
use crate::coordination::rig::{Rig, Runs, node, settle};
use crate::coordination::store::{KeepAlive, Op, Txn, TxnReply};
use crate::coordination::{Cut, MemoryStore, keys};
use crate::ids::{LeaseId, ShardCount};
use crate::placement::{ClusterMeta, ClusterView, News, OwnerRecord};

#[tokio::test(start_paused = true)]
async fn what_was_there_and_what_comes_are_in_the_view() {
    let rig = Rig::new(4);
    rig.aim(|_| Some("a")).await;
    let a = rig.join("a", Runs::LeaderOnly).await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    settle().await;
    assert_eq!(*a.watching.borrow(), WatchState::CaughtUp);
    let view = a.view.current();
    assert_eq!(
        view.nodes.keys().cloned().collect::<Vec<_>>(),
        [node("a"), node("b")]
    );
    assert_eq!(view.targets, b.view.current().targets);
    assert_eq!(view.revision.get(), rig.revision().await);
}

#[tokio::test(start_paused = true)]
async fn m14_a_watch_that_ends_is_resumed_without_losing_anything() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    settle().await;
    assert_eq!(a.metrics.coordination.watch_reconnects.get(), 0);
    a.client.faults().break_watches();
    let b = rig.join("b", Runs::ReconcilerOnly).await;
    b.crash().await;
    let _c = rig.join("c", Runs::ReconcilerOnly).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let view = a.view.current();
    assert_eq!(
        view.nodes.keys().cloned().collect::<Vec<_>>(),
        [node("a"), node("c")]
    );
    assert_eq!(
        a.metrics.coordination.watch_reconnects.get(),
        1,
        "counted once"
    );
    assert_eq!(a.metrics.coordination.watch_relists.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn m13_a_view_recovers_within_ten_seconds_of_the_store() {
    for cut in [Cut::Refused, Cut::Silent] {
        let rig = Rig::new(4);
        let a = rig.join("a", Runs::ReconcilerOnly).await;
        settle().await;
        a.client.faults().cut(Some(cut));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(*a.watching.borrow(), WatchState::Disconnected, "{cut:?}");
        a.client.faults().cut(None);
        let _b = rig.join("b", Runs::ReconcilerOnly).await;
        let seen = a.sees("b", |view| view.nodes.contains_key(&node("b")));
        tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .expect("in time");
        assert_eq!(*a.watching.borrow(), WatchState::CaughtUp, "{cut:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_compaction_it_lists_anew_and_what_vanished_is_deleted() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::LeaderOnly).await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    let owned = rig.own(2, &b.owner()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(a.view.current().owners.get(rig.shard(2)).revision, owned);

    a.client.faults().cut(Some(Cut::Refused));
    settle().await;
    b.crash().await;
    rig.run(vec![Op::Delete(rig.keys.owner(rig.shard(2)))])
        .await;
    rig.run(vec![Op::Delete(rig.keys.target(1))]).await;
    let revision = rig.revision().await;
    rig.store.compact(Revision::new(revision));
    a.client.faults().cut(None);
    a.sees("the end of b", |view| !view.nodes.contains_key(&node("b")))
        .await;
    let view = a.view.current();
    let tombstone = OwnerRecord {
        revision: Revision::new(revision),
        owner: None,
        parcel: None,
    };
    assert_eq!(view.owners.get(rig.shard(2)), &tombstone);
    assert!(a.metrics.coordination.watch_relists.get() >= 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_cannot_be_read_are_counted_and_harm_nothing() {
    let rig = Rig::new(4);
    rig.put("/t/nonsense".into(), b"x".to_vec()).await;
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    settle().await;
    rig.put(rig.keys.node(&node("a")), b"garbage".to_vec())
        .await;
    rig.put(rig.keys.owner(rig.shard(1)), b"{}".to_vec()).await;
    let _b = rig.join("b", Runs::ReconcilerOnly).await;
    a.sees("b", |view| view.nodes.contains_key(&node("b")))
        .await;
    assert_eq!(a.metrics.coordination.bad_entries.get(), 3);
    assert_eq!(a.metrics.coordination.ignored_keys.get(), 3);
    assert!(
        !a.view.current().nodes.contains_key(&node("a")),
        "no lease takes that key along"
    );
    tokio::time::sleep(CHECK_EVERY * 3).await;
    assert_eq!(a.metrics.coordination.view_mismatches.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_canonical_key_of_a_shard_counts() {
    let rig = Rig::new(64);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    let owned = rig.own(17, &a.owner()).await;
    let twin = "/t/owner/17".to_owned();
    rig.put(twin.clone(), b"{}".to_vec()).await;
    rig.put(twin.clone(), keys::encode_owner(&a.owner(), None))
        .await;
    settle().await;
    let metrics = &a.metrics.coordination;
    assert_eq!(
        (metrics.bad_entries.get(), metrics.ignored_keys.get()),
        (1, 1)
    );
    rig.run(vec![Op::Delete(twin)]).await;
    settle().await;
    assert_eq!(a.view.current().owners.get(rig.shard(17)).revision, owned);
    assert_eq!(metrics.ignored_keys.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn another_description_does_not_change_the_layout() {
    let rig = Rig::new(64);
    let a = rig.join("a", Runs::Everything).await;
    let other = ClusterMeta::new("test", ShardCount::new(16).expect("a power of two"));
    for value in [keys::encode_meta(&other), b"garbage".to_vec()] {
        rig.put(rig.keys.meta(), value).await;
        settle().await;
        assert_eq!(a.view.current().meta, rig.meta());
    }
    rig.run(vec![Op::Delete(rig.keys.meta())]).await;
    rig.aim(|_| Some("a")).await;
    let owns_all = |view: &ClusterView| view.owners.iter().all(|(_, of)| of.owner.is_some());
    a.sees("all shards owned", owns_all).await;
    assert_eq!(a.view.current().meta, rig.meta());
}

#[tokio::test(start_paused = true)]
async fn the_view_is_compared_again_and_again_and_never_differs() {
    let rig = Rig::new(64);
    let a = rig.join("a", Runs::Everything).await;
    let b = rig.join("b", Runs::Everything).await;
    for turn in 0..200_u32 {
        let to = if turn % 2 == 0 { "a" } else { "b" };
        rig.aim(|_| Some(to)).await;
        tokio::time::sleep(Duration::from_millis(997)).await;
    }
    for node in [&a, &b] {
        assert_eq!(node.metrics.coordination.view_mismatches.get(), 0);
        assert_eq!(node.metrics.coordination.watch_relists.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_change_is_noticed_counted_and_cured() {
    let rig = Rig::new(4);
    let forgetful: Arc<dyn Store> = Arc::new(Forgetful(rig.store.client()));
    let (view, metrics) = (
        Arc::new(SharedView::new(rig.meta())),
        Arc::new(Metrics::new()),
    );
    let (watcher, _watching) = Watcher::new(WatcherParts {
        store: forgetful,
        keys: rig.keys.clone(),
        view: view.clone(),
        metrics: metrics.clone(),
    });
    let tasks = crate::Tasks::new();
    tasks.spawn("watcher", |shutdown| watcher.run(shutdown));
    settle().await;
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    settle().await;
    assert!(!view.current().nodes.contains_key(&a.id), "it was lost");
    tokio::time::sleep(CHECK_EVERY * 2 + Duration::from_secs(1)).await;
    assert!(view.current().nodes.contains_key(&a.id));
    assert_eq!(metrics.coordination.view_mismatches.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_no_news_of_an_ownership_younger_than_itself() {
    let rig = Rig::new(4);
    let mut view = ClusterView::empty(rig.meta());
    let learned = OwnerRecord {
        revision: Revision::new(9),
        owner: Some(crate::placement::Owner {
            node: node("a"),
            incarnation: crate::ids::Incarnation::new(1),
        }),
        parcel: None,
    };
    view.apply(News::Owner(rig.shard(0), learned.clone()));
    let listing = Listing {
        revision: Revision::new(8),
        entries: Vec::new(),
    };
    for news in read_listing(listing, &view, &rig.keys).news {
        view.apply(news);
    }
    assert_eq!(view.owners.get(rig.shard(0)), &learned);
}

/// The rule for owner news keeps whatever has the greatest revision; only a list can tell that such a
/// record was never in the store.
#[tokio::test(start_paused = true)]
async fn comparison_heals_false_owners_of_any_revision() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::LeaderOnly).await;
    let real = rig.own(0, &a.owner()).await;
    rig.own(1, &a.owner()).await;
    a.sees("both owners", |view| {
        view.live_owner(rig.shard(1)).is_some()
    })
    .await;
    let before = a.view.current();
    let highest = Revision::new((1 << 48) - 1);
    let owner = |name: &str| crate::placement::Owner {
        node: node(name),
        incarnation: a.owner().incarnation,
    };
    let record = |revision, owner| OwnerRecord {
        revision,
        owner,
        parcel: None,
    };
    // Another owner, no owner, an owner of an unowned shard, and one of a revision that exists.
    let (b, c) = (Some(owner("b")), Some(owner("c")));
    a.view.learn([
        News::Owner(rig.shard(0), record(highest, b.clone())),
        News::Owner(rig.shard(1), record(highest, None)),
        News::Owner(rig.shard(2), record(highest, b)),
        News::Owner(rig.shard(3), record(before.revision, c)),
    ]);
    assert!(
        real < before.revision,
        "the false record of shard 3 is no newer"
    );
    tokio::time::sleep(CHECK_EVERY * 2).await;
    let healed = a.view.current();
    for shard in [0, 1] {
        assert_eq!(
            healed.owners.get(rig.shard(shard)),
            before.owners.get(rig.shard(shard))
        );
    }
    for shard in [2, 3] {
        let record = healed.owners.get(rig.shard(shard));
        assert_eq!(record.owner, None);
        assert!(record.revision <= healed.revision);
    }
    assert_eq!(a.metrics.coordination.view_mismatches.get(), 1);
}

/// A store whose watches forget every change, but not the revisions.
#[derive(Debug)]
struct Forgetful(MemoryStore);

#[async_trait]
impl Store for Forgetful {
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.0.list(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        self.0.commit(txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.0.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        self.0.keep_alive(lease).await
    }

    async fn check_limits(&self, prefix: &str) -> Result<(), StoreError> {
        self.0.check_limits(prefix).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.0.revoke(lease).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let stream = self.0.watch(prefix, from).await?;
        let forget = |batch: Result<WatchBatch, StoreError>| {
            future::ready(batch.map(|batch| WatchBatch {
                events: Vec::new(),
                ..batch
            }))
        };
        Ok(stream.then(forget).boxed())
    }
}
