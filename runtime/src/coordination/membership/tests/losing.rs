//! Lost lives, and the ones after them.

use super::*;
use crate::coordination::Cut;

#[tokio::test(start_paused = true)]
async fn a_lost_lease_drops_everything_before_the_next_life_begins() {
    let (rig, identity) = Rig::joined().await;
    let mut states = rig.membership.subscribe();
    rig.membership.set_state(NodeState::Active);
    rig.others.revoke(identity.lease).await.expect("revoked");
    let lost = states
        .wait_for(|state| *state == MembershipState::Lost)
        .await;
    drop(lost.expect("published"));
    assert!(!rig.fence.is_open());
    // Dropped while the fence was closed and before anybody was told.
    let before = MembershipState::Active(identity.clone());
    assert_eq!(*rig.node.discards.lock(), [(false, before)]);
    assert_eq!(rig.key().await, None, "no other life yet");

    let next = rig.until_another_life(&identity).await;
    assert!(next.incarnation > identity.incarnation && next.lease != identity.lease);
    assert!(rig.fence.is_open());
    let record = rig.record().await.expect("registered");
    assert_eq!(
        (record.incarnation, record.state),
        (next.incarnation, NodeState::Active)
    );
    assert_eq!(rig.metrics.membership.rejoins.get(), 1);
    // Once more, for whoever was slow to learn of the loss, and before anything can be served.
    assert_eq!(
        rig.node.discards.lock()[1..],
        [(false, MembershipState::Lost)]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_written_anew_without_its_lease_is_lost_and_replaced() {
    let (rig, identity) = Rig::joined().await;
    let entry = rig.key().await.expect("registered");
    let by_hand = Op::Put {
        key: entry.key,
        value: entry.value,
        lease: None,
    };
    rig.write(by_hand).await;
    let began = Instant::now();
    rig.show_view_as(None).await;
    let next = rig.until_another_life(&identity).await;
    assert!(next.incarnation > identity.incarnation);
    assert!(began.elapsed() < TTL, "{:?}", began.elapsed());
    assert_eq!(rig.key().await.expect("there").lease, Some(next.lease));
}

#[tokio::test(start_paused = true)]
async fn m12_a_node_whose_lease_ended_while_the_store_was_away_registers_again() {
    for (cut, away) in [(Cut::Refused, 10), (Cut::Silent, 10), (Cut::Silent, 20)] {
        let (rig, identity) = Rig::joined().await;
        rig.store.inner.faults().cut(Some(cut));
        sleep(Duration::from_secs(away)).await;
        assert_eq!(
            rig.membership.state(),
            MembershipState::Suspended(identity.clone())
        );
        assert_eq!(rig.key().await, None);
        rig.store.inner.faults().cut(None);
        let began = Instant::now();
        let next = rig.until_another_life(&identity).await;
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        assert_eq!(
            rig.record().await.expect("there").incarnation,
            next.incarnation
        );
    }
}

/// Others take over from the moment they see it, whatever the lease does.
#[tokio::test(start_paused = true)]
async fn a_node_key_deleted_by_hand_ends_the_life_as_soon_as_the_view_shows_it() {
    let (rig, identity) = Rig::joined().await;
    rig.show_view().await;
    sleep(Duration::from_millis(10)).await;
    assert!(rig.fence.is_open(), "the view shows the key");
    rig.write(Op::Delete(rig.keys.node(&name()))).await;
    rig.show_view().await;
    rig.until("lost", |state| *state == MembershipState::Lost)
        .await;
    assert!(!rig.fence.is_open());
    let next = rig.until_another_life(&identity).await;
    let mut old = rig.others.keep_alive(identity.lease).await;
    assert!(old.as_mut().is_err(), "the old lease was revoked");
    assert!(next.incarnation > identity.incarnation);
}

#[tokio::test(start_paused = true)]
async fn a_view_from_before_this_life_says_nothing_about_it() {
    let mut rig = Rig::new();
    rig.write(Op::Put {
        key: "/t/leader".into(),
        value: b"{}".to_vec(),
        lease: None,
    })
    .await;
    rig.show_view().await;
    rig.start();
    let identity = rig.membership.joined().await.expect("joins");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(rig.membership.state(), MembershipState::Active(identity));
}

/// Whoever was replaced must not replace its successor: the two would take turns for ever.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_replaced_ends_instead_of_fighting_back() {
    let store = MemoryStore::new();
    let always = || settings(Replace::Always, None);
    let mut old = Rig::with(always(), &store, "n:1");
    old.start();
    let replaced = old.membership.joined().await.expect("joins");
    old.node.answers.store(true, Ordering::SeqCst);

    let mut new = Rig::with(always(), &store, "n:2");
    new.start();
    let identity = new.membership.joined().await.expect("replaces it");
    assert!(identity.incarnation > replaced.incarnation);

    let error = old.ended().await.expect_err("ends");
    assert!(matches!(error, JoinError::NodeIdInUse { .. }));
    assert_eq!(old.node.discards.lock().len(), 1);
    sleep(TTL * 2).await;
    assert_eq!(new.membership.state(), MembershipState::Active(identity));
}

#[tokio::test(start_paused = true)]
async fn lives_that_end_at_once_do_not_become_a_busy_loop() {
    let (rig, _) = Rig::joined().await;
    let others = rig.others.clone();
    let mut states = rig.membership.subscribe();
    rig.tasks.spawn_work(async move {
        loop {
            let lease = states
                .borrow_and_update()
                .active()
                .map(|identity| identity.lease);
            if let Some(lease) = lease {
                others.revoke(lease).await.expect("revoked");
            }
            states.changed().await.expect("the rig lives");
        }
    });
    sleep(Duration::from_mins(2)).await;
    let lost = rig.metrics.membership.lives_lost.get();
    assert!((30..=120).contains(&lost), "{lost} lives in two minutes");
}
