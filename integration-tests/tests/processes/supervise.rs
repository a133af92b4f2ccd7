//! Nodes under `--supervise`: their lease ends with their process.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::process::Pid;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::signals;

use super::cluster;

/// So long that no test would live to see a lease run out.
const LONG: Duration = Duration::from_mins(1);

/// Three nodes, of which the last is supervised.
async fn with_one_supervised(name: &str) -> (Cluster, [Node; 3]) {
    let cluster = cluster(name).await.with_lease_ttl(LONG);
    let [a, b] = cluster.ready(["a", "b"]).await;
    let mut c = cluster.launch("c", &["--supervise"]);
    c.listens().await;
    c.is_ready().await;
    a.is_settled(["a", "b", "c"]).await;
    (cluster, [a, b, c])
}

fn child_of(node: &Node) -> Pid {
    node.supervised().expect("it runs the node as its child")
}

#[tokio::test]
async fn a_killed_process_is_replaced_long_before_its_lease_would_end() {
    let (cluster, [a, b, c]) = with_one_supervised("supervised").await;
    signals::kill(child_of(&c)).await;
    let status = c.end().await;
    assert_eq!(status.code(), Some(128 + 9), "as a shell would say");
    a.is_settled(["a", "b"]).await;
    for n in 0..50 {
        a.add_one(&n.to_string())
            .await
            .expect("every object answers");
    }
    drop((b, c));
    cluster.history().await.assert_single_owners();
}

#[tokio::test]
async fn signals_and_the_exit_code_are_passed_on() {
    let (cluster, [a, _b, c]) = with_one_supervised("passed-on").await;
    let status = c.terminate().await;
    assert_eq!((status.code(), status.signal()), (Some(0), None));
    assert!(c.output().contains("left the cluster"), "{}", c.output());
    a.is_settled(["a", "b"]).await;
    let refused = cluster.launch("d", &["--supervise", "--num-shards", "3"]);
    assert_eq!(refused.end().await.code(), Some(2), "a bad setting");
}

#[tokio::test]
async fn a_node_does_not_outlive_the_process_that_supervises_it() {
    let (_cluster, [a, _b, c]) = with_one_supervised("orphaned").await;
    let child = child_of(&c);
    c.kill();
    a.is_settled(["a", "b"]).await;
    signals::has_ended(child).await;
}

#[tokio::test]
async fn a_node_that_lost_its_parent_its_etcd_and_its_logs_reader_at_once_ends() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "lost-all");
    let mut c = cluster.launch("c", &["--supervise", "--drain-timeout", "2s"]);
    c.listens().await;
    c.is_ready().await;
    let child = child_of(&c);
    drop(etcd);
    c.loses_its_reader().await;
    c.kill();
    signals::has_ended(child).await;
}
