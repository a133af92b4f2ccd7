//! What open pages cost a cluster: its calls while pages show it, and while all who look are held still.
//!
//! What a core does in a second is no constant where machines are shared; here it changed by half and
//! more from one second to the next. So a second cluster of the same kind, at which nobody looks, has
//! the same core: the scheduler gives both their turns, some milliseconds each, and what slows the core
//! for longer slows both alike. What the pages cost is how many fewer calls the one makes with a second
//! of CPU time, beside the other. By the clock it is told too, for what that is worth.

use std::fmt;
use std::time::Duration;

use rustix::process::Pid;
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::inspector::Inspector;
use tokio::time::{Instant, sleep};

use super::Row;
use super::loaded::Loaded;
use super::processes::{cpu_times, freeze, pin_to, thaw};
use crate::open;

/// How long calls are counted in one round: two of the looks that an Inspector takes at the nodes.
const ROUND: Duration = Duration::from_secs(4);

/// The pause before it, in which who was held still catches up.
const PAUSE: Duration = Duration::from_millis(2500);

/// How many rounds there are of each kind.
const ROUNDS: usize = 24;

/// Every view.
const VIEWS: [&str; 6] = [
    "#/",
    "#/map",
    "#/nodes",
    "#/shard/17",
    "#/objects",
    "#/plans",
];

/// An Inspector, and a browser with a page open on each of its views. They have a core for all but the cluster.
struct Onlooker {
    inspector: Inspector,
    browser: Browser,
}

impl Onlooker {
    /// Begins to look, and is held still.
    async fn begin(cluster: &Cluster) -> Self {
        let inspector = Inspector::start(cluster).await;
        let browser = Browser::start(1280, 860).await;
        for view in VIEWS {
            let window = browser.add_window().await;
            browser.look_at(&window).await;
            open(&browser, &inspector, view).await;
        }
        let onlooker = Self { inspector, browser };
        for process in onlooker.processes() {
            pin_to("1", process);
        }
        onlooker.freeze().await;
        onlooker
    }

    fn processes(&self) -> [Pid; 2] {
        [self.inspector.pid(), self.browser.pid()]
    }

    async fn freeze(&self) {
        for process in self.processes() {
            freeze(process).await;
        }
    }

    fn thaw(&self) {
        for process in self.processes() {
            thaw(process);
        }
    }

    fn cpu_seconds(&self) -> f64 {
        let of = |process| cpu_times(process).into_values().sum::<f64>();
        self.processes().into_iter().map(of).sum()
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.thaw();
    }
}

/// What was done in one round.
#[derive(Clone, Copy)]
struct Round {
    /// Calls a second, by the clock.
    by_clock: f64,
    /// Calls for each second of CPU time, beside those of the other cluster: 1 is as many.
    by_cpu: f64,
}

/// Calls of two clusters that share a core, of which one is looked at; all else has the other core.
pub(super) async fn measured() -> [Row; 3] {
    let looked_at = Loaded::begin("bench-calls").await;
    let other = Loaded::begin("bench-beside").await;
    // All that run already; what is started from now on has the other.
    let this_process = std::process::id().cast_signed();
    pin_to("0", Pid::from_raw(this_process).expect("a process"));
    let onlooker = Onlooker::begin(&looked_at.cluster).await;
    let (mut seen, mut unseen, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Which comes first takes turns, so that what grows or tires favours neither.
        for is_seen in [round % 2 == 0, round % 2 == 1] {
            if !is_seen {
                sleep(PAUSE).await;
                unseen.push(counted(&looked_at, &other).await);
                continue;
            }
            onlooker.thaw();
            sleep(PAUSE).await;
            let (before, began) = (onlooker.cpu_seconds(), Instant::now());
            seen.push(counted(&looked_at, &other).await);
            let spent = onlooker.cpu_seconds() - before;
            share.push(100.0 * spent / began.elapsed().as_secs_f64());
            onlooker.freeze().await;
        }
    }
    looked_at.end().await;
    other.end().await;
    rows(&seen, &unseen, median(share))
}

fn rows(seen: &[Round], unseen: &[Round], share: f64) -> [Row; 3] {
    let by_cpu = Fewer::of(seen, unseen, |round| round.by_cpu);
    let by_clock = Fewer::of(seen, unseen, |round| round.by_clock);
    [
        Row::new(
            "calls of the cluster for each second of CPU time, with pages open on each of its 6 views, and with browser and Inspector held still: fewer by",
            by_cpu.to_string(),
        )
        .goal("< 2 %", by_cpu.middle < 2.0),
        Row::new("the same for each second by the clock: fewer by", by_clock.to_string()).goal("< 2 %", by_clock.middle < 2.0),
        Row::new(
            "CPU of the Inspector and the whole browser meanwhile",
            format!("{share:.0} % of a core"),
        ),
    ]
}

/// By how many percent pages slow the cluster: the median of all pairs of rounds, and between
/// what half of them lie.
struct Fewer {
    low: f64,
    middle: f64,
    high: f64,
}

impl Fewer {
    fn of(seen: &[Round], unseen: &[Round], figure: fn(&Round) -> f64) -> Self {
        let pairs = seen.iter().zip(unseen);
        let fewer = pairs.map(|(seen, unseen)| 100.0 * (1.0 - figure(seen) / figure(unseen)));
        let mut fewer: Vec<f64> = fewer.collect();
        fewer.sort_by(f64::total_cmp);
        Self {
            low: fewer[ROUNDS / 4],
            high: fewer[ROUNDS - 1 - ROUNDS / 4],
            middle: median(fewer),
        }
    }
}

impl fmt::Display for Fewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { low, middle, high } = self;
        write!(
            f,
            "{middle:.1} %, the median of {ROUNDS} pairs; half of them {low:.1} to {high:.1} %"
        )
    }
}

async fn counted(looked_at: &Loaded, other: &Loaded) -> Round {
    let (before, other_before, began) = (looked_at.read(), other.read(), Instant::now());
    sleep(ROUND).await;
    let (after, other_after, took) = (looked_at.read(), other.read(), began.elapsed());
    Round {
        by_clock: (after.calls - before.calls) / took.as_secs_f64(),
        by_cpu: after.calls_per_cpu_second_since(&before)
            / other_after.calls_per_cpu_second_since(&other_before),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}
