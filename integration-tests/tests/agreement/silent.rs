//! Nodes that die, hang or are fenced, while their leases still live.

use std::time::Duration;

use serde_json::{Value, json};
use steading_integration_tests::agreement::{Ready, agrees};
use steading_integration_tests::client::Client;
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::inspector::Inspector;
use steading_integration_tests::proxy::{Path, Proxy};
use steading_integration_tests::until;

/// A lease that no test outlives: whatever is seen of a dead node is seen while it is registered.
const LONG_LEASE: Duration = Duration::from_mins(1);

/// A lease whose fence comes soon, and two seconds before its end.
const SHORT_LEASE: Duration = Duration::from_secs(20);

/// Returns what the Inspector answers.
async fn ask(inspector: &Inspector, path: &str) -> Result<Value, String> {
    let client = Client::plain(Duration::from_secs(5));
    let answer = client.get(&inspector.page(path)).await;
    Ok(answer.map_err(|error| error.to_string())?.body)
}

/// Returns a node of a list.
fn of<'a>(nodes: &'a Value, id: &str) -> &'a Value {
    let nodes = nodes.as_array().map_or(&[][..], Vec::as_slice);
    let node = nodes.iter().find(|node| node["id"] == id);
    node.unwrap_or(&Value::Null)
}

/// Makes an object on every shard, so that nodes have figures to repeat.
async fn fill(node: &Node) {
    let shards = u32::try_from(node.owners().await.len()).expect("few");
    for shard in 0..shards {
        let object = format!("Counter/shard%23{shard}%2Fx");
        let answer = node.call(&object, "add", &json!({ "n": 1 })).await;
        assert_eq!(answer.expect("it answers").status, 200);
    }
}

/// The nodes `a`, `b` and `c` with objects; `a` leads, since it was there first.
async fn three(cluster: &Cluster) -> [Node; 3] {
    let a = cluster.start("a").await;
    a.is_ready().await;
    let [b, c] = cluster.ready(["b", "c"]).await;
    a.is_spread(["a", "b", "c"]).await;
    fill(&a).await;
    let probes = async || a.metric("steading_probes_total", "answered").await;
    let before = probes().await;
    until("the leader has probed both again", async || {
        let more = probes().await - before;
        (more > 3.5).then_some(()).ok_or_else(|| more.to_string())
    })
    .await;
    [a, b, c]
}

/// Checks that nothing is told of `c` but that it is silent, wherever something is told.
async fn is_told_as_silent(cluster: &Cluster, a: &Node, inspector: &Inspector) {
    let seen = a
        .sees("c is silent", |cluster| {
            of(&cluster["nodes"], "c")["state"] == "silent"
        })
        .await;
    let c = of(&seen["nodes"], "c");
    assert_eq!(c["registered_state"], "active", "its lease lives");
    assert_eq!((&c["objects"], &c["load"]), (&Value::Null, &Value::Null));
    assert_eq!(c["at_risk"]["shards"], c["shards_owned"]);
    assert!(c["at_risk"]["objects_last_seen"].as_u64() > Some(0), "{c}");
    assert!(c["at_risk"]["takeover_seconds"].as_f64() > Some(0.0), "{c}");
    assert_eq!(seen["shards"]["at_risk"], c["shards_owned"]);

    let address = ["--json", "--address", a.http()];
    let (code, nodes) = cluster.command(&[&["nodes"], &address[..]].concat()).await;
    let nodes: Value = serde_json::from_str(&nodes).expect("JSON");
    assert_eq!(
        (code, &of(&nodes, "c")["state"]),
        (Some(0), &json!("silent"))
    );
    let (code, status) = cluster.command(&["status", "--address", a.http()]).await;
    assert_eq!(code, Some(1), "{status}");
    assert!(status.contains("c is silent"), "{status}");

    until("the leader's metrics count it as silent", async || {
        let silent = a.metric("steading_cluster_nodes", "state=\"silent\"").await;
        let at_risk = a.metric("steading_cluster_shards_at_risk", "").await;
        let all = (silent, at_risk) == (1.0, c["shards_owned"].as_f64().unwrap_or_default());
        all.then_some(())
            .ok_or_else(|| format!("{silent} {at_risk}"))
    })
    .await;
    let active = a.metric("steading_cluster_nodes", "state=\"active\"").await;
    assert!((active - 2.0).abs() < 0.1, "{active}");

    until("the Inspector's verdict is that it is silent", async || {
        let health = ask(inspector, "api/health").await?;
        let what = health[0]["what"].as_str().unwrap_or_default();
        let is_told = what.starts_with("1 node silent: ") && health[0]["severity"] == "trouble";
        is_told.then_some(()).ok_or_else(|| health.to_string())
    })
    .await;
    let nodes = ask(inspector, "api/nodes").await.expect("it answers");
    let c = of(&nodes, "c");
    assert_eq!(c["state"], "silent");
    for figure in [
        "objects",
        "calls_per_second",
        "cpu",
        "memory_bytes",
        "fence_left_seconds",
    ] {
        assert_eq!(c["figures"][figure], Value::Null, "{figure}");
    }
    let figures = ask(inspector, "api/figures").await.expect("it answers");
    let healthy = figures["cluster"]["healthy"].as_f64().unwrap_or_default();
    assert!((healthy - 2.0 / 3.0).abs() < 0.01, "{healthy}");
    a.sees("c is registered all the while", |cluster| {
        of(&cluster["nodes"], "c")["id"] == "c"
    })
    .await;
}

