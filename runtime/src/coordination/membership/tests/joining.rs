//! How a life begins, and what a predecessor means to it.

use super::*;
use crate::coordination::{CommitFault, Cut};

fn assert_send<T: Send>(_: T) {}

#[tokio::test(start_paused = true)]
async fn the_task_can_be_spawned() {
    let rig = Rig::new();
    assert_send(
        rig.membership
            .run(rig.node.clone(), CancellationToken::new()),
    );
}

#[tokio::test(start_paused = true)]
async fn m1_a_node_that_starts_registers_itself_under_its_lease() {
    let (rig, identity) = Rig::joined().await;
    let entry = rig.key().await.expect("registered");
    let record = decode_node(&entry).expect("readable");
    assert_eq!(entry.create_revision.get(), identity.incarnation.get());
    assert_eq!(
        (record.incarnation, record.lease),
        (identity.incarnation, identity.lease)
    );
    assert_eq!(record.state, NodeState::Joining);
    assert_eq!(rig.membership.state(), MembershipState::Active(identity));
    assert!(rig.fence.is_open() && rig.membership.trouble().is_none());
}

#[tokio::test(start_paused = true)]
async fn m10_the_node_key_goes_with_the_one_lease() {
    let (mut rig, identity) = Rig::joined().await;
    rig.running.take().expect("started").abort(); // It dies without a word.
    rig.others.revoke(identity.lease).await.expect("revoked");
    assert_eq!(rig.key().await, None);
}

#[tokio::test(start_paused = true)]
async fn n10_while_the_store_is_away_the_node_stays_out_and_says_why() {
    for cut in [Cut::Refused, Cut::Silent] {
        let mut rig = Rig::new();
        rig.store.inner.faults().cut(Some(cut));
        rig.start();
        sleep(Duration::from_secs(30)).await;
        assert_eq!(rig.membership.state(), MembershipState::Joining);
        assert!(
            rig.membership
                .trouble()
                .is_some_and(|why| why.contains("cannot join yet"))
        );
        assert!(!rig.fence.is_open() && rig.key().await.is_none());
        rig.store.inner.faults().cut(None);
        rig.membership.joined().await.expect("joins");
        assert_eq!(rig.membership.trouble(), None);
    }
}

/// Whatever becomes of the first tries to register, the node ends up with one key, its own, at
/// the incarnation that it believes in.
#[tokio::test(start_paused = true)]
async fn every_outcome_of_the_registration_is_told_apart() {
    use CommitFault::{ApplyLater, Delay, Fail, LoseReply};
    let late = [10, 60, 1_000, 4_400, 4_600, 10_000].map(Duration::from_millis);
    let faults = [Fail, LoseReply, Delay(Duration::from_secs(1))]
        .into_iter()
        .chain(late.map(ApplyLater));
    for fault in faults {
        for tries in [1, 3] {
            let mut rig = Rig::with(settings(Replace::Always, None), &MemoryStore::new(), "n:1");
            for nth in 1..=tries {
                rig.store.inner.faults().on_commit(nth, fault);
            }
            rig.start();
            let identity = rig.membership.joined().await.expect("joins");
            sleep(TTL * 4).await;
            let record = rig
                .record()
                .await
                .expect("registered, and its lease is kept");
            assert_eq!(
                (record.incarnation, record.lease, rig.membership.state()),
                (
                    identity.incarnation,
                    identity.lease,
                    MembershipState::Active(identity)
                ),
                "{fault:?} {tries} times"
            );
        }
    }
}

/// Else the node would take its own key for a predecessor's and, being allowed to, end its lease.
#[tokio::test(start_paused = true)]
async fn after_a_lost_reply_the_own_key_is_known_by_its_lease() {
    let mut rig = Rig::with(settings(Replace::Always, None), &MemoryStore::new(), "n:1");
    rig.store
        .inner
        .faults()
        .on_commit(1, CommitFault::LoseReply);
    rig.start();
    let identity = rig.membership.joined().await.expect("joins");
    assert_eq!(rig.store.granted(), [identity.lease], "at the first try");
}

