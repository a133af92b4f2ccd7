//! One host of the tests' objects, with every shard open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use steading::clock::{Clock, Moment};
use steading::fence::Fence;
use steading::ids::{ObjectKey, Revision, ShardCount, ShardId, Token};
use steading::object::{
    Caller, Closing, EncodedCall, Host, HostSettings, ObjectQuery, ObjectRef, PAYLOAD_LEN_MAX,
    Registry, RemoteCalls,
};
use steading::storage::{MemoryStorage, Storage, StorageError, Stored};
use steading::telemetry::Metrics;
use steading::{CallError, Context, Object, Tasks, methods};

/// A host, and what a node would have around it.
pub(crate) struct World {
    pub(crate) host: Arc<Host>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tasks: Tasks,
    remote: Arc<dyn RemoteCalls>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(MemoryStorage::new())
    }

    pub(crate) fn with(storage: impl Storage) -> Self {
        let world = Self::closed(storage);
        for shard in SHARDS.shards() {
            world.host.open(shard, token(1));
        }
        world.host.open_node_bound(token(1));
        world
    }

    /// A host with every shard closed.
    pub(crate) fn closed(storage: impl Storage) -> Self {
        let fence = Arc::new(Fence::new(Clock::tokio()));
        fence.open(Moment::from_nanos(u64::MAX));
        let mut registry = Registry::default();
        registry.register::<Counter>();
        registry.register::<Probe>();
        registry.register::<Saved>();
        registry.register::<Lazy>();
        registry.register::<Hooked>();
        registry.register::<Watch>();
        registry.register::<crate::closing::Tracked>();
        registry.register::<crate::alarms::Alarm>();
        registry.register::<crate::alarms::Fleeting>();
        registry.register::<crate::alarms::Sleeper>();
        registry.register::<crate::travel::Guest>();
        registry.register::<crate::travel::Local>();
        registry.register::<crate::travel::Picky>();
        registry.register::<crate::travel::Text>();
        let metrics = Arc::new(Metrics::new());
        let tasks = Tasks::new();
        let host = Host::new(HostSettings {
            node: "n1".parse().expect("valid"),
            layout: SHARDS.into(),
            fence: fence.clone(),
            storage: Arc::new(storage),
            registry,
            payload_max: PAYLOAD_LEN_MAX,
            budget: steading::memory_budget::MemoryBudget::new(512 << 20),
            tasks: tasks.clone(),
            metrics: metrics.clone(),
        });
        let remote: Arc<dyn RemoteCalls> = Arc::new(Nobody);
        host.connect(&remote);
        Self {
            host,
            fence,
            metrics,
            tasks,
            remote,
        }
    }

    /// Lists the IDs of the live objects of a type.
    pub(crate) fn live(&self, object_type: &str) -> Vec<String> {
        let query = ObjectQuery {
            object_type: Some(object_type.to_owned()),
            limit: 1000,
            ..ObjectQuery::default()
        };
        let objects = self.host.objects(&query).into_iter();
        objects.map(|object| object.key.id().to_owned()).collect()
    }

    /// Closes a shard and ends its objects, as before a release.
    pub(crate) async fn close_and_end(&self, shard: ShardId, limit: Duration) -> Closing {
        let closing = self.host.close(shard, limit).await;
        self.host.end(shard, limit).await;
        closing
    }

    pub(crate) fn object<T: Object>(&self, id: &str) -> T::Handle {
        let caller = Caller {
            host: self.host.clone(),
            remote: self.remote.clone(),
        };
        ObjectRef::new(caller, id).into()
    }
}

pub(crate) const SHARDS: ShardCount = match ShardCount::new(16) {
    Ok(count) => count,
    Err(_) => panic!("a power of two"),
};

pub(crate) fn shard(number: u32) -> ShardId {
    ShardId::new(number, SHARDS).expect("one of them")
}

pub(crate) fn token(revision: u64) -> Token {
    Token::of(0, Revision::new(revision))
}

/// Waits until something holds; the clock may be paused.
pub(crate) async fn until(goal: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never reached: {goal}");
}

/// A storage that fails as told, and counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faulty {
    pub(crate) memory: MemoryStorage,
    pub(crate) loads: Arc<Mutex<Option<StorageError>>>,
    pub(crate) saves: Arc<Mutex<Option<StorageError>>>,
    pub(crate) saved: Arc<AtomicUsize>,
}

