//! Whole clusters of real processes over a real etcd: started, stopped, killed, frozen.
//!
//! All clusters share one etcd, each under a prefix of its own; a test that harms etcd starts one
//! for itself.

mod bench;
mod commands;
mod etcd_limits;
mod failover;
mod limits;
mod membership;
mod memory;
mod namespaces;
mod outage;
mod quarantine;
mod signals;
mod start;
mod storage;
mod supervise;
mod web_pages;

use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::etcd::Etcd;
use tokio::sync::OnceCell;

/// Returns a cluster on the etcd that all tests share.
async fn cluster(name: &str) -> Cluster {
    static ETCD: OnceCell<Etcd> = OnceCell::const_new();
    Cluster::new(ETCD.get_or_init(Etcd::start).await, name)
}