#[tokio::test]
async fn a_killed_node_is_silent_at_once() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "killed").with_lease_ttl(LONG_LEASE);
    let [a, b, c] = three(&cluster).await;
    let inspector = Inspector::start(&cluster).await;
    c.kill();
    is_told_as_silent(&cluster, &a, &inspector).await;
    agrees(&cluster, &[&a, &b, &c], "c is dead", |seen| {
        seen.ready.get("c") == Some(&Ready::Silent) && seen.status.at_risk > 0
    })
    .await;
}

#[tokio::test]
async fn a_frozen_node_is_silent_until_it_goes_on() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "frozen").with_lease_ttl(LONG_LEASE);
    let [a, b, c] = three(&cluster).await;
    let inspector = Inspector::start(&cluster).await;
    c.freeze().await;
    is_told_as_silent(&cluster, &a, &inspector).await;
    agrees(&cluster, &[&a, &b, &c], "c hangs", |seen| {
        seen.status.at_risk > 0
    })
    .await;
    c.thaw().await;
    let is_back = |cluster: &Value| {
        let c = of(&cluster["nodes"], "c");
        c["state"] == "active" && c["objects"].is_u64() && cluster["shards"]["at_risk"] == 0
    };
    a.sees("c is active again", is_back).await;
    until("the Inspector has figures again", async || {
        let nodes = ask(&inspector, "api/nodes").await?;
        let objects = &of(&nodes, "c")["figures"]["objects"];
        objects
            .is_u64()
            .then_some(())
            .ok_or_else(|| nodes.to_string())
    })
    .await;
    agrees(&cluster, &[&a, &b, &c], "all is well", |seen| {
        seen.doctor.code == Some(0)
    })
    .await;
}

#[tokio::test]
async fn a_node_without_etcd_is_fenced_everywhere() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "cut-off").with_lease_ttl(SHORT_LEASE);
    let a = cluster.start("a").await;
    a.is_ready().await;
    let [b] = cluster.ready(["b"]).await;
    let path = Proxy::start(etcd.address()).await;
    let apart = Cluster::at(format!("http://{}", path.address()), "cut-off");
    let [c] = apart.with_lease_ttl(SHORT_LEASE).ready(["c"]).await;
    a.is_spread(["a", "b", "c"]).await;
    fill(&a).await;
    let inspector = Inspector::start(&cluster).await;
    path.set(Path::Silent).await;

    let is_fenced = |cluster: &Value| {
        let c = of(&cluster["nodes"], "c");
        c["state"] == "fenced" && c["registered_state"] == "active"
    };
    let seen = a.sees("c is fenced", is_fenced).await;
    assert_eq!(
        seen["shards"]["at_risk"],
        of(&seen["nodes"], "c")["shards_owned"]
    );
    let nodes = ask(&inspector, "api/nodes").await.expect("it answers");
    assert_eq!(of(&nodes, "c")["state"], "fenced", "{nodes}");
    let health = ask(&inspector, "api/health").await.expect("it answers");
    let what = health[0]["what"].as_str().unwrap_or_default();
    assert!(what.starts_with("1 node fenced: "), "{health}");
    until("the leader has probed it since", async || {
        let fenced = a.metric("steading_cluster_nodes", "state=\"fenced\"").await;
        (fenced > 0.5)
            .then_some(())
            .ok_or_else(|| fenced.to_string())
    })
    .await;

    c.sees("itself fenced", is_fenced).await;
    agrees(&cluster, &[&c, &a, &b], "c says so too", |seen| {
        seen.status.code == Some(1) && matches!(seen.ready.get("c"), Some(Ready::No(_)))
    })
    .await;
}

