//! Operators' commands: each says what should be, is carried out by the leader, and answered.

use futures::StreamExt;

use super::*;
use crate::coordination::commands::{Command, Done, Refusal, RefusalCode};
use crate::coordination::plans::{PlanOutcome, PlanRecord};
use crate::coordination::rig::node as id;
use crate::coordination::store::Event;
use crate::ids::{PlanId, Revision, ShardId};
use crate::placement::planner::PlanSettings;

/// How long an operator waits.
const LIMIT: Duration = Duration::from_secs(10);

/// Far above what any of these plans takes; on the paused clock it costs nothing.
const PATIENCE: Duration = Duration::from_mins(3);

async fn settled_three(rig: &Rig) -> [TestNode; 3] {
    let nodes = three(rig, Runs::Everything).await;
    settled(&nodes).await;
    nodes
}

/// Waits until every node sees each shard where it should be, and as many everywhere as can be.
async fn settled(nodes: &[TestNode]) {
    for node in nodes {
        let is_settled = |view: &ClusterView| {
            let counts = counts(view);
            let (least, most) = (counts.values().min(), counts.values().max());
            let is_even = least
                .zip(most)
                .is_some_and(|(least, most)| most - least <= 1);
            is_even && counts.len() == nodes.len() && is_at_rest(view)
        };
        node.sees("an even spread at rest", is_settled).await;
    }
}

/// Whether every shard is owned by its target.
fn is_at_rest(view: &ClusterView) -> bool {
    view.meta.shard_count.shards().all(|shard| {
        let owner = view.live_owner(shard).map(|owner| &owner.node);
        owner.is_some() && owner == view.targets.get(shard).node.as_ref()
    })
}

/// Returns how many shards each node owns.
fn counts(view: &ClusterView) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for shard in view.meta.shard_count.shards() {
        if let Some(owner) = view.live_owner(shard) {
            *counts.entry(owner.node.to_string()).or_default() += 1;
        }
    }
    counts
}

async fn order(node: &TestNode, command: Command) -> Result<Done, Refusal> {
    node.leader.order(command, node.id.clone(), LIMIT).await
}

async fn code(node: &TestNode, command: Command) -> Option<RefusalCode> {
    order(node, command).await.err().map(|refusal| refusal.code)
}

fn shard(rig: &Rig, number: u32) -> ShardId {
    ShardId::new(number, rig.count).expect("in range")
}

fn owner(node: &TestNode, shard: ShardId) -> Option<String> {
    let view = node.view.current();
    view.live_owner(shard).map(|owner| owner.node.to_string())
}

/// A node of `nodes` that does not own the shard.
fn another(nodes: &[TestNode], shard: ShardId) -> crate::ids::NodeId {
    let owner = owner(&nodes[0], shard);
    let other = nodes.iter().find(|node| Some(node.id.to_string()) != owner);
    other.expect("three nodes").id.clone()
}

#[tokio::test(start_paused = true)]
async fn s2_a_move_is_carried_out_and_asking_again_changes_nothing() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let shard = shard(&rig, 3);
    let to = another(&nodes, shard);
    let command = Command::Move {
        moves: vec![(shard, to.clone())],
    };
    let done = order(&nodes[0], command.clone()).await.expect("it can be");
    assert!(done.changed);
    let plan = done.plan.expect("a plan");
    assert_eq!((plan.reason.as_str(), plan.moves.len()), ("manual", 1));
    assert!(plan.trigger.contains("by way of a"), "{}", plan.trigger);
    nodes[0]
        .sees("the shard there", |view| {
            view.live_owner(shard).is_some_and(|owner| owner.node == to)
        })
        .await;
    let again = order(&nodes[0], command).await.expect("it is so");
    assert!(!again.changed && again.plan.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_with_the_reason_and_changes_nothing() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let a = &nodes[0];
    let before = a.view.current().targets.clone();
    let one = shard(&rig, 1);
    let to = |name: &str| Command::Move {
        moves: vec![(one, id(name))],
    };
    assert_eq!(code(a, to("z")).await, Some(RefusalCode::UnknownNode));
    let twice = Command::Move {
        moves: vec![(one, id("b")), (one, id("c"))],
    };
    assert_eq!(code(a, twice).await, Some(RefusalCode::Malformed));
    let plan = PlanId::new(1);
    let abort = Command::Abort {
        plan,
        reverse: false,
    };
    assert_eq!(code(a, abort).await, Some(RefusalCode::UnknownPlan));
    let cordon = Command::Cordon { node: id("z") };
    assert_eq!(code(a, cordon).await, Some(RefusalCode::UnknownNode));
    assert!(
        before
            .changed_since(&a.view.current().targets)
            .next()
            .is_none()
    );
    let refused = order(&nodes[1], Command::Pause)
        .await
        .expect_err("b does not lead");
    assert_eq!(
        (refused.code, refused.leader),
        (RefusalCode::NotLeader, Some(id("a")))
    );
}

