//! Callers that call again as soon as they are answered, for a while.

use std::time::Duration;

use futures::future::join_all;
use hdrhistogram::Histogram;
use steading::Tasks;
use tokio::time::Instant;

/// How many calls a caller makes between two looks at the clock, where single calls are so short
/// that the clock would show.
const BATCH: u64 = 64;

/// One caller.
pub(super) trait Caller: Send + 'static {
    /// Makes its `n`-th call and waits for the answer.
    fn call(&mut self, n: u64) -> impl Future<Output = ()> + Send;
}

/// How fast, and how long each call took.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

/// Returns how many calls a second these callers get through.
pub(super) async fn rate<C: Caller>(callers: Vec<C>, time: Duration) -> f64 {
    let tasks = Tasks::new();
    let start = Instant::now();
    let running = callers.into_iter().map(|mut caller| {
        tasks.spawn_work(async move {
            let mut made = 0;
            while start.elapsed() < time {
                for _ in 0..BATCH {
                    caller.call(made).await;
                    made += 1;
                }
            }
            made
        })
    });
    let made: Vec<_> = join_all(running.collect::<Vec<_>>()).await;
    let took = start.elapsed();
    let made: u64 = made
        .into_iter()
        .map(|made| made.expect("a caller does not panic"))
        .sum();
    per_second(made, took)
}

/// Returns how many calls a second these callers get through, and their times.
pub(super) async fn load<C: Caller>(callers: Vec<C>, time: Duration) -> Load {
    let tasks = Tasks::new();
    let start = Instant::now();
    let running = callers.into_iter().map(|mut caller| {
        tasks.spawn_work(async move {
            // A histogram for each caller would not fit into the cache, and slow down what it measures.
            let (mut made, mut times) = (0, Vec::new());
            let mut before = Instant::now();
            while before - start < time {
                caller.call(made).await;
                made += 1;
                let now = Instant::now();
                times.push(u32::try_from((now - before).as_nanos()).unwrap_or(u32::MAX));
                before = now;
            }
            times
        })
    });
    let parts = join_all(running.collect::<Vec<_>>()).await;
    let took = start.elapsed();
    let mut times = histogram();
    for part in parts {
        for nanos in part.expect("a caller does not panic") {
            times.saturating_record(nanos.into());
        }
    }
    let micros =
        |quantile| Duration::from_nanos(times.value_at_quantile(quantile)).as_secs_f64() * 1e6;
    Load {
        per_second: per_second(times.len(), took),
        p50_us: micros(0.5),
        p99_us: micros(0.99),
    }
}

/// Returns an empty histogram of times in nanoseconds, up to a minute.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("good bounds")
}

#[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn per_second(made: u64, took: Duration) -> f64 {
    made as f64 / took.as_secs_f64()
}
