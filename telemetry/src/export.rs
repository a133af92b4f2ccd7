//! What a process sends, from its start to its end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource as WireResource;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::logs::tonic::group_logs_by_resource_and_scope;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::LogBatch;
use steading::telemetry::{ExportMetrics, Metrics};
use steading::{NodeBuilder, Tasks};
use steading_settings::{LogLayer, SettingsError};
use tokio_util::sync::CancellationToken;

use crate::logs::{self, Record};
use crate::metrics::Source;
use crate::queue::{Counts, Queue, send_batches};
use crate::settings::OtlpSettings;
use crate::spans::NodeSpans;
use crate::transport::{Request, Transport};

/// How long the end of a process waits for what was not sent yet.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// The telemetry of one process.
#[derive(Debug)]
pub struct Telemetry {
    settings: OtlpSettings,
    counts: ExportMetrics,
    tasks: Tasks,
    traces: Option<Arc<Transport>>,
    metrics: Option<Arc<Transport>>,
    logs: Option<Arc<Transport>>,
}

impl Telemetry {
    /// Makes the ways to the collectors; nothing is sent yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if an endpoint, its certificates or headers cannot be used.
    pub fn new(settings: OtlpSettings) -> Result<Self, SettingsError> {
        let transport = |target: &Option<_>| {
            let transport = target.as_ref().map(Transport::new).transpose()?;
            Ok::<_, SettingsError>(transport.map(Arc::new))
        };
        Ok(Self {
            traces: transport(&settings.traces)?,
            metrics: transport(&settings.metrics)?,
            logs: transport(&settings.logs)?,
            settings,
            counts: ExportMetrics::default(),
            tasks: Tasks::new(),
        })
    }

    /// Begins to send the log of this process, known as `instance`: what the returned layer gets.
    pub fn log_layer(&self, instance: &str) -> Option<LogLayer> {
        let transport = self.logs.clone()?;
        let (batching, counts) = (self.settings.logs_batch, self.counts_of("logs"));
        let (queue, items) = Queue::new(batching, counts.clone());
        let resource = ResourceAttributesWithSchema::from(&self.resource(instance));
        let send = async move |batch: Vec<Record>| {
            let records: Vec<_> = batch
                .iter()
                .map(|(record, scope)| (record, scope))
                .collect();
            let batch = LogBatch::new(&records);
            let resource_logs = group_logs_by_resource_and_scope(&batch, &resource);
            let request = Request::Logs(ExportLogsServiceRequest { resource_logs });
            report(&transport, &counts, request, records.len()).await;
        };
        let shutdown = self.tasks.shutdown().clone();
        self.tasks
            .spawn_work(send_batches(items, batching, send, shutdown));
        Some(logs::layer(queue))
    }

    /// Lets a node that is being set up as `instance` make spans, if they are sent, and tell what
    /// became of telemetry.
    pub fn trace(&self, instance: &str, node: NodeBuilder) -> NodeBuilder {
        let node = node.export_metrics(self.counts.clone());
        let Some(transport) = self.traces.clone() else {
            return node;
        };
        let (batching, counts) = (self.settings.spans_batch, self.counts_of("traces"));
        let (queue, items) = Queue::new(batching, counts.clone());
        let resource = ResourceAttributesWithSchema::from(&self.resource(instance));
        let send = async move |batch: Vec<_>| {
            let len = batch.len();
            let resource_spans = group_spans_by_resource_and_scope(batch, &resource);
            let request = Request::Traces(ExportTraceServiceRequest { resource_spans });
            report(&transport, &counts, request, len).await;
        };
        let shutdown = self.tasks.shutdown().clone();
        self.tasks
            .spawn_work(send_batches(items, batching, send, shutdown));
        node.spans(Arc::new(NodeSpans::new(self.settings.sampler, queue)))
    }

    /// Sends a node's metrics from now on, and once more at the end.
    pub fn measure(&self, instance: &str, metrics: &Arc<Metrics>) {
        let Some(transport) = self.metrics.clone() else {
            return;
        };
        let (interval, counts) = (self.settings.metric_interval, self.counts_of("metrics"));
        let attributes = ResourceAttributesWithSchema::from(&self.resource(instance));
        let source = Source {
            metrics: metrics.clone(),
            resource: WireResource {
                attributes: attributes.attributes.0,
                ..WireResource::default()
            },
            began: SystemTime::now(),
        };
        let shutdown = self.tasks.shutdown().clone();
        self.tasks.spawn_work(async move {
            send_metrics(&source, &transport, &counts, interval, shutdown).await;
        });
    }

    /// Sends what is left, for at most [`FLUSH_TIMEOUT`].
    pub async fn stop(self) {
        self.tasks.stop(FLUSH_TIMEOUT).await;
    }

    fn counts_of(&self, signal: &'static str) -> Counts {
        Counts {
            signal,
            metrics: self.counts.clone(),
        }
    }

    /// Tells who sends: what the variables say goes before what is known here.
    fn resource(&self, instance: &str) -> Resource {
        let ours = [
            KeyValue::new("service.name", "steading"),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let name = self.settings.service_name.clone();
        let name = name.map(|name| KeyValue::new("service.name", name));
        Resource::builder_empty()
            .with_attributes(ours)
            .with_attributes(self.settings.resource.clone())
            .with_attributes(name)
            .build()
    }
}

async fn send_metrics(
    source: &Source,
    transport: &Transport,
    counts: &Counts,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.tick().await; // At once, when there is nothing to tell yet.
    loop {
        let ticked = shutdown.run_until_cancelled(ticks.tick()).await;
        let (request, len) = source.read();
        report(transport, counts, Request::Metrics(request), len).await;
        if ticked.is_none() {
            return;
        }
    }
}

async fn report(transport: &Transport, counts: &Counts, request: Request, items: usize) {
    if transport.send(counts.signal, request).await {
        counts.sent(items);
    } else {
        counts.failed(items);
    }
}
