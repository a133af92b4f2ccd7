//! What the integration tests share: real etcd and node processes, broken networks, waiting.

pub mod etcd;
pub mod process;
pub mod proxy;
mod wait;

pub use wait::{LIMIT, until};
