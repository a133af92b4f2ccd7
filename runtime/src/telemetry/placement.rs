//! The metrics of the whole cluster, which its leader alone tells; so a sum over nodes is right.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::hosts::write;

/// How long shards were without an owner or on their way.
#[derive(Clone, Debug)]
pub struct PlacementMetrics {
    /// Seconds that shards were without a live owner, as the leader saw it.
    pub unowned_seconds: Histogram,
    /// Seconds that the oldest shard of this node has been in a phase of coming or going.
    pub oldest_in_phase_seconds: Family<PhaseLabels, Gauge<f64, AtomicU64>>,
}

/// The labels of [`PlacementMetrics::oldest_in_phase_seconds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    /// `claim`, `retry`, `close`, `send`, `hand_over`, `end`, `release` or `resolve`.
    pub phase: &'static str,
}

impl PlacementMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            unowned_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)), // To 66 s.
            oldest_in_phase_seconds: Family::default(),
        };
        registry.register(
            "cluster_unowned_seconds",
            "Time that shards were without a live owner",
            metrics.unowned_seconds.clone(),
        );
        registry.register(
            "oldest_in_phase_seconds",
            "Time that the oldest shard has been in a phase of coming or going",
            metrics.oldest_in_phase_seconds.clone(),
        );
        metrics
    }
}

/// What a leader tells of its cluster when it is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterGauges {
    /// By state.
    pub(crate) nodes: Vec<(&'static str, usize)>,
    /// By state.
    pub(crate) shards: Vec<(&'static str, usize)>,
    /// Shards whose owner is silent or fenced.
    pub(crate) at_risk: usize,
    pub(crate) pinned: usize,
    /// Pinned ones without a live owner.
    pub(crate) pinned_unowned: usize,
    /// Nodes that are to get no more shards.
    pub(crate) cordoned: usize,
    /// Whether an operator paused balancing.
    pub(crate) paused: bool,
    /// Shards that a node owns.
    pub(crate) shards_per_node: Option<SpreadGauges>,
    /// CPUs that a node's shards kept busy in its last window of load.
    pub(crate) load_per_node: Option<SpreadGauges>,
    pub(crate) oldest_move: Duration,
    pub(crate) oldest_unowned: Duration,
}

/// How evenly something is divided over nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SpreadGauges {
    pub(crate) max: f64,
    pub(crate) min: f64,
    pub(crate) mean: f64,
    pub(crate) variation: f64,
}

/// Where the gauges come from when metrics are read; `None`: this node does not lead.
pub(crate) trait TellCluster: Send + Sync + 'static {
    fn gauges(&self) -> Option<ClusterGauges>;
}

pub(super) struct ClusterCollector<T>(pub(super) T);

impl<T> fmt::Debug for ClusterCollector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterCollector")
    }
}

impl<T: TellCluster> Collector for ClusterCollector<T> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(gauges) = self.0.gauges() else {
            return Ok(());
        };
        let encoder = &mut encoder;
        let help = "Registered nodes by state, by the leader's probes";
        family(encoder, "cluster_nodes", help, "state", &gauges.nodes)?;
        let help = "Shards by state";
        family(encoder, "cluster_shards", help, "state", &gauges.shards)?;
        write(
            encoder,
            "cluster_shards_at_risk",
            "Shards whose owner is silent or fenced: calls to them may wait or fail",
            &ConstGauge::new(gauges.at_risk),
        )?;
        write(
            encoder,
            "cluster_shards_pinned",
            "Shards that operators fixed where they are",
            &ConstGauge::new(gauges.pinned),
        )?;
        write(
            encoder,
            "cluster_shards_pinned_unowned",
            "Pinned shards without a live owner",
            &ConstGauge::new(gauges.pinned_unowned),
        )?;
        write(
            encoder,
            "cluster_nodes_cordoned",
            "Live nodes that an operator lets get no more shards",
            &ConstGauge::new(gauges.cordoned),
        )?;
        write(
            encoder,
            "cluster_balancing_paused",
            "1 while an operator has balancing paused",
            &ConstGauge::new(u32::from(gauges.paused)),
        )?;
        SpreadGauges::encode(
            gauges.shards_per_node,
            encoder,
            (
                "cluster_shards_per_node",
                "Shards of nodes that can get some: most, least and mean of nodes",
            ),
            (
                "cluster_shards_variation",
                "Standard deviation over mean of the shards of nodes for their weight",
            ),
        )?;
        SpreadGauges::encode(
            gauges.load_per_node,
            encoder,
            (
                "cluster_load_per_node",
                "CPUs that the shards of answering nodes kept busy: most, least and mean of nodes",
            ),
            (
                "cluster_load_variation",
                "Standard deviation over mean of the load of nodes for their weight",
            ),
        )?;
        write(
            encoder,
            "cluster_oldest_move_seconds",
            "Time that the oldest move has been going on",
            &ConstGauge::new(gauges.oldest_move.as_secs_f64()),
        )?;
        write(
            encoder,
            "cluster_oldest_unowned_seconds",
            "Time that the shard which is so longest has been without a live owner",
            &ConstGauge::new(gauges.oldest_unowned.as_secs_f64()),
        )
    }
}

impl SpreadGauges {
    /// What is written where there is nothing to compare: zero would mean that all is even.
    const UNKNOWN: Self = Self {
        max: f64::NAN,
        min: f64::NAN,
        mean: f64::NAN,
        variation: f64::NAN,
    };

    fn encode(
        spread: Option<Self>,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        (variation, variation_help): (&str, &str),
    ) -> Result<(), fmt::Error> {
        let spread = spread.unwrap_or(Self::UNKNOWN);
        let values = [
            ("max", spread.max),
            ("min", spread.min),
            ("mean", spread.mean),
        ];
        family(encoder, name, help, "of", &values)?;
        let gauge = ConstGauge::new(spread.variation);
        write(encoder, variation, variation_help, &gauge)
    }
}

pub(super) fn family<V: Copy>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, V)],
) -> Result<(), fmt::Error>
where
    ConstGauge<V>: EncodeMetric,
{
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (value, amount) in values {
        let gauge = ConstGauge::new(*amount);
        gauge.encode(metric.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}
