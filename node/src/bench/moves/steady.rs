//! A steady load: callers that each call at a fixed rate, over a counter in every shard, and what
//! came of it. Nothing is tried again: a call that fails has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures::future::try_join_all;
use steading::ids::ShardId;
use steading::object::Object;
use steading::{CallError, Node, Tasks};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::super::views::LIMIT;
use super::calls::Calls;
use crate::samples::Counter;

/// So many callers make the load.
const CALLERS: usize = 64;

/// How often each of them calls, unless the call before takes longer: 6400 calls a second in all,
/// few enough that two cores idle and a longer call is the move's doing.
const PERIOD: Duration = Duration::from_millis(10);

/// What the counters are called, within their shards.
const NAME: &str = "steading-bench-moves";

/// A counter with what its total must be.
struct Counted {
    counter: <Counter as Object>::Handle,
    /// What it must show if no failed call ran.
    total: i64,
    /// Calls that failed, of which each may have run.
    failed: i64,
}

impl Counted {
    async fn new(gate: &Node, shard: ShardId) -> Result<Self, CallError> {
        let counter = gate.object::<Counter>(format!("shard#{shard}/{NAME}"));
        let total = counter.add(0).await?;
        Ok(Self {
            counter,
            total,
            failed: 0,
        })
    }

    async fn add_one(&mut self) -> Result<i64, CallError> {
        let answer = self.counter.add(1).await;
        match &answer {
            Ok(_) => self.total += 1,
            Err(_) => self.failed += 1,
        }
        answer
    }

    /// Reads it back, and deletes it.
    async fn ends_right(&self) -> bool {
        let right = match self.counter.total().await {
            Ok(total) => is_right(self.total, self.failed, total),
            Err(_) => false,
        };
        right && self.counter.delete().await.is_ok()
    }
}

/// Whether a counter shows every acknowledged addition once, and else only some of those that failed.
fn is_right(acknowledged: i64, failed: i64, total: i64) -> bool {
    (acknowledged..=acknowledged + failed).contains(&total)
}

/// One caller with its counters, and what it has seen while all was quiet, and while not.
struct SteadyCaller {
    counters: Vec<Counted>,
    quiet: Calls,
    moving: Calls,
}

impl SteadyCaller {
    /// Calls one counter after the other until `stop`, and ends with an answer.
    async fn run(
        mut self,
        first: Instant,
        is_moving: &AtomicBool,
        stop: CancellationToken,
    ) -> Self {
        let mut ticks = interval_at(first, PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut turn = 0;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let counters = self.counters.len();
            let counter = &mut self.counters[turn];
            turn = (turn + 1) % counters;
            let calls = if is_moving.load(Ordering::Relaxed) {
                &mut self.moving
            } else {
                &mut self.quiet
            };
            let began = Instant::now();
            let answer = counter.add_one().await;
            calls.record(began.elapsed(), answer.err());
        }
        self
    }
}

/// Callers at work.
pub(super) struct SteadyLoad {
    callers: Vec<JoinHandle<SteadyCaller>>,
    is_moving: Arc<AtomicBool>,
    tasks: Tasks,
}

/// What came of a load.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    /// Calls that began while nothing was moved.
    pub(super) quiet: Calls,
    /// Calls that began while something was.
    pub(super) moving: Calls,
    /// Counters that did not show in the end what was acknowledged.
    pub(super) wrong: u64,
}

impl Outcome {
    pub(super) fn failed(&self) -> u64 {
        self.quiet.failed + self.moving.failed
    }

    /// Returns why a call failed, if one did.
    pub(super) fn first_error(&self) -> Option<&CallError> {
        let errors = [&self.quiet.first_error, &self.moving.first_error];
        errors.into_iter().flatten().next()
    }
}

impl SteadyLoad {
    /// Makes a counter in each of the shards, and begins to call.
    pub(super) async fn start(gate: &Node, shards: &[ShardId]) -> anyhow::Result<Self> {
        anyhow::ensure!(!shards.is_empty(), "there is no shard to call");
        let callers = CALLERS.min(shards.len());
        let ready = (0..callers).map(async |caller| {
            let mut counters = Vec::new();
            for shard in shards.iter().skip(caller).step_by(callers) {
                counters.push(Counted::new(gate, *shard).await?);
            }
            Ok::<_, CallError>(counters)
        });
        let ready = timeout(LIMIT, try_join_all(ready)).await;
        let ready = ready
            .context("the counters take too long")?
            .context("cannot call a `Counter` in every shard; the nodes must host it")?;
        let (tasks, is_moving) = (Tasks::new(), Arc::new(AtomicBool::new(false)));
        let now = Instant::now();
        let running = ready.into_iter().zip(0_u32..).map(|(counters, n)| {
            let caller = SteadyCaller {
                counters,
                quiet: Calls::new(),
                moving: Calls::new(),
            };
            let first = now + PERIOD * n / u32::try_from(callers).expect("64 at most");
            let (is_moving, stop) = (is_moving.clone(), tasks.shutdown().clone());
            tasks.spawn_work(async move { caller.run(first, &is_moving, stop).await })
        });
        Ok(Self {
            callers: running.collect(),
            is_moving,
            tasks,
        })
    }

    /// Tells whether calls that begin from now on do so while something moves.
    pub(super) fn set_moving(&self, is_moving: bool) {
        self.is_moving.store(is_moving, Ordering::Relaxed);
    }

    /// Waits for the answers under way, and reads every counter back.
    pub(super) async fn stop(self) -> anyhow::Result<Outcome> {
        self.tasks.shutdown().cancel();
        let callers = timeout(LIMIT, try_join_all(self.callers)).await;
        let callers = callers
            .context("some calls are never answered")?
            .context("a caller panicked")?;
        let (mut quiet, mut moving) = (Calls::new(), Calls::new());
        for caller in &callers {
            quiet.add(&caller.quiet);
            moving.add(&caller.moving);
        }
        let wrong = callers.iter().map(async |caller| {
            let mut wrong = 0;
            for counter in &caller.counters {
                wrong += u64::from(!counter.ends_right().await);
            }
            wrong
        });
        let wrong = timeout(LIMIT, futures::future::join_all(wrong)).await;
        let wrong = wrong.context("the counters do not answer in the end")?;
        Ok(Outcome {
            quiet,
            moving,
            wrong: wrong.into_iter().sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_wrong_with_a_lost_and_with_a_repeated_addition() {
        assert!(is_right(7, 0, 7));
        assert!(!is_right(7, 0, 6) && !is_right(7, 0, 8));
        assert!(is_right(7, 1, 7) && is_right(7, 1, 8), "it may have run");
        assert!(!is_right(7, 1, 6) && !is_right(7, 1, 9));
    }

    #[tokio::test]
    async fn a_steady_load_counts_its_calls_apart_and_finds_every_addition() {
        let node = Node::builder().register::<Counter>().start().await;
        let node = node.expect("a node alone");
        let shards: Vec<_> = node.view().meta.shard_count.shards().take(100).collect();
        let load = SteadyLoad::start(&node, &shards).await.expect("it starts");
        for is_moving in [false, true] {
            load.set_moving(is_moving);
            tokio::time::sleep(PERIOD * 3).await;
        }
        let outcome = load.stop().await.expect("it ends");
        assert!(outcome.quiet.count() > 0 && outcome.moving.count() > 0);
        assert_eq!(outcome.failed() + outcome.wrong, 0);
        node.stop().await;
    }
}
