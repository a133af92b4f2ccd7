//! Shards that crash their owners are quarantined, and no others: on whole clusters in one process.
//!
//! A "crash" ends a node without a word, as SIGKILL and `abort` do. Objects that kill their process
//! tell the test, which then crashes the node that hosts them while their turn still runs.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use steading::ids::{ObjectKey, ShardCount, ShardId, Token};
use steading::placement::ClusterView;
use steading::placement::planner::PlanSettings;
use steading::storage::{MemoryStorage, Storage, StorageError, Stored};
use steading::testing::TestCluster;
use steading::{Context, Node, Object, methods};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// How many histories of random faults are run, unless `SEEDS` says otherwise.
const SEEDS_DEFAULT: u64 = 20;

/// How long a history takes at most, on its paused clock.
const HISTORY_MAX: Duration = Duration::from_mins(30);

/// How many histories are run at a time, each in a thread of its own.
const WORKERS: u64 = 4;

/// How many faults one history has.
const FAULTS: usize = 4;

const SHARDS: u32 = 16;

const TTL: Duration = Duration::from_secs(2);

/// How long anything may take on the paused clock.
const LIMIT: Duration = Duration::from_mins(2);

thread_local! {
    /// Told by objects that kill their process. Each test runs in a thread of its own.
    static KILLS: RefCell<Option<mpsc::UnboundedSender<()>>> = const { RefCell::new(None) };
    /// Whether they kill.
    static IS_DEADLY: Cell<bool> = const { Cell::new(true) };
}

/// Never returns, for the process is killed meanwhile; if it is not deadly any more, returns at once.
async fn kill_the_process() {
    if IS_DEADLY.get() {
        let told =
            KILLS.with_borrow(|kills| kills.as_ref().is_some_and(|kills| kills.send(()).is_ok()));
        assert!(told, "the test listens");
        std::future::pending::<()>().await;
    }
}

/// Counts; each turn takes some time, so that random crashes find some under way.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
struct Counter {
    total: u64,
}

#[methods]
impl Counter {
    async fn add(&mut self) -> u64 {
        sleep(Duration::from_millis(3)).await;
        self.total += 1;
        self.total
    }
}

/// Kills its process in one method, and not in another.
#[derive(Default, Serialize, Deserialize, Object)]
struct Bomb {}

#[methods]
impl Bomb {
    async fn explode(&mut self) {
        kill_the_process().await;
    }

    async fn tick(&self) {}
}

/// Kills its process when it is activated, which happens by itself.
#[derive(Default, Object)]
#[object(auto_start = "cluster")]
struct Mine;

#[methods]
impl Mine {
    #[activate]
    async fn greet(&mut self, _ctx: &Context) -> Result<(), String> {
        kill_the_process().await;
        Ok(())
    }
}

/// Kills the process that loads the object with this key.
#[derive(Debug)]
struct DeadlyStorage {
    inner: MemoryStorage,
    key: ObjectKey,
}

#[async_trait]
impl Storage for DeadlyStorage {
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError> {
        if *key == self.key {
            kill_the_process().await;
        }
        self.inner.load(key, token).await
    }

    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        self.inner.save(key, token, version, state).await
    }
}

/// A cluster of three nodes and a gate whose objects can kill.
struct World {
    cluster: TestCluster,
    gate: Node,
    kills: mpsc::UnboundedReceiver<()>,
    joined: usize,
}

impl World {
    async fn start(settings: PlanSettings, storage: Arc<dyn Storage>, mines: Mines) -> Self {
        let (told, kills) = mpsc::unbounded_channel();
        KILLS.replace(Some(told));
        IS_DEADLY.set(true);
        let builder = TestCluster::builder()
            .nodes(3)
            .shard_count(ShardCount::new(SHARDS).expect("a power of two"))
            .storage(storage)
            .setup(move |node| node.lease_ttl(TTL).plan_settings(settings.clone()))
            .register::<Counter>()
            .register::<Bomb>();
        let builder = match mines {
            Mines::Laid => builder.register::<Mine>(),
            Mines::None => builder,
        };
        let mut cluster = builder.start().await;
        let gate =
            |builder: steading::NodeBuilder| builder.weight(steading::placement::Weight::GATE);
        let gate = cluster.add_with("gate", gate).await.clone();
        Self {
            cluster,
            gate,
            kills,
            joined: 3,
        }
    }

    /// Waits until an object kills its process, crashes the node of that shard, and starts another.
    async fn next_victim(&mut self, shard: ShardId) {
        let told = timeout(LIMIT, self.kills.recv()).await;
        assert!(told.is_ok_and(|told| told.is_some()), "nothing kills");
        let view = self.gate.view();
        let owner = view.live_owner(shard).expect("it kills its owner");
        self.crash(&owner.node.to_string()).await;
    }

    async fn crash(&mut self, name: &str) {
        let crashed = timeout(LIMIT, self.cluster.crash(name)).await;
        assert!(crashed.is_ok(), "{name} does not end");
        self.joined += 1;
        let next = format!("n{}", self.joined);
        let joined = timeout(LIMIT, self.cluster.add(&next)).await;
        assert!(joined.is_ok(), "{next} does not join");
    }

