//! Who should own what: the cluster as values, and decisions about it as functions.
//!
//! Pure: nothing here knows tokio, the store or a clock; `now` is an argument where it matters.
//! Iteration is in a fixed order everywhere, so the same input gives the same output.

mod arrival;
mod balance;
pub mod blame;
pub mod checker;
pub mod ownership;
pub mod planner;
mod reach;
mod shard_table;
mod shortfall;
mod spans;
mod view;

pub use arrival::Arrival;
pub use balance::{Balance, Spread, is_balanced, owned_by, spread};
pub use blame::{ActivityNote, Suspicion};
pub use reach::{Reach, ReachState, ReachStates, Reachability};
pub use shard_table::ShardTable;
pub use shortfall::{Shortfall, Unclaimed};
pub use spans::Spans;
pub use view::{
    Cause, ClusterMeta, ClusterView, Leader, News, NodeRecord, NodeState, Orders, Owner,
    OwnerRecord, Parcel, Target, Weight,
};