#[tokio::test(start_paused = true)]
async fn a_pinned_shard_stays_whoever_joins_and_moves_again_once_unpinned() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let pinned: Vec<ShardId> = rig.count.shards().collect();
    for shard in &pinned {
        let command = Command::Pin {
            shard: *shard,
            node: None,
        };
        assert!(order(&nodes[0], command).await.expect("pinned").changed);
    }
    let before: Vec<_> = pinned
        .iter()
        .map(|shard| owner(&nodes[0], *shard))
        .collect();
    let _d = rig.join("d", Runs::Everything).await;
    tokio::time::sleep(JOINS).await; // Nothing is to happen, for as long as anything could.
    let after: Vec<_> = pinned
        .iter()
        .map(|shard| owner(&nodes[0], *shard))
        .collect();
    assert_eq!(before, after);
    let elsewhere = Command::Move {
        moves: vec![(pinned[0], another(&nodes, pinned[0]))],
    };
    assert_eq!(code(&nodes[0], elsewhere).await, Some(RefusalCode::Pinned));
    for shard in pinned {
        let done = order(&nodes[0], Command::Unpin { shard }).await;
        assert!(done.expect("unpinned").changed);
    }
    nodes[0]
        .sees("shards at d", |view| counts(view).get("d") == Some(&4))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_keeps_what_it_has_and_gets_nothing() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let cordon = Command::Cordon { node: id("b") };
    assert!(
        order(&nodes[0], cordon.clone())
            .await
            .expect("done")
            .changed
    );
    assert!(!order(&nodes[0], cordon).await.expect("it is so").changed);
    let kept = targeted(&nodes[0])["b"];
    nodes[2].crash().await;
    let without_c = |view: &ClusterView| !counts(view).contains_key("c") && is_at_rest(view);
    nodes[0].sees("c's shards elsewhere", without_c).await;
    assert_eq!(targeted(&nodes[0])["b"], kept, "all of c's went to a");
    let free = shard(&rig, 0);
    let to_b = Command::Move {
        moves: vec![(free, id("b"))],
    };
    if owner(&nodes[0], free).as_deref() != Some("b") {
        assert_eq!(code(&nodes[0], to_b).await, Some(RefusalCode::Cordoned));
    }
    let uncordon = Command::Uncordon { node: id("b") };
    assert!(order(&nodes[0], uncordon).await.expect("done").changed);
    settled(&nodes[..2]).await;
    assert_eq!(targeted(&nodes[0]), spread([("a", 8), ("b", 8)]));
}

#[tokio::test(start_paused = true)]
async fn while_balancing_is_paused_a_node_that_joins_gets_nothing() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    assert!(
        order(&nodes[0], Command::Pause)
            .await
            .expect("done")
            .changed
    );
    let d = rig.join("d", Runs::Everything).await;
    tokio::time::sleep(JOINS).await; // Nothing is to happen, for as long as anything could.
    assert_eq!(targeted(&nodes[0]).get("d"), None);
    let asked = Command::Rebalance {
        dry_run: false,
        strategy: None,
    };
    assert_eq!(code(&nodes[0], asked).await, Some(RefusalCode::Paused));
    let dry = Command::Rebalance {
        dry_run: true,
        strategy: None,
    };
    let would = order(&nodes[0], dry).await.expect("it tells");
    assert_eq!(would.plan.expect("a plan").moves.len(), 4);
    assert_eq!(targeted(&nodes[0]).get("d"), None, "it only told");
    assert!(
        order(&nodes[0], Command::Resume)
            .await
            .expect("done")
            .changed
    );
    d.sees("its share", |view| counts(view).get("d") == Some(&4))
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_plan_cancels_what_waits_and_moves_back_what_moved_if_asked() {
    for reverse in [false, true] {
        let rig = Rig::new(512);
        let nodes = settled_three(&rig).await;
        for node in &nodes {
            node.host.closings_take(Duration::from_millis(100));
        }
        let d = rig.join("d", Runs::Everything).await;
        nodes[0]
            .sees("moves to d", |view| {
                let to_d = |target: &Target| target.node == Some(id("d"));
                view.targets.iter().any(|(_, target)| to_d(target))
            })
            .await;
        let plan = PlanId::new(last_plan(&rig).await);
        let abort = Command::Abort { plan, reverse };
        let done = order(&nodes[0], abort.clone()).await.expect("it can be");
        assert!(
            done.changed && done.text.contains("paused"),
            "{}",
            done.text
        );
        let record = recorded(&rig, plan, |record| record.ended_at.is_some()).await;
        assert_eq!(record.outcome, PlanOutcome::Aborted);
        let at_d = |view: &ClusterView| counts(view).get("d").copied().unwrap_or(0);
        if reverse {
            let is_back = |view: &ClusterView| at_d(view) == 0 && is_at_rest(view);
            nodes[0].sees("all back", is_back).await;
        } else {
            nodes[0].sees("what moved there", is_at_rest).await;
            let at_d = at_d(&nodes[0].view.current());
            assert!(at_d > 0 && at_d < 128, "{at_d}");
        }
        assert!(!order(&nodes[0], abort).await.expect("it has ended").changed);
        drop(d);
    }
}

