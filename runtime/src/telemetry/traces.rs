//! The spans of a node: what they are called and say, and who takes them.
//!
//! Nothing here knows an exporter. A node without [`Spans`] makes none, and passes on what it gets.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{SpanBuilder, SpanId, SpanKind, TraceId};
use opentelemetry::{Context, KeyValue};

use super::Trace;
use crate::CallError;
use crate::ids::{ObjectKey, ShardId};

/// Names of attributes that are ours; all others are those of OpenTelemetry's conventions.
pub(crate) mod attribute {
    /// The ID of the object that is called.
    pub(crate) const OBJECT: &str = "steading.object.id";
    /// Its shard.
    pub(crate) const SHARD: &str = "steading.shard";
    /// The node that an event is about.
    pub(crate) const NODE: &str = "steading.node";
    /// Why a call has to be tried again.
    pub(crate) const REASON: &str = "steading.reason";
    /// The plan that moves a shard.
    pub(crate) const PLAN: &str = "steading.plan";
}

/// Takes the spans of a node. Must not block, nor wait: it is called where calls run.
pub trait Spans: fmt::Debug + Send + Sync + 'static {
    /// Starts a span in the trace of `parent`, or of its own if no span is active there. Returns
    /// the context in which the new span is active.
    fn start(&self, span: SpanBuilder, parent: &Context) -> Context;
    /// Whether a trace that begins with this ID is to be sampled. Nodes with the same settings
    /// should give the same answer.
    fn samples(&self, trace: TraceId) -> bool;
    /// Takes a span whose IDs and times are known, and which has ended.
    fn record(&self, span: EndedSpan);
}

/// A span that has ended, and whose ID follows from what it is about.
#[derive(Clone, Debug)]
pub struct EndedSpan {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub id: SpanId,
    /// The span that it is part of; `SpanId::INVALID` if it is the first of its trace.
    pub parent: SpanId,
    /// What it is called.
    pub name: &'static str,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What it says.
    pub attributes: Vec<KeyValue>,
    /// What went wrong.
    pub failed: Option<Cow<'static, str>>,
}

/// Where a node's spans go: nowhere unless it was given somebody who takes them.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<dyn Spans>>);

impl Traces {
    /// Gives all spans to `spans`.
    pub fn new(spans: Arc<dyn Spans>) -> Self {
        Self(Some(spans))
    }

    /// Whether anybody takes spans.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns who takes spans.
    pub(crate) fn spans(&self) -> Option<&Arc<dyn Spans>> {
        self.0.as_ref()
    }

    /// Starts the span of a request from outside, which continues the trace of `caller` or begins
    /// one; whether it is sampled is decided here, for all that follows.
    pub fn door(
        &self,
        caller: impl FnOnce() -> Option<Context>,
        span: impl FnOnce() -> SpanBuilder,
    ) -> Trace {
        let caller = caller();
        match &self.0 {
            Some(spans) => Trace::of(spans.start(span(), &caller.unwrap_or_default())),
            None => caller.map_or(Trace::NONE, Trace::of),
        }
    }

    /// Returns the trace of a call that is made now: of the span that is active here, or else of
    /// `fallback`.
    #[inline]
    pub(crate) fn of_caller(&self, fallback: &Trace) -> Trace {
        if self.is_on() {
            let current = Trace::current();
            if current.is_sampled() {
                return current;
            }
        }
        fallback.clone()
    }

    /// Starts the span of a call or turn as part of `parent`, if that is sampled.
    #[inline]
    pub(crate) fn call(
        &self,
        parent: &Trace,
        kind: SpanKind,
        key: &ObjectKey,
        method: &str,
    ) -> Trace {
        match (parent.context(), &self.0) {
            (Some(parent), Some(spans)) => {
                Trace::of(spans.start(span_of_call(kind, key, method), parent))
            }
            (Some(_), None) => parent.clone(),
            (None, _) => Trace::NONE,
        }
    }
}

#[cold]
fn span_of_call(kind: SpanKind, key: &ObjectKey, method: &str) -> SpanBuilder {
    let name = format!("{}/{method}", key.object_type());
    SpanBuilder::from_name(name.clone())
        .with_kind(kind)
        .with_attributes([
            KeyValue::new("rpc.system.name", "steading"),
            KeyValue::new("rpc.method", name),
            KeyValue::new(attribute::OBJECT, key.id().to_owned()),
        ])
}

/// Returns the code of a result's error.
pub fn code<T>(result: &Result<T, CallError>) -> Option<&'static str> {
    result.as_ref().err().map(CallError::code)
}

/// Says which shard.
pub(crate) fn shard(shard: ShardId) -> KeyValue {
    KeyValue::new(attribute::SHARD, i64::from(shard.get()))
}
