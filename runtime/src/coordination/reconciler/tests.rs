//! Reconcilers on the memory store.

mod faults;
mod handover;
mod rights;
mod stuck;

use std::time::Duration;

use super::batch::BATCH_LEN_MAX;
use crate::coordination::CommitFault;
use crate::coordination::rig::{DRAIN_TIMEOUT, Rig, Runs, TestNode, node, settle};
use crate::coordination::store::Op;
use crate::placement::{News, NodeState, Target};

/// Faults of the one commit that a step takes, and whether it counts as unknown.
const FAULTS: [CommitFault; 4] = [
    CommitFault::Fail,
    CommitFault::LoseReply,
    CommitFault::Delay(Duration::from_millis(700)),
    CommitFault::ApplyLater(Duration::from_millis(700)),
];

async fn pair(shards: u32) -> (Rig, TestNode, TestNode) {
    let rig = Rig::new(shards);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    let b = rig.join("b", Runs::ReconcilerOnly).await;
    (rig, a, b)
}

#[tokio::test(start_paused = true)]
async fn p10_shards_of_nobody_are_claimed_by_their_targets() {
    let (rig, a, b) = pair(8).await;
    rig.aim(|shard| Some(if shard < 5 { "a" } else { "b" }))
        .await;
    a.has_open(0..5).await;
    b.has_open(5..8).await;
    assert_eq!(
        rig.owners()
            .await
            .values()
            .filter(|owner| *owner == "a")
            .count(),
        5
    );
}

#[tokio::test(start_paused = true)]
async fn p10_shards_of_a_dead_owner_are_taken_over_and_flags_kept() {
    let (rig, a, b) = pair(8).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..8).await;
    let pinned = |_| Target {
        node: Some(node("b")),
        pinned: true,
        ..Target::default()
    };
    a.crash().await;
    rig.aim_as(pinned).await;
    b.has_open(0..8).await;
    assert!(
        b.view
            .current()
            .targets
            .iter()
            .all(|(_, target)| target.pinned)
    );
    assert_eq!(
        b.batches("take_over", "committed"),
        1,
        "one compare of the old owner for all"
    );
}

#[tokio::test(start_paused = true)]
async fn p10_a_shard_of_a_live_owner_is_not_claimed() {
    let (rig, a, b) = pair(2).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..2).await;
    a.tasks.stop(Duration::from_secs(1)).await; // Alive by its lease, but it gives nothing up.
    rig.aim(|_| Some("b")).await;
    b.sees("its targets", |view| {
        view.targets.iter().all(|(_, t)| t.node == Some(node("b")))
    })
    .await;
    settle().await;
    assert!(b.host.open_shards().is_empty());
    assert_eq!(
        b.batches("claim", "refused") + b.batches("take_over", "refused"),
        0,
        "nor tried"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restarted_node_takes_its_own_shards_back_at_once() {
    let rig = Rig::new(8);
    let mut a = rig.join("a", Runs::ReconcilerOnly).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..8).await;
    let before = a.host.token(rig.shard(3));
    a.lose_lease().await;
    a.has_open([]).await;
    a.rejoin().await;
    a.has_open(0..8).await;
    assert!(
        a.host.token(rig.shard(3)) > before,
        "a later owner has a greater token"
    );
}

#[tokio::test(start_paused = true)]
async fn p4_a_shard_targeted_elsewhere_is_closed_sent_and_handed_over() {
    let (rig, a, b) = pair(4).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..4).await;
    rig.aim(|shard| Some(if shard == 2 { "b" } else { "a" }))
        .await;
    b.has_open([2]).await;
    a.has_open([0, 1, 3]).await;
    let after_opening = a.host.history().split_off(4);
    assert_eq!(
        after_opening,
        ["close 2", "closed 2", "send 2 to b", "let go 2"],
        "nothing else was touched"
    );
}

#[tokio::test(start_paused = true)]
async fn p5_only_what_is_targeted_at_another_live_node_is_given_up() {
    let (rig, a, b) = pair(4).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..4).await;
    // Own, none, nobody's, and one that belongs to another.
    rig.aim(|shard| [Some("a"), None, Some("ghost"), Some("a")][shard as usize])
        .await;
    settle().await;
    a.has_open(0..4).await;
    assert_eq!(
        (
            a.batches("hand_over", "committed") + a.batches("release", "committed"),
            b.batches("claim", "committed")
        ),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn p5_several_shards_are_handed_over_in_one_transaction() {
    let (rig, a, b) = pair(64).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..64).await;
    rig.aim(|_| Some("b")).await;
    b.has_open(0..64).await;
    assert_eq!(a.batches("hand_over", "committed"), 1);
    assert_eq!(b.batches("claim", "committed"), 0);
}

#[tokio::test(start_paused = true)]
async fn all_8192_shards_are_claimed_in_few_transactions() {
    let (rig, a, b) = pair(8192).await;
    let before = rig.revision().await;
    rig.aim(|shard| Some(if shard < 4096 { "a" } else { "b" }))
        .await;
    a.has_open(0..4096).await;
    b.has_open(4096..8192).await;
    let written = rig.revision().await - before - 1;
    assert_eq!(written, 2 * 4096_u64.div_ceil(BATCH_LEN_MAX as u64));
}

