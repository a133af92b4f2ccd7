//! Calling a method by HTTP.

use std::time::Duration;

use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanBuilder, SpanKind, TraceContextExt};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use steading::CallError;
use steading::ids::ObjectKey;
use steading::object::{CALL_TIMEOUT_DEFAULT, CallPath, EncodedCall, Format};
use steading::telemetry::{Trace, TraceContext};
use steading_http::{Problem, body_problem};
use tokio::time::Instant;

use super::router::Served;

/// The request header that limits how long a call may take, in milliseconds.
pub const TIMEOUT_HEADER: &str = "x-steading-timeout-ms";

/// The longest time limit a request may ask for.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// Calls a method of an object and answers its value.
///
/// The object is activated where it lives if it is not yet. The ID is any UTF-8 text of 1 to 1024
/// bytes, percent-encoded; a slash in it is written `%2F`. A method that returns a `Result`
/// answers the value of its `Ok`; its `Err` is a problem with the code `method_failed`.
#[utoipa::path(
    post,
    path = "/v1/objects/{type}/{id}/{method}",
    tag = "objects",
    params(
        ("type" = String, Path, description = "The object's registered type name"),
        ("id" = String, Path, description = "The object's ID, percent-encoded"),
        ("method" = String, Path, description = "The method's name"),
        ("X-Steading-Timeout-Ms" = Option<u64>, Header,
            description = "How long to wait for the answer, 1 to 600000; 10000 if it is absent"),
    ),
    request_body(
        content = Option<serde_json::Value>,
        description = "The arguments: an object of named ones or an array of positional ones. \
                       Empty: none."
    ),
    responses(
        (status = 200, description = "The method's value", body = serde_json::Value),
        (status = 400, description = "Codes `invalid_id`, `bad_arguments`, `bad_request`",
            body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Codes `unknown_type`, `unknown_method`",
            body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Code `too_large`",
            body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Code `method_failed`: the method returned an error",
            body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The code and outcome tell what happened, and whether the \
                                        method may have run",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn call(
    State(served): State<Served>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let trace = begin_span(&served, &headers);
    let answer = answer(&served, path, &headers, body, &trace).await;
    let problem = answer.as_ref().err();
    end_span(&trace, problem.map_or(200, |problem| problem.status));
    answer
}

async fn answer(
    served: &Served,
    path: Result<Path<(String, String, String)>, PathRejection>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    trace: &Trace,
) -> Result<Response, Problem> {
    let Path((object_type, id, method)) = path.map_err(|error| bad_path(&error))?;
    let call = EncodedCall {
        key: key(object_type, id)?,
        method: method.into(),
        args: arguments(body)?,
        format: Format::Json,
        deadline: Instant::now() + timeout(headers)?,
        path: CallPath::default(),
        trace: trace.clone(),
    };
    let reply = served.node.call(call).await?;
    value(&reply)
}

/// The route, as spans name it.
const ROUTE: &str = "/v1/objects/{type}/{id}/{method}";

/// Begins the span of a request, which continues the caller's trace if there is one.
fn begin_span(served: &Served, headers: &HeaderMap) -> Trace {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let caller = || {
        // One header may come in several lines.
        let states = headers.get_all("tracestate").into_iter();
        let states: Vec<_> = states.filter_map(|value| value.to_str().ok()).collect();
        TraceContext::read(text("traceparent")?, &states.join(","))
    };
    served.node.metrics().traces.door(caller, || {
        SpanBuilder::from_name(format!("POST {ROUTE}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", "POST"),
                KeyValue::new("http.route", ROUTE),
            ])
    })
}

/// Ends it. As the conventions say, only what is the server's fault is an error.
fn end_span(trace: &Trace, status: u16) {
    if let Some(context) = trace.context() {
        let code = KeyValue::new("http.response.status_code", i64::from(status));
        context.span().set_attribute(code);
        trace.end((status >= 500).then_some("server_error"));
    }
}

