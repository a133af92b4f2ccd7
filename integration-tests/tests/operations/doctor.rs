//! `steading doctor` names what was broken.

use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::keys::quarantine;
use steading_integration_tests::until;

/// What the doctor said.
pub(super) struct Said {
    pub(super) code: Option<i32>,
    report: Value,
}

impl Said {
    /// Returns what is not well, each as `LEVEL CHECK: WHAT | WHY | NEXT`.
    pub(super) fn unwell(&self) -> Vec<String> {
        let findings = self.report["findings"].as_array().expect("findings");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let unwell = findings.iter().filter(|of| of["level"] != "ok");
        let line = unwell.map(|of| {
            let next = of["next"].as_array().cloned().unwrap_or_default();
            let next = next.iter().map(&text).collect::<Vec<_>>().join("; ");
            let (level, check) = (text(&of["level"]), text(&of["check"]));
            let (what, why) = (text(&of["what"]), text(&of["why"]));
            format!("{level} {check}: {what} | {why} | {next}")
        });
        line.collect()
    }
}

/// Asks the doctor about a cluster by way of some nodes, and the store if wished.
pub(super) async fn doctor(cluster: &Cluster, nodes: &[&Node], store: bool) -> Said {
    let addresses = nodes.iter().map(|node| node.http());
    let addresses = addresses.collect::<Vec<_>>().join(",");
    let mut args = vec![
        "doctor",
        "--json",
        "--measure",
        "100ms",
        "--address",
        &addresses,
    ];
    if store {
        args.extend(["--etcd", cluster.etcd(), "--prefix", cluster.prefix()]);
    }
    let (code, output) = cluster.command(&args).await;
    let report = serde_json::from_str(&output);
    let report = report.unwrap_or_else(|error| panic!("{error}: {output}"));
    Said { code, report }
}

/// Waits until the doctor finds something of this level and check that contains a text.
pub(super) async fn finds(
    cluster: &Cluster,
    nodes: &[&Node],
    store: bool,
    begin: &str,
    contains: &str,
) -> Said {
    until(
        &format!("the doctor finds {begin}: {contains}"),
        async || {
            let said = doctor(cluster, nodes, store).await;
            let unwell = said.unwell();
            let is_there = |line: &String| line.starts_with(begin) && line.contains(contains);
            if unwell.iter().any(is_there) {
                Ok(said)
            } else {
                Err(format!("{unwell:#?}"))
            }
        },
    )
    .await
}

/// Waits until the doctor finds nothing.
async fn finds_nothing(cluster: &Cluster, nodes: &[&Node]) {
    until("the doctor finds nothing", async || {
        let said = doctor(cluster, nodes, true).await;
        match (said.unwell().as_slice(), said.code) {
            ([], Some(0)) => Ok(()),
            (unwell, code) => Err(format!("{code:?} {unwell:#?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn s0_36_the_doctor_names_orders_a_pin_to_a_dead_node_and_who_is_dead() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "doctor");
    let [a, b, c] = cluster
        .ready_with(["a", "b", "c"], &["--pin-policy", "wait"])
        .await;
    a.is_spread(["a", "b", "c"]).await;
    finds_nothing(&cluster, &[&a]).await;

    a.order("/v1/nodes/b/cordon", &json!({})).await;
    a.order("/v1/pause", &json!({})).await;
    let said = finds(&cluster, &[&a], false, "warn orders", "b is cordoned").await;
    assert_eq!(said.code, Some(0), "warnings are no failure");
    let unwell = said.unwell().join("\n");
    assert!(unwell.contains("steading uncordon b"), "{unwell}");
    assert!(unwell.contains("steading resume"), "{unwell}");
    a.order("/v1/nodes/b/uncordon", &json!({})).await;
    a.order("/v1/resume", &json!({})).await;

    let shard = a.shards_of("c").await[0];
    a.order(&format!("/v1/shards/{shard}/pin"), &json!({ "node": "c" }))
        .await;
    c.kill();
    let what = format!("shard {shard} is pinned to c and has no owner");
    let said = finds(&cluster, &[&a], true, "bad pins", &what).await;
    assert_eq!(said.code, Some(1));
    let unwell = said.unwell().join("\n");
    assert!(
        unwell.contains(&format!("steading unpin {shard}")),
        "{unwell}"
    );
    // The cluster has forgotten it; whoever is asked to look there says so.
    finds(&cluster, &[&a, &c], false, "bad nodes_answer", c.http()).await;
    a.order(&format!("/v1/shards/{shard}/unpin"), &json!({}))
        .await;
    finds_nothing(&cluster, &[&a, &b]).await;
}

#[tokio::test]
async fn s0_36_the_doctor_names_shards_in_quarantine_and_how_to_release_them() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "quarantined").shard_count(4);
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    // As the leader writes it, so that nothing has to crash three times for it.
    quarantine(&cluster, |_| true).await;
    b.kill();
    let said = finds(
        &cluster,
        &[&a],
        false,
        "bad quarantine",
        "are in quarantine",
    )
    .await;
    let unwell = said.unwell().join("\n");
    assert!(unwell.contains("steading release "), "{unwell}");
}

#[tokio::test]
async fn s0_36_the_doctor_names_a_frozen_node_and_does_not_wait_for_it() {
    let etcd = Etcd::start().await;
    // Long, so that it is still registered while it is looked at.
    let cluster = Cluster::new(&etcd, "frozen").with_lease_ttl(Duration::from_mins(1));
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    b.freeze().await;
    let said = finds(
        &cluster,
        &[&a],
        false,
        "bad nodes_answer",
        "b does not answer",
    )
    .await;
    assert_eq!(said.code, Some(1));
    let unwell = said.unwell().join("\n");
    assert!(unwell.contains("It is registered"), "{unwell}");
    b.thaw().await;
    finds_nothing(&cluster, &[&a]).await;
}

#[tokio::test]
async fn s0_36_the_doctor_names_a_dead_etcd_and_looks_into_it_if_no_node_answers() {
    let mut etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "no-store");
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_settled(["a", "b"]).await;
    etcd.kill();
    let said = finds(&cluster, &[&a, &b], true, "bad nodes_ready", "not_fenced").await;
    let unwell = said.unwell().join("\n");
    assert!(
        unwell.contains("bad etcd: etcd does not answer at"),
        "{unwell}"
    );
    assert!(unwell.contains("bad store_agrees"), "{unwell}");
    etcd.restart().await;
    finds_nothing(&cluster, &[&a, &b]).await;

    a.kill();
    b.kill();
    let said = finds(&cluster, &[&a, &b], true, "bad leader", "no node leads").await;
    assert_eq!(said.report["nodes"], json!([]), "none answered");
    let unwell = said.unwell().join("\n");
    assert!(unwell.contains("64 shards have no owner"), "{unwell}");
    assert!(!unwell.contains("bad etcd"), "{unwell}");
}
