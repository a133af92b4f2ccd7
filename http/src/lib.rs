//! What the HTTP servers of nodes and of the Inspector have in common: how problems are told, what
//! operators order, how plans are shown, and their end of TLS.

#![allow(
    clippy::result_large_err,
    reason = "a problem is rare, and goes straight into the answer"
)]

mod commands;
mod https;
mod plans;
mod problem;

pub use commands::{
    Abort, Answer, MoveTo, Moves, NewPlan, Whereto, node_named, plan_named, read, shard_named,
};
pub use https::{Client, HttpsListener};
pub use plans::{EventInfo, MoveInfo, PlanCounts, PlanInfo, time};
pub use problem::{PROBLEM_JSON, Problem};