/// The planner is asked again while moves wait for their wave, and answers those too.
#[tokio::test(start_paused = true)]
async fn moves_that_wait_stay_in_their_plan() {
    let rig = Rig::new(512);
    let nodes = settled_three(&rig).await;
    for node in &nodes {
        node.host.closings_take(Duration::from_millis(100));
    }
    order(&nodes[0], Command::Pause).await.expect("it can be");
    let view = nodes[0].view.current();
    let of_a = view.meta.shard_count.shards();
    let of_a = of_a.filter(|shard| view.targets.get(*shard).node == Some(id("a")));
    let moves: Vec<(ShardId, NodeId)> = of_a.map(|shard| (shard, id("b"))).collect();
    let count = moves.len();
    order(&nodes[0], Command::Move { moves })
        .await
        .expect("it can be");
    let plan = last_plan(&rig).await;
    let record = recorded(&rig, PlanId::new(plan), |record| record.ended_at.is_some()).await;
    assert_eq!(record.outcome, PlanOutcome::Done);
    assert_eq!(record.counts().done as usize, count);
    assert!(record.waves > 1, "{} waves", record.waves);
    assert_eq!(last_plan(&rig).await, plan, "no other plan took them over");
}

#[tokio::test(start_paused = true)]
async fn s1_19_a_command_about_nothing_changes_nothing() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let before = last_plan(&rig).await;
    let nothing = Command::Move { moves: Vec::new() };
    assert!(!order(&nodes[0], nothing).await.expect("it is so").changed);
    assert_eq!(last_plan(&rig).await, before, "no plan came of it");
}

#[tokio::test(start_paused = true)]
async fn a_command_whose_write_is_of_unknown_outcome_is_answered_once_it_is_so() {
    for fault in [CommitFault::LoseReply, CommitFault::Fail] {
        let rig = Rig::new(16);
        let nodes = settled_three(&rig).await;
        nodes[0].client.faults().on_commit(1, fault);
        let cordon = Command::Cordon { node: id("b") };
        order(&nodes[0], cordon).await.expect("carried out");
        let cordoned = |view: &ClusterView| view.orders.cordoned.contains(&id("b"));
        nodes[2].sees("the cordon", cordoned).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s2_what_a_node_does_not_claim_goes_to_another() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    // It registers and takes shards, but nothing of it ever claims one.
    let idle = rig.join("d", Runs::LeaderOnly).await;
    idle.sees("its share", |view| {
        let is_at_d = |target: &Target| target.node == Some(id("d"));
        view.targets.iter().any(|(_, target)| is_at_d(target))
    })
    .await;
    nodes[2].crash().await;
    let at_two = |view: &ClusterView| {
        let counts = counts(view);
        !counts.contains_key("c") && counts.values().sum::<usize>() == 16
    };
    nodes[0].sees("all shards at a and b", at_two).await;
    let metrics = &nodes[0].metrics.coordination;
    let labels = crate::telemetry::GivenUpLabels { phase: "claiming" };
    assert!(metrics.moves_given_up.get_or_create(&labels).get() > 0);
    let insight = nodes[0].leader.insight(None, LIMIT).await;
    insight.expect("a leads still");
}

#[tokio::test(start_paused = true)]
async fn s2_what_an_owner_does_not_hand_over_stays_and_the_plan_says_so() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let shard = shard(&rig, 3);
    let from = owner(&nodes[0], shard).expect("owned");
    let holder = nodes
        .iter()
        .find(|node| node.id.as_str() == from)
        .expect("it");
    holder.host.stick(shard, true);
    let to = another(&nodes, shard);
    let moved = Command::Move {
        moves: vec![(shard, to)],
    };
    let plan = order(&nodes[0], moved)
        .await
        .expect("begun")
        .plan
        .expect("one");
    let record = recorded(&rig, plan.id, |record| record.ended_at.is_some()).await;
    assert_eq!(record.outcome, PlanOutcome::Failed);
    let stays = |view: &ClusterView| view.targets.get(shard).node == Some(id(&from));
    nodes[0].sees("the shard meant to stay", stays).await;
    let stuck = record
        .events
        .iter()
        .any(|event| event.text.contains("has not handed shard 3"));
    assert!(stuck, "{:?}", record.events);
}

