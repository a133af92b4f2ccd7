//! Keys written by hand, among nodes on the memory store.

use super::*;
use crate::coordination::keys::{encode_leader, encode_node};
use crate::coordination::rig::{Rig, Runs, TestNode, node, registered, settle};
use crate::placement::NodeRecord;

/// Runs the task on behalf of a node.
fn start(rig: &Rig, on: &TestNode) {
    let strays = Strays::new(StraysParts {
        store: Arc::new(on.client.clone()),
        keys: rig.keys.clone(),
        view: on.view.clone(),
        rights: Rights::new(on.membership.subscribe(), on.fence.clone()),
        metrics: on.metrics.clone(),
    });
    on.tasks.spawn("strays", |shutdown| strays.run(shutdown));
}

#[tokio::test(start_paused = true)]
async fn a_leader_key_without_a_lease_is_deleted() {
    for value in [
        encode_leader(&node("ghost")),
        encode_leader(&node("a")),
        b"garbage".to_vec(),
    ] {
        let rig = Rig::new(4);
        rig.put(rig.keys.leader(), value).await;
        let by_hand = rig.term().await;
        let a = rig.join("a", Runs::Everything).await;
        start(&rig, &a);
        a.has_open(0..4).await;
        assert!(rig.term().await > by_hand);
        assert_eq!(a.metrics.coordination.stray_keys_deleted.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_living_leader_is_left_alone() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::Everything).await;
    let b = rig.join("b", Runs::Everything).await;
    for node in [&a, &b] {
        start(&rig, node);
    }
    settle().await;
    let term = rig.term().await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(rig.term().await, term);
    for node in [&a, &b] {
        assert_eq!(node.metrics.coordination.stray_keys_deleted.get(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn shards_of_a_key_without_a_lease_are_taken_over_late() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::Everything).await;
    start(&rig, &a);
    let b = rig.join("b", Runs::Everything).await;
    b.sees("its own shards", |view| {
        view.owners
            .iter()
            .any(|(_, of)| of.owner.as_ref() == Some(&b.owner()))
    })
    .await;
    // Written over by hand; then the process dies, and its lease ends without the key.
    rig.put(rig.keys.node(&b.id), encode_node(&registered(&b)))
        .await;
    a.sees("no b", |view| !view.nodes.contains_key(&b.id)).await;
    let began = Instant::now();
    b.crash().await;
    a.has_open(0..4).await;
    assert!(began.elapsed() > LEASE_TTL_MAX, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_live_lease_named_by_a_stray_key_is_not_ended() {
    let rig = Rig::new(4);
    let a = rig.join("a", Runs::Everything).await;
    start(&rig, &a);
    let copy = encode_node(&registered(&a));
    rig.put(rig.keys.node(&node("ghost")), copy).await;
    tokio::time::sleep(LEASE_TTL_MAX * 3).await;
    assert!(a.view.current().nodes.contains_key(&a.id));
    assert!(!a.view.current().nodes.contains_key(&node("ghost")));
    assert_eq!(a.metrics.coordination.ignored_keys.get(), 1);
}

#[test]
fn a_lease_is_ended_long_before_its_key() {
    let rig = Rig::new(4);
    let view = ClusterView::empty(rig.meta());
    let record = NodeRecord {
        lease: LeaseId::new(7),
        ..NodeRecord::of(crate::ids::Incarnation::new(1))
    };
    let entry = Entry {
        key: rig.keys.node(&node("x")),
        value: encode_node(&record),
        create_revision: Revision::new(1),
        mod_revision: Revision::new(1),
        lease: None,
    };
    let after = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(cure(&entry, &view, None), Cure::EndLease(LeaseId::new(7)));
    assert_eq!(cure(&entry, &view, after(1)), Cure::Wait);
    assert_eq!(cure(&entry, &view, Some(LEASE_TTL_MAX)), Cure::Wait);
    assert_eq!(cure(&entry, &view, after(61)), Cure::Delete);
    let garbage = Entry {
        value: b"x".to_vec(),
        ..entry
    };
    assert_eq!(cure(&garbage, &view, after(61)), Cure::LeaveAlone);
}
