//! What is reported of the bytes in flight in a process.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of the memory budget.
#[derive(Clone, Debug, Default)]
pub struct BudgetMetrics {
    /// Bytes in use.
    pub used: Gauge,
    /// Bytes that there are.
    pub limit: Gauge,
    /// Reservations that did not fit, by what they were for.
    pub rejected: Family<BudgetLabels, Counter>,
}

/// The labels of [`BudgetMetrics::rejected`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BudgetLabels {
    /// `request`, `batch`, `staging` or `reply`.
    pub kind: &'static str,
}

impl BudgetMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self::default();
        registry.register_with_unit(
            "memory_budget_used",
            "Bytes in flight: requests, batches, state on its way, replies",
            Unit::Bytes,
            this.used.clone(),
        );
        registry.register_with_unit(
            "memory_budget_limit",
            "Bytes that may be in flight at a time",
            Unit::Bytes,
            this.limit.clone(),
        );
        registry.register(
            "memory_budget_rejections",
            "Reservations that did not fit into the memory budget, by what they were for",
            this.rejected.clone(),
        );
        for kind in ["request", "batch", "staging", "reply"] {
            drop(this.rejected.get_or_create(&BudgetLabels { kind }));
        }
        this
    }
}
