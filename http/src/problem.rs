//! Errors as `application/problem+json` (RFC 9457), all of the same form.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use steading::coordination::commands::{Refusal, RefusalCode};
use steading::node::QueryError;
use steading::{CallError, Outcome};
use utoipa::ToSchema;

/// Why a request was not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem; always `about:blank#CODE`.
    #[serde(rename = "type")]
    pub problem_type: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind of problem, stable, for programs.
    pub code: String,
    /// Whether the method may have run: `not_run`, `unknown` or `ran`.
    pub outcome: String,
    /// What exactly is wrong.
    pub detail: String,
    /// The method's own error, if that is the problem (code `method_failed`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Status and title of each code of a failed call.
const CALL_ERRORS: &[(&str, StatusCode, &str)] = &[
    (
        "invalid_id",
        StatusCode::BAD_REQUEST,
        "Invalid type name or ID",
    ),
    ("unknown_type", StatusCode::NOT_FOUND, "Unknown object type"),
    ("unknown_method", StatusCode::NOT_FOUND, "Unknown method"),
    ("bad_arguments", StatusCode::BAD_REQUEST, "Bad arguments"),
    (
        "too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "Arguments too large",
    ),
    (
        "reply_too_large",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Reply too large",
    ),
    ("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Overloaded"),
    (
        "no_owner",
        StatusCode::SERVICE_UNAVAILABLE,
        "No owner in time",
    ),
    (
        "deadline_before_start",
        StatusCode::GATEWAY_TIMEOUT,
        "Out of time before the start",
    ),
    ("deadline", StatusCode::GATEWAY_TIMEOUT, "No answer in time"),
    (
        "disconnected",
        StatusCode::BAD_GATEWAY,
        "Lost the connection to the node",
    ),
    (
        "unreachable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Node unreachable",
    ),
    (
        "panicked",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Method panicked",
    ),
    ("cycle", StatusCode::LOOP_DETECTED, "Call cycle"),
    (
        "activation_failed",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Activation failed",
    ),
    (
        "not_stored",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Effect not stored",
    ),
    ("fenced", StatusCode::SERVICE_UNAVAILABLE, "Node fenced"),
    ("stopping", StatusCode::SERVICE_UNAVAILABLE, "Node stopping"),
    (
        "bad_reply",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Unreadable reply",
    ),
    (
        "protocol",
        StatusCode::BAD_GATEWAY,
        "Nodes do not understand each other",
    ),
];

impl Problem {
    /// Makes a problem with the request itself: no method ran.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            problem_type: format!("about:blank#{code}"),
            title: title.into(),
            status: status.as_u16(),
            code: code.into(),
            outcome: Outcome::NotRun.as_str().into(),
            detail: detail.into(),
            error: None,
        }
    }

    /// Makes the problem of a request that names something the server does not have.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", detail)
    }

    /// Makes the problem of a request that cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "Bad request",
            detail,
        )
    }

    /// Makes the problem of a method that returned an error of its own.
    pub fn method_failed(error: Value) -> Self {
        let detail = error
            .as_str()
            .map_or_else(|| error.to_string(), str::to_owned);
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Self {
            outcome: Outcome::Ran.as_str().into(),
            error: Some(error),
            ..Self::new(
                status,
                "method_failed",
                "The method returned an error",
                detail,
            )
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        let known = CALL_ERRORS.iter().find(|(code, ..)| *code == error.code());
        let (code, status, title) =
            known
                .copied()
                .unwrap_or((error.code(), StatusCode::INTERNAL_SERVER_ERROR, "Failed"));
        Self {
            outcome: error.outcome().as_str().into(),
            ..Self::new(status, code, title, error.to_string())
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, title) = match refusal.code {
            RefusalCode::UnknownNode | RefusalCode::UnknownShard | RefusalCode::UnknownPlan => {
                (StatusCode::NOT_FOUND, "No such thing")
            }
            RefusalCode::Malformed => (StatusCode::BAD_REQUEST, "Bad command"),
            RefusalCode::NotATaker
            | RefusalCode::Cordoned
            | RefusalCode::Full
            | RefusalCode::ZoneRule
            | RefusalCode::Pinned
            | RefusalCode::Quarantined
            | RefusalCode::Nowhere
            | RefusalCode::NotAbortable
            | RefusalCode::Paused
            | RefusalCode::Leaving => (StatusCode::CONFLICT, "Refused"),
            RefusalCode::Busy | RefusalCode::NoLeader | RefusalCode::NotLeader => {
                (StatusCode::SERVICE_UNAVAILABLE, "Try again")
            }
            RefusalCode::NoAnswer => (StatusCode::GATEWAY_TIMEOUT, "No answer"),
            _ => (StatusCode::CONFLICT, "Refused"),
        };
        let outcome = if refusal.code == RefusalCode::NoAnswer {
            Outcome::Unknown
        } else {
            Outcome::NotRun
        };
        Self {
            outcome: outcome.as_str().into(),
            ..Self::new(status, refusal.code.as_str(), title, refusal.detail)
        }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let (status, detail) = (StatusCode::BAD_GATEWAY, error.to_string());
        match error {
            QueryError::NoSuchNode(_) => Self::not_found(detail),
            QueryError::CallFailed(_) => {
                Self::new(status, "call_failed", "The call failed", detail)
            }
            QueryError::NoAnswer { .. } | QueryError::Nonsense { .. } | _ => {
                Self::new(status, "no_answer", "The node does not answer", detail)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("made from a status");
        let body = serde_json::to_vec(&self).expect("a problem can be written as JSON");
        let media_type = HeaderValue::from_static(PROBLEM_JSON);
        (status, [(header::CONTENT_TYPE, media_type)], body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_error_has_a_status_and_a_title() {
        let known: Vec<_> = CALL_ERRORS.iter().map(|(code, ..)| *code).collect();
        let codes: Vec<_> = CallError::CODES.iter().map(|(code, _)| *code).collect();
        assert_eq!(known, codes);
    }

    #[test]
    fn a_problem_says_whether_the_method_may_have_run() {
        let problem = Problem::from(CallError::Panicked("at the disco".into()));
        assert_eq!((problem.status, problem.outcome.as_str()), (500, "ran"));
        let problem = Problem::from(CallError::NoOwner("shard 7".into()));
        assert_eq!((problem.status, problem.outcome.as_str()), (503, "not_run"));
    }
}