#[tokio::test(start_paused = true)]
async fn the_first_deadline_counts_from_the_send_of_the_grant() {
    let mut rig = Rig::new();
    rig.store.delay_grant_replies(Duration::from_secs(3));
    rig.store.inner.faults().stall_keep_alives(true);
    let sent = rig.fence.clock().now();
    rig.start();
    rig.membership.joined().await.expect("joins");
    assert_eq!(rig.fence.deadline().since(sent), SERVING);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_outlasts_its_lease_is_given_up() {
    let mut rig = Rig::new();
    rig.store.delay_grant_replies(Duration::from_millis(100));
    rig.start();
    sleep(Duration::from_millis(50)).await; // Granted, and not registered.
    rig.store.inner.faults().cut(Some(Cut::Silent));
    sleep(TTL * 3).await;
    assert!(!rig.fence.is_open());
    let trouble = rig.membership.trouble();
    assert!(trouble.is_some_and(|why| why.contains("cannot join yet")));
    rig.store.inner.faults().cut(None);
    let identity = rig.membership.joined().await.expect("joins");
    assert_ne!(rig.store.granted()[0], identity.lease);
    sleep(TTL * 2).await;
    assert_eq!(rig.membership.state(), MembershipState::Active(identity));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_before_the_registration_is_replaced() {
    let mut rig = Rig::new();
    rig.store.delay_grant_replies(Duration::from_millis(100));
    rig.start();
    sleep(Duration::from_millis(50)).await;
    let lease = rig.store.granted()[0];
    rig.others.revoke(lease).await.expect("revoked");
    let identity = rig.membership.joined().await.expect("joins");
    assert_ne!(identity.lease, lease);
}

/// Else each try would leave one that lives as long as a node.
#[tokio::test(start_paused = true)]
async fn the_lease_of_a_failed_try_is_revoked() {
    let mut rig = Rig::with(settings(Replace::Never, None), &MemoryStore::new(), "n:1");
    register_other(&rig.others, "").await;
    rig.start();
    sleep(Duration::from_millis(10)).await;
    let leases = rig.store.granted();
    assert_eq!(leases.len(), 1);
    assert!(
        rig.others.keep_alive(leases[0]).await.is_err(),
        "it is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_process_is_never_written_over() {
    let mut rig = Rig::with(settings(Replace::Never, None), &MemoryStore::new(), "n:1");
    let other = register_other(&rig.others, "").await;
    rig.start();
    sleep(TTL.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(rig.record().await.expect("there").lease, other);
    assert!(
        rig.membership
            .trouble()
            .is_some_and(|why| why.contains("predecessor at other:1"))
    );
    let identity = rig
        .membership
        .joined()
        .await
        .expect("joins once that lease ended");
    assert_ne!(identity.lease, other);
}

#[tokio::test(start_paused = true)]
async fn a_predecessor_that_answers_is_left_alone_and_the_node_refuses_to_start() {
    for replace in [Replace::Never, Replace::Lock] {
        let mut rig = Rig::with(settings(replace, None), &MemoryStore::new(), "n:1");
        let other = register_other(&rig.others, "").await;
        rig.node.answers.store(true, Ordering::SeqCst);
        rig.start();
        let error = rig.ended().await.expect_err("refuses");
        assert!(matches!(&error, JoinError::NodeIdInUse { address, .. } if address == "other:1"));
        let told = rig.membership.joined().await.expect_err("refuses");
        assert_eq!(told.to_string(), error.to_string());
        assert_eq!(rig.record().await.expect("untouched").lease, other);
        assert_eq!(rig.membership.state(), MembershipState::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_kept_alive_without_an_answer_is_in_use_too() {
    let mut rig = Rig::with(settings(Replace::Never, None), &MemoryStore::new(), "n:1");
    let other = register_other(&rig.others, "").await;
    let store = rig.others.clone();
    rig.tasks.spawn_work(async move {
        loop {
            let mut stream = store.keep_alive(other).await.expect("alive");
            stream.ping().await.expect("alive");
            sleep(Duration::from_secs(1)).await;
        }
    });
    rig.start();
    let error = rig.ended().await.expect_err("refuses");
    assert!(matches!(error, JoinError::NodeIdInUse { .. }));
}

/// A probe of the own address would reach the own listener, and the node refuse itself.
#[tokio::test(start_paused = true)]
async fn a_predecessor_at_the_own_address_cannot_answer() {
    let mut rig = Rig::with(
        settings(Replace::Never, None),
        &MemoryStore::new(),
        "other:1",
    );
    register_other(&rig.others, "").await;
    rig.node.answers.store(true, Ordering::SeqCst);
    rig.start();
    rig.membership
        .joined()
        .await
        .expect("joins once that lease ended");
}

#[tokio::test(start_paused = true)]
async fn replace_always_ends_the_predecessor_at_once() {
    let mut rig = Rig::with(settings(Replace::Always, None), &MemoryStore::new(), "n:1");
    let other = register_other(&rig.others, "").await;
    let began = Instant::now();
    rig.start();
    let identity = rig.membership.joined().await.expect("joins");
    assert!(identity.lease != other && began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn the_free_lock_of_a_predecessor_is_proof_of_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let lock = || settings(Replace::Lock, Some(dir.path()));
    let store = MemoryStore::new();
    let mut first = Rig::with(lock(), &store, "n:1");
    first.start();
    let gone = first.membership.joined().await.expect("joins");

    // While the first process lives there is no proof, whether it answers or not.
    let mut second = Rig::with(lock(), &store, "n:2");
    second.node.answers.store(true, Ordering::SeqCst);
    second.start();
    second.ended().await.expect_err("refuses");
    assert_eq!(second.record().await.expect("untouched").lease, gone.lease);

    // It is killed: nothing is revoked, but the kernel releases its lock.
    first.ended_by_force().await;
    let began = Instant::now();
    let mut third = Rig::with(lock(), &store, "n:3");
    third.start();
    let identity = third.membership.joined().await.expect("joins");
    assert!(identity.incarnation > gone.incarnation);
    assert!(began.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn the_lock_of_another_file_is_no_proof() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut rig = Rig::with(
        settings(Replace::Lock, Some(dir.path())),
        &MemoryStore::new(),
        "n:1",
    );
    let began = Instant::now();
    register_other(&rig.others, "another-boot/1:2").await;
    rig.start();
    rig.membership
        .joined()
        .await
        .expect("joins once that lease ended");
    assert!(began.elapsed() >= TTL);
}

#[tokio::test(start_paused = true)]
async fn an_impossible_lease_is_refused() {
    let settings = MembershipSettings {
        lease_ttl: Duration::from_millis(1_500),
        ..MembershipSettings::default()
    };
    let mut rig = Rig::with(settings, &MemoryStore::new(), "n:1");
    rig.start();
    let error = rig.ended().await.expect_err("refused");
    assert!(matches!(error, JoinError::LeaseTtl(_)));
}

#[tokio::test(start_paused = true)]
async fn a_key_without_a_lease_is_deleted_when_nobody_can_serve_under_it() {
    let others = MemoryStore::new();
    let mut rig = Rig::with(settings(Replace::Never, None), &others, "n:1");
    let lease = others.grant(TTL).await.expect("granted");
    let record = registration("other:1").record((lease, TTL), NodeState::Active, "");
    let by_hand = Op::Put {
        key: rig.keys.node(&name()),
        value: encode_node(&record),
        lease: None,
    };
    write(&others, by_hand).await;
    let began = Instant::now();
    rig.start();
    let identity = rig.membership.joined().await.expect("joins");
    assert!(began.elapsed() > LEASE_TTL_MAX, "{:?}", began.elapsed());
    assert_eq!(rig.key().await.expect("there").lease, Some(identity.lease));
}
