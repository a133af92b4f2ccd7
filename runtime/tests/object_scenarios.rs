//! The life of objects in whole clusters: what is stored when, and what a stop or a crash does.
//! `objects.rs` has the same questions for one host.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steading::ids::{ObjectKey, Token};
use steading::object::ObjectQuery;
use steading::storage::{MemoryStorage, Storage, StorageError, Stored};
use steading::testing::TestCluster;
use steading::{Context, Node, Object, Outcome, methods};
use tokio::time::{Instant, sleep, timeout};

/// Counts, and is saved before each reply.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    async fn slowly_add(&mut self, n: i64) -> i64 {
        sleep(Duration::from_millis(100)).await;
        self.add(n)
    }

    fn total(&self) -> i64 {
        self.total
    }
}

/// Counts, and is never saved.
#[derive(Default, Object)]
struct Forgetful {
    total: i64,
}

#[methods]
impl Forgetful {
    fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    /// Tells a counter when this activation ends, however that happens.
    #[allow(clippy::unused_self, reason = "a method needs a receiver")]
    fn report_end(&mut self, ctx: &Context, to: Ends) {
        let (token, key) = (ctx.cancellation(), ctx.key().to_string());
        let ends = to.log();
        tokio::spawn(async move {
            token.cancelled().await;
            ends.lock().push(key);
        });
    }
}

/// Names a list that lives in this process, for objects to write to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Ends(usize);

type Log = Arc<Mutex<Vec<String>>>;

static LOGS: Mutex<Vec<Log>> = Mutex::new(Vec::new());

impl Ends {
    fn new() -> Self {
        let mut logs = LOGS.lock();
        logs.push(Log::default());
        Self(logs.len() - 1)
    }

    fn log(self) -> Log {
        LOGS.lock()[self.0].clone()
    }
}

/// Two numbers that are equal whenever no turn runs, and which are saved now and then.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage, save_every = "200ms")]
struct Pair {
    state: u64,
    progress: u64,
}

#[methods]
impl Pair {
    async fn step(&mut self) -> u64 {
        self.state += 1;
        sleep(Duration::from_millis(30)).await;
        self.progress += 1;
        self.progress
    }
}

/// Asks others before its first turn.
#[derive(Default, Object)]
struct Curious {
    found: i64,
}

#[methods]
impl Curious {
    #[activate]
    async fn ask(&mut self, ctx: &Context) -> Result<(), String> {
        for number in 0..10 {
            let counter = ctx.object::<Counter>(format!("asked-{number}"));
            let total = counter.add(1).await.map_err(|error| error.to_string())?;
            self.found += total;
        }
        Ok(())
    }

    fn found(&self) -> i64 {
        self.found
    }
}

/// Lives without being called.
#[derive(Default, Object)]
#[object(auto_start = "cluster")]
struct Clock;

#[methods]
impl Clock {}

/// Remembers what was saved, in order.
#[derive(Debug, Default)]
struct Recorder {
    inner: MemoryStorage,
    saves: Mutex<Vec<(ObjectKey, Option<Vec<u8>>)>>,
}

#[async_trait]
impl Storage for Recorder {
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError> {
        self.inner.load(key, token).await
    }

    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        let saved = self.inner.save(key, token, version, state.clone()).await;
        if saved.is_ok() {
            self.saves.lock().push((key.clone(), state));
        }
        saved
    }
}

impl Recorder {
    /// Returns the last saved state of each key.
    fn last(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let saves = self.saves.lock();
        let last = saves
            .iter()
            .map(|(key, state)| (key.to_string(), state.clone()));
        last.collect()
    }

    fn saves(&self) -> usize {
        self.saves.lock().len()
    }
}

async fn cluster(nodes: usize) -> (TestCluster, Arc<Recorder>) {
    let storage = Arc::new(Recorder::default());
    let cluster = TestCluster::builder()
        .nodes(nodes)
        .storage(storage.clone())
        .register::<Counter>()
        .register::<Forgetful>()
        .register::<Pair>()
        .register::<Curious>()
        .start();
    (cluster.await, storage)
}

async fn finish(mut cluster: TestCluster) {
    cluster.stop_all().await;
    assert_eq!(cluster.history().violations(), []);
}

