//! Work that takes too long is reported, by what it does, and known to whoever asks.

use std::time::Duration;

use super::super::{Stage, UnderWay};
use super::pair;
use crate::coordination::CommitFault;
use crate::coordination::rig::{DRAIN_TIMEOUT, Rig, Runs, TestNode, node, settle};
use crate::telemetry::StuckLabels;

const LONG: Duration = Duration::from_mins(1);

fn times_stuck(node: &TestNode, stage: Stage) -> u64 {
    let phase = stage.name();
    let stuck = &node.metrics.coordination.moves_stuck;
    stuck.get_or_create(&StuckLabels { phase }).get()
}

async fn only_one_under_way(node: &TestNode) -> UnderWay {
    let mut under_way = node.reconciler.under_way().await;
    assert_eq!(under_way.len(), 1, "{under_way:?}");
    under_way.remove(0)
}

async fn one_open_at_a() -> (Rig, TestNode, TestNode) {
    let (rig, a, b) = pair(1).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    a.host.call_all();
    (rig, a, b)
}

#[tokio::test(start_paused = true)]
async fn nothing_is_under_way_once_every_shard_is_where_it_should_be() {
    let (rig, a, b) = one_open_at_a().await;
    rig.aim(|_| Some("b")).await;
    b.has_open([0]).await;
    settle().await;
    for node in [&a, &b] {
        assert_eq!(node.reconciler.under_way().await, []);
        assert_eq!(node.reconciler.progress().borrow().stuck, 0);
    }
    a.tasks.stop(LONG).await;
    assert_eq!(a.reconciler.under_way().await, [], "nor when it has ended");
}

#[tokio::test(start_paused = true)]
async fn n8_a_turn_that_never_ends_is_named_with_its_object_and_method() {
    let (rig, a, _b) = one_open_at_a().await;
    a.host.stick(rig.shard(0), true);
    rig.aim(|_| Some("b")).await;
    tokio::time::sleep(DRAIN_TIMEOUT / 2).await;
    let closing = only_one_under_way(&a).await;
    assert_eq!((closing.stage, closing.stuck), (Stage::Close, false));
    assert!(closing.age >= DRAIN_TIMEOUT / 3 && closing.age <= DRAIN_TIMEOUT);
    assert_eq!(closing.target, Some(node("b")));
    tokio::time::sleep(DRAIN_TIMEOUT / 2 + Duration::from_millis(100)).await;
    let kept = only_one_under_way(&a).await;
    assert_eq!((kept.stage, kept.stuck), (Stage::Retry, false));
    let cause = kept.cause.expect("it failed");
    assert_eq!(&*cause, "1 turns run on, first sleep of Sleeper/s");
    tokio::time::sleep(LONG * 3).await;
    assert!(times_stuck(&a, Stage::Retry) > 0);
    a.host.stick(rig.shard(0), false);
    tokio::time::sleep(LONG * 2).await;
    assert_eq!(a.reconciler.under_way().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_keeps_failing_is_stuck() {
    let rig = Rig::new(1);
    let a = rig.join("a", Runs::ReconcilerOnly).await;
    for commit in 1..50 {
        a.client.faults().on_commit(commit, CommitFault::Fail);
    }
    rig.aim(|_| Some("a")).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    let claimed = only_one_under_way(&a).await;
    assert_eq!((claimed.stage, claimed.stuck), (Stage::Claim, true));
    let cause = claimed.cause.expect("it failed");
    assert!(cause.starts_with("claim failed: "), "{cause}");
    assert_eq!(times_stuck(&a, Stage::Claim), 1, "reported once");
    assert_eq!(a.reconciler.progress().borrow().stuck, 1);
    a.has_open([0]).await;
    assert_eq!(a.reconciler.progress().borrow().stuck, 0);
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_without_an_answer_is_stuck_and_so_is_one_in_doubt() {
    for (stage, faults) in [
        (Stage::HandOver, vec![CommitFault::Delay(LONG)]),
        (
            Stage::Resolve,
            [CommitFault::ApplyLater(LONG)]
                .into_iter()
                .chain([CommitFault::Fail; 50])
                .collect(),
        ),
    ] {
        let (rig, a, b) = one_open_at_a().await;
        for (nth, fault) in (1..).zip(faults) {
            a.client.faults().on_commit(nth, fault);
        }
        rig.aim(|_| Some("b")).await;
        tokio::time::sleep(Duration::from_secs(12)).await;
        let stuck = only_one_under_way(&a).await;
        assert_eq!((stuck.stage, stuck.stuck), (stage, true));
        assert_eq!(times_stuck(&a, stage), 1);
        b.has_open([0]).await;
        settle().await;
        assert_eq!(a.reconciler.under_way().await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_without_an_answer_is_stuck() {
    let (_rig, a, _b) = one_open_at_a().await;
    a.client.faults().on_commit(1, CommitFault::Delay(LONG));
    assert_eq!(a.reconciler.release_all(DRAIN_TIMEOUT).await, 1);
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(times_stuck(&a, Stage::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn objects_that_do_not_end_are_given_up_and_the_shard_is_released() {
    let (rig, a, _b) = one_open_at_a().await;
    a.host.endings_take(LONG);
    a.reconciler.release_all(DRAIN_TIMEOUT).await;
    tokio::time::sleep(DRAIN_TIMEOUT).await;
    assert!(rig.owners().await.is_empty());
    assert_eq!(times_stuck(&a, Stage::End), 0, "given up before");
}
