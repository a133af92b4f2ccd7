//! How nodes agree through the store: membership, the view, the leader, claims.
//!
//! Knows the ids and `placement`; never objects, routing or the network.

pub mod activity;
pub mod cluster;
pub mod commands;
mod effect;
mod etcd;
mod evidence;
mod history;
pub mod keys;
pub mod leader;
pub mod membership;
mod memory;
mod metered;
mod overlap;
mod owner_checks;
pub mod plans;
pub mod reconciler;
pub mod restore;
#[cfg(test)]
mod rig;
mod rights;
mod shared_view;
pub mod store;
pub mod strays;
pub mod watcher;

pub use etcd::{EtcdSettings, EtcdStore, MemberHealth, Told};
pub use evidence::Evidence;
pub use history::{History, Verified};
pub use memory::{CommitFault, Cut, Faults, MemoryStore, Snapshot};
pub use metered::Metered;
pub use owner_checks::{CLAIM_OUTCOMES, OwnerChecks};
pub use rights::Rights;
pub use shared_view::SharedView;
