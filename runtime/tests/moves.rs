//! Planned moves in whole clusters: no call fails, and objects without storage lose nothing.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use steading::coordination::commands::RefusalCode;
use steading::coordination::plans::PlanCheck;
use steading::object::ObjectQuery;
use steading::placement::planner::Reason;
use steading::placement::{ClusterView, Weight};
use steading::testing::TestCluster;
use steading::{CallError, Node, Object, methods};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Counts in memory alone.
#[derive(Default, Serialize, Deserialize, Object)]
struct Tally {
    total: i64,
}

#[methods]
impl Tally {
    fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    /// Adds, but takes a while about it.
    async fn slowly_add(&mut self, n: i64) -> i64 {
        sleep(Duration::from_millis(3)).await;
        self.add(n)
    }
}

/// Callers that call without a pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<Result<(), CallError>>>,
}

impl Load {
    /// Each caller has an object of its own and calls it through this node.
    fn begin(gate: &Node, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let call = |i: usize| tokio::spawn(count_up(gate.clone(), format!("t{i}"), stop.clone()));
        let callers = (0..callers).map(call).collect();
        Self { stop, callers }
    }

    /// Ends the load. Every call must have had the one right answer.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for ended in join_all(self.callers).await {
            ended.expect("no panic").expect("no call fails");
        }
    }
}

async fn count_up(gate: Node, id: String, stop: Arc<AtomicBool>) -> Result<(), CallError> {
    let tally = gate.object::<Tally>(&id);
    for n in 1.. {
        let total = if n % 2 == 0 {
            tally.add(1).await?
        } else {
            tally.slowly_add(1).await?
        };
        assert_eq!(total, n, "{id}: nothing is lost and nothing runs twice");
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep(Duration::from_millis(1)).await; // Steady load, not a wait for something.
    }
    Ok(())
}

async fn cluster(nodes: usize) -> TestCluster {
    let builder = TestCluster::builder().nodes(nodes).register::<Tally>();
    let mut cluster = builder.start().await;
    cluster
        .add_with("gate", |node| node.weight(Weight::GATE))
        .await;
    cluster
}

/// Ends a test: no owner ever took a shard from a live one.
async fn finish(mut cluster: TestCluster) {
    cluster.stop_all().await;
    assert_eq!(cluster.history().violations(), []);
}

fn owned_by(view: &ClusterView, name: &str) -> usize {
    let owner = |shard| view.live_owner(shard);
    let shards = view.meta.shard_count.shards();
    shards
        .filter(|shard| owner(*shard).is_some_and(|owner| owner.node.as_str() == name))
        .count()
}

#[tokio::test(start_paused = true)]
async fn n2_no_call_fails_and_nothing_is_lost_while_a_node_joins() {
    let mut cluster = cluster(3).await;
    let load = Load::begin(cluster.node("gate"), 200);
    cluster.add("n4").await;
    cluster
        .wait_until("n4 owns its share", |view| owned_by(view, "n4") == 16)
        .await;
    load.end().await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn n7_no_call_fails_and_nothing_is_lost_while_a_node_drains() {
    for leaving in ["n1", "n2", "n3"] {
        let mut cluster = cluster(3).await;
        let load = Load::begin(cluster.node("gate"), 200);
        sleep(Duration::from_millis(100)).await; // Objects are everywhere.
        cluster.stop(leaving).await;
        load.end().await;
        finish(cluster).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_not_drained_by_command_where_nobody_would_take_its_shards() {
    let mut cluster = cluster(2).await;
    let [n1, n2, gate] = ["n1", "n2", "gate"].map(|name| cluster.node(name).clone());
    let operator = gate.cluster();
    let cordoned = operator.cordon(n2.id().clone()).await.expect("carried out");
    assert!(cordoned.changed);
    let knows = |view: &ClusterView| view.orders.cordoned.contains(n2.id());
    cluster.wait_until("the cordon is known", knows).await;
    let refusal = operator.drain(n1.id()).await.expect_err("n2 takes nothing");
    assert_eq!(refusal.code, RefusalCode::NotATaker, "{}", refusal.detail);
    operator
        .uncordon(n2.id().clone())
        .await
        .expect("carried out");
    let free = |view: &ClusterView| !view.orders.cordoned.contains(n2.id());
    cluster.wait_until("it takes shards again", free).await;
    assert!(operator.drain(n1.id()).await.expect("it can").changed);
    n1.drained().await;
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn s2_54_no_call_fails_and_nothing_is_lost_while_all_nodes_restart_one_by_one() {
    let mut cluster = cluster(3).await;
    let load = Load::begin(cluster.node("gate"), 200);
    for name in ["n1", "n2", "n3"] {
        cluster.stop(name).await;
        cluster.add(name).await;
        cluster
            .wait_until("it has its share again", |view| owned_by(view, name) >= 21)
            .await;
    }
    load.end().await;
    finish(cluster).await;
}

/// Stays behind when its shard moves, and is not counted.
#[derive(Default, Object)]
#[object(transient)]
struct Fleeting {
    calls: u32,
}

#[methods]
impl Fleeting {
    fn call(&mut self) {
        self.calls += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn s0_24_a_plan_tells_how_many_objects_were_sent_and_taken_in() {
    let builder = TestCluster::builder().nodes(3).register::<Tally>();
    let mut cluster = builder.register::<Fleeting>().start().await;
    cluster.settled().await;
    for i in 0..300 {
        let (node, id) = (cluster.node("n1"), format!("t{i}"));
        node.object::<Tally>(&id).add(1).await.expect("a call");
        node.object::<Fleeting>(&id).call().await.expect("a call");
    }
    cluster.add("n4").await;
    cluster
        .wait_until("n4 owns its share", |view| owned_by(view, "n4") == 16)
        .await;
    let n4 = cluster.node("n4");
    let of_n4 = ObjectQuery {
        limit: 1000,
        ..ObjectQuery::default()
    };
    let moved = n4.objects(&of_n4, Some(n4.id())).await.expect("it tells");
    assert!(moved.len() > 30, "about a quarter: {}", moved.len());
    let check = counted(n4, Reason::Join).await;
    assert_eq!(check.checked, 16);
    let sums = (check.objects_before, check.objects_after);
    assert_eq!(sums, (Some(moved.len() as u64), Some(moved.len() as u64)));
    // Who takes over from the dead gets no state, so there is nothing to compare.
    cluster.crash("n4").await;
    cluster.settled().await;
    let check = counted(cluster.node("n1"), Reason::Failure).await;
    let sums = (check.objects_before, check.objects_after);
    assert_eq!((check.checked, sums), (16, (Some(0), Some(0))));
}

/// Waits until the objects of the newest plan of this reason are counted.
async fn counted(node: &Node, reason: Reason) -> PlanCheck {
    for _ in 0..1000 {
        let plans = node.cluster().plans().await.expect("the store answers");
        let newest = plans.iter().find(|plan| plan.reason == reason);
        let check = newest.and_then(|plan| plan.check);
        if let Some(check) = check.filter(|check| check.objects_after.is_some()) {
            return check;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the objects of no {reason:?} plan were counted");
}
