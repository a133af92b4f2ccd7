//! What the HTTP servers of nodes and of the Inspector have in common: how problems are told, what
//! operators order, how plans are shown, the server itself with its limits and TLS, and what keeps web pages
//! and guessers out.

#![allow(
    clippy::result_large_err,
    reason = "a problem is rare, and goes straight into the answer"
)]

mod at_risk;
mod attempts;
mod commands;
mod guard;
mod plans;
mod problem;
mod serve;

pub use at_risk::{AtRisk, Facts};
pub use attempts::{Attempts, TooManyAttempts};
pub use commands::{
    Abort, Answer, MoveTo, Moves, NewPlan, Whereto, node_named, plan_named, read, shard_named,
};
pub use guard::{COMMAND_HEADER, Guard, HostName, WebOrigin};
pub use plans::{EventInfo, MoveInfo, PlanCounts, PlanInfo, time};
pub use problem::{PROBLEM_JSON, Problem};
pub use serve::{Client, Server, body_problem, overloaded};