    fn quarantined(&self) -> BTreeSet<ShardId> {
        let view = self.cluster.view();
        let targets = view.targets.iter();
        let quarantined = targets.filter(|(_, target)| target.quarantined);
        quarantined.map(|(shard, _)| shard).collect()
    }

    async fn is_quarantined(&mut self, shard: ShardId) {
        self.cluster
            .wait_until("the shard is quarantined", |view| {
                view.targets.get(shard).quarantined
            })
            .await;
        assert_eq!(self.quarantined(), [shard].into(), "its neighbours are not");
    }

    async fn all_others_are_owned(&mut self) {
        self.cluster
            .wait_until("every other shard has its owner", |view| {
                let mut targets = view.targets.iter();
                targets.all(|(shard, target)| {
                    let owner = view.live_owner(shard).map(|owner| &owner.node);
                    target.quarantined || owner.is_some() && owner == target.node.as_ref()
                })
            })
            .await;
    }

    async fn all_are_ready(&self) {
        let all_ready = async {
            while !self.cluster.nodes().all(|node| node.readiness().is_ready()) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(
            timeout(LIMIT, all_ready).await.is_ok(),
            "ready without the quarantined shard"
        );
    }
}

enum Mines {
    None,
    Laid,
}

/// Calls one object of each shard all the time.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(gate: &Node, pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..SHARDS).map(|shard| {
            let (gate, stop) = (gate.clone(), stop.clone());
            tokio::spawn(async move {
                let counter = gate.object::<Counter>(format!("shard#{shard}/c"));
                while !stop.load(Ordering::Relaxed) {
                    let _ = counter.add().await; // Crashes fail calls; which ones is another test's.
                    sleep(pause).await;
                }
            })
        });
        Self {
            callers: callers.collect(),
            stop,
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            let ended = timeout(LIMIT, caller).await;
            ended.expect("every call ends").expect("no panic");
        }
    }
}

fn shard_of(key: &ObjectKey, gate: &Node) -> ShardId {
    let place = gate.locate(key).expect("a good key");
    place.shard.expect("no object of a node")
}

/// Lets an object kill up to three owners, under load on all shards, and checks that its shard is
/// then quarantined alone.
async fn caught(world: &mut World, shard: ShardId) {
    let load = Load::begin(&world.gate, Duration::from_millis(20));
    for _ in 0..3 {
        assert_eq!(world.quarantined(), BTreeSet::new());
        world.next_victim(shard).await;
    }
    world.is_quarantined(shard).await;
    world.all_others_are_owned().await;
    world.all_are_ready().await;
    load.end().await;
}

/// Calls a bomb again and again, as a caller does that believes in retries.
fn keep_exploding(gate: &Node, id: &str) -> tokio::task::JoinHandle<()> {
    let bomb = gate
        .object::<Bomb>(id)
        .with_timeout(Duration::from_secs(20));
    tokio::spawn(async move {
        loop {
            let _ = bomb.explode().await;
            sleep(Duration::from_millis(300)).await;
        }
    })
}

async fn start(mines: Mines) -> World {
    World::start(
        PlanSettings::default(),
        Arc::new(MemoryStorage::new()),
        mines,
    )
    .await
}

#[tokio::test(start_paused = true)]
async fn a_killing_method_is_caught_within_three_deaths() {
    let mut world = start(Mines::None).await;
    let shard = shard_of(
        &ObjectKey::new("Bomb", "b").expect("a good key"),
        &world.gate,
    );
    let caller = keep_exploding(&world.gate, "b");
    caught(&mut world, shard).await;
    caller.abort();
    world.cluster.stop_all().await;
}

