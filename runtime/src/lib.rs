//! A runtime that gives every object a place.

pub mod clock;
pub mod coordination;
mod error;
pub mod fence;
pub mod ids;
pub mod object;
pub mod placement;
pub mod routing;
pub mod storage;
mod tasks;
pub mod telemetry;

pub use error::{CallError, Outcome};
pub use tasks::Tasks;
