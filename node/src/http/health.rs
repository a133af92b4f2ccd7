//! Liveness, readiness and metrics.

use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use steading::node::Readiness;
use utoipa::ToSchema;

use super::router::Served;

/// Whether a node can take traffic now, and what is missing if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether every condition holds.
    pub ready: bool,
    /// The asked node.
    pub node: String,
    /// What must hold, in the order in which a starting node meets it.
    pub conditions: Vec<ConditionInfo>,
    /// Shards that the node owns.
    pub claimed: usize,
    /// Shards that it should own.
    pub targeted: usize,
    /// What it waits for: to join; else what its first unmet condition waits for; else the
    /// directive that leaves a ready node without shards.
    pub waiting_for: Option<String>,
    /// What is wrong without keeping it from taking traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One thing that must hold for a node to be ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionInfo {
    /// Its stable name.
    pub name: String,
    /// Whether it holds.
    pub met: bool,
    /// Since when it is so (RFC 3339).
    pub since: String,
    /// What it waits for, such as an operator's directive; a condition that is met may wait too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
}

impl Ready {
    /// Reads what a node says of itself at a moment.
    pub(crate) fn of(node: &str, readiness: &Readiness, now: SystemTime) -> Self {
        let ago = |since: Duration| {
            let at = now.checked_sub(since).unwrap_or(SystemTime::UNIX_EPOCH);
            humantime::format_rfc3339_millis(at).to_string()
        };
        let conditions = readiness.conditions.iter().map(|state| ConditionInfo {
            name: state.condition.as_str().into(),
            met: state.met,
            since: ago(state.since),
            waiting_for: state.waiting_for.clone(),
        });
        Self {
            ready: readiness.is_ready(),
            node: node.into(),
            conditions: conditions.collect(),
            claimed: readiness.claimed,
            targeted: readiness.targeted,
            waiting_for: readiness.waiting_for.clone(),
            warnings: readiness.warnings.clone(),
        }
    }
}

/// Answers while the process lives, whatever becomes of the store.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether this node can take traffic now.
#[utoipa::path(
    get, path = "/ready", tag = "health",
    responses(
        (status = 200, description = "It can", body = Ready),
        (status = 503, description = "It cannot; the body names what is missing", body = Ready),
    )
)]
pub(super) async fn ready(State(served): State<Served>) -> Response {
    let readiness = served.node.readiness();
    let ready = Ready::of(served.node.id().as_str(), &readiness, SystemTime::now());
    let status = if ready.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(ready)).into_response()
}

/// Shows every metric of this node in the text format that Prometheus reads.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, body = String)))]
pub(super) async fn metrics(State(served): State<Served>) -> Response {
    const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match served.node.metrics().encode() {
        Ok(text) => ([(header::CONTENT_TYPE, FORMAT)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
