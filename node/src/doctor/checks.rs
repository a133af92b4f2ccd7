//! The checks: each a function of what was gathered, which never asks anybody.

mod calls;
mod nodes;
mod placement;
mod store;
#[cfg(test)]
mod tests;

use super::facts::Facts;
use super::finding::{Finding, Level};

/// One check. It finds at least one thing: that all is well, if nothing else.
type Check = fn(&Facts) -> Vec<Finding>;

/// All of them, in the order in which they are shown: what explains the most comes first.
const ALL: &[Check] = &[
    store::members,
    store::cluster_in_store,
    store::irregular_keys,
    nodes::answers,
    nodes::peers,
    nodes::readiness,
    placement::leader,
    placement::unowned,
    placement::served,
    placement::quarantine,
    placement::pins,
    placement::moves,
    placement::plans,
    placement::evenness,
    placement::orders,
    calls::errors,
    calls::latency,
    calls::turns,
    calls::parking,
    store::fences,
    store::views,
    store::tokens,
    nodes::versions,
    nodes::settings,
    nodes::grace,
    nodes::clocks,
    nodes::memory,
    nodes::memory_budget,
    nodes::certificates,
];

/// Those that need no node.
const OF_ETCD: [&str; 3] = ["etcd", "store_agrees", "store_keys"];

/// Runs all checks; what is worst comes first, and otherwise in their order.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = ALL.iter().flat_map(|check| check(facts)).collect();
    if facts.told().next().is_none() {
        let of_nodes = |finding: &&mut Finding| !OF_ETCD.contains(&finding.check);
        let well = |finding: &&mut Finding| finding.level == Level::Ok;
        for finding in findings.iter_mut().filter(of_nodes).filter(well) {
            "not examined; no node answers".clone_into(&mut finding.what);
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

/// Returns what was found, or that all is well.
fn or_ok(found: Vec<Finding>, check: &'static str, what: impl Into<String>) -> Vec<Finding> {
    if found.is_empty() {
        vec![Finding::ok(check, what)]
    } else {
        found
    }
}

/// Writes a part of a whole.
fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}
