//! Traces, metrics and logs of real processes, as a collector gets them.
//!
//! All clusters share one etcd, each under a prefix of its own.

mod calls;
mod collectors;
mod plans;

use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use tokio::sync::OnceCell;

/// The program of the nodes: the stock one, with more objects.
const PROGRAM: &str = env!("CARGO_BIN_EXE_test-node");

/// Returns a cluster on the etcd that all tests share, whose nodes have these variables.
async fn cluster(name: &str, variables: &[(&'static str, String)]) -> Cluster {
    static ETCD: OnceCell<Etcd> = OnceCell::const_new();
    let cluster = Cluster::new(ETCD.get_or_init(Etcd::start).await, name).program(PROGRAM);
    let variables = variables.iter();
    cluster.variables(variables.map(|(name, value)| (*name, value.as_str())))
}

/// Returns the ID of an object of this type that lives on this node.
async fn object_on(node: &Node, object_type: &str, through: &Node) -> String {
    for number in 0..1000 {
        let id = format!("o{number}");
        let owner = through.owner_of(&format!("{object_type}/{id}")).await;
        if owner.as_deref() == Some(node.id()) {
            return id;
        }
    }
    panic!("no object lives on {}", node.id());
}
