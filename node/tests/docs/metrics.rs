//! The page that lists the metrics of a real node, and what holds for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use steading::ids::{NodeId, ShardCount};
use steading::{CallError, Node};
use steading_node::samples::{Account, Counter};

const INTRODUCTION: &str = "\
# Metrics

<!-- Generated from a running node by `make docs`; do not edit. -->

`GET /metrics` of every node and gate, in the OpenMetrics text format. Units are base units. Counters
are shown with `_total`, histograms with `_bucket`, `_sum` and `_count`. Every label has a bounded
number of values, which the table tells; none is ever the ID of a shard, an object or a node.

The metrics that begin with `steading_cluster_` are about the whole cluster and told by its leader
alone, so that a sum over all nodes is right; a leader that is fenced or does not follow etcd leaves
them out. It probes the other nodes each second, and what a node answered more than two seconds ago
counts for nothing. The load of nodes is that of their last window of ten seconds, and NaN while the
leader knows of none. Gaps shorter than the leader's watch can see do not count
there: how long a planned move leaves a shard without service is
`steading_handover_seconds{phase=\"gap\"}`.

CPU time and duration of turns are measured on a sample of them: one in 1024 of each shard, and the
first of each second. `steading_turns_total` counts all.

| name | type | unit | labels | meaning |
|---|---|---|---|---|
";

/// A metric as it is shown.
#[derive(Debug, Default)]
struct Shown {
    kind: String,
    help: String,
    /// The values of each label.
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Reads what metrics a text shows.
fn shown(text: &str) -> BTreeMap<String, Shown> {
    let mut metrics: BTreeMap<String, Shown> = BTreeMap::new();
    let mut last = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                name.clone_into(&mut last);
                help.clone_into(&mut metrics.entry(last.clone()).or_default().help);
            }
            ["#", "TYPE", name, kind] => {
                kind.clone_into(&mut metrics.get_mut(name).expect("it has help").kind);
            }
            ["#", ..] => {}
            _ => {
                assert!(line.starts_with(&last), "{line} is of no metric");
                let metric = metrics.get_mut(&last).expect("it was named");
                for (label, value) in labels_of(line) {
                    metric.labels.entry(label).or_default().insert(value);
                }
            }
        }
    }
    metrics
}

/// Returns a sample's labels, but for those of its kind of metric. No value has a comma or quote.
fn labels_of(sample: &str) -> Vec<(String, String)> {
    let Some((_, rest)) = sample.split_once('{') else {
        return Vec::new();
    };
    let (labels, _) = rest.split_once('}').expect("it is closed");
    let pairs = labels.split(',').map(|label| {
        let (name, value) = label.split_once('=').expect("a label has a value");
        (name.to_owned(), value.trim_matches('"').to_owned())
    });
    pairs.filter(|(name, _)| name != "le").collect()
}

fn unit(name: &str) -> &'static str {
    match name {
        _ if name.ends_with("_seconds") => "seconds",
        _ if name.ends_with("_bytes") => "bytes",
        _ if name.ends_with("_variation") => "ratio",
        "steading_cluster_load_per_node" => "CPUs",
        "steading_top_shard" => "number",
        _ => "count",
    }
}

/// What a label may be. Whatever is not named here is one of the values that are shown from the
/// beginning.
fn bound(label: &str, values: &BTreeSet<String>) -> String {
    match label {
        "object_type" => "one of the registered types".into(),
        "rank" => "1 to 10".into(),
        "version" => "that of the program".into(),
        "code" => format!("one of {} codes of errors", CallError::CODES.len()),
        _ => values.iter().cloned().collect::<Vec<_>>().join(", "),
    }
}

fn page(metrics: &BTreeMap<String, Shown>) -> String {
    let mut page = INTRODUCTION.to_owned();
    for (name, metric) in metrics {
        let labels = metric.labels.iter();
        let labels = labels.map(|(label, values)| format!("`{label}`: {}", bound(label, values)));
        let labels = labels.collect::<Vec<_>>().join("; ");
        let (kind, help, unit) = (&metric.kind, metric.help.trim_end_matches('.'), unit(name));
        writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {help} |")
            .expect("writing to a string succeeds");
    }
    page
}

/// What a node shows that leads a cluster of its own: before it served calls, and after it served
/// one and refused another.
async fn texts() -> [String; 2] {
    let node = Node::builder()
        .id(NodeId::new("n1").expect("a good name"))
        .shard_count(ShardCount::new(64).expect("a power of two"))
        .register::<Counter>()
        .register::<Account>()
        .start()
        .await
        .expect("it starts");
    let mut views = node.subscribe();
    let leads = views.wait_for(|view| view.leader.is_some() && node.readiness().is_ready());
    let leads = tokio::time::timeout(Duration::from_secs(30), leads).await;
    leads.expect("it leads in time").expect("it lives");
    let encoded = || node.metrics().encode().expect("it can be written");
    let before = encoded();
    let counter = node.object::<Counter>("c1");
    counter.add(1).await.expect("it is served");
    let nowhere = node.object::<Counter>("shard#9999/x").add(1).await;
    nowhere.expect_err("there is no such shard");
    let after = encoded();
    node.stop().await;
    [before, after]
}

#[tokio::test]
async fn s0_31_the_page_lists_exactly_the_metrics_of_a_real_node() {
    let [before, after] = texts().await.map(|text| shown(&text));
    let names = |metrics: &BTreeMap<String, Shown>| metrics.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "shown from the beginning");
    for (name, metric) in &after {
        for (label, values) in &metric.labels {
            let known = before[name].labels.get(label);
            let is_open = ["object_type", "rank"].contains(&label.as_str());
            assert!(
                is_open || known == Some(values),
                "{name} has new values of {label}: {values:?}"
            );
        }
    }
    let generated = page(&after);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("STEADING_WRITE_DOCS").is_some() {
        std::fs::write(&path, &generated).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "docs/metrics.md is out of date: run `make docs`"
    );
}

#[tokio::test]
async fn s0_31_every_metric_has_our_name_a_help_base_units_and_few_labels() {
    for (name, metric) in shown(&texts().await[1]) {
        assert!(
            name.starts_with("steading_") && !metric.help.is_empty(),
            "{name}"
        );
        assert!(metric.labels.len() <= 2, "{name}: {:?}", metric.labels);
        let no_base_unit = ["_ms", "_millis", "_micros", "_percent", "_kb", "_mb"];
        let wrong = no_base_unit.iter().find(|suffix| name.ends_with(*suffix));
        assert_eq!(wrong, None, "{name}");
    }
}

/// Rewrites `OpenMetrics` to the older format, which is what `promtool` checks: there a counter is
/// named as its sample is.
fn as_prometheus(text: &str) -> String {
    let counters: BTreeSet<_> = shown(text)
        .into_iter()
        .filter(|(_, metric)| metric.kind == "counter")
        .map(|(name, _)| name)
        .collect();
    let lines = text.lines().filter(|line| *line != "# EOF").map(|line| {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", word @ ("HELP" | "TYPE"), name, rest] if counters.contains(name) => {
                format!("# {word} {name}_total {rest}\n")
            }
            _ => format!("{line}\n"),
        }
    });
    lines.collect()
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_about() {
    let text = as_prometheus(&texts().await[1]);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed; `make setup` does it");
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "");
}
