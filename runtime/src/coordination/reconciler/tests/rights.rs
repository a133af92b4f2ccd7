//! Who must not write, or believes what is not so, changes nothing.

use std::time::Duration;

use super::{aimed, aimed_block, registered};
use crate::coordination::membership::MembershipState;
use crate::coordination::rig::{Rig, Runs, settle};
use crate::coordination::store::Store;
use crate::ids::Revision;
use crate::placement::{News, NodeState, OwnerRecord};

#[tokio::test(start_paused = true)]
async fn p9_nothing_is_written_unless_active_fenced_in_and_listed() {
    let rig = Rig::new(4);
    let mut a = rig.join("a", Runs::ReconcilerOnly).await;
    a.suspend();
    rig.aim(|_| Some("a")).await;
    settle().await;
    let before = rig.revision().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.revision().await, before, "suspended");

    a.membership
        .send_replace(MembershipState::Active(a.identity.clone()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.revision().await, before, "the fence is closed");

    a.say(NodeState::Joining).await;
    a.resume();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.revision().await, before + 1, "only its own state");

    rig.store
        .revoke(a.identity.lease)
        .await
        .expect("no faults here");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(rig.owners().await.is_empty(), "not listed");
}

#[tokio::test(start_paused = true)]
async fn a_dead_life_that_does_not_know_it_claims_nothing() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::BlindReconciler).await;
    let view = rig.join("b", Runs::ReconcilerOnly).await;
    rig.store
        .revoke(a.identity.lease)
        .await
        .expect("no faults here");
    a.view
        .advance(Revision::new(2), [registered(&a), aimed(&rig, "a")]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(rig.owners().await.is_empty());
    let refused = a.batches("claim", "refused");
    assert!(
        (2..20).contains(&refused),
        "it tries, and rests between: {refused}"
    );
    drop(view);
}

#[tokio::test(start_paused = true)]
async fn p16_a_stale_view_claims_nothing_and_learns() {
    let rig = Rig::new(1);
    let a = rig.join("a", Runs::BlindReconciler).await;
    let b = rig.join("b", Runs::ReconcilerOnly).await;
    let owned = rig.own(0, &b.owner()).await;
    b.has_open([0]).await;
    a.view
        .advance(Revision::new(2), [registered(&a), aimed(&rig, "a")]);
    a.sees("who was faster", |view| {
        view.owners.get(rig.shard(0)).revision == owned
    })
    .await;
    assert_eq!(a.batches("claim", "refused"), 1, "refused and counted");
    assert!(a.host.open_shards().is_empty());
}

#[tokio::test(start_paused = true)]
async fn p16_a_stale_take_over_is_refused() {
    let rig = Rig::new(1);
    let a = rig.join("a", Runs::BlindReconciler).await;
    let b = rig.join("b", Runs::ReconcilerOnly).await;
    let owned = rig.own(0, &b.owner()).await;
    b.has_open([0]).await;
    // A wrong view takes b for dead; the store knows better.
    let news = News::Owner(
        rig.shard(0),
        OwnerRecord {
            revision: owned,
            owner: Some(b.owner()),
            parcel: None,
        },
    );
    a.view.advance(
        Revision::new(1000),
        [registered(&a), aimed(&rig, "a"), news],
    );
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(a.batches("take_over", "refused") > 0);
    b.has_open([0]).await;
    assert!(a.host.open_shards().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_reconcilers_that_want_the_same_shards_share_nothing() {
    let rig = Rig::new(64);
    let a = rig.join("a", Runs::BlindReconciler).await;
    let b = rig.join("b", Runs::BlindReconciler).await;
    for node in [&a, &b] {
        let name = node.id.as_str().to_owned();
        node.view
            .advance(Revision::new(2), [registered(&a), registered(&b)]);
        for block in 0..rig.count.blocks() {
            node.view
                .advance(Revision::new(2), [aimed_block(&rig, block, &name)]);
        }
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (a, b) = (a.host.open_shards(), b.host.open_shards());
    assert!(a.is_disjoint(&b) && a.len() + b.len() == 64, "{a:?} {b:?}");
}
