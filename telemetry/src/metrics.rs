//! A node's metrics on their way to the collector.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use steading::telemetry::Metrics;

use crate::openmetrics::{self, Span};

/// One node's metrics, and who it is.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) resource: Resource,
    /// When it began to count.
    pub(crate) began: SystemTime,
}

impl Source {
    /// Reads every metric, and how many there are.
    pub(crate) fn read(&self) -> (ExportMetricsServiceRequest, usize) {
        let text = self.metrics.encode().unwrap_or_default();
        let span = Span {
            from: nanos(self.began),
            to: nanos(SystemTime::now()),
        };
        let metrics = openmetrics::metrics(&text, span);
        let len = metrics.len();
        let scope = ScopeMetrics {
            scope: Some(InstrumentationScope {
                name: "steading".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                ..InstrumentationScope::default()
            }),
            metrics,
            schema_url: String::new(),
        };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![scope],
                schema_url: String::new(),
            }],
        };
        (request, len)
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
