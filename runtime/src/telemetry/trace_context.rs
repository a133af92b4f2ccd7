//! The W3C trace context: how a span is named to other processes.

use std::fmt::Write;
use std::str::FromStr;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

/// The longest `tracestate` that is taken and passed on, in bytes: what the standard asks for at
/// least. A longer one is left out; the trace goes on without.
pub const TRACESTATE_LEN_MAX: usize = 512;

/// The length of a `traceparent` of version 00.
const TRACEPARENT_LEN: usize = 55;

/// The values of the headers `traceparent` and `tracestate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Trace, span, and whether they are sampled.
    pub parent: String,
    /// What tracing systems on the way added; empty if nothing.
    pub state: String,
}

impl TraceContext {
    /// Writes down which span is active in this context; `None` if none is.
    pub fn of(context: &Context) -> Option<Self> {
        let span = context.span();
        let span = span.span_context();
        if !span.is_valid() {
            return None;
        }
        let mut parent = String::with_capacity(TRACEPARENT_LEN);
        let flags = (span.trace_flags() & TraceFlags::SAMPLED).to_u8();
        let (trace, id) = (span.trace_id(), span.span_id());
        write!(parent, "00-{trace}-{id}-{flags:02x}").expect("a string takes what is written");
        let mut state = span.trace_state().header();
        if state.len() > TRACESTATE_LEN_MAX {
            state.clear();
        }
        Some(Self { parent, state })
    }

    /// Reads what another process wrote; `None` if it is not what the standard says. A `state` that
    /// is too long or malformed alone is left out.
    pub fn read(parent: &str, state: &str) -> Option<Context> {
        let parent = parent.trim_matches([' ', '\t']);
        let (version, rest) = (parent.get(..2)?, parent.get(2..TRACEPARENT_LEN)?);
        let more = parent.get(TRACEPARENT_LEN..)?;
        // Later versions may say more, behind another dash.
        let is_known = version == "00" && more.is_empty();
        let is_later =
            !matches!(version, "00" | "ff") && (more.is_empty() || more.starts_with('-'));
        let mut parts = rest.strip_prefix('-')?.split('-');
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let parts_fit = trace.len() == 32 && span.len() == 16 && flags.len() == 2;
        let all_hex = [version, trace, span, flags].into_iter().all(is_lower_hex);
        if !(is_known || is_later) || !parts_fit || !all_hex {
            return None;
        }
        let state = if state.len() > TRACESTATE_LEN_MAX {
            TraceState::NONE
        } else {
            TraceState::from_str(state).unwrap_or(TraceState::NONE)
        };
        let span = SpanContext::new(
            TraceId::from_hex(trace).ok()?,
            SpanId::from_hex(span).ok()?,
            TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
            true,
            state,
        );
        let is_valid = span.is_valid();
        is_valid.then(|| Context::new().with_remote_span_context(span))
    }
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_comes_back_as_it_was_written() {
        for (parent, state) in [
            (PARENT, ""),
            (PARENT, "a=1,b=2"),
            (&PARENT.replace("-01", "-00"), ""),
        ] {
            let context = TraceContext::read(parent, state).expect("well-formed");
            let again = TraceContext::of(&context).expect("a span is active");
            assert_eq!(
                (again.parent.as_str(), again.state.as_str()),
                (parent, state)
            );
        }
    }

    #[test]
    fn garbage_is_no_context() {
        let with = |from: &str, to: &str| PARENT.replacen(from, to, 1);
        for garbage in [
            String::new(),
            "garbage".into(),
            "ä".repeat(40),
            PARENT[..54].into(),
            format!("{PARENT}-more"),
            with("00-", "ff-"),
            with("00-", "0g-"),
            with("4bf9", "4BF9"),
            with("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            with("00f067aa0ba902b7", &"0".repeat(16)),
            with("-01", "-0x"),
            with("-01", "+01"),
            with("577b34da6", "577b34d-6"),
        ] {
            assert!(TraceContext::read(&garbage, "").is_none(), "{garbage}");
        }
    }

    #[test]
    fn a_later_version_may_say_more() {
        let later = PARENT.replacen("00-", "01-", 1);
        assert!(TraceContext::read(&format!("{later}-more"), "").is_some());
        assert!(TraceContext::read(&format!("{later}more"), "").is_none());
    }

    #[test]
    fn a_state_that_is_too_long_or_malformed_is_left_out() {
        let longest = format!("a={}", "x".repeat(250));
        let two = format!("{longest},b={}", "x".repeat(250));
        for (state, kept) in [
            (two.as_str(), true),
            (&format!("{two},c=12345678"), false),
            ("ö=", false),
        ] {
            let context = TraceContext::read(PARENT, state).expect("the parent is well-formed");
            let again = TraceContext::of(&context).expect("a span is active");
            assert_eq!(again.state == state, kept, "{state}");
            assert!(kept || again.state.is_empty());
        }
    }
}
