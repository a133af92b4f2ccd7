//! Elections and plans on the memory store.

mod commands;
mod plans;
pub(super) mod world;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::*;
use crate::coordination::CommitFault;
use crate::coordination::membership::MembershipState;
use crate::coordination::plans::PLANS_KEPT;
use crate::coordination::rig::{Rig, Runs, TestNode, node, settle};
use crate::ids::NodeId;
use crate::placement::{Target, Weight};
use crate::telemetry::PlanLabels;

/// Long enough for the shards of a node that is gone to be placed and taken over.
const ORPHANS: Duration = Duration::from_millis(100);

/// Long enough for joins to be planned.
const JOINS: Duration = Duration::from_secs(3);

async fn three(rig: &Rig, runs: Runs) -> [TestNode; 3] {
    [
        rig.join("a", runs).await,
        rig.join("b", runs).await,
        rig.join("c", runs).await,
    ]
}

fn leader_of(node: &TestNode) -> Option<String> {
    let view = node.view.current();
    view.leader.as_ref().map(|leader| leader.node.to_string())
}

async fn plans(rig: &Rig) -> usize {
    let plans = rig
        .store
        .list(&rig.keys.plans())
        .await
        .expect("no faults here");
    plans.entries.len()
}

fn targeted(node: &TestNode) -> BTreeMap<String, usize> {
    let view = node.view.current();
    let mut counts = BTreeMap::new();
    for (_, target) in view.targets.iter() {
        let name = target.node.as_ref().map_or("-", NodeId::as_str);
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

fn spread<const N: usize>(counts: [(&str, usize); N]) -> BTreeMap<String, usize> {
    counts.map(|(name, count)| (name.to_owned(), count)).into()
}

#[tokio::test(start_paused = true)]
async fn m4_three_nodes_agree_on_one_leader() {
    let rig = Rig::new(8);
    let nodes = three(&rig, Runs::LeaderOnly).await;
    settle().await;
    let leaders: Vec<_> = nodes.iter().map(leader_of).collect();
    assert!(leaders[0].is_some());
    assert!(
        leaders.iter().all(|leader| *leader == leaders[0]),
        "{leaders:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn m5_a_follower_leads_at_once_when_the_leader_resigns() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    settle().await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    settle().await;
    assert_eq!(leader_of(&b).as_deref(), Some("a"));
    a.tasks.stop(Duration::from_secs(1)).await;
    settle().await;
    assert_eq!(
        leader_of(&b).as_deref(),
        Some("b"),
        "without waiting for the lease"
    );
}

#[tokio::test(start_paused = true)]
async fn m5_a_follower_leads_at_once_when_the_leaders_lease_ends() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    settle().await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    a.lose_lease().await;
    settle().await;
    assert_eq!(leader_of(&b).as_deref(), Some("b"));
    assert_eq!(a.metrics.coordination.leading.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn m6_a_registered_node_leads_and_an_unregistered_one_does_not() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    settle().await;
    let leader = a.view.current().leader.clone().expect("a leader");
    assert_eq!(
        (leader.node, Some(leader.term)),
        (node("a"), rig.term().await)
    );
    a.crash().await;

    let b = rig.join("b", Runs::LeaderOnly).await;
    b.suspend();
    rig.store
        .revoke(b.identity.lease)
        .await
        .expect("no faults here");
    b.resume(); // It takes itself for active, but its key is gone.
    tokio::time::sleep(JOINS).await;
    assert_eq!(rig.term().await, None);
}

#[tokio::test(start_paused = true)]
async fn m6_a_candidate_whose_registration_just_ended_is_refused_by_the_guard() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    a.client
        .faults()
        .on_commit(1, CommitFault::Delay(Duration::from_millis(500)));
    settle().await; // Its candidacy is under way.
    rig.store
        .revoke(a.identity.lease)
        .await
        .expect("no faults here");
    tokio::time::sleep(JOINS).await;
    assert_eq!(rig.term().await, None);
}

#[tokio::test(start_paused = true)]
async fn m7_a_live_leader_stays_when_others_come() {
    let rig = Rig::new(8);
    let _a = rig.join("a", Runs::LeaderOnly).await;
    settle().await;
    let term = rig.term().await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    let _c = rig.join("c", Runs::LeaderOnly).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(
        (leader_of(&b).as_deref(), rig.term().await),
        (Some("a"), term)
    );
}

#[tokio::test(start_paused = true)]
async fn m8_of_two_candidates_that_race_one_leads_and_both_agree() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    settle().await;
    assert_eq!(leader_of(&a), leader_of(&b));
    let leading = [&a, &b].map(|node| node.metrics.coordination.leading.get());
    assert_eq!(leading.iter().sum::<i64>(), 1);
}

#[tokio::test(start_paused = true)]
async fn m9_views_follow_a_leader_key_that_others_change_or_delete() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    settle().await;
    rig.put(rig.keys.leader(), keys::encode_leader(&node("z")))
        .await;
    settle().await;
    assert_eq!(leader_of(&a).as_deref(), Some("z"));
    assert_eq!(a.metrics.coordination.leading.get(), 0);
    rig.run(vec![Op::Delete(rig.keys.leader())]).await;
    settle().await;
    assert_eq!(leader_of(&a).as_deref(), Some("a"), "and it leads again");
}

