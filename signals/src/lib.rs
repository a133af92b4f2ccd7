//! What Steading programs do when they receive a signal.
//!
//! [`SIGNALS`] lists every signal of Linux. The documentation is generated from it, the listener
//! registers what it says, and an integration test sends each one to a real node: a signal whose
//! default action is to end the process must not cost acknowledged updates in memory.

mod disposition;
mod listener;
mod shutdown;
mod table;

pub use listener::{Received, Signals};
pub use shutdown::{Sender, Shutdown, Step};
pub use table::{Effect, Row, SIGNALS, row, table};
