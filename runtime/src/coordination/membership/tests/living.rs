//! Keep-alives, the fence, suspension and resume.

use super::*;
use crate::coordination::keys::encode_owner;
use crate::coordination::store::Compare;
use crate::coordination::{CommitFault, Cut};
use crate::ids::ShardId;
use crate::placement::Owner;

fn shard(number: u32) -> ShardId {
    ShardId::new(number, ShardCount::DEFAULT).expect("in range")
}

fn own(node: &str, shard_number: u32) -> Op {
    let owner = Owner {
        node: NodeId::new(node).expect("a good name"),
        incarnation: Incarnation::new(1),
    };
    Op::Put {
        key: Keys::new("/t/").owner(shard(shard_number)),
        value: encode_owner(&owner, None),
        lease: None,
    }
}

/// Suspends a node for a moment during which its lease lives: nothing passes from just after one
/// keep-alive until just before its lease would end, and `meanwhile` happens.
async fn suspended_and_back(rig: &Rig, meanwhile: impl Future<Output = ()>) {
    sleep(Duration::from_millis(10)).await; // The first keep-alive is answered.
    rig.store.inner.faults().stall_keep_alives(true);
    rig.until_suspended().await;
    meanwhile.await;
    rig.store.inner.faults().stall_keep_alives(false);
}