#[tokio::test]
async fn without_etcd_nobody_speaks_for_the_cluster() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "no-etcd");
    let [a, b] = cluster.ready(["a", "b"]).await;
    a.is_spread(["a", "b"]).await;
    let inspector = Inspector::start(&cluster).await;
    let leads = async |node: &Node| node.metric("steading_leading", "").await;
    assert!((leads(&a).await + leads(&b).await - 1.0).abs() < 0.1);
    until("the Inspector has listed the cluster", async || {
        let nodes = ask(&inspector, "api/nodes").await?;
        let is_listed = nodes.as_array().is_some_and(|nodes| nodes.len() == 2);
        is_listed.then_some(()).ok_or_else(|| nodes.to_string())
    })
    .await;
    etcd.freeze().await;
    let all_fenced = |cluster: &Value| {
        let nodes = cluster["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        nodes.iter().all(|node| node["state"] == "fenced") && cluster["shards"]["at_risk"] == 64
    };
    a.sees("both are fenced", all_fenced).await;
    until("no node says that it leads", async || {
        let leading = leads(&a).await + leads(&b).await;
        (leading < 0.1)
            .then_some(())
            .ok_or_else(|| leading.to_string())
    })
    .await;
    for node in [&a, &b] {
        let metrics = node.get("/metrics").await.expect("it runs").body;
        let text = metrics.as_str().unwrap_or_default();
        assert!(
            !text.contains("\nsteading_cluster_nodes{"),
            "it repeats what it knew"
        );
    }
    until("the Inspector shows both as fenced", async || {
        let nodes = ask(&inspector, "api/nodes").await?;
        let fenced = ["a", "b"]
            .iter()
            .all(|node| of(&nodes, node)["state"] == "fenced");
        fenced.then_some(()).ok_or_else(|| nodes.to_string())
    })
    .await;
    agrees(&cluster, &[&a, &b], "nothing is served", |seen| {
        seen.status.at_risk == 64
    })
    .await;
    etcd.thaw().await;
}

#[tokio::test]
async fn gates_count_in_no_mean() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "gates");
    let [a, _b] = cluster.ready(["a", "b"]).await;
    let _gates = [
        cluster.gate("g1").await,
        cluster.gate("g2").await,
        cluster.gate("g3").await,
    ];
    a.is_spread(["a", "b"]).await;
    let inspector = Inspector::start(&cluster).await;
    // Twenty calls a second to each shard would be far above what counts as load.
    let imbalance = until("there are enough calls to compare", async || {
        fill(&a).await;
        let figures = ask(&inspector, "api/figures").await?;
        let imbalance = figures["cluster"]["imbalance"].as_f64();
        imbalance.ok_or_else(|| figures["cluster"].to_string())
    })
    .await;
    assert!(imbalance < 0.5, "two nodes are called alike: {imbalance}");
    let leader = a.leader().await;
    let seen = a
        .sees("gates are active", |cluster| {
            of(&cluster["nodes"], "g1")["state"] == "active"
        })
        .await;
    assert_eq!(
        seen["nodes"].as_array().map(Vec::len),
        Some(5),
        "{leader} leads"
    );
}
