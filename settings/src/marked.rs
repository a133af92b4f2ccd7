//! Lines of the log: one for each event, with nothing in it that could pass for another line.

use std::fmt::{self, Debug, Write};

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use steading::text::{Escaped, is_visible};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The longest line, in bytes; the rest of a longer one is left out.
const LINE_LEN_MAX: usize = 64 << 10;

/// How much of a line of JSON that is too long is shown, in characters.
const BEGIN_LEN: usize = 1024;

/// Writes events as another form does, adds `trace_id` and `span_id` within a sampled span, and
/// escapes what is not plainly visible: values come from clients, peers and etcd.
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
        let mut line = String::new();
        self.form
            .format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end_matches('\n');
        let line = if self.json && line.len() > LINE_LEN_MAX {
            left_out(line)
        } else if self.json {
            escaped_json(line)
        } else {
            escaped_text(line)
        };
        let line = match sampled_span() {
            Some(span) => marked(&line, &span, self.json),
            None => line,
        };
        writer.write_str(&line)?;
        writer.write_char('\n')
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
    match line.strip_suffix('}').filter(|_| json) {
        Some(open) => format!("{open},\"trace_id\":\"{trace}\",\"span_id\":\"{id}\"}}"),
        None => format!("{line} trace_id={trace} span_id={id}"),
    }
}

/// Returns what stands for a line of JSON that is too long: where it was cut, it would be no JSON.
fn left_out(line: &str) -> String {
    let begin = line.chars().take(BEGIN_LEN).map(|c| match c {
        '"' | '\\' => '\'',
        c if is_visible(c) => c,
        _ => '?',
    });
    let (begin, bytes) = (begin.collect::<String>(), line.len());
    let message = "an event of the log is too long";
    format!(
        "{{\"level\":\"WARN\",\"fields\":{{\"message\":\"{message}\",\"bytes\":{bytes},\"begin\":\"{begin}\"}}}}"
    )
}

/// Escapes a line of text. Colours stay: the form writes them, and has escaped each ESC in values.
fn escaped_text(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find("\u{1b}[") {
        let (before, colour) = rest.split_at(start);
        let len = colour[2..].find(|c: char| !c.is_ascii_digit() && c != ';');
        let is_colour = |len: &usize| colour[2 + len..].starts_with('m');
        let len = len.filter(is_colour).map_or(0, |len| len + 3);
        let _ = write!(escaped, "{}{}", Escaped(before), &colour[..len]);
        rest = &colour[len..];
        if len == 0 {
            break; // No colour: all that is left is escaped.
        }
    }
    let _ = write!(escaped, "{}", Escaped(rest));
    if escaped.len() > LINE_LEN_MAX {
        let more = escaped.len() - LINE_LEN_MAX;
        escaped.truncate(escaped.floor_char_boundary(LINE_LEN_MAX));
        let _ = write!(escaped, "… ({more} bytes more)");
    }
    escaped
}

/// Escapes what is not plainly visible in a JSON text, as JSON does. Line breaks between values
/// stay; within texts, JSON has escaped them.
pub fn escaped_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_visible(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
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

    /// Returns what a form writes of one event whose values hold nasty text.
    fn nasty(
        layer: impl tracing_subscriber::Layer<tracing_subscriber::Registry> + Send + Sync,
        lines: &Lines,
    ) -> String {
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let value = "a\nINFO forged\r\u{1b}[2J\u{9b}31m\u{202e}b\u{2028}\u{200b}";
            tracing::info!(shown = %value, debug = ?value, "said {value}");
        });
        String::from_utf8(lines.0.lock().expect("whole").clone()).expect("text")
    }

    /// Asserts that there is one line, plainly visible but for our own colours.
    #[track_caller]
    fn is_one_line(text: &str) {
        let line = text.strip_suffix('\n').expect("it ends");
        let mut plain = String::new();
        for (i, piece) in line.split("\u{1b}[").enumerate() {
            let rest = if i == 0 {
                piece
            } else {
                piece.split_once('m').expect("a colour").1
            };
            plain.push_str(rest);
        }
        assert!(steading::text::is_visible_text(&plain), "{text:?}");
        assert!(plain.contains("INFO forged"), "{text:?}");
    }

    #[test]
    fn an_event_is_one_visible_line() {
        for colours in [false, true] {
            let lines = Lines::default();
            let form = Marked::text(tracing_subscriber::fmt::format().with_ansi(colours));
            let layer = tracing_subscriber::fmt::layer().with_ansi(colours);
            let layer = layer.event_format(form).with_writer(lines.clone());
            let text = nasty(layer, &lines);
            is_one_line(&text);
            assert_eq!(text.contains('\u{1b}'), colours, "{text:?}");
        }
        let lines = Lines::default();
        let form = Marked::json(tracing_subscriber::fmt::format().json());
        let layer = tracing_subscriber::fmt::layer().json().event_format(form);
        let text = nasty(layer.with_writer(lines.clone()), &lines);
        is_one_line(&text);
        assert!(
            text.contains("\\u202e") && text.contains("\\u009b"),
            "{text}"
        );
    }

    #[test]
    fn only_colours_of_ours_stay() {
        let escaped = escaped_text("\u{1b}[1;32ma\u{1b}[0m\tb\u{1b}[2Jc\u{1b}[31m");
        assert_eq!(escaped, "\u{1b}[1;32ma\u{1b}[0m\\tb\\u{1b}[2Jc\\u{1b}[31m");
        let long = escaped_text(&"x".repeat(2 * LINE_LEN_MAX));
        assert!(long.len() < LINE_LEN_MAX + 64 && long.ends_with("bytes more)"));
    }

    #[test]
    fn long_json_becomes_a_short_line() {
        let line = format!("{{\"a\":\"{}\"}}", "\\n\u{202e}".repeat(LINE_LEN_MAX));
        let short = left_out(&line);
        assert!(short.len() < 2 * BEGIN_LEN, "{short}");
        assert!(steading::text::is_visible_text(&short), "{short}");
        assert!(
            short.ends_with("\"}}") && short.contains("{'a':''n?"),
            "{short}"
        );
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "{\n  \"a\": \"\u{202e}\u{7f}\u{e0041}é\"\n}";
        let expected = "{\n  \"a\": \"\\u202e\\u007f\\udb40\\udc41é\"\n}";
        assert_eq!(escaped_json(json), expected);
    }
}