/// Makes the problem of a path whose parts are no text.
pub(super) fn bad_path(error: &PathRejection) -> Problem {
    CallError::InvalidId(error.body_text()).into()
}

/// Makes the key of the named object.
pub(super) fn key(object_type: String, id: String) -> Result<ObjectKey, Problem> {
    ObjectKey::new(object_type, id).map_err(|error| CallError::InvalidId(error.to_string()).into())
}

fn arguments(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    let body = body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => CallError::TooLarge("see the payload limit".into()).into(),
        _ => body_problem(&error).unwrap_or_else(|| Problem::bad_request(error.body_text())),
    })?;
    let bad = |why: String| Problem::from(CallError::BadArguments(why));
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Ok(Bytes::new()),
        Some(b'{' | b'[') => match serde_json::from_slice::<IgnoredAny>(&body) {
            Ok(_) => Ok(body),
            Err(error) => Err(bad(format!("the body is not JSON: {error}"))),
        },
        Some(_) => Err(bad(
            "the body must be a JSON object or array, or empty".into()
        )),
    }
}

fn timeout(headers: &HeaderMap) -> Result<Duration, Problem> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(CALL_TIMEOUT_DEFAULT);
    };
    let millis = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    millis
        .map(Duration::from_millis)
        .filter(|timeout| (Duration::from_millis(1)..=TIMEOUT_MAX).contains(timeout))
        .ok_or_else(|| {
            let most = TIMEOUT_MAX.as_millis();
            Problem::bad_request(format!(
                "X-Steading-Timeout-Ms must be a number from 1 to {most}"
            ))
        })
}

/// What a method that returns a `Result` replies, as serde writes it.
#[derive(Deserialize)]
enum Fallible<'a> {
    #[serde(borrow)]
    Ok(&'a RawValue),
    #[serde(borrow)]
    Err(&'a RawValue),
}

/// Answers the value of a reply. A `Result` shows its value, or is a problem with its error.
fn value(reply: &Bytes) -> Result<Response, Problem> {
    let json = |body: Bytes| ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    let looks_fallible = reply.starts_with(br#"{"Ok":"#) || reply.starts_with(br#"{"Err":"#);
    if !looks_fallible {
        return Ok(json(reply.clone()));
    }
    match serde_json::from_slice(reply) {
        Ok(Fallible::Ok(value)) => Ok(json(reply.slice_ref(value.get().as_bytes()))),
        Ok(Fallible::Err(error)) => {
            let error = serde_json::from_str(error.get()).expect("it was read as JSON before");
            Err(Problem::method_failed(error))
        }
        Err(_) => Ok(json(reply.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_shows_its_value_or_is_a_problem() {
        let shown = |text: &'static str| value(&Bytes::from_static(text.as_bytes()));
        assert!(shown("5").is_ok() && shown(r#"{"Ok":{"a":1}}"#).is_ok());
        assert!(
            shown(r#"{"Ok":1,"more":2}"#).is_ok(),
            "a value with a field of that name"
        );
        let problem = shown(r#"{"Err":{"Broke":{"balance":3}}}"#).expect_err("a problem");
        assert_eq!((problem.status, problem.outcome.as_str()), (422, "ran"));
        assert_eq!(
            problem.error,
            Some(serde_json::json!({ "Broke": { "balance": 3 } }))
        );
    }

    #[test]
    fn arguments_are_an_object_an_array_or_nothing() {
        let read = |text: &'static str| arguments(Ok(Bytes::from_static(text.as_bytes())));
        for good in ["", " \n", "{}", r#" {"n": 5} "#, "[1]"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["5", "null", "{n: 5}", "{", "[1]]", "\u{feff}{}"] {
            let problem = read(bad).expect_err(bad);
            assert_eq!(
                (problem.status, problem.code.as_str()),
                (400, "bad_arguments"),
                "{bad}"
            );
        }
    }
}
