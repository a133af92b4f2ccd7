//! What changes while callers call: moves, drains, deaths, and nodes that do not act. Real processes
//! over a real etcd, and a load in which a call that its caller sees failing fails the test.
//!
//! All clusters share one etcd, each under a prefix of its own; a test that harms etcd starts one
//! for itself. Callers call through a gate, which stays.

mod deaths;
mod drains;
mod moves;
mod stuck;

use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

/// The program of the nodes: the stock one, with more objects.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

/// Returns a cluster on the etcd that all tests share.
async fn cluster(name: &str) -> Cluster {
    static ETCD: OnceCell<Etcd> = OnceCell::const_new();
    Cluster::new(ETCD.get_or_init(Etcd::start).await, name).program(PROGRAM)
}

/// Every shard of a cluster.
const ALL: std::ops::Range<u32> = 0..64;

/// Begins a turn in this shard that ends when it is told to, and waits until it runs.
async fn hold(gate: &Node, shard: u32) -> JoinHandle<()> {
    let url = format!(
        "http://{}/v1/objects/Holder/shard%23{shard}%2Fx/hold",
        gate.http()
    );
    let request = reqwest::Client::new().post(url);
    let request = request.header("x-steading-timeout-ms", "600000");
    #[allow(clippy::disallowed_methods, reason = "tests may spawn their callers")]
    let held = tokio::spawn(async move { drop(request.send().await) });
    until("the turn runs", async || {
        let lives = gate.get("/v1/objects?type=Holder").await;
        let lives = lives.map_err(|error| error.to_string())?.body;
        let objects = lives["objects"].as_array().map_or(0, Vec::len);
        (objects == 1)
            .then_some(())
            .ok_or_else(|| lives.to_string())
    })
    .await;
    held
}
