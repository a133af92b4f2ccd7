//! Lines of the log that carry the IDs of the sampled span that they belong to.

use std::fmt::{self, Debug};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as another form does, and adds `trace_id` and `span_id` within a sampled span.
#[derive(Debug)]
pub(crate) struct Marked<F> {
    form: F,
    json: bool,
}

impl<F> Marked<F> {
    pub(crate) fn json(form: F) -> Self {
        Self { form, json: true }
    }

    pub(crate) fn text(form: F) -> Self {
        Self { form, json: false }
    }
}

impl<S, N, F> FormatEvent<S, N> for Marked<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some(span) = sampled_span() else {
            return self.form.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.form
            .format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&marked(&line, &span, self.json))
    }
}

fn sampled_span() -> Option<SpanContext> {
    Context::map_current(|context| {
        let is_active = context.has_active_span();
        let span = is_active.then(|| context.span().span_context().clone());
        span.filter(SpanContext::is_sampled)
    })
}

fn marked(line: &str, span: &SpanContext, json: bool) -> String {
    let (trace, id) = (span.trace_id(), span.span_id());
    let line = line.trim_end_matches('\n');
    match line.strip_suffix('}').filter(|_| json) {
        Some(open) => format!("{open},\"trace_id\":\"{trace}\",\"span_id\":\"{id}\"}}\n"),
        None => format!("{line} trace_id={trace} span_id={id}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("whole").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn context(flags: TraceFlags) -> Context {
        let (trace, id) = (TraceId::from(0xabc_u128), SpanId::from(0xde_u64));
        let span = SpanContext::new(trace, id, flags, true, TraceState::NONE);
        Context::new().with_remote_span_context(span)
    }

    /// Logs outside of any span, within a sampled one, and within one that is not.
    fn logged(subscriber: impl Subscriber + Send + Sync, lines: &Lines) -> Vec<String> {
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("outside");
            for flags in [TraceFlags::SAMPLED, TraceFlags::NOT_SAMPLED] {
                let _attached = context(flags).attach();
                tracing::info!(why = "inside", "a message");
            }
        });
        let bytes = lines.0.lock().expect("whole").clone();
        let text = String::from_utf8(bytes).expect("text");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_within_a_sampled_span_carry_its_ids() {
        let ids = ["00000000000000000000000000000abc", "00000000000000de"];
        let lines = Lines::default();
        let form = Marked::json(tracing_subscriber::fmt::format().json());
        let layer = tracing_subscriber::fmt::layer().json().event_format(form);
        let layer = layer.with_writer(lines.clone());
        let json = logged(tracing_subscriber::registry().with(layer), &lines);
        let marks = format!(r#","trace_id":"{}","span_id":"{}"}}"#, ids[0], ids[1]);
        assert!(
            json[1].ends_with(&marks) && json[1].contains("a message"),
            "{json:?}"
        );
        assert!(
            !json[0].contains("trace_id") && !json[2].contains("trace_id"),
            "{json:?}"
        );

        let lines = Lines::default();
        let form = Marked::text(tracing_subscriber::fmt::format().with_ansi(false));
        let layer = tracing_subscriber::fmt::layer().event_format(form);
        let layer = layer.with_writer(lines.clone());
        let text = logged(tracing_subscriber::registry().with(layer), &lines);
        let marks = format!(" trace_id={} span_id={}", ids[0], ids[1]);
        assert!(
            text[1].ends_with(&marks) && text[1].contains("a message"),
            "{text:?}"
        );
        assert!(
            !text[0].contains("trace_id") && !text[2].contains("trace_id"),
            "{text:?}"
        );
    }
}
