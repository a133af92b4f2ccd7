//! An etcd that a cluster cannot work with is named by every node and by the doctor.

use steading_integration_tests::cluster::Cluster;
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::until;

#[tokio::test]
async fn low_limits_of_etcd_are_named_everywhere() {
    for (flag, says) in [
        ("--max-txn-ops=16", "--max-txn-ops must be at least 128"),
        (
            "--max-request-bytes=20000",
            "--max-request-bytes must be at least 1048576",
        ),
    ] {
        let etcd = Etcd::start_flagged(&[flag]).await;
        let cluster = Cluster::new(&etcd, "limits").shard_count(8192);
        let mut nodes = [cluster.launch("a", &[]), cluster.launch("b", &[])];
        for node in &mut nodes {
            node.listens().await;
            let goal = format!("{} names {flag}", node.id());
            until(&goal, async || {
                let ready = node
                    .get("/ready")
                    .await
                    .map_err(|error| error.to_string())?;
                let waits_for = ready.body["waiting_for"].as_str().unwrap_or_default();
                let names = ready.status == 503 && waits_for.contains(says);
                names.then_some(()).ok_or_else(|| ready.body.to_string())
            })
            .await;
        }
        let (_, report) = cluster
            .command(&["doctor", "--measure", "100ms", "--address", nodes[0].http()])
            .await;
        assert!(report.contains(says), "{report}");
    }
}

#[tokio::test]
async fn a_grpc_proxy_of_etcd_is_named() {
    let etcd = Etcd::start().await;
    let (_proxy, endpoint) = etcd.proxied().await;
    let cluster = Cluster::at(endpoint, "proxied");
    let mut node = cluster.launch("a", &[]);
    node.listens().await;
    until("the proxy is named", async || {
        let ready = node
            .get("/ready")
            .await
            .map_err(|error| error.to_string())?;
        let waits_for = ready.body["waiting_for"].as_str().unwrap_or_default();
        let names = waits_for.contains("etcd grpc-proxy");
        names.then_some(()).ok_or_else(|| ready.body.to_string())
    })
    .await;
}
