//! The runbooks: of one form, all to be found, and nothing in them that does not exist.

use std::collections::BTreeSet;
use std::fs;

use super::{alerts, assert_metrics_exist, project, read};

/// What each page tells, in this order.
const SECTIONS: [&str; 6] = [
    "## What users notice",
    "## How to confirm",
    "## Likely causes",
    "## What to do",
    "## How to know that it is over",
    "## What not to do",
];

/// Returns the names of all pages but for their list.
fn pages() -> BTreeSet<String> {
    let files = fs::read_dir(project("docs/runbooks")).expect("there are some");
    let names = files.map(|file| file.expect("readable").file_name());
    let names = names.map(|name| name.into_string().expect("ASCII"));
    names.filter(|name| name != "README.md").collect()
}

#[test]
fn s0_36_each_runbook_has_the_same_sections_in_the_same_order() {
    for page in pages() {
        let text = read(&format!("docs/runbooks/{page}"));
        let sections: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("## "))
            .collect();
        assert_eq!(sections, SECTIONS, "{page}");
    }
}

#[test]
fn every_metric_and_alert_that_a_runbook_names_exists() {
    let alerts: BTreeSet<String> = alerts().into_iter().map(|alert| alert.name).collect();
    for page in pages() {
        let text = read(&format!("docs/runbooks/{page}"));
        assert_metrics_exist(&text, &page);
        let line = text.lines().find_map(|line| line.strip_prefix("Alerts: "));
        let named = line.unwrap_or_else(|| panic!("{page} says no alerts"));
        for name in named.split('`').skip(1).step_by(2) {
            assert!(alerts.contains(name), "{page} names {name}");
        }
    }
}

#[test]
fn the_list_of_runbooks_has_each_page_and_each_alert() {
    let list = read("docs/runbooks/README.md");
    for page in pages() {
        assert!(list.contains(&format!("({page})")), "{page}");
    }
    for alert in alerts() {
        assert!(
            list.contains(&format!("`{}`", alert.name)),
            "{}",
            alert.name
        );
    }
}
