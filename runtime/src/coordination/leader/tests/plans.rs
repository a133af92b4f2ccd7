//! Plans as objects: what they say while they run and when they have ended, whoever leads.

use super::*;
use crate::coordination::plans::{
    MOVES_LISTED_MAX, MoveCounts, MovePhase, PlanEventKind, PlanOutcome, PlanRecord,
};
use crate::placement::ClusterView;
use crate::placement::planner::Reason;

/// How long a hand-over takes in tests that look at it while it is under way.
const SLOW: Duration = Duration::from_millis(100);

/// Far above what any of these plans takes; on the paused clock it costs nothing.
const LONG: Duration = Duration::from_mins(1);

async fn records(rig: &Rig) -> Vec<PlanRecord> {
    let listing = rig
        .store
        .list(&rig.keys.plans())
        .await
        .expect("no faults here");
    let read = |entry| keys::decode_plan(entry, &rig.keys, rig.count).expect("readable");
    listing.entries.iter().map(read).collect()
}

async fn last(rig: &Rig) -> PlanRecord {
    records(rig).await.pop().expect("a plan")
}

/// Three nodes that share `shards`, with hand-overs that take [`SLOW`], at the moment when a
/// fourth has joined and the first wave of its plan is under way.
async fn fourth_joins(rig: &Rig) -> (Vec<TestNode>, PlanRecord) {
    let mut nodes = Vec::from(three(rig, Runs::Everything).await);
    tokio::time::sleep(JOINS).await;
    for node in &nodes {
        node.host.closings_take(SLOW);
    }
    nodes.push(rig.join("d", Runs::Everything).await);
    let begun = |view: &ClusterView| {
        view.targets
            .iter()
            .any(|(_, t)| t.node.as_ref().is_some_and(|n| n.as_str() == "d"))
    };
    nodes[0].sees("moves to d", begun).await;
    let plan = last(rig).await;
    (nodes, plan)
}

fn moving(view: &ClusterView) -> usize {
    let shards = view.meta.shard_count.shards();
    let moves = |shard: &_| {
        let owner = view.live_owner(*shard).map(|owner| &owner.node);
        owner.is_some() && owner != view.targets.get(*shard).node.as_ref()
    };
    shards.filter(moves).count()
}

#[tokio::test(start_paused = true)]
async fn a_plan_tells_what_it_moves_and_why_and_how_far_it_is() {
    let rig = Rig::new(512);
    let (nodes, begun) = fourth_joins(&rig).await;
    let term = rig.term().await.expect("a leader");
    assert_eq!(
        (begun.reason, begun.trigger.as_str()),
        (Reason::Join, "d takes its share")
    );
    assert_eq!((begun.leader.clone(), begun.term), (node("a"), term));
    assert_eq!(
        (begun.outcome, begun.percent(), begun.least),
        (PlanOutcome::Running, 0, 128)
    );
    let counts = MoveCounts {
        pending: 96,
        ordered: 32,
        ..Default::default()
    };
    assert_eq!(begun.counts(), counts, "one wave is under way");
    for step in &begun.moves {
        assert!(step.from.as_ref().is_some_and(|from| *from != node("d")));
        assert_eq!((step.to.clone(), step.reason), (node("d"), Reason::Join));
        assert_eq!(step.ordered_at.is_some(), step.phase == MovePhase::Ordered);
    }

    tokio::time::sleep(LONG).await;
    let ended = last(&rig).await;
    assert_eq!(
        (ended.id, ended.outcome, ended.percent()),
        (begun.id, PlanOutcome::Done, 100)
    );
    assert_eq!(
        ended.counts(),
        MoveCounts {
            done: 128,
            ..Default::default()
        }
    );
    let check = ended.check.expect("it was looked at");
    assert!(check.is_good() && check.checked == 128, "{check:?}");
    assert!(
        ended.waves >= 4 && ended.took() >= 4 * SLOW && ended.took() < LONG / 2,
        "{ended:?}"
    );
    let times = ended
        .moves
        .iter()
        .map(|step| (step.ordered_at, step.ended_at));
    assert!(
        times
            .clone()
            .all(|(ordered, ended)| ordered.is_some() && ordered < ended)
    );
    assert_eq!(nodes[3].host.open_shards().len(), 128);
}

