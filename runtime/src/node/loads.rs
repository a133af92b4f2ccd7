//! Windows of load: what this node's shards and its process took, one window after the other.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Node, Shared, weigh};
use crate::ids::{NodeId, ShardId};
use crate::placement::Arrival;
use crate::placement::planner::Loads;
use crate::routing::NodeReport;
use crate::telemetry::process;

/// How long a window is: what the planner's figures mean by "a window".
pub(super) const LOAD_WINDOW: Duration = Duration::from_secs(10);

/// Ends one window after the other until `shutdown`.
pub(super) async fn end_windows(node: Node, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut tick = interval(LOAD_WINDOW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await; // The first is at once.
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        node.shared.host.end_load_window().await;
        node.shared.process.end_window();
    }
}

/// Asks all nodes once a window what they report, as long as this node leads, until `shutdown`; and
/// at once when the leader wants to know what came with shards. A node that does not answer in two seconds is left out.
pub(super) async fn gather(node: Node, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut tick = interval(LOAD_WINDOW);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let gathered = async {
            tokio::select! {
                _ = tick.tick() => {}
                () = node.shared.ask_nodes.notified() => {}
            }
            if node.shared.leads(&node.view()) {
                node.reports().await
            } else {
                BTreeMap::new()
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            reports = gathered => {
                let known = reports.into_iter().filter_map(|(node, report)| Some((node, report.ok()?)));
                node.shared.take_in(&Arc::new(known.collect()));
            }
        }
    }
}

impl Shared {
    /// Keeps what nodes report, and lets the planner weigh it.
    fn take_in(&self, reports: &Arc<BTreeMap<NodeId, NodeReport>>) {
        let before = std::mem::replace(&mut *self.reports.lock(), reports.clone());
        if reports.is_empty() {
            return;
        }
        let arrivals = reports.values().flat_map(|report| &report.arrivals);
        let mut newest: BTreeMap<ShardId, Arrival> = BTreeMap::new();
        for (shard, arrival) in arrivals {
            let known = newest.entry(*shard).or_insert(*arrival);
            if arrival.revision > known.revision {
                *known = *arrival;
            }
        }
        self.arrivals.send_replace(Arc::new(newest));
        let mut loads = Loads::clone(&self.loads.borrow());
        let (view, now) = (self.view.current(), self.fence.clock().now());
        weigh::absorb(&mut loads, reports, &before, &view, now);
        self.loads.send_replace(Arc::new(loads));
    }
}

/// What the process took in the last window.
#[derive(Debug)]
pub(super) struct ProcessLoad(Mutex<(Duration, Taken)>);

/// What a process took in a window, and has at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) cpu: Duration,
    pub(super) cpus: u32,
    pub(super) memory_bytes: u64,
    pub(super) memory_max_bytes: u64,
}

impl ProcessLoad {
    /// Begins the first window.
    pub(super) fn new() -> Self {
        Self(Mutex::new((process::cpu(), Taken::default())))
    }

    pub(super) fn last(&self) -> Taken {
        self.0.lock().1
    }

    fn end_window(&self) {
        let cpu = process::cpu();
        let (memory_bytes, memory_max_bytes) =
            (process::memory_bytes(), process::memory_max_bytes());
        let mut last = self.0.lock();
        let taken = Taken {
            cpu: cpu.saturating_sub(last.0),
            cpus: process::cpus(),
            memory_bytes,
            memory_max_bytes,
        };
        *last = (cpu, taken);
    }
}