#[tokio::test(start_paused = true)]
async fn a_pinned_shard_that_is_not_handed_over_is_reported_and_stays_pinned_to_its_node() {
    let rig = Rig::new(16);
    let nodes = settled_three(&rig).await;
    let shard = shard(&rig, 3);
    let from = owner(&nodes[0], shard).expect("owned");
    let holder = nodes
        .iter()
        .find(|node| node.id.as_str() == from)
        .expect("it");
    holder.host.stick(shard, true);
    let to = another(&nodes, shard);
    let pinned = Command::Pin {
        shard,
        node: Some(to.clone()),
    };
    let plan = order(&nodes[0], pinned)
        .await
        .expect("begun")
        .plan
        .expect("one");
    recorded(&rig, plan.id, |record| !record.events.is_empty()).await;
    // It is told once, and the shard stays as it is, for as long as anything more could happen.
    tokio::time::sleep(PlanSettings::default().leaving_limit).await;
    let target = nodes[0].view.current().targets.get(shard).clone();
    assert_eq!((target.node.as_ref(), target.pinned), (Some(&to), true));
    holder.host.stick(shard, false);
    let there = |view: &ClusterView| view.live_owner(shard).is_some_and(|owner| owner.node == to);
    nodes[0]
        .sees("the shard where it is pinned to", there)
        .await;
    let ended = recorded(&rig, plan.id, |record| record.ended_at.is_some()).await;
    assert_eq!(ended.events.len(), 1, "{:?}", ended.events);
}

async fn last_plan(rig: &Rig) -> u64 {
    let listing = rig.store.list(&rig.keys.plans()).await.expect("no faults");
    let ids = listing
        .entries
        .iter()
        .filter_map(|entry| rig.keys.plan_id(&entry.key));
    ids.map(PlanId::get).max().expect("a plan")
}

/// Waits until the store has a plan as wished, and returns it.
async fn recorded(rig: &Rig, plan: PlanId, wished: impl Fn(&PlanRecord) -> bool) -> PlanRecord {
    let all = rig.store.watch(&rig.keys.plans(), Revision::new(1)).await;
    let mut all = all.expect("no faults here");
    let read = async {
        loop {
            let batch = all.next().await.expect("the store is there");
            for event in batch.expect("no faults here").events {
                let Event::Put(entry) = event else { continue };
                let record = keys::decode_plan(&entry, &rig.keys, rig.count).expect("readable");
                if record.id == plan && wished(&record) {
                    return record;
                }
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.expect("the plan never came that far")
}

#[tokio::test(start_paused = true)]
async fn a_move_that_upsets_the_division_is_answered_by_another() {
    let rig = Rig::new(16);
    let nodes = [
        rig.join("a", Runs::Everything).await,
        rig.join("b", Runs::Everything).await,
    ];
    settled(&nodes).await;
    let shard = shard(&rig, 3);
    let to = another(&nodes, shard);
    let moves = vec![(shard, to.clone())];
    order(&nodes[0], Command::Move { moves })
        .await
        .expect("it can be");
    nodes[0]
        .sees("the shard there", |view| {
            view.live_owner(shard).is_some_and(|owner| owner.node == to)
        })
        .await;
    settled(&nodes).await;
    assert_eq!(owner(&nodes[0], shard), Some(to.to_string()), "it stays");
}
