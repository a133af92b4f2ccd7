//! What a node counts of how others answer it.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The metrics of a node's probes of others.
#[derive(Debug)]
pub struct HealthMetrics {
    /// Probes by outcome.
    pub probes: Family<ProbeLabels, Counter>,
    /// Round trips of probes that were answered, in seconds.
    pub probe_seconds: Histogram,
    /// Live nodes that have left too many probes in a row unanswered.
    pub unhealthy_nodes: Gauge,
}

/// The labels of [`HealthMetrics::probes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProbeLabels {
    /// `answered` or `failed`.
    pub outcome: &'static str,
}

impl HealthMetrics {
    /// Counts a probe by its outcome: its round trip, or why it failed.
    pub(crate) fn count<E>(&self, probe: &Result<Duration, E>) {
        let outcome = match probe {
            Ok(trip) => {
                self.probe_seconds.observe(trip.as_secs_f64());
                "answered"
            }
            Err(_) => "failed",
        };
        self.probes.get_or_create(&ProbeLabels { outcome }).inc();
    }

    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            probes: Family::default(),
            probe_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 14)),
            unhealthy_nodes: Gauge::default(),
        };
        let help = "Probes of other nodes by outcome";
        registry.register("probes", help, this.probes.clone());
        let help = "Round trips of answered probes";
        registry.register("probe_seconds", help, this.probe_seconds.clone());
        let help = "Live nodes that have left too many probes of this one in a row unanswered";
        registry.register("unhealthy_nodes", help, this.unhealthy_nodes.clone());
        this
    }
}
