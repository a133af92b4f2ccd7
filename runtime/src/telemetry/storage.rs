//! What is asked of the storage of objects.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Loads and saves of the state of objects.
#[derive(Clone, Debug)]
pub struct StorageMetrics {
    /// Requests, by what was asked and what came of it.
    pub requests: Family<StorageRequest, Counter>,
    /// Seconds until storage answered, by what was asked, whatever came of it.
    pub request_seconds: Family<StorageTime, Histogram, fn() -> Histogram>,
}

/// The labels of [`StorageMetrics::requests`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StorageRequest {
    /// `load` or `save`.
    pub request: &'static str,
    /// `ok`, `fenced` (a later owner was there: the token was rejected), `conflict` (the state was
    /// replaced since it was loaded), `unavailable` or `unknown`.
    pub outcome: &'static str,
}

/// The labels of [`StorageMetrics::request_seconds`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StorageTime {
    /// `load` or `save`.
    pub request: &'static str,
}

impl StorageMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(request_histogram as _),
        };
        for request in ["load", "save"] {
            for outcome in [
                "ok",
                "fenced",
                "conflict",
                "unavailable",
                "damaged",
                "unknown",
            ] {
                let labels = StorageRequest { request, outcome };
                drop(metrics.requests.get_or_create(&labels));
            }
            let labels = StorageTime { request };
            drop(metrics.request_seconds.get_or_create(&labels));
        }
        registry.register(
            "storage_requests",
            "Loads and saves of state by outcome; a rejected token is `fenced`",
            metrics.requests.clone(),
        );
        registry.register(
            "storage_request_seconds",
            "Time until storage answered",
            metrics.request_seconds.clone(),
        );
        metrics
    }

    /// Takes in a request that has ended.
    pub(crate) fn note(&self, labels: &StorageRequest, took: Duration) {
        let time = StorageTime {
            request: labels.request,
        };
        self.requests.get_or_create(labels).inc();
        let histogram = self.request_seconds.get_or_create(&time);
        histogram.observe(took.as_secs_f64());
    }
}

/// From a tenth of a millisecond to 26 s.
fn request_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
}
