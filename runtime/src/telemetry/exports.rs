//! What became of telemetry that the process sends to a collector.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The labels of [`ExportMetrics::items`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExportLabels {
    /// `traces`, `metrics` or `logs`.
    pub signal: &'static str,
    /// `sent`; `dropped`, since too many waited; or `failed`, since the collector did not take it.
    pub outcome: &'static str,
}

/// What became of telemetry that was to be sent. All nodes of a process may share it.
#[derive(Clone, Debug, Default)]
pub struct ExportMetrics {
    /// Spans, metrics and log records.
    pub items: Family<ExportLabels, Counter>,
}

impl ExportMetrics {
    /// Returns how many items of a kind came to this so far.
    pub fn count(&self, signal: &'static str, outcome: &'static str) -> u64 {
        self.items
            .get_or_create(&ExportLabels { signal, outcome })
            .get()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        for signal in ["traces", "metrics", "logs"] {
            for outcome in ["sent", "dropped", "failed"] {
                drop(self.items.get_or_create(&ExportLabels { signal, outcome }));
            }
        }
        registry.register(
            "telemetry_items",
            "Spans, metrics and log records that were to be sent by OTLP, by what became of them",
            self.items.clone(),
        );
    }
}
