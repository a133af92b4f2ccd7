//! What the metrics of whole clusters show while shards move, nodes die and calls wait.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use steading::placement::{ClusterView, Weight};
use steading::testing::TestCluster;
use steading::{Object, methods};

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

    async fn slowly_add(&mut self, n: i64) -> i64 {
        tokio::time::sleep(TURN).await;
        self.add(n)
    }
}

/// How long a slow turn takes: less than a closing may wait.
const TURN: Duration = Duration::from_secs(8);

/// Samples by their name with its labels, summed over some nodes.
struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn of(cluster: &TestCluster) -> Self {
        let mut samples = BTreeMap::new();
        for node in cluster.nodes() {
            let text = node.metrics().encode().expect("it can be written");
            for (name, value) in read(&text) {
                *samples.entry(name).or_default() += value;
            }
        }
        Self(samples)
    }

    #[track_caller]
    fn get(&self, name: &str) -> f64 {
        let value = self.0.get(&format!("steading_{name}"));
        *value.unwrap_or_else(|| panic!("no {name}"))
    }

    #[track_caller]
    fn is(&self, name: &str, expected: f64) {
        let value = self.get(name);
        assert!((value - expected).abs() < 1e-9, "{name} is {value}");
    }

    #[track_caller]
    fn rose(&self, name: &str) {
        assert!(self.get(name) > 0.0, "{name} did not rise");
    }
}

fn read(text: &str) -> impl Iterator<Item = (String, f64)> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
        (name.into(), value.parse().expect("a number"))
    })
}

async fn cluster(nodes: usize) -> TestCluster {
    let builder = TestCluster::builder().nodes(nodes).register::<Tally>();
    let mut cluster = builder.start().await;
    cluster
        .add_with("gate", |node| node.weight(Weight::GATE))
        .await;
    cluster
}

/// Calls some objects through the gate, which routes each call.
async fn call(cluster: &TestCluster, objects: usize) {
    let gate = cluster.node("gate");
    let calls = (0..objects).map(async |i| gate.object::<Tally>(&format!("t{i}")).add(1).await);
    for called in join_all(calls).await {
        called.expect("it is served");
    }
}

async fn finish(mut cluster: TestCluster) {
    cluster.stop_all().await;
    assert_eq!(cluster.history().violations(), []);
}

fn owned_by(view: &ClusterView, name: &str) -> usize {
    let shards = view.meta.shard_count.shards();
    let owners = shards.filter_map(|shard| view.live_owner(shard));
    owners.filter(|owner| owner.node.as_str() == name).count()
}

