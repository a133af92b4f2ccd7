//! Follows the view for the metrics of the whole cluster, which the leader tells.
//!
//! Every node follows, so that one that takes the lead knows since when things are as they are.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::join::Taking;
use super::{Contact, Node, NodeStatus, Shared};
use crate::coordination::reconciler::Stage;
use crate::coordination::watcher::WatchState;
use crate::ids::NodeId;
use crate::placement::{self, Balance, ClusterView, Spread};
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

    /// Returns how evenly load is divided over the nodes that answer: what another one reported
    /// last is no longer known.
    fn load_per_node(&self, view: &ClusterView, now: Instant) -> Option<Spread> {
        let (own, records) = (self.vitals().shards_cpus, self.health.lock());
        placement::spread(view, |node| {
            if *node == self.id {
                return own;
            }
            records.get(node)?.shards_cpus(now)
        })
    }

    /// Returns the status of each registered node by this one's probes. Only the leader probes
    /// often enough for that to be true of all of them.
    fn statuses(&self, view: &ClusterView, now: Instant) -> BTreeMap<NodeId, NodeStatus> {
        let records = self.health.lock();
        let nodes = view.nodes.iter().map(|(node, record)| {
            let mut contact = Contact::default();
            if *node == self.id {
                contact.answer(now, Some(self.fence.margin()));
            } else if let Some(known) = records.get(node) {
                contact = *known.contact();
            }
            (node.clone(), NodeStatus::of(record.state, &contact, now))
        });
        nodes.collect()
    }

    /// Whether this node leads and what it knows of the cluster is current: a leader that is
    /// fenced, or has lost the watch, may have been replaced without knowing.
    fn speaks_for_cluster(&self, view: &ClusterView) -> bool {
        let taking = self.taking.get();
        let is_current = |taking: &Taking| *taking.watching.borrow() == WatchState::CaughtUp;
        self.leads(view) && self.fence.is_open() && taking.is_some_and(is_current)
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
        if !shared.speaks_for_cluster(&view) {
            return None;
        }
        let (now, instant) = (shared.fence.clock().now(), Instant::now());
        let spans = shared.spans.lock();
        let balance = Balance::of(&view);
        let statuses = shared.statuses(&view, instant);
        let is_at_risk = |node: &NodeId| statuses.get(node).is_some_and(|is| is.is_at_risk());
        Some(ClusterGauges {
            nodes: nodes(&view, &statuses),
            at_risk: placement::owned_by(&view, is_at_risk),
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
            shards_per_node: balance.shards.map(gauges),
            load_per_node: shared.load_per_node(&view, instant).map(gauges),
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
            gate: node.shared.gate,
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

/// Counts the registered nodes, each once: a gate as a gate, unless it is silent or fenced.
fn nodes(
    view: &ClusterView,
    statuses: &BTreeMap<NodeId, NodeStatus>,
) -> Vec<(&'static str, usize)> {
    const GATE: &str = "gate";
    let name = |(node, status): (&NodeId, &NodeStatus)| {
        let is_gate = view.nodes.get(node).is_some_and(|of| of.weight.is_gate());
        if is_gate && !status.is_at_risk() {
            GATE
        } else {
            status.as_str()
        }
    };
    let named: Vec<_> = statuses.iter().map(name).collect();
    let names = NodeStatus::ALL.map(NodeStatus::as_str);
    let names = names.into_iter().chain([GATE]);
    let count = |name| named.iter().filter(|is| **is == name).count();
    names.map(|name| (name, count(name))).collect()
}

fn gauges(spread: Spread) -> SpreadGauges {
    SpreadGauges {
        max: spread.max,
        min: spread.min,
        mean: spread.mean,
        variation: spread.variation,
    }
}
