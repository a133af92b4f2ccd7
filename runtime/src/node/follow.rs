//! Follows the view for the metrics of the whole cluster, which the leader tells.
//!
//! Every node follows, so that one that takes the lead knows since when things are as they are.

use std::convert::Infallible;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Node, Shared};
use crate::coordination::reconciler::Stage;
use crate::placement::{self, Balance, ClusterView, NodeState, Spread};
use crate::telemetry::{
    ClusterGauges, NodeGauges, PhaseLabels, SpreadGauges, TellCluster, TellNode,
};

/// How often the reconciler is asked what is under way.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the view until `shutdown`.
pub(super) async fn follow(node: Node, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut views = node.subscribe();
    let mut before = None;
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    views.mark_changed();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            changed = views.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let view = views.borrow_and_update().clone();
                node.shared.see(&view, before.as_deref());
                before = Some(view);
            }
            _ = tick.tick() => node.shared.look_at_phases().await,
        }
    }
}

impl Shared {
    /// Whether this node is the one that plans.
    pub(super) fn leads(&self, view: &ClusterView) -> bool {
        view.leader
            .as_ref()
            .is_some_and(|leader| leader.node == self.id)
    }

    fn see(&self, view: &ClusterView, before: Option<&ClusterView>) {
        let now = self.fence.clock().now();
        let ended = self.spans.lock().see(view, before, now);
        if !self.leads(view) {
            return;
        }
        for gap in ended {
            let histogram = &self.metrics.placement.unowned_seconds;
            histogram.observe(gap.as_secs_f64());
        }
    }

    fn load_per_node(&self, view: &ClusterView) -> Option<Spread> {
        let reports = self.reports.lock().clone();
        placement::spread(view, |node| reports.get(node)?.shards_cpus())
    }

    async fn look_at_phases(&self) {
        let Some(taking) = self.taking.get() else {
            return;
        };
        let under_way = taking.reconciler.under_way().await;
        for stage in Stage::ALL {
            let ages = under_way.iter().filter(|shard| shard.stage == stage);
            let oldest = ages.map(|shard| shard.age).max().unwrap_or_default();
            let phase = stage.name();
            let gauges = &self.metrics.placement.oldest_in_phase_seconds;
            let gauge = gauges.get_or_create(&PhaseLabels { phase });
            gauge.set(oldest.as_secs_f64());
        }
    }
}

/// Tells metrics about the cluster while this node leads.
#[derive(Debug)]
pub(super) struct Overview(pub(super) Weak<Shared>);

impl TellCluster for Overview {
    fn gauges(&self) -> Option<ClusterGauges> {
        let shared = self.0.upgrade()?;
        let view = shared.view.current();
        if !shared.leads(&view) {
            return None;
        }
        let now = shared.fence.clock().now();
        let spans = shared.spans.lock();
        let balance = Balance::of(&view);
        Some(ClusterGauges {
            nodes: nodes(&view),
            shards: vec![
                ("settled", balance.settled),
                ("moving", balance.moving),
                ("unowned", balance.unowned),
                ("quarantined", balance.quarantined),
            ],
            pinned: balance.pinned,
            pinned_unowned: balance.pinned_unowned,
            cordoned: cordoned(&view),
            paused: view.orders.paused,
            shards_per_node: balance.shards.map(gauges).unwrap_or_default(),
            load_per_node: shared.load_per_node(&view).map(gauges).unwrap_or_default(),
            oldest_move: spans.oldest_move(now).unwrap_or_default(),
            oldest_unowned: spans.oldest_unowned(now).unwrap_or_default(),
        })
    }
}

impl TellNode for Overview {
    fn gauges(&self) -> Option<NodeGauges> {
        let node = Node {
            shared: self.0.upgrade()?,
        };
        let conditions = node.readiness().conditions.into_iter();
        Some(NodeGauges {
            version: env!("CARGO_PKG_VERSION"),
            conditions: conditions
                .map(|state| (state.condition.as_str(), state.met))
                .collect(),
            settings: vec![
                ("drain_timeout", node.shared.drain_timeout),
                ("lease_ttl", node.shared.lease_ttl),
            ],
        })
    }
}

fn cordoned(view: &ClusterView) -> usize {
    let live = view.nodes.keys();
    live.filter(|node| view.orders.cordoned.contains(*node))
        .count()
}

fn nodes(view: &ClusterView) -> Vec<(&'static str, usize)> {
    let is_gate = |gate: bool| {
        view.nodes
            .values()
            .filter(move |node| node.weight.is_gate() == gate)
    };
    let count = |state| is_gate(false).filter(|node| node.state == state).count();
    vec![
        ("joining", count(NodeState::Joining)),
        ("active", count(NodeState::Active)),
        ("draining", count(NodeState::Draining)),
        ("gate", is_gate(true).count()),
    ]
}

fn gauges(spread: Spread) -> SpreadGauges {
    SpreadGauges {
        max: spread.max,
        min: spread.min,
        mean: spread.mean,
        variation: spread.variation,
    }
}