fn read<T: Object>(state: &[u8]) -> T {
    let codec = T::STATE.expect("the type is stored");
    (codec.decode)(state).expect("a state of this type")
}

fn live_objects(node: &Node) -> usize {
    let query = ObjectQuery {
        limit: 1000,
        ..Default::default()
    };
    node.host().objects(&query).len()
}

/// Waits until a node has `count` objects: those that nobody calls start in the background.
async fn has_objects(node: &Node, count: usize) {
    let reached = timeout(Duration::from_secs(30), async {
        while live_objects(node) != count {
            sleep(Duration::from_millis(10)).await;
        }
    });
    let objects = live_objects(node);
    assert!(reached.await.is_ok(), "{} has {objects} objects", node.id());
}

#[tokio::test(start_paused = true)]
async fn o4_an_activation_hook_calls_objects_of_every_node() {
    let (cluster, _) = cluster(3).await;
    let began = Instant::now();
    for node in cluster.nodes() {
        let curious = node.object::<Curious>(format!("curious-{}", node.id()));
        assert!(curious.found().await.expect("it asked") >= 10);
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o9_only_types_with_storage_touch_it() {
    let (cluster, storage) = cluster(2).await;
    let node = cluster.node("n1");
    for number in 0..20 {
        let id = format!("o{number}");
        assert_eq!(node.object::<Counter>(&id).add(1).await, Ok(1));
        assert_eq!(node.object::<Forgetful>(&id).add(1).await, Ok(1));
    }
    node.object::<Counter>("o3")
        .delete()
        .await
        .expect("deleted");
    node.object::<Forgetful>("o4")
        .delete()
        .await
        .expect("deleted");
    finish(cluster).await;

    let last = storage.last();
    assert_eq!(last.len(), 20);
    for (key, state) in last {
        assert!(key.starts_with("Counter/"), "{key}");
        assert_eq!(state.is_none(), key == "Counter/o3", "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn o10_a_stopping_or_dying_node_cancels_the_context_of_each_of_its_objects() {
    let (mut cluster, _) = cluster(2).await;
    let (stopped, crashed) = (Ends::new(), Ends::new());
    for (name, ends) in [("n1", stopped), ("n2", crashed)] {
        for number in 0..5 {
            let object = cluster
                .node(name)
                .object::<Forgetful>(format!("node#{name}/{number}"));
            object.report_end(ends).await.expect("it lives");
        }
    }
    cluster.stop("n1").await;
    assert_eq!(stopped.log().lock().len(), 5);
    assert_eq!(crashed.log().lock().len(), 0, "its objects live on");
    cluster.crash("n2").await;
    assert_eq!(crashed.log().lock().len(), 5);
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o11_calls_of_a_stopping_node_end_or_surely_did_not_run() {
    let (mut cluster, storage) = cluster(1).await;
    let node = cluster.node("n1").clone();
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let node = node.clone();
            tokio::spawn(async move {
                sleep(Duration::from_millis(5 * number)).await;
                let counter = node.object::<Counter>(format!("c{}", number % 7));
                counter.slowly_add(1).await
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    cluster.stop("n1").await;
    node.stop().await; // Again: harmless.

    let results = join_all(calls)
        .await
        .into_iter()
        .map(|call| call.expect("no panic"));
    let (answered, refused): (Vec<_>, Vec<_>) = results.partition(Result::is_ok);
    for error in refused.iter().filter_map(|refused| refused.as_ref().err()) {
        assert_eq!(error.outcome(), Outcome::NotRun, "{error}");
    }
    assert!(!answered.is_empty() && !refused.is_empty());
    let stored = storage.last();
    let states = stored.values().flatten();
    let total: i64 = states.map(|state| read::<Counter>(state).total).sum();
    assert_eq!(
        total,
        i64::try_from(answered.len()).expect("few"),
        "every answer is stored"
    );
    assert_eq!(live_objects(&node), 0);
    let late = node
        .object::<Counter>("late")
        .with_timeout(Duration::from_secs(1));
    assert_eq!(
        late.add(1).await.expect_err("stopped").outcome(),
        Outcome::NotRun
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o12_o14_interval_saves_hold_whole_turns_and_end_with_the_node() {
    let (mut cluster, storage) = cluster(1).await;
    let pair = cluster.node("n1").object::<Pair>("p");
    for step in 1..=50 {
        assert_eq!(pair.step().await, Ok(step));
    }
    let before_stop = storage.saves();
    assert!(
        (5..=10).contains(&before_stop),
        "{before_stop} saves in 1.5 s"
    );
    cluster.stop("n1").await;
    let saves = storage.saves();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(storage.saves(), saves, "nothing is saved after the stop");

    let mut last = 0;
    for (_, state) in storage.saves.lock().iter() {
        let pair: Pair = read(state.as_ref().expect("never deleted"));
        assert_eq!(pair.state, pair.progress, "a save in the middle of a turn");
        assert!(pair.progress >= last, "an older state");
        last = pair.progress;
    }
    assert_eq!(last, 50, "the newest state is saved at the stop");
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o13_a_new_cluster_goes_on_from_what_the_last_one_stored() {
    let (first, storage) = cluster(2).await;
    for number in 0..20 {
        let counter = first.node("n1").object::<Counter>(format!("c{number}"));
        assert_eq!(counter.add(number).await, Ok(number));
    }
    finish(first).await;
    // Without the tokens: those of the new cluster's store are low again.
    let copied = MemoryStorage::new();
    for (key, state) in storage.last() {
        let key: ObjectKey = key.parse().expect("a key");
        copied
            .save(&key, Token::default(), 0, state)
            .await
            .expect("copied");
    }
    let second = TestCluster::builder().nodes(3).storage(Arc::new(copied));
    let second = second.register::<Counter>().start().await;
    for number in 0..20 {
        let counter = second.node("n3").object::<Counter>(format!("c{number}"));
        assert_eq!(counter.total().await, Ok(number));
    }
    finish(second).await;
}

#[tokio::test(start_paused = true)]
async fn o15_turns_and_failures_are_counted() {
    let (cluster, _) = cluster(1).await;
    let node = cluster.node("n1");
    for _ in 0..3 {
        node.object::<Counter>("c").add(1).await.expect("added");
    }
    let text = node.metrics().encode().expect("encodes");
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.map_or_else(|| panic!("no {name} in {text}"), str::to_owned)
    };
    assert!(
        line("steading_turns_total").ends_with(" 3"),
        "{}",
        line("steading_turns_total")
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn o17_callers_end_promptly_when_the_whole_cluster_stops() {
    let (mut cluster, _) = cluster(3).await;
    let callers: Vec<_> = (0..30)
        .map(|number| {
            let nodes: Vec<Node> = cluster.nodes().cloned().collect();
            tokio::spawn(async move {
                for call in 0.. {
                    let counter = nodes[number % 3].object::<Counter>(format!("{number}-{call}"));
                    if counter.add(1).await.is_err() {
                        return;
                    }
                    sleep(Duration::from_millis(1)).await; // The paused clock must go on.
                }
            })
        })
        .collect();
    sleep(Duration::from_millis(500)).await;
    cluster.stop_all().await;
    let ended = timeout(Duration::from_secs(11), join_all(callers)).await;
    assert!(
        ended.is_ok(),
        "callers wait longer than their calls' timeout"
    );
    finish(cluster).await;
}

#[tokio::test(start_paused = true)]
async fn auto_started_objects_live_without_being_called_and_move_with_their_shard() {
    let builder = TestCluster::builder().nodes(2).register::<Clock>();
    let mut cluster = builder.start().await;
    let key = ObjectKey::new("Clock", "cluster").expect("a key");
    let owner = |cluster: &TestCluster| {
        let node = cluster.nodes().next().expect("a node");
        let place = node.locate(&key).expect("a good key");
        place.owner.expect("owned").to_string()
    };
    let first = owner(&cluster);
    has_objects(cluster.node(&first), 1).await;
    cluster.crash(&first).await;
    cluster
        .wait_until("the lease of the dead node is over", |view| {
            view.nodes.len() == 1
        })
        .await;
    cluster.settled().await;
    let second = owner(&cluster);
    assert_ne!(first, second);
    has_objects(cluster.node(&second), 1).await;
    finish(cluster).await;
}
