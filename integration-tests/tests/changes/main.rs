//! What changes while callers call: moves, drains, deaths, and nodes that do not act. Real processes
//! over a real etcd, and a load in which a call that its caller sees failing fails the test.
//!
//! All clusters share one etcd, each under a prefix of its own; a test that harms etcd starts one
//! for itself. Callers call through a gate, which stays.

mod deaths;
mod drains;
mod gates;
mod moves;
mod rolls;
mod stuck;

use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::etcd::Etcd;
use tokio::sync::OnceCell;

/// The program of the nodes: the stock one, with more objects.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

/// Returns a cluster on the etcd that all tests share.
async fn cluster(name: &str) -> Cluster {
    static ETCD: OnceCell<Etcd> = OnceCell::const_new();
    Cluster::new(ETCD.get_or_init(Etcd::start).await, name).program(PROGRAM)
}

/// Every shard of a cluster.
const ALL: std::ops::Range<u32> = 0..64;