#[tokio::test(start_paused = true)]
async fn the_estimate_of_the_end_comes_true() {
    let rig = Rig::new(512);
    let (nodes, begun) = fourth_joins(&rig).await;
    for node in &nodes {
        node.host.closings_take(10 * SLOW);
    }
    let halfway = loop {
        tokio::time::sleep(SLOW).await;
        let plan = last(&rig).await;
        if plan.percent() >= 50 {
            break plan;
        }
    };
    let expected = halfway.ends_at().expect("some of it has ended");
    tokio::time::sleep(LONG).await;
    let ended = last(&rig).await.ended_at.expect("it has ended");
    let since = |at: SystemTime| {
        at.duration_since(begun.created_at)
            .expect("later")
            .as_secs_f64()
    };
    let ratio = since(ended) / since(expected);
    assert!((0.6..1.5).contains(&ratio), "{ratio}");
}

#[tokio::test(start_paused = true)]
async fn never_more_moves_are_under_way_than_the_budget_allows() {
    let rig = Rig::new(512);
    let (nodes, _) = fourth_joins(&rig).await;
    let mut views = nodes[3].view.subscribe();
    let mut most = 0;
    let all_there = async {
        loop {
            let view = views.borrow_and_update().clone();
            most = most.max(moving(&view));
            if nodes[3].host.open_shards().len() == 128 {
                return;
            }
            views.changed().await.expect("the node lives");
        }
    };
    tokio::time::timeout(LONG, all_there)
        .await
        .expect("all moves end");
    assert_eq!(most, 32, "towards one node");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_serves_is_placed_at_once_beside_a_plan_that_runs() {
    let rig = Rig::new(512);
    let (nodes, begun) = fourth_joins(&rig).await;
    nodes[1].crash().await;
    tokio::time::sleep(ORPHANS).await;
    let records = records(&rig).await;
    let failure = records.iter().find(|plan| plan.reason == Reason::Failure);
    let failure = failure.expect("a plan of its own");
    assert_eq!(failure.trigger, "b went away");
    assert_eq!(failure.counts().pending, 0, "no budget holds it up");
    let total = failure.counts().total();
    assert!((100..=171).contains(&total), "{total}");
    tokio::time::sleep(LONG).await;
    let open = [0, 2, 3].map(|i: usize| nodes[i].host.open_shards().len());
    assert!(
        open.iter().all(|open| (170..=171).contains(open)),
        "{open:?}"
    );
    let plans = self::records(&rig).await;
    assert!(
        plans
            .iter()
            .all(|plan| plan.outcome != PlanOutcome::Running),
        "{plans:?}"
    );
    let first = plans
        .iter()
        .find(|plan| plan.id == begun.id)
        .expect("it is kept");
    let (counts, events) = (first.counts(), &first.events);
    assert!(counts.cancelled > 0, "orphans took the room: {counts:?}");
    assert_eq!(
        events.last().map(|event| event.kind),
        Some(PlanEventKind::Dropped)
    );
}

#[tokio::test(start_paused = true)]
async fn a_plan_gives_way_when_the_cluster_changes_under_it() {
    let rig = Rig::new(512);
    let (mut nodes, begun) = fourth_joins(&rig).await;
    for node in &nodes {
        node.host.closings_take(10 * SLOW);
    }
    nodes.push(rig.join("e", Runs::Everything).await);
    tokio::time::sleep(LONG).await;
    let plans = records(&rig).await;
    let (first, second) = (&plans[plans.len() - 2], &plans[plans.len() - 1]);
    assert_eq!(
        (first.id, first.outcome),
        (begun.id, PlanOutcome::Superseded(second.id))
    );
    assert_eq!(
        first.counts().done,
        32 * first.waves,
        "what was under way went on"
    );
    assert!(first.counts().cancelled > 0 && first.check.expect("a check").is_good());
    assert_eq!(
        (second.reason, second.outcome),
        (Reason::Join, PlanOutcome::Done)
    );
    let open = nodes.iter().map(|node| node.host.open_shards().len());
    assert!(
        open.clone().all(|open| (102..=103).contains(&open)),
        "{:?}",
        open.collect::<Vec<_>>()
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_goes_on_with_a_plan_in_the_middle_of_it() {
    let rig = Rig::new(512);
    let (nodes, begun) = fourth_joins(&rig).await;
    let term = rig.term().await;
    rig.run(vec![Op::Delete(rig.keys.leader())]).await;
    tokio::time::sleep(LONG).await;
    let ended = last(&rig).await;
    assert_eq!((ended.id, ended.outcome), (begun.id, PlanOutcome::Done));
    assert_eq!(
        ended.counts(),
        MoveCounts {
            done: 128,
            ..Default::default()
        }
    );
    assert!(Some(ended.term) > term, "another reign ended it");
    let continued: Vec<_> = ended.events.iter().map(|event| event.kind).collect();
    assert_eq!(continued, [PlanEventKind::Continued]);
    assert_eq!(nodes[3].host.open_shards().len(), 128);
}

#[tokio::test(start_paused = true)]
async fn the_next_leader_knows_what_a_long_plan_did_not_list() {
    let rig = Rig::new(4096);
    let a = rig.join("a", Runs::Everything).await;
    a.client.faults().on_commit(3, CommitFault::Delay(SLOW)); // Its first claims.
    let ordered = |view: &ClusterView| view.targets.iter().all(|(_, t)| t.node.is_some());
    a.sees("every shard has a target", ordered).await;
    let begun = last(&rig).await;
    assert_eq!(begun.moves.len(), MOVES_LISTED_MAX);
    assert_eq!(begun.unlisted.ordered as usize, 4096 - MOVES_LISTED_MAX);
    rig.run(vec![Op::Delete(rig.keys.leader())]).await;
    tokio::time::sleep(LONG).await;
    let ended = last(&rig).await;
    assert_eq!((ended.id, ended.outcome), (begun.id, PlanOutcome::Done));
    assert_eq!(
        ended.counts(),
        MoveCounts {
            done: 4096,
            ..Default::default()
        }
    );
    assert_eq!(ended.check.expect("a check").checked, 4096);
}

#[tokio::test(start_paused = true)]
async fn each_write_of_a_plan_may_fail_be_lost_or_late() {
    // The leader hosts nothing, so that all it writes are plans: for the join of d the plan with
    // its first wave, then further waves with progress, then the end.
    let late = Duration::from_millis(700);
    let faults = [
        CommitFault::Fail,
        CommitFault::LoseReply,
        CommitFault::Delay(late),
        CommitFault::ApplyLater(late),
    ];
    for nth in 1..=5 {
        for fault in faults {
            let rig = Rig::new(256);
            let leader = rig.join("a", Runs::LeaderOnly).await;
            let b = rig.join("b", Runs::ReconcilerOnly).await;
            tokio::time::sleep(JOINS).await;
            b.host.closings_take(SLOW);
            leader.client.faults().on_commit(nth, fault);
            let d = rig.join("d", Runs::ReconcilerOnly).await;
            tokio::time::sleep(JOINS + JOINS).await;
            let open = d.host.open_shards().len();
            assert_eq!(targeted(&leader).get("d"), Some(&open), "{nth} {fault:?}");
            assert_eq!(open, 85, "{nth} {fault:?}");
            let plan = last(&rig).await;
            assert_eq!(plan.reason, Reason::Join, "{nth} {fault:?}");
            // Shards that come from a, which claims none, have no owner to hand them over.
            assert_eq!(plan.outcome, PlanOutcome::Done, "{nth} {fault:?}: {plan:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_shard_remembers_the_plan_that_put_it_where_it_is() {
    let rig = Rig::new(64);
    let nodes = three(&rig, Runs::Everything).await;
    tokio::time::sleep(JOINS).await;
    let first = last(&rig).await;
    nodes[2].crash().await;
    tokio::time::sleep(JOINS).await;
    let second = last(&rig).await;
    let view = nodes[0].view.current();
    let mut counts = BTreeMap::new();
    for (_, target) in view.targets.iter() {
        let cause = target.cause.expect("a plan put it there");
        *counts.entry((cause.plan, cause.reason)).or_default() += 1;
    }
    let expected = [
        ((first.id, Reason::Unplaced), 43),
        ((second.id, Reason::Failure), 21),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
}