#[tokio::test(start_paused = true)]
async fn gates_and_nodes_that_join_or_drain_do_not_stand() {
    let rig = Rig::new(8);
    let joins = [
        ("g", NodeState::Active, Weight::GATE),
        ("j", NodeState::Joining, Weight::ONE),
        ("d", NodeState::Draining, Weight::ONE),
    ];
    let mut nodes = Vec::new();
    for (name, state, weight) in joins {
        nodes.push(rig.join_as(name, Runs::LeaderOnly, state, weight).await);
    }
    tokio::time::sleep(JOINS).await;
    assert_eq!(rig.term().await, None);
}

#[tokio::test(start_paused = true)]
async fn p1_every_shard_gets_a_target_and_a_follower_sees_the_same() {
    let rig = Rig::new(64);
    let a = rig.join("a", Runs::LeaderOnly).await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    tokio::time::sleep(JOINS).await;
    assert_eq!(targeted(&a), spread([("a", 32), ("b", 32)]));
    assert_eq!(a.view.current().targets, b.view.current().targets);
    assert_eq!(plans(&rig).await, 1, "both joins in one plan");
}

#[tokio::test(start_paused = true)]
async fn p2_a_second_node_gets_its_share_with_the_least_moves() {
    let rig = Rig::new(64);
    let a = rig.join("a", Runs::Everything).await;
    a.has_open(0..64).await;
    let b = rig.join("b", Runs::Everything).await;
    tokio::time::sleep(JOINS).await;
    assert_eq!(targeted(&b), spread([("a", 32), ("b", 32)]));
    let metrics = &a.metrics.coordination;
    assert_eq!(
        (metrics.plan_moves.get(), metrics.plan_moves_least.get()),
        (32, 32)
    );
    assert_eq!(b.host.open_shards().len(), 32);
}

#[tokio::test(start_paused = true)]
async fn p3_after_a_start_every_shard_is_owned_by_its_target() {
    let rig = Rig::new(64);
    let nodes = three(&rig, Runs::Everything).await;
    tokio::time::sleep(JOINS).await;
    let view = nodes[0].view.current();
    let settled = rig.count.shards().all(|shard| {
        view.live_owner(shard).map(|owner| &owner.node) == view.targets.get(shard).node.as_ref()
    });
    assert!(settled);
    assert!(
        nodes
            .iter()
            .all(|node| (21..=22).contains(&node.host.open_shards().len()))
    );
}

#[tokio::test(start_paused = true)]
async fn p11_a_shard_without_target_whose_owner_lives_is_targeted_there() {
    let rig = Rig::new(4);
    let b = rig.join("b", Runs::ReconcilerOnly).await;
    rig.own(3, &b.owner()).await;
    let a = rig.join("a", Runs::LeaderOnly).await;
    tokio::time::sleep(JOINS).await;
    let view = a.view.current();
    assert_eq!(view.targets.get(rig.shard(3)).node, Some(node("b")));
}

#[tokio::test(start_paused = true)]
async fn orphans_are_placed_as_soon_as_their_node_surely_does_not_return() {
    let rig = Rig::new(64);
    let nodes = three(&rig, Runs::Everything).await;
    tokio::time::sleep(JOINS).await;
    nodes[2].crash().await;
    tokio::time::sleep(ORPHANS).await;
    let open = nodes[0].host.open_shards().len() + nodes[1].host.open_shards().len();
    assert_eq!(open, 64);
}

