//! What the listeners of a process report of their connections.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The names of listeners in metrics and logs.
pub const LISTENERS: [&str; 3] = ["grpc", "http", "inspector"];

/// The metrics of connections.
#[derive(Clone, Debug)]
pub struct ConnectionMetrics {
    /// Open connections, by listener.
    pub open: Family<ListenerLabels, Gauge>,
    /// Connections and request bodies that the server gave up, by listener and reason.
    pub closed: Family<ClosedLabels, Counter>,
    /// Failed attempts to accept a connection, by listener.
    pub accept_errors: Family<ListenerLabels, Counter>,
}

/// The labels of metrics of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabels {
    /// `grpc`, `http` or `inspector`.
    pub listener: &'static str,
}

/// The labels of [`ConnectionMetrics::closed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClosedLabels {
    /// `grpc`, `http` or `inspector`.
    pub listener: &'static str,
    /// `listener_full`, `address_full`, `evicted`, `header_timeout`, `idle_timeout`,
    /// `body_timeout`, `write_timeout` or `stopping`.
    pub reason: &'static str,
}

/// Every reason of [`ConnectionMetrics::closed`].
const REASONS: [&str; 8] = [
    "listener_full",
    "address_full",
    "evicted",
    "header_timeout",
    "idle_timeout",
    "body_timeout",
    "write_timeout",
    "stopping",
];

impl ConnectionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            open: Family::default(),
            closed: Family::default(),
            accept_errors: Family::default(),
        };
        registry.register(
            "connections_open",
            "Open connections by listener",
            this.open.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections and request bodies that the server gave up, by listener and reason",
            this.closed.clone(),
        );
        registry.register(
            "accept_errors",
            "Failed attempts to accept a connection, such as for want of file descriptors",
            this.accept_errors.clone(),
        );
        this
    }

    /// Shows every metric of a listener from the beginning.
    pub(crate) fn begin_at_zero(&self, listener: &'static str) {
        let labels = ListenerLabels { listener };
        drop(self.open.get_or_create(&labels));
        drop(self.accept_errors.get_or_create(&labels));
        for reason in REASONS {
            let labels = ClosedLabels { listener, reason };
            drop(self.closed.get_or_create(&labels));
        }
    }
}
