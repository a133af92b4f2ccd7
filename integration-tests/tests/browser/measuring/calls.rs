//! What open pages cost a cluster: its calls while pages show it, and while all who look are held still.

use std::cell::Cell;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use rustix::process::{Pid, Signal};
use steading::Node;
use steading::ids::NodeId;
use steading::placement::Weight;
use steading_integration_tests::browser::Browser;
use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::objects::Tally;
use tokio::time::{Instant, sleep};

use super::Row;
use super::processes::{cpu_times, pin_to, signal};
use crate::{cluster, open};

/// How long calls are counted in one round: two of the looks that an Inspector takes at the nodes.
const ROUND: Duration = Duration::from_secs(4);

/// The pause before it, in which who was held still catches up.
const PAUSE: Duration = Duration::from_millis(2500);

/// How many rounds there are of each kind.
const ROUNDS: usize = 24;

/// How many callers there are, each with objects of its own.
pub(super) const CALLERS: usize = 64;

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
        onlooker.signal(Signal::STOP);
        onlooker
    }

    fn processes(&self) -> [Pid; 2] {
        [self.inspector.pid(), self.browser.pid()]
    }

    fn signal(&self, what: Signal) {
        for process in self.processes() {
            signal(process, what);
        }
    }

    fn cpu_seconds(&self) -> f64 {
        let of = |process| cpu_times(process).into_values().sum::<f64>();
        self.processes().into_iter().map(of).sum()
    }
}

impl Drop for Onlooker {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

/// Calls of a cluster that has a core to itself, with its callers; all else has the other.
pub(super) async fn measured() -> [Row; 2] {
    let cluster = cluster("bench-calls").await.shard_count(8192);
    let nodes = cluster.ready(["node-0", "node-1"]).await;
    nodes[0].is_settled(["node-0", "node-1"]).await;
    // All that run already; what is started from now on has the other.
    let this_process = std::process::id().cast_signed();
    pin_to("0", Pid::from_raw(this_process).expect("a process"));
    let onlooker = Onlooker::begin(&cluster).await;
    let gate = gate(&cluster).await;
    let (mut seen, mut unseen, mut share) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Which comes first takes turns, so that what grows or tires favours neither.
        for is_seen in [round % 2 == 0, round % 2 == 1] {
            if !is_seen {
                sleep(PAUSE).await;
                unseen.push(calls_per_second(&gate).await);
                continue;
            }
            onlooker.signal(Signal::CONT);
            sleep(PAUSE).await;
            let (before, began) = (onlooker.cpu_seconds(), Instant::now());
            seen.push(calls_per_second(&gate).await);
            let spent = onlooker.cpu_seconds() - before;
            share.push(100.0 * spent / began.elapsed().as_secs_f64());
            onlooker.signal(Signal::STOP);
        }
    }
    gate.stop().await;
    [
        fewer(&seen, &unseen),
        Row::new(
            "CPU of the Inspector and the whole browser meanwhile",
            format!("{:.0} % of a core", median(share)),
        ),
    ]
}

/// Says by how much the pages slow the cluster's calls.
fn fewer(seen: &[f64], unseen: &[f64]) -> Row {
    let pairs = seen.iter().zip(unseen);
    let fewer = pairs.map(|(seen, unseen)| 100.0 * (1.0 - seen / unseen));
    let mut fewer: Vec<f64> = fewer.collect();
    fewer.sort_by(f64::total_cmp);
    let (low, high) = (fewer[ROUNDS / 4], fewer[ROUNDS - 1 - ROUNDS / 4]);
    let (seen, unseen, middle) = (
        median(seen.to_vec()),
        median(unseen.to_vec()),
        median(fewer),
    );
    Row::new(
        "calls/s of the cluster with pages open on each of its 6 views, and with browser and Inspector held still",
        format!(
            "{seen:.0} and {unseen:.0}: {middle:.1} % fewer, the median of {ROUNDS} pairs; half of them {low:.1} to {high:.1} %"
        ),
    )
    .goal("< 2 % fewer", middle < 2.0)
}

async fn gate(cluster: &Cluster) -> Node {
    let gate = Node::builder()
        .id(NodeId::new("caller").expect("a good name"))
        .etcd([cluster.etcd()])
        .prefix(cluster.prefix())
        .weight(Weight::GATE);
    gate.start().await.expect("it joins")
}

async fn calls_per_second(gate: &Node) -> f64 {
    let counts: Vec<Cell<u32>> = vec![Cell::new(0); CALLERS];
    let callers = counts.iter().enumerate().map(|(caller, count)| async move {
        let object = |number| gate.object::<Tally>(format!("object-{caller}-{number}"));
        let objects: Vec<_> = (0..10).map(object).collect();
        for object in objects.iter().cycle() {
            object.add(1).await.expect("it answers");
            count.set(count.get() + 1);
        }
    });
    let began = Instant::now();
    match select(Box::pin(join_all(callers)), Box::pin(sleep(ROUND))).await {
        Either::Left(_) => unreachable!("objects come round for ever"),
        Either::Right(((), _)) => {}
    }
    let calls: u32 = counts.iter().map(Cell::get).sum();
    f64::from(calls) / began.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}