#[tokio::test(start_paused = true)]
async fn n9_gates_that_come_and_go_change_nothing() {
    let rig = Rig::new(64);
    let nodes = three(&rig, Runs::Everything).await;
    tokio::time::sleep(JOINS).await;
    let before = plans(&rig).await;
    let mut last: Option<TestNode> = None;
    for turn in 0..5 {
        let gate = rig.join_as("g", Runs::LeaderOnly, NodeState::Active, Weight::GATE);
        let gate = gate.await;
        if turn == 2 {
            nodes[2].crash().await;
            tokio::time::sleep(ORPHANS).await;
            let left = nodes[..2].iter().map(|node| node.host.open_shards().len());
            assert_eq!(left.sum::<usize>(), 64, "as fast as without gates");
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        gate.crash().await;
        last = Some(gate);
    }
    drop(last);
    assert_eq!(plans(&rig).await, before + 1, "one plan, for the crash");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_planned_while_suspended() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    a.suspend();
    tokio::time::sleep(JOINS).await;
    assert_eq!(plans(&rig).await, 0);
    a.resume();
    tokio::time::sleep(JOINS).await;
    assert_eq!(plans(&rig).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_writes_nothing() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    // Its candidacy is the first; another takes over while its plan is on its way.
    a.client
        .faults()
        .on_commit(2, CommitFault::Delay(Duration::from_secs(1)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.run(vec![Op::Delete(rig.keys.leader())]).await;
    rig.put(rig.keys.leader(), keys::encode_leader(&node("z")))
        .await;
    tokio::time::sleep(JOINS).await;
    assert_eq!((plans(&rig).await, targeted(&a)), (0, spread([("-", 8)])));
    let deposed = PlanLabels {
        reason: "unplaced",
        outcome: "deposed",
    };
    assert_eq!(
        a.metrics.coordination.plans.get_or_create(&deposed).get(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_that_fails_is_lost_or_late_is_made_again() {
    let late = Duration::from_millis(700);
    for fault in [
        CommitFault::Fail,
        CommitFault::LoseReply,
        CommitFault::Delay(late),
        CommitFault::ApplyLater(late),
    ] {
        let rig = Rig::new(8);
        let a = rig.join("a", Runs::LeaderOnly).await;
        a.client.faults().on_commit(2, fault); // The first is its candidacy.
        tokio::time::sleep(JOINS).await;
        assert_eq!(targeted(&a), spread([("a", 8)]), "{fault:?}");
        let b = rig.join("b", Runs::LeaderOnly).await;
        tokio::time::sleep(JOINS).await;
        assert_eq!(targeted(&b), spread([("a", 4), ("b", 4)]), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_plan_brings_no_old_targets_back() {
    let rig = Rig::new(8);
    let a = rig.join("a", Runs::LeaderOnly).await;
    a.client
        .faults()
        .on_commit(2, CommitFault::ApplyLater(Duration::from_secs(30)));
    tokio::time::sleep(JOINS).await;
    let b = rig.join("b", Runs::LeaderOnly).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(targeted(&b), spread([("a", 4), ("b", 4)]));
}

#[tokio::test(start_paused = true)]
async fn an_election_whose_reply_is_lost_still_leads_to_a_leader() {
    for fault in [CommitFault::Fail, CommitFault::LoseReply] {
        let rig = Rig::new(8);
        let a = rig.join("a", Runs::LeaderOnly).await;
        a.client.faults().on_commit(1, fault);
        tokio::time::sleep(JOINS).await;
        assert_eq!(targeted(&a), spread([("a", 8)]), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_so_many_plans_are_kept() {
    let rig = Rig::new(4);
    let _a = rig.join("a", Runs::LeaderOnly).await;
    for _ in 0..PLANS_KEPT + 20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        rig.aim_as(|_| Target::default()).await; // Somebody else's hand; the leader repairs it.
    }
    tokio::time::sleep(JOINS).await;
    assert_eq!(plans(&rig).await, PLANS_KEPT);
}

#[tokio::test(start_paused = true)]
async fn a_life_that_is_lost_leads_again_only_under_a_new_term() {
    let rig = Rig::new(4);
    let mut a = rig.join("a", Runs::LeaderOnly).await;
    settle().await;
    let first = rig.term().await;
    a.lose_lease().await;
    assert_eq!(*a.membership.borrow(), MembershipState::Lost);
    a.rejoin().await;
    settle().await;
    assert!(rig.term().await > first);
    assert_eq!(a.metrics.coordination.leading.get(), 1);
}
