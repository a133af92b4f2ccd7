//! The direct hand-over with trouble at each of its steps. The host of the rig counts calls, and
//! panics if a planned move loses a count, if a parcel is taken in twice, or if two nodes have a
//! shard open.

use std::time::Duration;

use super::super::shards::CLOSED_MAX;
use super::super::{MOVE_RETRY_MIN, SENT_LIMIT, SendError};
use super::{aimed, pair, registered};
use crate::coordination::CommitFault;
use crate::coordination::rig::{Rig, Runs, TestNode, node, settle};
use crate::coordination::store::{Op, Store};
use crate::ids::{ObjectKey, Revision};
use crate::placement::{News, OwnerRecord, Parcel};

/// How long a step takes that a test looks into.
const SLOW: Duration = Duration::from_secs(1);

/// A moment within such a step.
const WITHIN: Duration = Duration::from_millis(500);

/// The steps that take time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Closing,
    Sending,
    Committing,
}

const STAGES: [Stage; 3] = [Stage::Closing, Stage::Sending, Stage::Committing];

/// Nodes a, b and c, and one shard open at a, whose object has counted three calls.
async fn trio() -> (Rig, TestNode, TestNode, TestNode) {
    let (rig, a, b) = pair(1).await;
    let c = rig.join("c", Runs::ReconcilerOnly).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    for _ in 0..3 {
        a.host.call_all();
    }
    (rig, a, b, c)
}

/// Begins a move from a to b, and returns within the stage.
async fn within(stage: Stage, rig: &Rig, a: &TestNode) {
    match stage {
        Stage::Closing => a.host.closings_take(SLOW),
        Stage::Sending => a.host.sendings_take(SLOW),
        Stage::Committing => a.client.faults().on_commit(1, CommitFault::Delay(SLOW)),
    }
    rig.aim(|_| Some("b")).await;
    tokio::time::sleep(WITHIN).await;
}

/// Waits until a node has the shard open with every call that was counted.
async fn has_counted(node: &TestNode, rig: &Rig, counted: u64) {
    node.has_open([0]).await;
    assert_eq!(node.host.counted(rig.shard(0)), Some(counted));
}

