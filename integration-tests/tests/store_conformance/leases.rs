//! Leases end, with their keys, when they should and no sooner.

use std::time::Duration;

use steading::coordination::store::{Event, StoreError, Txn};
use steading::ids::LeaseId;
use tokio::time::{Instant, interval};

use crate::subject::{Subject, after, next, revision_of};

/// As short as etcd grants it.
pub(super) const TTL: Duration = Duration::from_secs(2);

pub(super) async fn m10_a_lease_ends_with_its_keys_in_one_revision(subject: Subject) {
    let granted = Instant::now();
    let lease = subject.store.grant(TTL).await.expect("runs");
    let put = |name| subject.put_under(name, "1", Some(lease));
    subject
        .write(vec![put("a"), put("b"), put("detached")])
        .await;
    let kept = subject.write(vec![subject.put("detached", "2")]).await;
    let mut stream = subject.watch(after(kept)).await;
    let mut gone = vec![];
    while gone.is_empty() {
        gone = next(&mut stream).await.expect("goes on").events;
    }
    assert!(granted.elapsed() >= TTL);
    let revision = revision_of(&gone[0]);
    let delete = |name| Event::Delete {
        key: subject.key(name),
        revision,
    };
    gone.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(gone, [delete("a"), delete("b")]);
    assert_eq!(subject.names().await, ["detached"]);
}

pub(super) async fn m11_a_lease_lives_while_it_is_kept_alive(subject: Subject) {
    let lease = subject.store.grant(TTL).await.expect("runs");
    subject
        .write(vec![subject.put_under("a", "1", Some(lease))])
        .await;
    let mut keep_alive = subject.store.keep_alive(lease).await.expect("runs");
    let start = Instant::now();
    let mut ticks = interval(TTL / 5);
    while start.elapsed() < TTL * 2 {
        ticks.tick().await;
        keep_alive.ping().await.expect("alive");
    }
    assert_eq!(subject.names().await, ["a"]);
}

pub(super) async fn m3_a_revoked_lease_takes_its_keys_at_once(subject: Subject) {
    let lease = subject
        .store
        .grant(Duration::from_mins(1))
        .await
        .expect("runs");
    let put = |name| subject.put_under(name, "1", Some(lease));
    let made = subject.write(vec![put("a"), put("b")]).await;
    let entries = subject.entries().await;
    assert!(entries.iter().all(|entry| entry.lease == Some(lease)));
    let mut open = subject.store.keep_alive(lease).await.expect("alive");
    assert!(open.ping().await.expect("alive") >= made);
    subject.store.revoke(lease).await.expect("runs");
    subject
        .store
        .revoke(lease)
        .await
        .expect("gone already is fine");
    assert!(subject.entries().await.is_empty());
    let mut stream = subject.watch(after(made)).await;
    let gone = next(&mut stream).await.expect("goes on").events;
    assert_eq!(gone.len(), 2);
    assert_eq!(revision_of(&gone[0]), revision_of(&gone[1]));
    assert_gone(lease, open.ping().await.map(drop));
    assert_gone(lease, subject.store.keep_alive(lease).await.map(drop));
    let txn = Txn {
        then: vec![put("a")],
        ..Txn::default()
    };
    assert_gone(lease, subject.store.commit(txn).await.map(drop));
    assert!(subject.entries().await.is_empty());
}

pub(super) async fn a_lease_that_never_was_is_gone(subject: Subject) {
    let lease = LeaseId::new(4711);
    assert_gone(lease, subject.store.keep_alive(lease).await.map(drop));
    subject
        .store
        .revoke(lease)
        .await
        .expect("gone already is fine");
}

fn assert_gone(lease: LeaseId, result: Result<(), StoreError>) {
    let error = result.expect_err("the lease is gone");
    assert!(
        matches!(error, StoreError::LeaseGone(gone) if gone == lease),
        "{error}"
    );
}
