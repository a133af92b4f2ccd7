//! What the integration tests share: real etcd and node processes, broken networks, waiting.

pub mod agreement;
pub mod browser;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod etcd;
pub mod history;
pub mod inspector;
pub mod keys;
pub mod load;
pub mod objects;
pub mod operator;
pub mod otlp;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod proxy;
pub mod signals;
pub mod tunnel;
mod wait;

pub use wait::{LIMIT, until, until_within};
