//! A runtime that gives every object a place.
//!
//! You write an object as a plain struct. The cluster decides which node holds it, moves it when
//! nodes come and go, and a call by ID always finds it. One live copy at a time: `&mut self` methods
//! of an object run alone, `&self` methods together, and calls that wait keep their order.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use steading::{Node, Object, methods};
//!
//! #[derive(Default, Serialize, Deserialize, Object)]
//! struct Counter {
//!     total: i64,
//! }
//!
//! #[methods]
//! impl Counter {
//!     /// Adds `n` and returns the new total.
//!     fn add(&mut self, n: i64) -> i64 {
//!         self.total += n;
//!         self.total
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let node = Node::builder().register::<Counter>().start().await?;
//! assert_eq!(node.object::<Counter>("my-counter").add(5).await?, 5);
//! node.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! This is a cluster of one, with everything in memory. [`NodeBuilder::etcd`] makes the node one of
//! many.
//!
//! | to | see |
//! |---|---|
//! | write objects | [`derive@Object`], [`macro@methods`]; [`Context`] for what a turn can do besides |
//! | run a node | [`NodeBuilder`] for settings, [`Node`] for calls, [`Node::readiness`] for probes |
//! | know what a failed call did | [`CallError`], and [`CallError::outcome`]: may it have run? |
//! | keep state beyond a crash | [`storage`] |
//! | operate a cluster | [`Node::cluster`], or from outside [`node::Observer`] |
//! | test what you write | `steading::testing`, with the feature `testing` |
//!
//! The other modules are the parts that a node is made of. They are public for programs that are
//! made of them too, such as the Inspector, and change more freely than what stands at the top.

#[doc(hidden)]
pub mod __private;
pub mod clock;
pub mod connections;
pub mod coordination;
mod error;
pub mod fence;
pub mod ids;
pub mod memory_budget;
pub mod node;
pub mod object;
pub mod placement;
mod probation;
pub mod routing;
pub mod storage;
mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod tls;
mod write_through;

pub use error::{CallError, Outcome};
pub use node::{Node, NodeBuilder, StartError};
pub use object::{Context, Methods, Object, Timer, TimerError, TimerInfo};
pub use steading_macros::{Object, methods};
pub use tasks::Tasks;

// Lets the macros' `::steading` paths mean this crate in its own tests too.
#[cfg(test)]
#[allow(unused_extern_crates, reason = "tests may be without objects")]
extern crate self as steading;
