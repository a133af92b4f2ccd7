//! The HTTP server of a node: objects' methods, the cluster, health, metrics, OpenAPI.
//!
//! Every error is `application/problem+json` with a stable code and says whether a method may
//! have run. Nothing is decided here: handlers translate between HTTP and the node.

#![allow(
    clippy::result_large_err,
    reason = "a problem is rare, and goes straight into the answer"
)]

mod calls;
mod certified;
mod cluster;
mod explain;
mod handlers;
mod health;
mod objects;
mod operate;
mod router;
mod since;

pub use calls::TIMEOUT_HEADER;
pub(crate) use calls::TIMEOUT_MAX;
pub(crate) use cluster::Heard;
pub use cluster::{
    Addresses, Cluster, NodeHealthInfo, NodeInfo, NodeLoadInfo, ShardInfo, ShardState, ShardTotals,
};
pub use explain::{Because, NodeExplanation, ObjectExplanation, ShardExplanation};
pub use handlers::Location;
pub use health::{ConditionInfo, Ready};
pub use objects::{ObjectItem, Objects};
pub(crate) use router::certified_router;
pub use router::{openapi, router};
pub use steading_http::{
    Abort, Answer, AtRisk, EventInfo, Guard, MoveInfo, MoveTo, Moves, NewPlan, PROBLEM_JSON,
    PlanCounts, PlanInfo, Problem, Whereto,
};
