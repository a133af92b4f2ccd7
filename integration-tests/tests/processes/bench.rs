//! `bench moves` on a cluster that exists.

use serde_json::Value;
use steading_integration_tests::cluster::Node;

use super::cluster;

/// Returns what a report says of a figure.
#[track_caller]
fn figure<'a>(report: &'a Value, name: &str) -> &'a Value {
    let figures = report["figures"].as_array().expect("a list");
    let found = figures.iter().find(|figure| figure["name"] == name);
    found.unwrap_or_else(|| panic!("no {name}: {report}"))
}

async fn objects(node: &Node) -> Value {
    node.get("/v1/objects").await.expect("it answers").body
}

#[tokio::test]
async fn moves_of_a_cluster_that_exists_are_measured_and_leave_it_as_it_was() {
    let cluster = cluster("bench").await;
    // A shard of 64 can go from who has 22 to who has 21, and nothing has to move in return.
    let [a, _b, _c] = cluster.ready(["a", "b", "c"]).await;
    a.is_settled(["a", "b", "c"]).await;
    let (owners, before) = (a.owners().await, objects(&a).await);
    let bench = cluster.bench_moves(&["--rounds", "1", "--moves", "6"]);
    let status = bench.end().await;
    assert_eq!(status.code(), Some(0), "{}", bench.output());
    let report: Value = serde_json::from_str(&bench.output()).expect("JSON and nothing else");
    for none in ["failed calls", "counters with a wrong total"] {
        let figure = figure(&report, &format!("one shard moved: {none}"));
        assert_eq!(figure["met"], true, "{figure}");
    }
    let gap = figure(&report, "one shard moved: ownerless gap p50");
    assert!(gap["ours"]["median"].as_f64() > Some(0.0), "{gap}");
    let plans = a.get("/v1/plans").await.expect("it answers").body;
    let manual = plans.as_array().expect("a list").iter();
    let manual = manual.filter(|plan| plan["reason"] == "manual").count();
    assert_eq!(manual, 6, "{plans}");
    a.is_settled(["a", "b", "c"]).await;
    assert_eq!(a.owners().await, owners, "there and back");
    assert_eq!(objects(&a).await, before, "nothing is left behind");
}

#[tokio::test]
async fn nothing_is_measured_where_there_is_no_cluster() {
    let cluster = cluster("bench-nowhere").await;
    let bench = cluster.bench_moves(&[]);
    let status = bench.end().await;
    assert_eq!(status.code(), Some(4), "{}", bench.output());
    assert!(
        bench.output().contains("/bench-nowhere/"),
        "{}",
        bench.output()
    );
}