#[tokio::test(start_paused = true)]
async fn a_closed_shard_that_comes_back_before_its_hand_over_reopens_under_the_same_token() {
    let (rig, a, _b) = pair(1).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    let token = a.host.token(rig.shard(0));
    a.host.closings_take(Duration::from_secs(1));
    rig.aim(|_| Some("b")).await;
    settle().await;
    rig.aim(|_| Some("a")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    a.has_open([0]).await;
    assert_eq!(a.host.token(rig.shard(0)), token);
    assert_eq!(a.batches("hand_over", "committed"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_closing_holds_up_no_claim() {
    let (rig, a, b) = pair(2).await;
    rig.aim(|shard| (shard == 0).then_some("a")).await;
    a.has_open([0]).await;
    a.host.closings_take(Duration::from_secs(4));
    rig.aim(|shard| (shard == 0).then_some("b")).await;
    settle().await;
    rig.aim(|shard| Some(if shard == 0 { "b" } else { "a" }))
        .await;
    tokio::time::timeout(Duration::from_secs(1), a.has_open([0, 1]))
        .await
        .expect("at once");
    tokio::time::timeout(Duration::from_secs(5), b.has_open([0]))
        .await
        .expect("then");
}

#[tokio::test(start_paused = true)]
async fn n8_an_overdue_closing_is_abandoned_reported_and_tried_again() {
    let (rig, a, b) = pair(2).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..2).await;
    a.host.stick(rig.shard(0), true);
    rig.aim(|_| Some("b")).await;
    b.has_open([1]).await;
    tokio::time::sleep(DRAIN_TIMEOUT + Duration::from_millis(500)).await;
    a.has_open([0]).await;
    assert_eq!(a.metrics.coordination.closings_overdue.get(), 1);
    assert_eq!(
        rig.owners().await.get(&0).map(String::as_str),
        Some("a"),
        "never handed over"
    );
    a.host.stick(rig.shard(0), false);
    b.has_open(0..2).await;
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_news_shows_to_be_anothers_is_discarded() {
    let (rig, a, b) = pair(1).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    rig.run(vec![Op::Delete(rig.keys.owner(rig.shard(0)))])
        .await; // An operator's hand.
    settle().await;
    a.has_open([0]).await;
    assert!(a.host.history().contains(&"discard 0".to_owned()));
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn what_was_open_stays_open_while_suspended() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..4).await;
    a.suspend();
    tokio::time::sleep(Duration::from_secs(30)).await;
    a.resume();
    settle().await;
    assert_eq!(
        a.host.history().len(),
        4,
        "nothing was closed or opened: {:?}",
        a.host.history()
    );
}

#[tokio::test(start_paused = true)]
async fn s2_4_a_leaving_node_gives_up_everything_whatever_the_targets() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..4).await;
    a.host.stick(rig.shard(3), true);
    let left = a.reconciler.release_all(Duration::from_secs(2)).await;
    assert_eq!(left, 1, "the one whose turn runs on");
    assert_eq!(rig.owners().await.keys().copied().collect::<Vec<_>>(), [3]);
    a.host.stick(rig.shard(3), false);
    assert_eq!(a.reconciler.release_all(Duration::from_secs(2)).await, 0);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(rig.owners().await.is_empty(), "and takes nothing any more");
}

#[tokio::test(start_paused = true)]
async fn s2_6_a_draining_node_keeps_what_nobody_takes_and_claims_nothing() {
    let rig = Rig::new(2);
    let mut a = rig.join("a", Runs::ReconcilerOnly).await;
    rig.aim(|shard| (shard == 0).then_some("a")).await;
    a.has_open([0]).await;
    a.say(NodeState::Draining).await;
    rig.aim(|_| Some("a")).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    a.has_open([0]).await;
}

#[tokio::test(start_paused = true)]
async fn a_quarantined_shard_is_not_claimed() {
    let rig = Rig::new(2);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    rig.aim_as(|shard| Target {
        node: Some(node("a")),
        quarantined: shard == 1,
        ..Target::default()
    })
    .await;
    a.has_open([0]).await;
    settle().await;
    a.has_open([0]).await;
}

#[tokio::test(start_paused = true)]
async fn p20_the_gauges_equal_real_ownership() {
    let (rig, a, b) = pair(64).await;
    rig.aim(|shard| Some(if shard < 40 { "a" } else { "b" }))
        .await;
    a.has_open(0..40).await;
    b.has_open(40..64).await;
    settle().await;
    let gauges = |node: &TestNode| {
        let metrics = &node.metrics.coordination;
        (
            metrics.shards_owned.get(),
            metrics.shards_targeted.get(),
            metrics.shards_closing.get(),
        )
    };
    assert_eq!((gauges(&a), gauges(&b)), ((40, 40, 0), (24, 24, 0)));
    a.host.closings_take(Duration::from_secs(2));
    rig.aim(|shard| Some(if shard < 30 { "a" } else { "b" }))
        .await;
    settle().await;
    assert_eq!(gauges(&a), (40, 30, 10), "ten are closing");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!((gauges(&a), gauges(&b)), ((30, 30, 0), (34, 34, 0)));
}

fn registered(node: &TestNode) -> News {
    let record = crate::coordination::rig::registered(node);
    News::Node(node.id.clone(), Some(record))
}

fn aimed(rig: &Rig, name: &str) -> News {
    aimed_block(rig, 0, name)
}

fn aimed_block(rig: &Rig, block: u32, name: &str) -> News {
    let target = Target {
        node: Some(node(name)),
        ..Target::default()
    };
    News::Targets {
        block,
        targets: vec![target; rig.count.block_len() as usize],
    }
}
