//! Calls per second within one process, beside a bare tokio mailbox that does the same, and the
//! memory of an idle object.
//!
//! `cargo bench --bench local_calls [-- SECONDS ROUNDS [CASE]]`. The two ways take turns, since
//! machines have moods; medians are printed with the least and the greatest. `CASE` is `one`,
//! `many`, `hot`, `wide` or `memory`.

#![allow(clippy::print_stdout, reason = "the results are to be read")]

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use steading::clock::{Clock, Moment};
use steading::fence::Fence;
use steading::ids::{Revision, ShardCount, Token};
use steading::object::{
    Caller, EncodedCall, Host, HostSettings, ObjectRef, PAYLOAD_LEN_MAX, Registry, RemoteCalls,
};
use steading::storage::MemoryStorage;
use steading::telemetry::Metrics;
use steading::{CallError, Object, Tasks, methods};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// As many calls may wait for a mailbox of the baseline as for one of our objects.
const QUEUE_LEN: usize = 1024;

/// Calls between two looks at the clock.
const BATCH: usize = 64;

/// Objects whose memory is measured.
const IDLE_OBJECTS: usize = 1_000_000;

#[derive(Default, Object)]
struct Tally {
    total: i64,
}

#[methods]
impl Tally {
    fn add(&mut self, n: i64) -> i64 {
        self.total = self.total.wrapping_add(n);
        self.total
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let seconds = args.first().map_or(Ok(1.0), |arg| arg.parse())?;
    let rounds: usize = args.get(1).map_or(Ok(5), |arg| arg.parse())?;
    let wanted = args.get(2).map_or("", String::as_str);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let world = World::new();
        let time = Duration::from_secs_f64(seconds);
        for (name, callers, objects) in [
            ("one", 1, 1),
            ("many", 64, 100),
            ("hot", 64, 1),
            ("wide", 64, 100_000),
        ] {
            if wanted.is_empty() || wanted == name {
                compare(&world, name, callers, objects, time, rounds).await;
            }
        }
        if wanted.is_empty() || wanted == "memory" {
            memory(&world).await?;
        }
        Ok(())
    })
}

async fn compare(
    world: &World,
    name: &str,
    callers: usize,
    objects: usize,
    time: Duration,
    rounds: usize,
) {
    let ids = (0..objects).map(|i| format!("{name}-{i}"));
    let handles: Arc<[_]> = ids.map(|id| world.object(&id)).collect();
    let mailboxes: Arc<[_]> = (0..objects).map(|_| Mailbox::start(&world.tasks)).collect();
    for handle in &*handles {
        handle.called().await;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(rate(&world.tasks, &handles, callers, time).await);
        theirs.push(rate(&world.tasks, &mailboxes, callers, time).await);
    }
    let (ours, theirs) = (Spread::of(ours), Spread::of(theirs));
    println!(
        "{name:5} {callers:3} callers {objects:6} objects: {ours} beside {theirs}: {:.2} x",
        ours.median / theirs.median
    );
}

/// What is called.
trait Target: Send + Sync + 'static {
    fn called(&self) -> impl Future<Output = ()> + Send;
}

impl Target for TallyHandle {
    async fn called(&self) {
        self.add(1).await.expect("a local call succeeds");
    }
}

impl Target for Mailbox {
    async fn called(&self) {
        self.add(1).await;
    }
}

/// Returns how many calls a second these callers get through.
async fn rate<T: Target>(tasks: &Tasks, targets: &Arc<[T]>, callers: usize, time: Duration) -> f64 {
    let start = Instant::now();
    let running = (0..callers).map(|caller| {
        let targets = targets.clone();
        tasks.spawn_work(async move {
            let mut at = caller * targets.len() / callers;
            let mut made: u32 = 0;
            while start.elapsed() < time {
                for _ in 0..BATCH {
                    targets[at].called().await;
                    at = (at + 1) % targets.len();
                    made += 1;
                }
            }
            made
        })
    });
    let made = join_all(running.collect::<Vec<_>>()).await;
    let made = made
        .into_iter()
        .map(|made| f64::from(made.expect("a caller does not panic")));
    made.sum::<f64>() / start.elapsed().as_secs_f64()
}

/// Prints what one of many idle objects takes.
async fn memory(world: &World) -> Result<(), Box<dyn Error>> {
    let before = resident_bytes()?;
    for i in 0..IDLE_OBJECTS {
        world.object(&format!("idle-{i:08}")).add(1).await?;
    }
    let bytes = (resident_bytes()? - before) / IDLE_OBJECTS;
    println!("memory: {bytes} bytes for each of {IDLE_OBJECTS} idle objects");
    Ok(())
}

fn resident_bytes() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes
        .ok_or("the system does not tell")?
        .parse::<usize>()?
        * 1024)
}

/// A median, with the least and the greatest.
struct Spread {
    least: f64,
    median: f64,
    greatest: f64,
}

impl Spread {
    fn of(mut rates: Vec<f64>) -> Self {
        rates.sort_by(f64::total_cmp);
        Self {
            least: rates[0],
            median: rates[rates.len() / 2],
            greatest: rates[rates.len() - 1],
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, greatest] = [self.least, self.median, self.greatest].map(|n| n / 1e3);
        write!(f, "{median:6.0} k/s ({least:.0} to {greatest:.0})")
    }
}

/// A host whose shards are all open.
struct World {
    tasks: Tasks,
    caller: Caller,
}

impl World {
    fn new() -> Self {
        let fence = Arc::new(Fence::new(Clock::Boot));
        fence.open(Moment::from_nanos(u64::MAX));
        let mut registry = Registry::default();
        registry.register::<Tally>();
        let tasks = Tasks::new();
        let host = Host::new(HostSettings {
            node: "n1".parse().expect("a good name"),
            layout: ShardCount::DEFAULT.into(),
            fence,
            storage: Arc::new(MemoryStorage::new()),
            registry,
            payload_max: PAYLOAD_LEN_MAX,
            budget: steading::memory_budget::MemoryBudget::new(512 << 20),
            tasks: tasks.clone(),
            metrics: Arc::new(Metrics::new()),
        });
        for shard in ShardCount::DEFAULT.shards() {
            host.open(shard, Token::of(0, Revision::new(1)));
        }
        let remote: Arc<dyn RemoteCalls> = Arc::new(Nobody);
        host.connect(&remote);
        let caller = Caller { host, remote };
        Self { tasks, caller }
    }

    fn object(&self, id: &str) -> TallyHandle {
        ObjectRef::new(self.caller.clone(), id).into()
    }
}

#[derive(Debug)]
struct Nobody;

impl RemoteCalls for Nobody {
    fn call(&self, call: EncodedCall) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move { Err(CallError::NoOwner(call.key.to_string())) })
    }
}

/// The baseline: a task with a channel, and a channel for each answer.
struct Mailbox(mpsc::Sender<Message>);

struct Message {
    n: i64,
    reply: oneshot::Sender<i64>,
}

impl Mailbox {
    fn start(tasks: &Tasks) -> Self {
        let (sender, mut messages) = mpsc::channel::<Message>(QUEUE_LEN);
        tasks.spawn_work(async move {
            let mut total = 0_i64;
            while let Some(message) = messages.recv().await {
                total = total.wrapping_add(message.n);
                let _ = message.reply.send(total);
            }
        });
        Self(sender)
    }

    async fn add(&self, n: i64) -> i64 {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.send(Message { n, reply }).await;
        assert!(sent.is_ok(), "the task lives as long as its sender");
        answer.await.expect("the task answers every message")
    }
}