#[tokio::test(start_paused = true)]
async fn s2_49_a_moved_shard_takes_its_objects_along_in_one_transaction() {
    let (rig, a, b, _c) = trio().await;
    let before = rig.revision().await;
    rig.aim(|_| Some("b")).await;
    has_counted(&b, &rig, 3).await;
    assert_eq!(
        rig.revision().await - before,
        2,
        "targets, and one hand-over"
    );
    settle().await;
    assert_eq!(a.host.counted(rig.shard(0)), None, "let go");
    for phase in ["close", "send", "commit", "gap", "total"] {
        let text = a.metrics.encode().expect("encodes");
        let line = format!("steading_handover_seconds_count{{phase=\"{phase}\"}} 1");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_without_objects_is_handed_over_with_an_empty_parcel() {
    let (rig, a, b) = pair(1).await;
    rig.aim(|_| Some("a")).await;
    a.has_open([0]).await;
    let owned = a.view.current().owners.get(rig.shard(0)).revision;
    rig.aim(|_| Some("b")).await;
    b.has_open([0]).await;
    let view = b.view.current();
    let parcel = view.owners.get(rig.shard(0)).parcel;
    assert_eq!(parcel, Some(Parcel::empty(owned)));
}

#[tokio::test(start_paused = true)]
async fn s2_50_moves_between_all_pairs_at_once_lose_nothing() {
    let rig = Rig::new(64);
    let names = ["a", "b", "c"];
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(rig.join(name, Runs::ReconcilerOnly).await);
    }
    for round in 0..6 {
        rig.aim(|shard| Some(names[(shard as usize + round) % 3]))
            .await;
        for (index, node) in (0..).zip(&nodes) {
            let here = |shard: &u32| (*shard as usize + round) % 3 == index;
            node.has_open((0..64).filter(here)).await;
            node.host.call_all();
        }
    }
    let counted = |shard| nodes.iter().find_map(|node| node.host.counted(shard));
    for shard in rig.count.shards() {
        assert_eq!(counted(shard), Some(6), "{shard}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_gone_at_any_step_leaves_the_shard_where_it_is() {
    for stage in STAGES {
        let (rig, a, b, c) = trio().await;
        let token = a.host.token(rig.shard(0));
        within(stage, &rig, &a).await;
        b.crash().await;
        has_counted(&a, &rig, 3).await;
        assert_eq!(a.host.token(rig.shard(0)), token, "{stage:?}: never given");
        rig.aim(|_| Some("c")).await;
        has_counted(&c, &rig, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_restarts_at_any_step_gets_the_shard_in_its_new_life() {
    for stage in STAGES {
        let (rig, a, mut b, _c) = trio().await;
        within(stage, &rig, &a).await;
        b.lose_lease().await;
        b.rejoin().await;
        has_counted(&b, &rig, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_dies_once_it_owns_the_shard_is_taken_over_from() {
    let (rig, a, b, c) = trio().await;
    b.tasks.stop(SLOW).await; // It lives by its lease, and never opens anything.
    rig.aim(|_| Some("b")).await;
    a.sees("the hand-over", |view| {
        let owner = view.owners.get(rig.shard(0)).owner.as_ref();
        owner.is_some_and(|owner| owner.node == node("b"))
    })
    .await;
    b.crash().await;
    rig.aim(|_| Some("c")).await;
    c.has_open([0]).await;
    a.has_open([]).await;
}

#[tokio::test(start_paused = true)]
async fn s2_51_a_giver_that_dies_at_any_step_is_taken_over_from_and_so_is_the_next() {
    for stage in STAGES {
        let (rig, a, b, c) = trio().await;
        within(stage, &rig, &a).await;
        a.crash().await;
        b.has_open([0]).await;
        b.crash().await;
        rig.aim(|_| Some("c")).await;
        c.has_open([0]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_giver_that_dies_after_its_hand_over_landed_takes_nothing_along() {
    let (rig, a, b, _c) = trio().await;
    a.client.faults().on_commit(1, CommitFault::LoseReply);
    rig.aim(|_| Some("b")).await;
    has_counted(&b, &rig, 3).await;
    a.crash().await;
    settle().await;
    has_counted(&b, &rig, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_target_that_changes_at_any_step_gets_the_shard_all_the_same() {
    for stage in STAGES {
        for to in ["a", "c"] {
            let (rig, a, _b, c) = trio().await;
            within(stage, &rig, &a).await;
            rig.aim(|_| Some(to)).await;
            let last = if to == "a" { &a } else { &c };
            has_counted(last, &rig, 3).await;
            tokio::time::sleep(SLOW).await;
            has_counted(last, &rig, 3).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_life_that_ends_at_any_step_gives_nothing_and_the_target_takes_over() {
    for stage in STAGES {
        let (rig, mut a, b, _c) = trio().await;
        within(stage, &rig, &a).await;
        a.lose_lease().await;
        b.has_open([0]).await;
        a.rejoin().await;
        tokio::time::sleep(SLOW * 2).await;
        b.has_open([0]).await;
        a.has_open([]).await;
        assert_eq!(a.batches("hand_over", "committed"), 0, "{stage:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_suspended_at_any_step_sends_nothing_and_goes_on_when_it_may() {
    for stage in STAGES {
        let (rig, a, b, _c) = trio().await;
        within(stage, &rig, &a).await;
        a.suspend();
        tokio::time::sleep(SLOW * 10).await;
        let (sent, owner) = (stage == Stage::Committing, rig.owners().await[&0].clone());
        assert_eq!(owner, if sent { "b" } else { "a" }, "{stage:?}");
        a.resume();
        has_counted(&b, &rig, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_cannot_be_sent_opens_at_once_and_is_tried_again_after_a_rest() {
    let object = ObjectKey::new("Counter", "c").expect("a good key");
    let reason = "no such field".to_owned();
    for error in [
        SendError::Unreachable(node("b"), "refused".into()),
        SendError::Refused(node("b"), "drains".into()),
        SendError::Unreadable { object, reason },
        SendError::Late,
        SendError::Failed("broken".into()),
    ] {
        let (rig, a, b, _c) = trio().await;
        let token = a.host.token(rig.shard(0));
        a.host.fail_sending(error.clone());
        rig.aim(|_| Some("b")).await;
        settle().await;
        has_counted(&a, &rig, 3).await;
        assert_eq!(a.host.token(rig.shard(0)), token, "{error}");
        let labels = crate::telemetry::SendFailureLabels {
            reason: error.name(),
        };
        let failed = &a.metrics.coordination.sends_failed;
        assert_eq!(failed.get_or_create(&labels).get(), 1, "{error}");
        a.host.call_all();
        tokio::time::sleep(MOVE_RETRY_MIN).await;
        has_counted(&b, &rig, 4).await;
        assert_eq!(a.batches("hand_over", "committed"), 1, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sending_that_never_ends_is_given_up() {
    let (rig, a, _b, _c) = trio().await;
    a.host.sendings_take(Duration::from_hours(1));
    rig.aim(|_| Some("b")).await;
    settle().await;
    a.has_open([]).await;
    has_counted(&a, &rig, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_of_any_outcome_ends_with_the_shard_at_its_target() {
    for fault in super::FAULTS {
        let (rig, a, b, _c) = trio().await;
        a.client.faults().on_commit(1, fault);
        rig.aim(|_| Some("b")).await;
        has_counted(&b, &rig, 3).await;
        a.has_open([]).await;
    }
}

/// The hand-over may land before or after the restamp, and the restamp's own reply may be lost.
#[tokio::test(start_paused = true)]
async fn a_hand_over_in_doubt_loses_no_object_wherever_it_lands() {
    for lands_after in [10, 45, 55, 500, 60_000] {
        for second in [None, Some(CommitFault::LoseReply), Some(CommitFault::Fail)] {
            let (rig, a, b, _c) = trio().await;
            let faults = a.client.faults();
            let late = Duration::from_millis(lands_after);
            faults.on_commit(1, CommitFault::ApplyLater(late));
            if let Some(fault) = second {
                faults.on_commit(2, fault);
            }
            rig.aim(|_| Some("b")).await;
            has_counted(&b, &rig, 3).await;
            tokio::time::sleep(Duration::from_mins(2)).await;
            has_counted(&b, &rig, 3).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restamp_that_is_seen_before_its_reply_keeps_the_objects() {
    let (rig, a, _b, _c) = trio().await;
    let faults = a.client.faults();
    faults.on_commit(1, CommitFault::ApplyLater(Duration::from_hours(1)));
    faults.on_commit(2, CommitFault::LoseReply);
    rig.aim(|_| Some("b")).await;
    a.has_open([]).await;
    rig.aim(|_| Some("a")).await;
    has_counted(&a, &rig, 3).await;
    assert!(!a.host.history().contains(&"let go 0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_is_seen_and_the_objects_are_let_go() {
    let (rig, a, b, c) = trio().await;
    within(Stage::Committing, &rig, &a).await;
    // Nobody but an operator can do this.
    let key = rig.keys.owner(rig.shard(0));
    let value = crate::coordination::keys::encode_owner(&c.owner(), None);
    a.host.endanger(rig.shard(0));
    rig.run(vec![Op::Put {
        key,
        value,
        lease: None,
    }])
    .await;
    b.has_open([0]).await; // From c, which was told the same.
    tokio::time::sleep(SLOW).await;
    assert_eq!(a.batches("hand_over", "refused"), 1);
    assert!(a.host.history().contains(&"let go 0".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_spoils_its_batch_delays_the_others_only_by_a_rest() {
    let (rig, a, b) = pair(4).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..4).await;
    for shard in 1..4 {
        a.host.call(rig.shard(shard));
    }
    let faults = a.client.faults();
    faults.on_commit(1, CommitFault::Delay(SLOW));
    rig.aim(|_| Some("b")).await;
    tokio::time::sleep(WITHIN).await;
    rig.own(0, &a.owner()).await;
    b.has_open(0..4).await;
    assert_eq!(a.batches("hand_over", "refused"), 1);
    for shard in 1..4 {
        assert_eq!(b.host.counted(rig.shard(shard)), Some(1));
    }
    let reopened = (1..4).filter(|shard| a.host.history().contains(&format!("discard {shard}")));
    assert_eq!(reopened.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_view_that_lags_makes_no_node_try_for_ever_while_calls_wait() {
    let rig = Rig::new(1);
    let a = rig.join("a", Runs::BlindReconciler).await;
    let b = rig.join("b", Runs::BlindReconciler).await;
    let owned = rig.own(0, &a.owner()).await;
    let record = OwnerRecord {
        revision: owned,
        owner: Some(a.owner()),
        parcel: None,
    };
    let known = [registered(&a), registered(&b), aimed(&rig, "a")];
    let owner = News::Owner(rig.shard(0), record);
    a.view.advance(owned, known.into_iter().chain([owner]));
    a.has_open([0]).await;
    a.host.call_all();
    b.tasks.stop(SLOW).await;
    rig.store
        .revoke(b.identity.lease)
        .await
        .expect("no faults here");
    a.view
        .advance(Revision::new(owned.get() + 1), [aimed(&rig, "b")]);
    settle().await;
    a.has_open([]).await;
    tokio::time::timeout(SENT_LIMIT * 2, a.has_open([0]))
        .await
        .expect("it opens again");
    let refused = a.batches("hand_over", "refused");
    assert!((2..20).contains(&refused), "it rests between: {refused}");
}

#[tokio::test(start_paused = true)]
async fn few_shards_are_closed_at_the_same_time_and_none_waits_to_fill_a_batch() {
    let (rig, a, b) = pair(512).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..512).await;
    a.host.call_all();
    a.host.sendings_take(Duration::from_millis(50));
    rig.aim(|_| Some("b")).await;
    b.has_open(0..512).await;
    assert_eq!(a.host.most_closed(), CLOSED_MAX);
    let batches = 512 / CLOSED_MAX as u64;
    assert_eq!(a.batches("hand_over", "committed"), batches);
}

#[tokio::test(start_paused = true)]
async fn n8_closings_that_wait_for_turns_hold_up_no_other_shard() {
    let (rig, a, b) = pair(256).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..256).await;
    for shard in 0..128 {
        a.host.stick(rig.shard(shard), true);
    }
    rig.aim(|_| Some("b")).await;
    tokio::time::timeout(SLOW * 2, b.has_open(128..256))
        .await
        .expect("the others move");
}

#[tokio::test(start_paused = true)]
async fn s2_4_a_leaving_node_hands_over_what_it_can_and_ends_the_rest() {
    let (rig, a, b) = pair(4).await;
    rig.aim(|_| Some("a")).await;
    a.has_open(0..4).await;
    a.host.call_all();
    // Known to nobody yet when the node leaves.
    rig.aim(|shard| (shard < 2).then_some("b")).await;
    let left = a.reconciler.release_all(Duration::from_secs(2)).await;
    assert_eq!(left, 0);
    assert_eq!(a.batches("hand_over", "committed"), 1);
    assert_eq!(a.batches("release", "committed"), 1);
    let ended = |shard| a.host.history().contains(&format!("end {shard}"));
    assert_eq!([0, 1, 2, 3].map(ended), [false, false, true, true]);
    rig.aim(|_| Some("b")).await;
    b.has_open(0..4).await;
    for shard in rig.count.shards() {
        assert_eq!(b.host.counted(shard), Some(1));
    }
}

#[tokio::test(start_paused = true)]
async fn s2_4_a_leaving_node_ends_what_it_cannot_send() {
    let (rig, a, b, _c) = trio().await;
    a.host.fail_sending(SendError::Late);
    rig.aim(|_| Some("b")).await;
    let left = a.reconciler.release_all(Duration::from_secs(2)).await;
    assert_eq!(left, 0);
    let reopened = a
        .host
        .history()
        .iter()
        .filter(|what| *what == "open 0")
        .count();
    assert_eq!(reopened, 1, "only at first");
    has_counted(&b, &rig, 3).await;
}