#[tokio::test(start_paused = true)]
async fn m11_a_node_stays_for_as_long_as_it_lives() {
    let (rig, identity) = Rig::joined().await;
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(rig.fence.is_open());
        assert!(
            rig.fence.margin() + TTL / 5 >= SERVING,
            "{:?}",
            rig.fence.margin()
        );
    }
    assert_eq!(
        rig.record().await.expect("there").incarnation,
        identity.incarnation
    );
    assert_eq!(rig.store.streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_counts_from_the_send_and_not_from_the_reply() {
    let (rig, _) = Rig::joined().await;
    let slow = Duration::from_millis(900);
    rig.store.delay_ping_replies(slow);
    let mut newest = rig.fence.deadline();
    for _ in 0..1_000 {
        sleep(Duration::from_millis(10)).await;
        if rig.fence.deadline() > newest {
            newest = rig.fence.deadline();
            // Just answered, so sent `slow` ago.
            assert!(
                rig.fence.margin() + slow <= SERVING,
                "{:?}",
                rig.fence.margin()
            );
        }
    }
}

/// A reply that comes after its ping was given up must not count for a later ping.
#[tokio::test(start_paused = true)]
async fn a_stream_is_dropped_with_its_late_replies() {
    let (rig, _) = Rig::joined().await;
    sleep(Duration::from_millis(10)).await;
    let before = rig.fence.deadline();
    rig.store.delay_ping_replies(Duration::from_mins(1));
    sleep(Duration::from_secs(4)).await;
    assert!(
        rig.store.streams() >= 2,
        "each ping that was given up took its stream along"
    );
    assert_eq!(rig.fence.deadline(), before);
    rig.until_suspended().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_is_replaced_without_a_trace() {
    let (rig, identity) = Rig::joined().await;
    for _ in 0..10 {
        rig.store.inner.faults().cut(Some(Cut::Refused));
        sleep(Duration::from_secs(2)).await;
        rig.store.inner.faults().cut(None);
        sleep(Duration::from_millis(1_100)).await;
        assert_eq!(
            rig.membership.state(),
            MembershipState::Active(identity.clone())
        );
        assert_eq!(rig.membership.trouble(), None);
    }
}

/// Slow for everybody is not broken: the limit grows until a reply fits.
#[tokio::test(start_paused = true)]
async fn a_store_slower_than_the_first_limit_is_waited_for() {
    let (rig, identity) = Rig::joined().await;
    rig.store.delay_ping_replies(Duration::from_millis(1_500));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(rig.membership.state().active(), Some(&identity));
}

#[tokio::test(start_paused = true)]
async fn n4_a_node_cut_off_stops_serving_before_its_lease_can_end() {
    for cut in [Cut::Refused, Cut::Silent] {
        let (rig, identity) = Rig::joined().await;
        sleep(Duration::from_millis(10)).await;
        let last_sent = Instant::now();
        rig.store.inner.faults().cut(Some(cut));
        rig.until_suspended().await;
        assert!(!rig.fence.is_open() && last_sent.elapsed() <= SERVING + Duration::from_millis(2));
        assert_eq!(
            rig.key()
                .await
                .expect("others still see it")
                .create_revision
                .get(),
            identity.incarnation.get()
        );
        assert!(
            rig.node.discards.lock().is_empty(),
            "nothing is dropped yet"
        );
        assert!(
            rig.membership
                .trouble()
                .is_some_and(|why| why.contains("keep-alives fail"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn n6_after_a_suspension_within_the_lease_the_same_life_goes_on() {
    let (rig, identity) = Rig::joined().await;
    suspended_and_back(&rig, async {}).await;
    let active = MembershipState::Active(identity);
    rig.until("resumed", |state| *state == active).await;
    assert!(rig.fence.is_open() && rig.membership.trouble().is_none());
    assert!(rig.node.discards.lock().is_empty(), "nothing moved");
    assert_eq!(rig.metrics.membership.suspensions.get(), 1);
    assert_eq!(rig.metrics.membership.lives_lost.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_keep_alive_alone_does_not_resume() {
    let (rig, identity) = Rig::joined().await;
    rig.store.refuse_lists(true);
    suspended_and_back(&rig, async {}).await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(
        rig.membership.state(),
        MembershipState::Suspended(identity.clone())
    );
    assert!(
        !rig.fence.is_open() && rig.store.lists() > 10,
        "it kept asking"
    );
    assert!(
        rig.membership
            .trouble()
            .is_some_and(|why| why.contains("cannot resume yet"))
    );
    rig.store.refuse_lists(false);
    rig.until("resumed", |state| state.active() == Some(&identity))
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_read_that_allows_to_resume_is_sent_after_the_keep_alive() {
    let (rig, _) = Rig::joined().await;
    suspended_and_back(&rig, async {
        sleep(Duration::from_millis(400)).await;
        assert_eq!(
            rig.store.lists(),
            0,
            "no read before a keep-alive was answered"
        );
    })
    .await;
    rig.until("resumed", |state| state.active().is_some()).await;
    assert_eq!(rig.store.lists(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_key_went_while_it_was_suspended_does_not_resume() {
    let (rig, identity) = Rig::joined().await;
    suspended_and_back(&rig, async {
        rig.write(Op::Delete(rig.keys.node(&name()))).await;
    })
    .await;
    let states = rig.until("decided", |state| {
        !matches!(state, MembershipState::Suspended(_))
    });
    assert_eq!(states.await, MembershipState::Lost);
    assert!(rig.until_another_life(&identity).await.incarnation > identity.incarnation);
}

/// The key is there and names the same lease, but it is another life's.
#[tokio::test(start_paused = true)]
async fn only_the_own_create_revision_counts_as_the_own_key() {
    let (rig, identity) = Rig::joined().await;
    suspended_and_back(&rig, async {
        let key = rig.keys.node(&name());
        let value = rig.key().await.expect("there").value;
        rig.write(Op::Delete(key.clone())).await;
        let lease = Some(identity.lease);
        rig.write(Op::Put { key, value, lease }).await;
    })
    .await;
    rig.until("lost", |state| *state == MembershipState::Lost)
        .await;
    assert_eq!(rig.node.discards.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn owners_that_changed_during_the_suspension_are_known_before_serving() {
    let (rig, identity) = Rig::joined().await;
    rig.write(own("n", 0)).await;
    rig.write(own("n", 1)).await;
    let known = |rig: &Rig, number| rig.view.current().owners.get(shard(number)).clone();
    rig.store.refuse_lists(false);
    suspended_and_back(&rig, async {}).await;
    rig.until("resumed", |state| state.active() == Some(&identity))
        .await;
    assert!(known(&rig, 0).owner.is_some() && known(&rig, 1).owner.is_some());

    suspended_and_back(&rig, async {
        rig.write(own("other", 0)).await;
        rig.write(Op::Delete(rig.keys.owner(shard(1)))).await;
    })
    .await;
    rig.until("resumed", |state| state.active() == Some(&identity))
        .await;
    let (taken, released) = (known(&rig, 0), known(&rig, 1));
    assert_eq!(taken.owner.expect("owned").node.as_str(), "other");
    assert_eq!(released.owner, None);
    assert!(
        released.revision >= taken.revision,
        "the deletion left a revision behind"
    );
}

#[tokio::test(start_paused = true)]
async fn what_the_node_says_of_itself_is_written_in_the_same_life() {
    let (rig, identity) = Rig::joined().await;
    for state in [NodeState::Active, NodeState::Draining] {
        rig.membership.set_state(state);
        sleep(Duration::from_millis(10)).await;
        let record = rig.record().await.expect("there");
        assert_eq!(
            (record.state, record.incarnation),
            (state, identity.incarnation)
        );
        assert_eq!(record.lease, identity.lease);
    }
}

/// A write whose outcome is unknown may arrive after a later one, and must not win then.
#[tokio::test(start_paused = true)]
async fn a_late_write_of_an_earlier_state_changes_nothing() {
    for fault in [
        CommitFault::ApplyLater(Duration::from_secs(2)),
        CommitFault::LoseReply,
        CommitFault::Fail,
    ] {
        let (rig, identity) = Rig::joined().await;
        rig.store.inner.faults().on_commit(1, fault);
        rig.membership.set_state(NodeState::Active);
        sleep(Duration::from_millis(10)).await;
        rig.membership.set_state(NodeState::Draining);
        sleep(Duration::from_secs(5)).await;
        let record = rig.record().await.expect("there");
        assert_eq!(record.state, NodeState::Draining, "{fault:?}");
        assert_eq!(rig.membership.state(), MembershipState::Active(identity));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_that_finds_another_key_ends_the_life() {
    let (rig, identity) = Rig::joined().await;
    rig.write(Op::Delete(rig.keys.node(&name()))).await;
    rig.membership.set_state(NodeState::Active);
    let next = rig.until_another_life(&identity).await;
    let record = rig.record().await.expect("there");
    assert_eq!(
        (record.incarnation, record.state),
        (next.incarnation, NodeState::Active)
    );
}

#[tokio::test(start_paused = true)]
async fn a_rewrite_that_finds_another_process_there_ends_the_life() {
    let (rig, identity) = Rig::joined().await;
    rig.write(Op::Delete(rig.keys.node(&name()))).await;
    let other = register_other(&rig.others, "").await; // It says "active" already.
    rig.membership.set_state(NodeState::Active);
    rig.until("lost", |state| *state == MembershipState::Lost)
        .await;
    assert_eq!(rig.record().await.expect("untouched").lease, other);
    rig.until_another_life(&identity).await;
}

/// The compare that guards every write of others against this life.
#[tokio::test(start_paused = true)]
async fn the_incarnation_is_what_others_can_compare_with() {
    let (rig, identity) = Rig::joined().await;
    rig.membership.set_state(NodeState::Active);
    sleep(Duration::from_secs(1)).await;
    let created = crate::ids::Revision::new(identity.incarnation.get());
    let txn = Txn {
        compares: vec![Compare::Created(rig.keys.node(&name()), created)],
        ..Txn::default()
    };
    assert!(rig.others.commit(txn).await.expect("reached").succeeded);
}
