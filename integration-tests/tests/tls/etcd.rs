//! Certificates for etcd that are replaced while nodes live by it.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use steading_integration_tests::certificates::{Authority, Files, Validity};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::load::Load;
use steading_integration_tests::programs::steading;

use super::{PROGRAM, uses};

/// Long enough for etcd to be away while it restarts.
const LEASE_TTL: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(20);

/// Which life each node leads: a node whose lease ended leads another.
async fn lives(node: &Node) -> Vec<(String, u64)> {
    let cluster = node.get("/v1/cluster").await.expect("it runs").body;
    let nodes = cluster["nodes"].as_array().expect("nodes");
    let life = |node: &Value| {
        let id = node["id"].as_str().expect("an ID").to_owned();
        (id, node["incarnation"].as_u64().expect("a number"))
    };
    nodes.iter().map(life).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_live_on_while_the_certificates_for_etcd_are_replaced_by_another_authority() {
    let folder = tempfile::tempdir().expect("a folder");
    let (servers, clients) = (folder.path().join("etcd"), folder.path().join("nodes"));
    let (old, new) = (Authority::until(2071), Authority::until(2070));
    let server = old.issue_trusting(&servers, Validity::Good, &[&old, &new]);
    let files = old.issue(&clients, Validity::Until(2050));
    let mut etcd = Etcd::start_certified(&server).await;
    let cluster = Cluster::new(&etcd, "renewed").program(PROGRAM);
    let cluster = cluster.with_lease_ttl(LEASE_TTL);
    let flags = files.etcd_flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let nodes = cluster.ready_with(["a", "b"], &flags).await;
    let gate = cluster.gate_with("gate", &flags).await;
    gate.is_spread(["a", "b"]).await;
    let (all, before) = ([&nodes[0], &nodes[1], &gate], lives(&gate).await);
    assert_eq!(before.len(), 3, "{before:?}");
    let load = Load::paced(&gate, "load", 0..8, PAUSE).await;

    // Nodes trust both authorities, then show a certificate of the new one.
    old.issue_trusting(&clients, Validity::Until(2051), &[&old, &new]);
    for node in all {
        uses(node, &[("etcd_ca", 2070), ("etcd_cert", 2051)]).await;
    }
    new.issue_trusting(&clients, Validity::Until(2052), &[&old, &new]);
    for node in all {
        uses(node, &[("etcd_cert", 2052)]).await;
    }
    // At last etcd takes no other, and all must connect anew.
    new.issue_trusting(&servers, Validity::Good, &[&new]);
    etcd.restart().await;
    let shard = nodes[0].shards_of("a").await[0];
    let plan = gate.move_shards([(shard, "b")]).await;
    let ended = gate.plan_ends(plan).await;
    assert_eq!(ended["outcome"], "done", "{ended}");
    gate.is_settled(["a", "b", "gate"]).await;
    load.goes_round().await;
    load.end_unharmed().await;
    assert_eq!(lives(&gate).await, before, "no lease ended");
    for node in all {
        let told = node.metric("steading_suspensions_total", "").await;
        assert!(told < 1.0, "{} was suspended", node.id());
    }
    examined(&cluster, &gate, &files);
    tokens_are_raised(&cluster, nodes, gate, &files).await;
}

/// The doctor reaches the store with certificates.
fn examined(cluster: &Cluster, node: &Node, files: &Files) {
    let mut doctor = Command::new(steading());
    doctor.args(["doctor", "--measure", "100ms", "--address", node.http()]);
    doctor.args(["--etcd", cluster.etcd(), "--prefix", cluster.prefix()]);
    let output = doctor.args(files.etcd_flags()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", super::said(&output));
}

/// So does the last step of restoring it, once no node lives.
async fn tokens_are_raised(cluster: &Cluster, nodes: [Node; 2], gate: Node, files: &Files) {
    for node in nodes.iter().chain([&gate]) {
        assert_eq!(node.terminate().await.code(), Some(0), "{}", node.output());
    }
    let mut raise = Command::new(steading());
    raise.args(["raise-tokens", "--etcd", cluster.etcd()]);
    raise.args(["--prefix", cluster.prefix()]);
    let output = raise.args(files.etcd_flags()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0), "{}", super::said(&output));
}