#[tokio::test(start_paused = true)]
async fn p20_s2_1_a_join_is_seen_in_the_metrics_of_moves_by_phase() {
    let mut cluster = cluster(3).await;
    call(&cluster, 200).await;
    let before = Samples::of(&cluster);
    before.is("cluster_shards{state=\"settled\"}", 64.0);
    before.is("cluster_shards_per_node{of=\"max\"}", 22.0);
    before.is("shards_owned", 64.0);
    before.is("plan_moves_total", 0.0);
    before.is("objects", 200.0);
    before.rose("claim_seconds_count");
    before.rose("routed_calls_total");
    cluster.add("n4").await;
    cluster
        .wait_until("n4 owns its share", |view| owned_by(view, "n4") == 16)
        .await;
    cluster.settled().await;
    tokio::time::sleep(Duration::from_secs(2)).await; // The leader's books and gauges are kept.
    let after = Samples::of(&cluster);
    for phase in ["close", "send", "commit", "gap", "total"] {
        let name = format!("handover_seconds_count{{phase=\"{phase}\"}}");
        assert!(after.get(&name) >= 16.0, "{name}: {}", after.get(&name));
    }
    after.is("plan_moves_total", 16.0);
    after.is("plan_moves_least_total", 16.0);
    after.is("moves_ended_total{reason=\"join\",phase=\"done\"}", 16.0);
    after.is(
        "move_seconds_count",
        16.0 + before.get("move_seconds_count"),
    );
    after.is("plans_total{reason=\"join\",outcome=\"written\"}", 1.0);
    after.is("plans_ended_total{reason=\"join\",outcome=\"done\"}", 1.0);
    after.is("cluster_shards{state=\"settled\"}", 64.0);
    after.is("cluster_shards{state=\"moving\"}", 0.0);
    after.is("cluster_shards_per_node{of=\"max\"}", 16.0);
    after.is("cluster_shards_per_node{of=\"mean\"}", 16.0);
    after.is("cluster_shards_variation", 0.0);
    after.is("cluster_oldest_move_seconds", 0.0);
    after.is("cluster_nodes{state=\"active\"}", 4.0);
    after.is("cluster_nodes{state=\"gate\"}", 1.0);
    after.rose("plan_skips_total{reason=\"settled\"}");
    after.rose("shard_lock_attempts_exclusive_total");
    after.rose("shard_lock_wait_seconds_count");
    after.rose("shard_lock_hold_seconds_count");
    after.rose("store_writes_total{outcome=\"ok\"}");
    after.rose("fence_margin_seconds");
    after.is("view_mismatches_total", 0.0);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn s2_1_a_crash_is_seen_as_time_without_an_owner_and_calls_that_waited() {
    let mut cluster = cluster(3).await;
    call(&cluster, 64).await;
    let before = Samples::of(&cluster);
    // The leader's counts would die with it.
    let leader = cluster.view().leader.clone().expect("one leads").node;
    let dies = ["n1", "n2"]
        .into_iter()
        .find(|name| *name != leader.as_str());
    let dies = dies.expect("one of two does not lead");
    let lost = u32::try_from(owned_by(&cluster.view(), dies)).expect("a few");
    cluster.crash(dies).await;
    cluster
        .wait_until("its death is known", |view| view.nodes.len() == 3)
        .await;
    call(&cluster, 64).await;
    cluster.settled().await;
    let after = Samples::of(&cluster);
    let gaps = "cluster_unowned_seconds_count";
    let gaps = after.get(gaps) - before.get(gaps);
    assert!((gaps - f64::from(lost)).abs() < 1e-9, "{gaps} of {lost}");
    after.rose("cluster_unowned_seconds_sum");
    after.is("cluster_shards{state=\"unowned\"}", 0.0);
    after.is("cluster_oldest_unowned_seconds", 0.0);
    after.rose("parked_total");
    after.rose("parked_seconds_count");
    after.is("parked_calls", 0.0);
    after.rose("batches_total{step=\"take_over\",outcome=\"committed\"}");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn s2_1_moves_that_wait_for_turns_are_told_with_their_phase_and_age() {
    let mut cluster = cluster(3).await;
    let gate = cluster.node("gate").clone();
    let turns = (0..200).map(|i| {
        let tally = gate.object::<Tally>(&format!("t{i}"));
        tokio::spawn(async move { tally.slowly_add(1).await })
    });
    let turns: Vec<_> = turns.collect();
    cluster.add("n4").await;
    tokio::time::sleep(TURN / 2).await; // The turns run on, and the moves wait for them.
    let meanwhile = Samples::of(&cluster);
    // Those of the 16 that have objects.
    meanwhile.rose("cluster_shards{state=\"moving\"}");
    let moving = meanwhile.get("cluster_shards{state=\"moving\"}");
    meanwhile.is("shards_closing", moving);
    meanwhile.is("shard_lock_wanted_exclusive", moving);
    let half = TURN.as_secs_f64() / 2.0;
    for name in [
        "cluster_oldest_move_seconds",
        "oldest_in_phase_seconds{phase=\"close\"}",
    ] {
        let age = meanwhile.get(name);
        // Of at most three nodes that close, each of which looks once a second.
        assert!(
            (half - 2.0..3.0 * half + 1.0).contains(&age),
            "{name}: {age}"
        );
    }
    for turn in turns {
        let added = turn.await.expect("no panic");
        assert_eq!(added.expect("it is served"), 1);
    }
    cluster.settled().await;
    tokio::time::sleep(Duration::from_secs(2)).await; // The gauges are looked at once a second.
    let after = Samples::of(&cluster);
    after.is("cluster_oldest_move_seconds", 0.0);
    after.is("oldest_in_phase_seconds{phase=\"close\"}", 0.0);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn s2_11_what_the_last_node_releases_is_timed() {
    let mut cluster = cluster(1).await;
    call(&cluster, 64).await;
    let last = cluster.node("n1").clone();
    cluster.stop("n1").await;
    let told = last.metrics().encode().expect("it can be written");
    let released = read(&told).find(|(name, _)| name == "steading_release_seconds_count");
    assert_eq!(released.map(|(_, count)| count), Some(64.0));
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn s2_19_the_load_of_nodes_is_known_after_a_window() {
    let cluster = cluster(2).await;
    for _ in 0..4 {
        call(&cluster, 200).await;
        tokio::time::sleep(Duration::from_secs(6)).await; // Windows of load end.
    }
    let samples = Samples::of(&cluster);
    samples.rose("cluster_load_per_node{of=\"max\"}");
    samples.rose("cluster_load_per_node{of=\"mean\"}");
    samples.rose("objects_in_top_shard{rank=\"1\"}");
    let ranks = |name: &str| name.starts_with("steading_top_shard{");
    assert_eq!(samples.0.keys().filter(|name| ranks(name)).count(), 10);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn s0_31_no_series_appears_that_was_not_shown_at_the_start() {
    let mut cluster = cluster(3).await;
    let fresh = cluster.launch("fresh", |node| node).await;
    let at_the_start = fresh.metrics().encode().expect("it can be written");
    let known: BTreeSet<_> = read(&at_the_start).map(|(name, _)| name).collect();
    fresh.stop().await;
    call(&cluster, 64).await;
    cluster.add("n4").await;
    cluster.settled().await;
    cluster.crash("n1").await;
    call(&cluster, 64).await;
    cluster.settled().await;
    let told_when_asked = ["cluster_", "objects", "turn", "calls_", "top_shard"];
    let told_when_asked = told_when_asked.map(|name| format!("steading_{name}"));
    let new = Samples::of(&cluster).0.into_keys().filter(|name| {
        let is_read = told_when_asked.iter().any(|start| name.starts_with(start));
        !known.contains(name) && !is_read
    });
    assert_eq!(new.collect::<Vec<_>>(), Vec::<String>::new());
    finish(cluster).await;
}
