//! Spans on their way to the collector.

use std::time::Duration;

use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
    Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SamplingDecision, SdkTracer, SdkTracerProvider, ShouldSample, Span, SpanData, SpanEvents,
    SpanLinks, SpanProcessor,
};
use steading::telemetry::{EndedSpan, Spans};

use crate::queue::Queue;
use crate::settings::Sampling;

/// The name of the scope of all spans.
const SCOPE: &str = "steading";

/// Makes the spans of one node.
#[derive(Debug)]
pub(crate) struct NodeSpans {
    tracer: SdkTracer,
    sampling: Sampling,
    queue: Queue<SpanData>,
    scope: InstrumentationScope,
}

impl NodeSpans {
    pub(crate) fn new(sampling: Sampling, queue: Queue<SpanData>) -> Self {
        let scope = InstrumentationScope::builder(SCOPE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampling.sampler())
            .with_span_processor(Enqueue(queue.clone()))
            .build();
        Self {
            tracer: provider.tracer_with_scope(scope.clone()),
            sampling,
            queue,
            scope,
        }
    }
}

impl Spans for NodeSpans {
    fn start(&self, span: SpanBuilder, parent: &Context) -> Context {
        parent.with_span(self.tracer.build_with_context(span, parent))
    }

    fn samples(&self, trace: TraceId) -> bool {
        let root = self.sampling.root();
        let result = root.should_sample(None, trace, "", &SpanKind::Internal, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn record(&self, span: EndedSpan) {
        let flags = TraceFlags::SAMPLED;
        self.queue.put(SpanData {
            span_context: SpanContext::new(span.trace, span.id, flags, false, TraceState::NONE),
            parent_span_id: span.parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name.into(),
            start_time: span.began,
            end_time: span.ended,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.failed.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// Puts spans that have ended into the queue.
#[derive(Debug)]
struct Enqueue(Queue<SpanData>);

impl SpanProcessor for Enqueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.put(span);
        }
    }

    /// Whoever takes from the queue does that.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}