#[async_trait::async_trait]
impl Storage for Faulty {
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError> {
        let fault = self.loads.lock().clone();
        match fault {
            Some(error) => Err(error),
            None => self.memory.load(key, token).await,
        }
    }

    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        tokio::task::yield_now().await;
        let fault = self.saves.lock().clone();
        if let Some(error) = fault {
            return Err(error);
        }
        self.saved.fetch_add(1, Ordering::SeqCst);
        self.memory.save(key, token, version, state).await
    }
}

/// A way to other nodes that has none.
#[derive(Debug)]
struct Nobody;

impl RemoteCalls for Nobody {
    fn call(&self, call: EncodedCall) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move { Err(CallError::NoOwner(call.key.to_string())) })
    }
}

/// Handles of objects to themselves, by ID: for [`Counter::bustle`].
pub(crate) static BUSTLING: Mutex<BTreeMap<String, CounterHandle>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Default, Serialize, Deserialize, Object)]
pub(crate) struct Counter {
    total: i64,
}

#[methods]
impl Counter {
    pub(crate) fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    pub(crate) async fn slowly_add(&mut self, n: i64) -> i64 {
        let before = self.total;
        tokio::task::yield_now().await;
        self.total = before + n;
        self.total
    }

    pub(crate) fn total(&self) -> i64 {
        self.total
    }

    pub(crate) fn checked(&mut self, n: i64) -> Result<i64, String> {
        if n < 0 {
            Err("negative".into())
        } else {
            Ok(self.add(n))
        }
    }

    pub(crate) fn fail(&mut self) {
        self.total += 1;
        panic!("on purpose");
    }

    pub(crate) async fn fail_later(&mut self) {
        self.total += 1;
        tokio::task::yield_now().await;
        panic!("on purpose, later");
    }

    pub(crate) fn echo(&self, text: String) -> String {
        text
    }

    pub(crate) fn repeat(&self, text: String, times: usize) -> String {
        text.repeat(times)
    }

    /// Has others come while its turn runs: two who add and one who looks.
    pub(crate) fn bustle(&mut self, ctx: &Context) -> i64 {
        let handle = BUSTLING.lock().get(ctx.id()).cloned();
        let handle = handle.expect("the test put it there");
        assert!(handle.add(10).now_or_never().is_none(), "it waits");
        assert!(handle.total().now_or_never().is_none(), "it waits");
        assert!(handle.add(100).now_or_never().is_none(), "it waits");
        self.total
    }

    pub(crate) fn give_up(&mut self, ctx: &Context) -> i64 {
        ctx.deactivate();
        self.total
    }
}

/// An object whose turns last as long as the test wants.
#[derive(Default, Object)]
#[object(mailbox = 8)]
pub(crate) struct Probe {
    order: Vec<u32>,
    running: AtomicUsize,
}

#[methods]
impl Probe {
    /// Has an exclusive turn for so many milliseconds.
    pub(crate) async fn alone(&mut self, n: u32, ms: u64) -> u32 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.order.push(n);
        n
    }

    /// Has a shared turn for so many milliseconds, and returns how many ran together at its end.
    pub(crate) async fn together(&self, ms: u64) -> usize {
        self.running.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let together = self.running.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        together
    }

    pub(crate) fn order(&self) -> Vec<u32> {
        self.order.clone()
    }

    pub(crate) async fn hang(&mut self) {
        self.order.push(0);
        std::future::pending::<()>().await;
    }

    /// Calls another one, which calls the next, until the last one adds up.
    pub(crate) async fn relay(&self, ctx: &Context, to: Vec<String>) -> Result<usize, String> {
        let Some((next, rest)) = to.split_first() else {
            return Ok(0);
        };
        let next = ctx.object::<Probe>(next);
        match next.relay(rest.to_vec()).await {
            Ok(Ok(count)) => Ok(count + 1),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(format!("{:?} {error}", error.outcome())),
        }
    }

    /// Does as `relay` after so many milliseconds.
    pub(crate) async fn later_relay(
        &self,
        ctx: &Context,
        ms: u64,
        to: Vec<String>,
    ) -> Result<usize, String> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.relay(ctx, to).await
    }

    /// Has another one have a long turn alone, after so many milliseconds.
    pub(crate) async fn later_alone(
        &self,
        ctx: &Context,
        ms: u64,
        other: String,
        turn: u64,
    ) -> bool {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        ctx.object::<Probe>(&other).alone(1, turn).await.is_ok()
    }

    /// Does as `meddle` after so many milliseconds.
    pub(crate) async fn later_meddle(
        &mut self,
        ctx: &Context,
        ms: u64,
        other: String,
    ) -> Result<i64, String> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.meddle(ctx, other).await
    }

    /// Returns how long the deadline of a call to another object would be away, in milliseconds.
    pub(crate) async fn patience(&self, ctx: &Context) -> u128 {
        (ctx.deadline() - tokio::time::Instant::now()).as_millis()
    }

    /// Does as `patience` after so many milliseconds.
    pub(crate) async fn later_patience(&self, ctx: &Context, ms: u64) -> u128 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.patience(ctx).await
    }

    /// Makes, changes and deletes another object.
    pub(crate) async fn meddle(&mut self, ctx: &Context, other: String) -> Result<i64, String> {
        let other = ctx.object::<Saved>(&other);
        let total = other.add(5).await.map_err(|error| error.to_string())?;
        other.delete().await.map_err(|error| error.to_string())?;
        Ok(total + other.total().await.map_err(|error| error.to_string())?)
    }
}

