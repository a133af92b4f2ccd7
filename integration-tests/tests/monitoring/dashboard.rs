//! The dashboard and the rules before a real Prometheus that scrapes a real cluster and etcd.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use steading_integration_tests::cluster::{Cluster, Node};
use steading_integration_tests::etcd::Etcd;
use steading_integration_tests::prometheus::Prometheus;
use steading_integration_tests::until;

use super::{alerts, assert_metrics_exist, parsed, project, selectors};

/// Selectors that may select nothing in a cluster that is well, each with its reason.
const MAY_BE_EMPTY: &[(&str, &str)] = &[(
    "steading_certificate_expiry_timestamp_seconds",
    "a cluster without TLS has no certificate",
)];

/// How the variables of the dashboard are filled in.
const VARIABLES: &[(&str, &str)] = &[
    ("$__rate_interval", "1m"),
    ("$namespace", ".*"),
    ("$job", ".*"),
    ("$node", ".*"),
];

fn panels() -> Vec<Value> {
    let dashboard = parsed("k8s/monitoring/dashboard.json");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels
        .filter(|panel| panel["type"] != "row")
        .cloned()
        .collect()
}

/// Returns every expression of the dashboard with the title of its panel.
fn expressions() -> Vec<(String, String)> {
    let of = |panel: &Value| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let filled = |target: Value| {
            let expression = target["expr"].as_str().expect("an expression").to_owned();
            let fill = |text: String, (name, value): &(&str, &str)| text.replace(name, value);
            VARIABLES.iter().fold(expression, fill)
        };
        let expressions = targets.into_iter().map(filled);
        expressions
            .map(|text| (title.clone(), text))
            .collect::<Vec<_>>()
    };
    panels().iter().flat_map(of).collect()
}

/// Waits until an expression has a result, and returns it.
async fn has_result(prometheus: &Prometheus, place: &str, expression: &str) -> Vec<Value> {
    until(&format!("{place}: {expression} has a result"), async || {
        let series = prometheus.query(expression).await;
        let series = series.unwrap_or_else(|error| panic!("{place}: {expression}: {error}"));
        if series.is_empty() {
            Err("none".into())
        } else {
            Ok(series)
        }
    })
    .await
}

/// Has calls served and refused, and shards moved, so that there is something to show.
async fn use_it(nodes: [&Node; 2], gate: &Node) {
    for n in 0..200 {
        gate.add_one(&n.to_string()).await.expect("it serves");
    }
    let refused = gate.call("Counter/c1", "no_such", &json!({})).await;
    assert_eq!(refused.expect("it answers").status, 404);
    let [a, b] = nodes;
    let shards: Vec<u32> = a.shards_of(b.id()).await.into_iter().take(4).collect();
    let moves = shards.iter().map(|shard| (*shard, a.id()));
    let plan = a.move_shards(moves).await;
    a.plan_ends(plan).await;
}

#[tokio::test]
async fn every_query_of_dashboard_and_rules_finds_its_data_in_a_real_cluster() {
    let etcd = Etcd::start().await;
    let cluster = Cluster::new(&etcd, "monitoring");
    let [a, b] = cluster.ready(["a", "b"]).await;
    let gate = cluster.gate("gate").await;
    let http = |nodes: &[&Node]| nodes.iter().map(|node| node.http().to_owned()).collect();
    let jobs = [
        ("steading", http(&[&a, &b])),
        ("steading-gate", http(&[&gate])),
        ("etcd", vec![etcd.address()]),
    ];
    let prometheus = Prometheus::start(&jobs, &project("k8s/monitoring/rules.yaml")).await;
    // A rate needs a value from before what it counts.
    has_result(&prometheus, "targets", "sum(up) == 4").await;
    has_result(&prometheus, "scrapes", "sum(steading_condition_met) == 30").await;
    use_it([&a, &b], &gate).await;

    for (title, expression) in expressions() {
        has_result(&prometheus, &title, &expression).await;
    }
    for alert in alerts() {
        let answer = prometheus.query(&alert.expression).await;
        answer.unwrap_or_else(|error| panic!("{}: {error}", alert.name));
        for selector in selectors(&alert.expression) {
            if MAY_BE_EMPTY.iter().all(|(name, _)| *name != selector) {
                has_result(&prometheus, &alert.name, &selector).await;
            }
        }
    }
    until("Prometheus evaluated every rule", async || {
        let rules = prometheus.get("/api/v1/rules", &[]).await?;
        let groups = rules["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().filter_map(|group| group["rules"].as_array());
        let health: BTreeMap<_, _> = rules
            .flatten()
            .map(|rule| (rule["name"].to_string(), rule["health"].to_string()))
            .collect();
        let is_done = health.len() == alerts().len() && health.values().all(|of| of == "\"ok\"");
        if is_done {
            Ok(())
        } else {
            Err(format!("{health:?}"))
        }
    })
    .await;
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await;
    assert_eq!(firing, Ok(Vec::new()), "a cluster that is well");
}

#[test]
fn every_metric_of_the_dashboard_exists() {
    for (title, expression) in expressions() {
        assert_metrics_exist(&expression, &title);
    }
}

#[test]
fn panels_say_what_they_show_and_do_not_overlap() {
    let dashboard = parsed("k8s/monitoring/dashboard.json");
    let all = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), all.len(), "each has an ID of its own");
    let mut taken = BTreeSet::new();
    for panel in all {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        for x in place("x")..place("x") + place("w") {
            assert!(x < 24, "{title} is too wide");
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies on another panel");
            }
        }
    }
    for panel in panels() {
        let unit = &panel["fieldConfig"]["defaults"]["unit"];
        assert!(unit.is_string(), "{}", panel["title"]);
        let sources = panel["targets"].as_array().expect("targets").iter();
        let mut sources = sources.map(|target| &target["datasource"]["uid"]);
        assert!(sources.all(|uid| uid == "${datasource}"), "{panel}");
    }
    let variables = dashboard["templating"]["list"].as_array().expect("some");
    let names: Vec<_> = variables.iter().map(|of| of["name"].as_str()).collect();
    let expected = ["datasource", "namespace", "job", "node"].map(Some);
    assert_eq!(names, expected);
}
