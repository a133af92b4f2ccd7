//! Whole clusters in one process: membership, placement, calls during changes.

#![allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]

#[path = "cluster/world.rs"]
mod world;

#[path = "cluster/failing.rs"]
mod failing;
#[path = "cluster/members.rs"]
mod members;
#[path = "cluster/moving.rs"]
mod moving;
#[path = "cluster/placing.rs"]
mod placing;
