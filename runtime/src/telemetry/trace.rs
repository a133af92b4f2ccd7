//! Where a call belongs in a trace, if it is sampled.

use std::fmt;
use std::sync::Arc;

use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

/// The span that a call belongs to, or nothing: a call that is not sampled carries a null pointer,
/// and whatever would be done for a span is skipped. Cheap to clone.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Context>>);

impl Trace {
    /// Of a call that is not sampled.
    pub const NONE: Self = Self(None);

    /// Belongs to the span that is active in this context, if that is sampled.
    pub fn of(context: Context) -> Self {
        let is_sampled = {
            let span = context.span();
            let span = span.span_context();
            span.is_valid() && span.is_sampled()
        };
        Self(is_sampled.then(|| Arc::new(context)))
    }

    /// Belongs to the span that is active where this is called, if that is sampled.
    pub fn current() -> Self {
        Context::map_current(|context| {
            if context.has_active_span() {
                Self::of(context.clone())
            } else {
                Self::NONE
            }
        })
    }

    /// Whether it is sampled.
    #[inline]
    pub fn is_sampled(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the context in which its span is active.
    #[inline]
    pub fn context(&self) -> Option<&Context> {
        self.0.as_deref()
    }

    /// Notes on the span that something happened.
    #[inline]
    pub(crate) fn event(&self, name: &'static str, attributes: impl FnOnce() -> Vec<KeyValue>) {
        if let Some(context) = self.context() {
            context.span().add_event(name, attributes());
        }
    }

    /// Ends the span; `failed` is the code of what went wrong. A span that nobody ends does so when
    /// the last copy of this is dropped, without a status.
    pub fn end(&self, failed: Option<&'static str>) {
        if let Some(context) = self.context() {
            let span = context.span();
            if let Some(code) = failed {
                span.set_attribute(KeyValue::new("error.type", code));
                span.set_status(Status::error(code));
            }
            span.end();
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.context() {
            None => f.write_str("Trace(none)"),
            Some(context) => {
                let span = context.span();
                let span = span.span_context();
                write!(f, "Trace({}, {})", span.trace_id(), span.span_id())
            }
        }
    }
}
