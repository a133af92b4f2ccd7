//! Takes spans for tests, and keeps them in the order in which they began.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState,
};
use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;

use super::{EndedSpan, Spans, Trace, TraceContext};

/// A span of a call.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) node: String,
    pub(crate) id: SpanId,
    pub(crate) parent: SpanId,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) events: Vec<String>,
    pub(crate) status: Status,
    pub(crate) ended: bool,
}

/// Every span of several nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Recorded>>>);

impl Recorder {
    /// Returns what takes the spans of one node.
    pub(crate) fn of(&self, node: &str) -> Arc<dyn Spans> {
        Arc::new(NodeRecorder {
            node: node.into(),
            recorder: self.clone(),
        })
    }

    pub(crate) fn spans(&self) -> Vec<Recorded> {
        self.0.lock().clone()
    }

    /// Returns a sampled trace that began elsewhere.
    pub(crate) fn caller() -> Trace {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        Trace::of(TraceContext::read(parent, "").expect("well-formed"))
    }
}

#[derive(Debug)]
struct NodeRecorder {
    node: String,
    recorder: Recorder,
}

impl Spans for NodeRecorder {
    fn start(&self, span: SpanBuilder, parent: &Context) -> Context {
        let of = parent.span().span_context().clone();
        let mut spans = self.recorder.0.lock();
        let index = spans.len();
        let id = SpanId::from(index as u64 + 1);
        spans.push(Recorded {
            node: self.node.clone(),
            id,
            parent: of.span_id(),
            name: span.name.into_owned(),
            kind: span.span_kind.unwrap_or(SpanKind::Internal),
            events: Vec::new(),
            status: Status::Unset,
            ended: false,
        });
        drop(spans);
        let (trace, flags) = (of.trace_id(), TraceFlags::SAMPLED);
        parent.with_span(TestSpan {
            context: SpanContext::new(trace, id, flags, false, TraceState::NONE),
            index,
            recorder: self.recorder.clone(),
        })
    }

    fn samples(&self, _: TraceId) -> bool {
        false
    }

    fn record(&self, _: EndedSpan) {}
}

#[derive(Debug)]
struct TestSpan {
    context: SpanContext,
    index: usize,
    recorder: Recorder,
}

impl TestSpan {
    fn change(&self, change: impl FnOnce(&mut Recorded)) {
        change(&mut self.recorder.0.lock()[self.index]);
    }
}

impl Span for TestSpan {
    fn add_event_with_timestamp<T>(&mut self, name: T, _: SystemTime, _: Vec<KeyValue>)
    where
        T: Into<Cow<'static, str>>,
    {
        let name = name.into().into_owned();
        self.change(|span| span.events.push(name));
    }

    fn span_context(&self) -> &SpanContext {
        &self.context
    }

    fn is_recording(&self) -> bool {
        true
    }

    fn set_attribute(&mut self, _: KeyValue) {}

    fn set_status(&mut self, status: Status) {
        self.change(|span| span.status = status);
    }

    fn update_name<T>(&mut self, name: T)
    where
        T: Into<Cow<'static, str>>,
    {
        let name = name.into().into_owned();
        self.change(|span| span.name = name);
    }

    fn add_link(&mut self, _: SpanContext, _: Vec<KeyValue>) {}

    fn end_with_timestamp(&mut self, _: SystemTime) {
        self.change(|span| span.ended = true);
    }
}
