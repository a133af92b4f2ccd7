//! Log records on their way to the collector.

use std::time::Duration;

use opentelemetry::InstrumentationScope;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogProcessor, SdkLogRecord, SdkLoggerProvider};
use steading_settings::LogLayer;
use tracing_subscriber::Layer;

use crate::queue::Queue;

/// A record, and what wrote it.
pub(crate) type Record = (SdkLogRecord, InstrumentationScope);

/// Returns what puts the log into the queue. Records within a sampled span carry its IDs.
pub(crate) fn layer(queue: Queue<Record>) -> LogLayer {
    let provider = SdkLoggerProvider::builder()
        .with_log_processor(Enqueue(queue))
        .build();
    OpenTelemetryTracingBridge::new(&provider).boxed()
}

#[derive(Debug)]
struct Enqueue(Queue<Record>);

impl LogProcessor for Enqueue {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        self.0.put((record.clone(), scope.clone()));
    }

    /// Whoever takes from the queue does that.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
