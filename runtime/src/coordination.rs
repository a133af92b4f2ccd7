//! How nodes agree through the store: membership, the view, the leader, claims.
//!
//! Knows the ids and `placement`; never objects, routing or the network.

pub mod keys;
mod shared_view;
pub mod store;

pub use shared_view::SharedView;
