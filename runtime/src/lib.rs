//! A runtime that gives every object a place.

#[doc(hidden)]
pub mod __private;
pub mod clock;
pub mod coordination;
mod error;
pub mod fence;
pub mod ids;
pub mod node;
pub mod object;
pub mod placement;
pub mod routing;
pub mod storage;
mod tasks;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;

pub use error::{CallError, Outcome};
pub use node::{Node, NodeBuilder, StartError};
pub use object::{Context, Methods, Object, Timer, TimerError, TimerInfo};
pub use steading_macros::{Object, methods};
pub use tasks::Tasks;

// Lets the macros' `::steading` paths mean this crate in its own tests too.
#[cfg(test)]
#[allow(unused_extern_crates, reason = "tests may be without objects")]
extern crate self as steading;
