//! What watches over a cluster: alerts, dashboard, runbooks, and the programs that read them.

mod dashboard;
mod rules;
mod runbooks;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where all runbooks are.
const RUNBOOKS_URL: &str = "https://github.com/steading/steading/blob/main/docs/runbooks/";

/// An alert as `rules.yaml` has it.
#[derive(Debug)]
struct Alert {
    name: String,
    expression: String,
    severity: String,
    waits: bool,
    annotations: Value,
}

/// Returns a path below the project's root.
fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Reads a file of the project.
fn read(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Reads a YAML or JSON file of the project.
fn parsed(path: &str) -> Value {
    serde_yaml_ng::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns every alert.
fn alerts() -> Vec<Alert> {
    let rules = parsed("k8s/monitoring/rules.yaml");
    let groups = rules["groups"].as_array().expect("groups");
    let rules = groups
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let alert = |rule: &Value| Alert {
        name: text(&rule["alert"]),
        expression: text(&rule["expr"]),
        severity: text(&rule["labels"]["severity"]),
        waits: rule["for"].is_string(),
        annotations: rule["annotations"].clone(),
    };
    rules.map(alert).collect()
}

/// Returns the metrics of nodes that a text names, as docs/metrics.md has them.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let names = text.split(|letter| !is_part(letter));
    let names = names.filter(|name| name.starts_with("steading_"));
    names.map(base_name).collect()
}

/// Returns the name of the metric of which a series has this name.
fn base_name(series: &str) -> &str {
    let suffixes = ["_bucket", "_total", "_sum", "_count"];
    let base = suffixes
        .iter()
        .find_map(|suffix| series.strip_suffix(suffix));
    base.unwrap_or(series)
}

/// What only a node with TLS has, and the page therefore not, each with the source that registers it.
const ONLY_WITH_TLS: &[(&str, &str)] = &[(
    "steading_certificate_expiry_timestamp_seconds",
    "runtime/src/telemetry/certificates.rs",
)];

/// Panics unless nodes have all metrics that a text names.
fn assert_metrics_exist(text: &str, place: &str) {
    let page = read("docs/metrics.md");
    for name in metrics_in(text) {
        if let Some((_, source)) = ONLY_WITH_TLS.iter().find(|(known, _)| *known == name) {
            let registered = name.trim_start_matches("steading_");
            assert!(read(source).contains(registered), "{name}");
            continue;
        }
        assert!(
            page.contains(&format!("| `{name}` |")),
            "{place} names {name}, which no node has"
        );
    }
}

/// Returns the selectors in an expression: names of series, with their matchers if they have any.
fn selectors(expression: &str) -> BTreeSet<String> {
    let mut selectors = BTreeSet::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_lowercase()) {
        rest = &rest[start..];
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let is_series = name == "up" || name.starts_with("steading_") || name.starts_with("etcd_");
        rest = after;
        if !is_series {
            continue;
        }
        let matchers = match after.strip_prefix('{') {
            Some(inside) => &after[..inside.find('}').expect("it is closed") + 2],
            None => "",
        };
        selectors.insert(format!("{name}{matchers}"));
        rest = &after[matchers.len()..];
    }
    selectors
}

#[test]
fn selectors_are_found_with_their_matchers() {
    let found =
        selectors("sum by (le) (rate(steading_a_bucket{x=~\"b|c\"}[5m])) / steading_d > up{}");
    let found: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        ["steading_a_bucket{x=~\"b|c\"}", "steading_d", "up{}"]
    );
}
