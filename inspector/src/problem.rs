//! What the API answers when it cannot do what was asked: JSON in the form of RFC 9457.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use steading::coordination::commands::{Refusal, RefusalCode};
use steading::node::QueryError;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The HTTP status.
    #[serde(skip)]
    pub status: StatusCode,
    /// A stable name.
    pub code: &'static str,
    /// What kind of problem, in words.
    pub title: &'static str,
    /// What exactly.
    pub detail: String,
}

impl Problem {
    /// Makes a problem.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
        }
    }

    /// The store has not been reached yet.
    pub(crate) fn no_store(why: &str) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "no_store", "The cluster cannot be seen", why)
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "No such thing", detail)
    }

    /// The request is malformed.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "Bad request",
            detail,
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        if self.code == "unauthorized" {
            let basic =
                HeaderValue::from_static("Basic realm=\"Steading Inspector\", charset=\"UTF-8\"");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, basic);
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, title) = match refusal.code {
            RefusalCode::UnknownNode | RefusalCode::UnknownShard | RefusalCode::UnknownPlan => {
                (StatusCode::NOT_FOUND, "No such thing")
            }
            RefusalCode::Malformed => (StatusCode::BAD_REQUEST, "Bad command"),
            RefusalCode::Busy
            | RefusalCode::NoLeader
            | RefusalCode::NotLeader
            | RefusalCode::NoAnswer => (StatusCode::SERVICE_UNAVAILABLE, "Try again"),
            RefusalCode::NotATaker
            | RefusalCode::Cordoned
            | RefusalCode::Full
            | RefusalCode::ZoneRule
            | RefusalCode::Pinned
            | RefusalCode::Quarantined
            | RefusalCode::Nowhere
            | RefusalCode::NotAbortable
            | RefusalCode::Paused
            | RefusalCode::Leaving
            | _ => (StatusCode::CONFLICT, "Refused"),
        };
        Self::new(status, refusal.code.as_str(), title, refusal.detail)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let detail = error.to_string();
        match error {
            QueryError::NoSuchNode(_) => Self::not_found(detail),
            QueryError::CallFailed(_) => Self::new(
                StatusCode::BAD_GATEWAY,
                "call_failed",
                "The call failed",
                detail,
            ),
            QueryError::NoAnswer { .. } | QueryError::Nonsense { .. } | _ => Self::new(
                StatusCode::BAD_GATEWAY,
                "no_answer",
                "The node does not answer",
                detail,
            ),
        }
    }
}
