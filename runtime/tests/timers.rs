//! Timers of objects in whole clusters: planned moves keep them, and crashes do not.

#![allow(clippy::unused_self, reason = "a method has a receiver, used or not")]

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steading::ids::{NodeId, ShardId};
use steading::placement::ClusterView;
use steading::testing::TestCluster;
use steading::{Context, Object, Timer, TimerError, methods};
use tokio::time::{Instant, sleep, sleep_until};

/// So many objects, over all shards.
const CLOCKS: usize = 100;

/// Every tick: whose, its number, and when.
static TICKS: Mutex<Vec<(String, u32, Instant)>> = Mutex::new(Vec::new());

/// Ticks every second, and counts that.
#[derive(Default, Serialize, Deserialize, Object)]
struct Ticking {
    ticks: u32,
}

#[methods]
impl Ticking {
    fn begin(&mut self, ctx: &Context) -> Result<(), String> {
        let every = Timer::every(Duration::from_secs(1));
        let set = ctx.set_timer("tick", every, "tick", ());
        set.map_err(|error: TimerError| error.to_string())
    }

    fn tick(&mut self, ctx: &Context) {
        self.ticks += 1;
        let tick = (ctx.id().to_owned(), self.ticks, Instant::now());
        TICKS.lock().push(tick);
    }

    fn timers(&self, ctx: &Context) -> usize {
        ctx.timers().len()
    }
}

/// Returns the numbers of an object's ticks and their milliseconds since `start`.
fn ticks(id: &str, start: Instant) -> Vec<(u32, u128)> {
    let all = TICKS.lock();
    let mine = all.iter().filter(|(whose, _, _)| whose == id);
    mine.map(|(_, n, at)| (*n, (*at - start).as_millis()))
        .collect()
}

async fn cluster(nodes: usize) -> TestCluster {
    let builder = TestCluster::builder().nodes(nodes).register::<Ticking>();
    let mut cluster = builder.start().await;
    cluster.settled().await;
    cluster
}

/// Starts the clocks of a test, all in one moment.
async fn begin(cluster: &TestCluster, test: &str) -> Instant {
    let start = Instant::now();
    for i in 0..CLOCKS {
        let id = format!("{test}-{i}");
        let ticking = cluster.node("n1").object::<Ticking>(&id);
        let set = ticking.begin().await.expect("a good call");
        set.expect("it is within its bounds");
    }
    start
}

/// Every clock has ticked once a second, each time one more, and none of them twice.
fn check_all(test: &str, start: Instant, seconds: u32) {
    for i in 0..CLOCKS {
        let ticks = ticks(&format!("{test}-{i}"), start);
        let numbers: Vec<_> = ticks.iter().map(|(n, _)| *n).collect();
        let expected: Vec<_> = (1..=seconds).collect();
        assert_eq!(numbers, expected, "{test}-{i}: {ticks:?}");
        for (n, at) in ticks {
            let late = at - u128::from(n) * 1000;
            assert!(late < 200, "{test}-{i}: tick {n} is {late} ms late");
        }
    }
}

fn owner(view: &ClusterView, shard: ShardId) -> Option<&NodeId> {
    view.live_owner(shard).map(|owner| &owner.node)
}

#[tokio::test(start_paused = true)]
async fn n16_timers_tick_on_through_a_planned_move() {
    let mut cluster = cluster(2).await;
    let start = begin(&cluster, "moved").await;
    sleep(Duration::from_millis(2500)).await;
    let (before, other) = (cluster.view(), |owner: &NodeId| match owner.as_str() {
        "n1" => "n2".parse::<NodeId>().expect("a good name"),
        _ => "n1".parse().expect("a good name"),
    });
    let all = before.meta.shard_count.shards();
    let moves = all.filter_map(|shard| Some((shard, other(owner(&before, shard)?))));
    let moved = cluster.node("n1").cluster().move_shards(moves).await;
    moved.expect("the leader does it");
    cluster
        .wait_until("each shard is on the other node", |view| {
            let mut all = view.meta.shard_count.shards();
            all.all(|shard| owner(view, shard) == owner(&before, shard).map(other).as_ref())
        })
        .await;
    let until_here = start.elapsed();
    assert!(until_here < Duration::from_millis(2900), "{until_here:?}");
    sleep_until(start + Duration::from_millis(5700)).await;
    check_all("moved", start, 5);
}

#[tokio::test(start_paused = true)]
async fn n7_timers_tick_on_through_a_drain_and_a_rolling_restart() {
    let mut cluster = cluster(3).await;
    let start = begin(&cluster, "drained").await;
    for name in ["n1", "n2", "n3"] {
        sleep(Duration::from_millis(1500)).await;
        cluster.stop(name).await;
        cluster.add(name).await;
        cluster.settled().await;
    }
    let seconds = u32::try_from(start.elapsed().as_secs()).expect("not that long") + 1;
    let until = start + Duration::from_secs(seconds.into()) + Duration::from_millis(500);
    sleep_until(until).await;
    check_all("drained", start, seconds);
    cluster.stop_all().await;
    assert_eq!(cluster.history().violations(), []);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_timers_and_nothing_ticks_under_a_lost_lease() {
    let mut cluster = cluster(2).await;
    let start = begin(&cluster, "crashed").await;
    sleep(Duration::from_millis(1500)).await;
    let view = cluster.view();
    let lost = view.nodes[&"n2".parse::<NodeId>().expect("a good name")].incarnation;
    cluster.cut_from_store("n2");
    cluster
        .wait_until("the lease of n2 is over", |view| {
            view.nodes.values().all(|record| record.incarnation != lost)
        })
        .await;
    let over = start.elapsed().as_millis();
    sleep(Duration::from_secs(5)).await;
    let mut still = 0;
    for i in 0..CLOCKS {
        let id = format!("crashed-{i}");
        let ticking = cluster.node("n1").object::<Ticking>(&id);
        let timers = ticking.timers().await.expect("a good call");
        still += timers;
        let after = ticks(&id, start).iter().any(|(_, at)| *at > over);
        assert_eq!(
            after,
            timers == 1,
            "{id} ticks if it is where it was, and else no more"
        );
    }
    assert!((20..80).contains(&still), "about half of them: {still}");
}
