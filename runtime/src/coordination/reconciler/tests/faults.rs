//! Transactions that fail, are late, or whose outcome is lost.

use std::time::Duration;

use super::{FAULTS, pair};
use crate::coordination::CommitFault;
use crate::coordination::reconciler::SendError;
use crate::coordination::rig::{Rig, Runs, settle};

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_is_lost_or_late_still_ends_with_the_shard_open() {
    for fault in FAULTS {
        let (rig, a, b) = pair(4).await;
        a.client.faults().on_commit(1, fault);
        rig.aim(|_| Some("a")).await;
        a.has_open(0..4).await;
        rig.aim(|_| Some("b")).await;
        b.has_open(0..4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_over_that_fails_is_lost_or_late_still_ends_with_the_shard_open() {
    for fault in FAULTS {
        let (rig, a, b) = pair(4).await;
        rig.aim(|_| Some("a")).await;
        a.has_open(0..4).await;
        a.crash().await;
        b.client.faults().on_commit(1, fault);
        rig.aim(|_| Some("b")).await;
        b.has_open(0..4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_lost_or_late_still_ends_with_the_shards_free() {
    for fault in FAULTS {
        let (rig, a, b) = pair(4).await;
        rig.aim(|_| Some("a")).await;
        a.has_open(0..4).await;
        a.host.call_all();
        a.client.faults().on_commit(1, fault);
        assert_eq!(a.reconciler.release_all(Duration::from_secs(2)).await, 0);
        a.has_open([]).await;
        rig.aim(|_| Some("b")).await;
        b.has_open(0..4).await;
        assert_eq!(b.host.counted(rig.shard(3)), Some(1), "saved at its end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_of_unknown_outcome_is_restamped_before_the_shard_opens_again() {
    let (rig, a, _b) = pair(1).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    a.host.call_all();
    let token = a.host.token(rig.shard(0));
    a.client
        .faults()
        .on_commit(1, CommitFault::ApplyLater(Duration::from_mins(1)));
    rig.aim(|_| Some("b")).await;
    a.has_open([]).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    assert_eq!(a.batches("restamp", "committed"), 1);
    assert!(
        a.host.token(rig.shard(0)) > token,
        "it opened under a new token"
    );
    tokio::time::sleep(Duration::from_mins(2)).await;
    a.has_open([0]).await; // The late hand-over found another revision.
    assert_eq!(a.host.counted(rig.shard(0)), Some(1), "with its objects");
    assert_eq!(rig.owners().await.get(&0).map(String::as_str), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn restamps_of_unknown_outcome_are_repeated_until_answered() {
    let (rig, a, _b) = pair(1).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    a.host.call_all();
    let late = Duration::from_mins(1);
    a.client
        .faults()
        .on_commit(1, CommitFault::ApplyLater(late));
    a.client
        .faults()
        .on_commit(2, CommitFault::ApplyLater(late));
    a.client.faults().on_commit(3, CommitFault::Fail);
    a.client.faults().on_commit(4, CommitFault::LoseReply);
    rig.aim(|_| Some("b")).await;
    a.has_open([]).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    tokio::time::sleep(Duration::from_mins(2)).await;
    a.has_open([0]).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_life_leaves_nothing_open_and_no_reply_counts() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    a.client
        .faults()
        .on_commit(1, CommitFault::Delay(Duration::from_secs(1)));
    rig.aim(|_| Some("a")).await;
    settle().await; // The claim is under way.
    a.lose_lease().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(a.host.open_shards().is_empty());
    assert!(rig.owners().await.is_empty(), "its guard failed");
    assert_eq!(a.reconciler.progress().borrow().owned, 0);
}

/// P-7, with every kind of trouble that the store can make. The host panics if two nodes ever
/// have a shard open, or a planned move loses the state of an object.
#[tokio::test(start_paused = true)]
async fn p7_shards_that_are_moved_at_random_never_have_two_owners_and_settle() {
    use rand::{RngExt, SeedableRng};
    for seed in 0..20 {
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let rig = Rig::new(64);
        let names = ["a", "b", "c"];
        let mut nodes = Vec::new();
        for name in names {
            nodes.push(rig.join(name, Runs::ReconcilerOnly).await);
        }
        for _ in 0..10 {
            let targets: Vec<usize> = (0..64).map(|_| rng.random_range(0..3)).collect();
            rig.aim(|shard| Some(names[targets[shard as usize]])).await;
            for node in &nodes {
                let late = Duration::from_millis(rng.random_range(1..3000));
                let fault = [
                    CommitFault::Fail,
                    CommitFault::LoseReply,
                    CommitFault::Delay(late),
                    CommitFault::ApplyLater(late),
                ][rng.random_range(0..4)];
                node.client
                    .faults()
                    .on_commit(rng.random_range(1..4), fault);
                if rng.random_range(0..4) == 0 {
                    node.client.faults().break_watches();
                }
                node.host.call_all();
                let slow = Duration::from_millis(rng.random_range(0..300));
                node.host.sendings_take(slow);
                if rng.random_range(0..3) == 0 {
                    node.host.fail_sending(SendError::Late);
                }
            }
            let victim: usize = rng.random_range(0..9);
            if victim < 3 {
                nodes[victim].lose_lease().await;
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
                nodes[victim].rejoin().await;
            }
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..2500))).await;
        }
        rig.aim(|shard| Some(names[shard as usize % 3])).await;
        for (index, node) in (0..).zip(&nodes) {
            node.has_open((0..64).filter(|shard| shard % 3 == index))
                .await;
        }
        for node in &nodes {
            node.tasks.stop(Duration::from_secs(1)).await;
        }
    }
}