/// An object whose state is saved before each reply.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage)]
pub(crate) struct Saved {
    total: i64,
}

#[methods]
impl Saved {
    pub(crate) fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    pub(crate) fn total(&self) -> i64 {
        self.total
    }

    pub(crate) async fn slowly_add(&mut self, n: i64, ms: u64) -> i64 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.add(n)
    }
}

/// An object whose state is saved at an interval.
#[derive(Default, Serialize, Deserialize, Object)]
#[object(storage, save_every = "200ms", idle = "1h")]
pub(crate) struct Lazy {
    total: i64,
}

#[methods]
impl Lazy {
    pub(crate) fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    pub(crate) fn total(&self) -> i64 {
        self.total
    }
}

/// What the hooks of [`Hooked`] did, by ID.
pub(crate) static HOOKS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Returns what the hooks of the object with this ID did.
pub(crate) fn hooks(id: &str) -> Vec<String> {
    let all = HOOKS.lock();
    let mine = all.iter().filter_map(|event| event.strip_prefix(id));
    mine.map(|event| event.trim().to_owned()).collect()
}

/// Waits until the hooks of an object have done this, last of all.
pub(crate) async fn until_hook(id: &str, event: &str) {
    until(event, || hooks(id).last().is_some_and(|last| last == event)).await;
}

fn note(ctx: &Context, event: &str) {
    HOOKS.lock().push(format!("{} {event}", ctx.id()));
}

/// An object with slow hooks; an ID that begins with `bad` cannot be activated.
#[derive(Default, Object)]
#[object(idle = "1s")]
pub(crate) struct Hooked {
    ready: bool,
}

#[methods]
impl Hooked {
    #[activate]
    async fn begin(&mut self, ctx: &Context) -> Result<(), String> {
        if ctx.id().starts_with("bad") {
            return Err("it is bad".into());
        }
        if ctx.id().starts_with("caller") {
            let other = ctx.object::<Counter>("called-from-hook");
            other.add(1).await.map_err(|error| error.to_string())?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        note(ctx, "activated");
        self.ready = true;
        Ok(())
    }

    #[deactivate]
    async fn end(&mut self, ctx: &Context) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        note(ctx, "deactivated");
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready
    }

    /// Ends its activation.
    pub(crate) fn again(&mut self, ctx: &Context) {
        ctx.deactivate();
        self.ready = false;
    }

    /// Notes in the background that the activation has ended.
    pub(crate) fn watch(&self, ctx: &Context) {
        let (token, id) = (ctx.cancellation(), ctx.id().to_owned());
        let tasks = Tasks::new();
        tasks.spawn_work(async move {
            token.cancelled().await;
            HOOKS.lock().push(format!("{id} cancelled"));
        });
    }
}

/// An object of which each shard has one that lives without being called.
#[derive(Default, Object)]
#[object(auto_start = "shard", idle = "1s")]
pub(crate) struct Watch {
    calls: u32,
}

#[methods]
impl Watch {
    pub(crate) fn fail(&mut self) {
        self.calls += 1;
        panic!("on purpose");
    }
}
