//! Random faults under steady calls, on whole clusters in one process.
//!
//! Each seed is one history of joins, stops, crashes, cuts from the store, cuts between nodes and
//! broken watches. Whatever happens: no shard is taken from a live owner, no acknowledged write is
//! lost, none counts twice, and when the faults end every shard is served again. A failing seed
//! is printed; `SEED=n cargo test --test simulation` runs it alone.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use steading::testing::TestCluster;
use steading::{Node, Object, Outcome, methods};
use tokio::time::sleep;

/// How many histories are run.
const SEEDS: u64 = 8;

/// How many faults one history has.
const FAULTS: usize = 10;

/// How many objects are called all the time.
const OBJECTS: usize = 8;

#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
struct Counter {
    total: u64,
}

#[methods]
impl Counter {
    fn add(&mut self) -> u64 {
        self.total += 1;
        self.total
    }

    fn total(&self) -> u64 {
        self.total
    }
}

/// What one caller knows of its object.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    /// Calls that may or may not have run.
    unknown: u64,
}

#[test]
fn whatever_fails_no_acknowledged_write_is_lost_and_no_shard_has_two_owners() {
    let one = std::env::var("SEED")
        .ok()
        .map(|seed| seed.parse().expect("SEED is a number"));
    let seeds = one.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    for seed in seeds {
        println!("seed {seed}");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(history(seed));
    }
}

async fn history(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = TestCluster::builder()
        .nodes(3)
        .register::<Counter>()
        .start()
        .await;
    // The gate is never harmed, so the callers' side of every call is there all the time.
    cluster
        .add_with("gate", |b| b.weight(steading::placement::Weight::GATE))
        .await;
    let gate = cluster.node("gate").clone();
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..OBJECTS)
        .map(|i| tokio::spawn(keep_adding(gate.clone(), format!("c{i}"), stop.clone())))
        .collect();

    let mut next_name = 4;
    for _ in 0..FAULTS {
        fault(&mut cluster, &mut rng, &mut next_name).await;
        sleep(Duration::from_millis(rng.random_range(0..8_000))).await;
    }
    for node in cluster.nodes() {
        cluster.heal_store(node.id().as_str());
    }
    heal_network(&cluster);
    cluster.settled().await;
    stop.store(true, Ordering::Relaxed);
    for (i, caller) in callers.into_iter().enumerate() {
        let tally = caller.await.expect("no panic");
        let total = gate
            .object::<Counter>(format!("c{i}"))
            .total()
            .await
            .expect("settled");
        let most = tally.acknowledged + tally.unknown;
        assert!(
            (tally.acknowledged..=most).contains(&total),
            "c{i} has {total}: {tally:?}"
        );
    }
    assert_eq!(cluster.history().violations(), []);
    cluster.stop_all().await;
}

async fn keep_adding(gate: Node, id: String, stop: Arc<AtomicBool>) -> Tally {
    let counter = gate
        .object::<Counter>(&id)
        .with_timeout(Duration::from_secs(3));
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        match counter.add().await {
            Ok(_) => tally.acknowledged += 1,
            Err(error) if error.outcome() == Outcome::NotRun => {}
            Err(_) => tally.unknown += 1,
        }
        sleep(Duration::from_millis(50)).await; // Steady load, not a wait for something.
    }
    tally
}

async fn fault(cluster: &mut TestCluster, rng: &mut StdRng, next_name: &mut usize) {
    let names: Vec<String> = cluster.nodes().map(|node| node.id().to_string()).collect();
    let names: Vec<String> = names.into_iter().filter(|name| name != "gate").collect();
    let name = names[rng.random_range(0..names.len())].clone();
    match rng.random_range(0..8) {
        0 if names.len() > 1 => cluster.stop(&name).await,
        1 if names.len() > 1 => cluster.crash(&name).await,
        2 if names.len() < 5 => {
            cluster.add(&format!("n{next_name}")).await;
            *next_name += 1;
        }
        3 => cluster.cut_from_store(&name),
        4 => names.iter().for_each(|name| cluster.heal_store(name)),
        5 => cluster.network().partition("gate", &name),
        6 => heal_network(cluster),
        _ => cluster.network().cut_all(&name),
    }
}

fn heal_network(cluster: &TestCluster) {
    for node in cluster.nodes() {
        cluster.network().heal("gate", node.id().as_str());
    }
}