/// Other methods of the same object, and other objects of its shard, run all the time.
#[tokio::test(start_paused = true)]
async fn a_rare_killing_method_is_caught_too() {
    let mut world = start(Mines::None).await;
    let shard = shard_of(
        &ObjectKey::new("Bomb", "shard#5/b").expect("a good key"),
        &world.gate,
    );
    let bomb = world.gate.object::<Bomb>("shard#5/b");
    let ticking = tokio::spawn(async move {
        loop {
            let _ = bomb.tick().await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    let caller = keep_exploding(&world.gate, "shard#5/b");
    caught(&mut world, shard).await;
    caller.abort();
    ticking.abort();
    world.cluster.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_killing_activation_is_caught_within_three_deaths() {
    let mut world = start(Mines::Laid).await;
    let shard = shard_of(
        &ObjectKey::new("Mine", "cluster").expect("a good key"),
        &world.gate,
    );
    caught(&mut world, shard).await;
    world.cluster.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_killing_load_is_caught_within_three_deaths() {
    let key = ObjectKey::new("Counter", "shard#3/deadly").expect("a good key");
    let storage = DeadlyStorage {
        inner: MemoryStorage::new(),
        key: key.clone(),
    };
    let mut world = World::start(PlanSettings::default(), Arc::new(storage), Mines::None).await;
    let shard = shard_of(&key, &world.gate);
    let counter = world.gate.object::<Counter>("shard#3/deadly");
    let caller = tokio::spawn(async move {
        loop {
            let _ = counter.add().await;
            sleep(Duration::from_millis(300)).await;
        }
    });
    caught(&mut world, shard).await;
    caller.abort();
    world.cluster.stop_all().await;
}

/// After its quarantine a shard is tried again: it kills one more node and is quarantined for twice
/// as long, or it is cleared.
#[tokio::test(start_paused = true)]
async fn a_quarantine_ends_in_probation() {
    let mut world = start(Mines::None).await;
    let shard = shard_of(
        &ObjectKey::new("Bomb", "b").expect("a good key"),
        &world.gate,
    );
    let caller = keep_exploding(&world.gate, "b");
    caught(&mut world, shard).await;
    let began = Instant::now();
    let is_free = |view: &ClusterView| !view.targets.get(shard).quarantined;
    world.cluster.wait_until("it is tried again", is_free).await;
    let first = began.elapsed();
    assert!((50..=60).contains(&first.as_secs()), "{first:?}");
    world.next_victim(shard).await;
    world.is_quarantined(shard).await;
    IS_DEADLY.set(false); // Somebody repaired it.
    let began = Instant::now();
    let is_cleared = |view: &ClusterView| {
        let target = view.targets.get(shard);
        !target.quarantined && target.suspicion.is_none()
    };
    sleep(Duration::from_secs(100)).await;
    assert!(!is_free(&world.cluster.view()), "twice as long");
    world.cluster.wait_until("it is cleared", is_cleared).await;
    let second = began.elapsed();
    assert!(
        second >= Duration::from_secs(140),
        "watched for 30 s: {second:?}"
    );
    world.all_others_are_owned().await;
    let no_note = |view: &ClusterView| view.activity.is_empty();
    world.cluster.wait_until("no note is left", no_note).await;
    caller.abort();
    world.cluster.stop_all().await;
}

/// Random crashes, pauses and partitions under load on all shards.
///
/// `SEEDS=100` runs that many histories, `SEED=7` that one alone.
#[test]
fn random_faults_quarantine_nothing() {
    let number = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse::<u64>().expect("SEED and SEEDS are numbers"))
    };
    let (one, count) = (number("SEED"), number("SEEDS").unwrap_or(SEEDS_DEFAULT));
    let seeds = || one.map_or(0..count, |seed| seed..seed + 1);
    std::thread::scope(|threads| {
        for worker in 0..WORKERS {
            threads.spawn(move || {
                for seed in seeds().filter(|seed| seed % WORKERS == worker) {
                    println!("seed {seed}");
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .start_paused(true)
                        .build()
                        .expect("a runtime");
                    let ended =
                        runtime.block_on(async { timeout(HISTORY_MAX, history(seed)).await });
                    assert!(ended.is_ok(), "seed {seed} does not end");
                }
            });
        }
    });
}

async fn history(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    // A quarantine lasts for the rest of the history, so that none goes unseen.
    let settings = PlanSettings {
        quarantine_min: Duration::from_hours(1),
        quarantine_share_max_permille: 1000,
        ..PlanSettings::default()
    };
    let mut world = World::start(settings, Arc::new(MemoryStorage::new()), Mines::None).await;
    let load = Load::begin(&world.gate, Duration::from_millis(400));
    for _ in 0..FAULTS {
        let names: Vec<String> = world
            .cluster
            .nodes()
            .map(|node| node.id().to_string())
            .collect();
        let names: Vec<String> = names.into_iter().filter(|name| name != "gate").collect();
        let name = &names[rng.random_range(0..names.len())];
        match rng.random_range(0..3) {
            0 => world.crash(name).await,
            1 => {
                // As SIGSTOP: neither the store nor anybody else hears of it, for longer than its lease.
                world.cluster.cut_from_store(name);
                world.cluster.network().refuse(name, true);
                world.cluster.network().cut_all(name);
                sleep(TTL * 2).await;
                world.cluster.network().refuse(name, false);
                world.cluster.heal_store(name);
            }
            _ => {
                world.cluster.cut_from_store(name);
                sleep(Duration::from_millis(rng.random_range(0..5_000))).await;
                world.cluster.heal_store(name);
            }
        }
        sleep(Duration::from_millis(rng.random_range(0..4_000))).await;
        assert_eq!(world.quarantined(), BTreeSet::new(), "seed {seed}");
    }
    world.all_others_are_owned().await;
    assert_eq!(world.quarantined(), BTreeSet::new(), "seed {seed}");
    world.all_are_ready().await;
    load.end().await;
    assert_eq!(world.cluster.history().violations(), []);
    let stopped = timeout(LIMIT, world.cluster.stop_all()).await;
    assert!(stopped.is_ok(), "seed {seed}: the cluster does not stop");
}
