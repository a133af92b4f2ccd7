//! Every metric and span of Steading in one place.
//!
//! A [`Metrics`] belongs to one node, so that several nodes in one process stay apart; nothing is
//! global. Spans go to whoever the node was given, or nowhere. Names begin with `steading_`, units are base units, labels have few values.

mod budget;
mod certificates;
mod connections;
mod coordination;
mod exports;
mod health;
mod hosts;
mod membership;
mod node;
mod objects;
mod placement;
mod plans;
pub(crate) mod process;
#[cfg(test)]
mod recorder;
mod routing;
mod storage;
mod trace;
mod trace_context;
mod traces;

use std::fmt;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

pub use budget::{BudgetLabels, BudgetMetrics};
pub use certificates::{CertificateLabels, CertificateMetrics, HandshakeLabels, ReloadLabels};
pub use connections::{ClosedLabels, ConnectionMetrics, LISTENERS, ListenerLabels};
pub use coordination::{
    BatchLabels, ClaimLabels, CoordinationMetrics, GivenUpLabels, HandoverLabels, MoveLabels,
    PlanEndLabels, PlanLabels, SendFailureLabels, SkipLabels, StuckLabels,
};
pub use exports::{ExportLabels, ExportMetrics};
pub use health::{HealthMetrics, ProbeLabels};
pub(crate) use hosts::{CountTurns, HostCounts};
pub use membership::MembershipMetrics;
pub(crate) use node::{NodeGauges, TellNode};
pub(crate) use objects::TurnMetrics;
pub use objects::{ObjectMetrics, TickLabels, TypeLabels};
pub(crate) use placement::{ClusterGauges, SpreadGauges, TellCluster};
pub use placement::{PhaseLabels, PlacementMetrics};
pub(crate) use plans::Part;
#[cfg(test)]
pub(crate) use recorder::{Recorded, Recorder};
pub use routing::{CallLabels, CallMetrics, LinkMetrics, ParkingMetrics, RoutingMetrics};
pub use storage::{StorageMetrics, StorageRequest, StorageTime};
pub use trace::Trace;
pub use trace_context::{TRACESTATE_LEN_MAX, TraceContext};
pub use traces::{EndedSpan, Spans, Traces, code};
pub(crate) use traces::{attribute, shard};

/// The metrics of one node.
pub struct Metrics {
    registry: RwLock<Registry>,
    /// Transactions sent to the store, by outcome.
    pub store_writes: Family<StoreWrite, Counter>,
    /// What watcher, leader and reconciler count.
    pub coordination: CoordinationMetrics,
    /// What objects and the per-shard lock count.
    pub objects: ObjectMetrics,
    /// How long the store took to answer, by request, whatever it answered.
    pub store_request_seconds: Family<StoreRequest, Histogram, fn() -> Histogram>,
    /// Certificates and handshakes with them.
    pub certificates: CertificateMetrics,
    /// Connections of clients and other nodes.
    pub connections: ConnectionMetrics,
    /// Bytes in flight.
    pub budget: BudgetMetrics,
    /// The node's own life in the store.
    pub membership: MembershipMetrics,
    /// How other nodes answer this one's probes.
    pub health: HealthMetrics,
    /// Calls on their way to their objects.
    pub routing: RoutingMetrics,
    /// Shards on their way, as the leader sees it.
    pub placement: PlacementMetrics,
    /// Loads and saves of the state of objects.
    pub storage: StorageMetrics,
    /// The node's spans, if anybody wants them.
    pub traces: Traces,
}

/// The labels of [`Metrics::store_writes`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreWrite {
    /// `ok`, `conflict`, `transient` or `fatal`.
    pub outcome: &'static str,
}

/// The labels of [`Metrics::store_request_seconds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StoreRequest {
    /// `list`, `commit`, `grant`, `keep_alive`, `revoke` or `watch`.
    pub request: &'static str,
}

impl Metrics {
    /// Makes metrics that all begin at zero, and no spans.
    pub fn new() -> Self {
        Self::beside(Traces::default(), &ExportMetrics::default())
    }

    /// Makes metrics that all begin at zero, but for `exports`, beside these spans.
    pub fn beside(traces: Traces, exports: &ExportMetrics) -> Self {
        let mut registry = Registry::with_prefix("steading");
        let store_writes = Family::default();
        registry.register(
            "store_writes",
            "Transactions by outcome",
            store_writes.clone(),
        );
        let coordination = CoordinationMetrics::register(&mut registry);
        let objects = ObjectMetrics::register(&mut registry);
        let store_request_seconds = Family::new_with_constructor(store_request_histogram as _);
        registry.register(
            "store_request_seconds",
            "Time until the store answered",
            store_request_seconds.clone(),
        );
        // Shown from the beginning, so that a first event is seen as a rise from zero.
        for outcome in ["ok", "conflict", "transient", "fatal"] {
            drop(store_writes.get_or_create(&StoreWrite { outcome }));
        }
        for request in ["list", "commit", "grant", "keep_alive", "revoke", "watch"] {
            drop(store_request_seconds.get_or_create(&StoreRequest { request }));
        }
        process::started_at();
        registry.register_collector(Box::new(process::ProcessCollector));
        let routing = RoutingMetrics::default();
        routing.register(&mut registry);
        exports.register(&mut registry);
        Self {
            health: HealthMetrics::register(&mut registry),
            certificates: CertificateMetrics::register(&mut registry),
            connections: ConnectionMetrics::register(&mut registry),
            budget: BudgetMetrics::register(&mut registry),
            membership: MembershipMetrics::register(&mut registry),
            placement: PlacementMetrics::register(&mut registry),
            storage: StorageMetrics::register(&mut registry),
            registry: RwLock::new(registry),
            store_writes,
            store_request_seconds,
            coordination,
            objects,
            routing,
            traces,
        }
    }

    /// Has a host's turns counted whenever the metrics are read.
    pub(crate) fn collect_from(&self, turns: impl CountTurns) {
        let collector = hosts::TurnCollector(turns);
        self.registry
            .write()
            .register_collector(Box::new(collector));
    }

    /// Has the cluster told whenever the metrics are read, as long as this node leads.
    pub(crate) fn tell_cluster(&self, cluster: impl TellCluster) {
        let collector = placement::ClusterCollector(cluster);
        self.registry
            .write()
            .register_collector(Box::new(collector));
    }

    /// Has a node tell of itself whenever the metrics are read.
    pub(crate) fn tell_node(&self, node: impl TellNode) {
        let collector = node::NodeCollector(node);
        self.registry
            .write()
            .register_collector(Box::new(collector));
    }

    /// Writes every metric in the text format that Prometheus reads.
    ///
    /// # Errors
    ///
    /// Never in practice: writing to a string does not fail.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry.read())?;
        Ok(text)
    }
}

/// From half a millisecond to eight seconds.
fn store_request_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 15))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
