//! The alerts: checked and tested by `promtool`, complete, and equal to their manifest.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{RUNBOOKS_URL, alerts, assert_metrics_exist, parsed, project, read};

/// Runs `promtool`, which must be installed, and returns what it says.
fn promtool(args: [&str; 3]) -> String {
    let output = Command::new("promtool")
        .args(args)
        .current_dir(project("k8s/monitoring"))
        .output()
        .expect("promtool is installed; `make setup` does it");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn promtool_takes_the_rules() {
    let said = promtool(["check", "rules", "rules.yaml"]);
    let count = alerts().len();
    assert!(said.contains(&format!("{count} rules found")), "{said}");
}

#[test]
fn s0_33_s0_34_s0_35_each_alert_fires_when_it_should_and_not_during_a_roll_out() {
    promtool(["test", "rules", "rules.test.yaml"]);
}

#[test]
fn each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_waits() {
    let tests = parsed("k8s/monitoring/rules.test.yaml");
    let queries = tests["tests"].as_array().expect("tests").iter();
    let queries = queries.flat_map(|test| {
        let queries = test["promql_expr_test"].as_array();
        queries.map_or(&[][..], Vec::as_slice)
    });
    let (mut fires, mut is_quiet) = (BTreeSet::new(), BTreeSet::new());
    for query in queries {
        let expression = query["expr"].as_str().expect("an expression");
        let name = expression.split("alertname=\"").nth(1);
        let Some(name) = name.and_then(|rest| rest.split('"').next()) else {
            continue;
        };
        let samples = query["exp_samples"].as_array().expect("samples");
        let seen = if samples.is_empty() {
            &mut is_quiet
        } else {
            &mut fires
        };
        seen.insert(name.to_owned());
    }
    for alert in alerts() {
        assert!(fires.contains(&alert.name), "{} never fires", alert.name);
        assert!(
            !alert.waits || is_quiet.contains(&alert.name),
            "nothing shows that {} waits",
            alert.name
        );
    }
}

#[test]
fn s0_36_each_alert_says_how_bad_it_is_what_is_wrong_and_what_to_read() {
    for alert in alerts() {
        let name = &alert.name;
        assert!(
            ["page", "ticket"].contains(&alert.severity.as_str()),
            "{name}"
        );
        for annotation in ["summary", "description"] {
            let text = alert.annotations[annotation].as_str();
            assert!(text.is_some_and(|text| text.len() > 10), "{name}");
        }
        let url = alert.annotations["runbook_url"].as_str();
        let page = url.and_then(|url| url.strip_prefix(RUNBOOKS_URL));
        let page = page.unwrap_or_else(|| panic!("{name} has no runbook"));
        assert!(
            project("docs/runbooks").join(page).is_file(),
            "{name}: there is no docs/runbooks/{page}"
        );
        let anchor = format!("`{name}`");
        let text = read(&format!("docs/runbooks/{page}"));
        assert!(text.contains(&anchor), "{page} does not name {name}");
    }
}

#[test]
fn every_metric_of_the_rules_exists() {
    for alert in alerts() {
        assert_metrics_exist(&alert.expression, &alert.name);
    }
}

#[test]
fn the_manifest_has_the_same_rules() {
    let rules = parsed("k8s/monitoring/rules.yaml");
    let manifest = json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "steading",
            "labels": { "app.kubernetes.io/name": "steading" },
        },
        "spec": rules,
    });
    let path = "k8s/monitoring/prometheusrule.yaml";
    if std::env::var_os("STEADING_WRITE_DOCS").is_some() {
        let yaml = serde_yaml_ng::to_string(&manifest).expect("it can be written");
        let text = format!("# Generated from rules.yaml by `make docs`; do not edit.\n{yaml}");
        fs::write(project(path), text).expect("it can be written");
    }
    let written: Value = parsed(path);
    assert!(
        written == manifest,
        "{path} is out of date: run `make docs`"
    );
}
