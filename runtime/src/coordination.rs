//! How nodes agree through the store: membership, the view, the leader, claims.
//!
//! Knows the ids and `placement`; never objects, routing or the network.

mod etcd;
pub mod keys;
mod memory;
pub mod membership;
mod shared_view;
pub mod store;

pub use etcd::{EtcdSettings, EtcdStore};
pub use memory::{CommitFault, Cut, Faults, MemoryStore};
pub use shared_view::SharedView;
