//! Each check before a cluster that is well but for one thing.

mod calls;
mod placement;
mod store;

use std::time::Duration;

use serde_json::json;
use steading::coordination::MemberHealth;

use super::all;
use crate::doctor::facts::{Facts, NodeFacts, StoreFacts, Told};
use crate::doctor::finding::{Finding, Level};
use crate::doctor::samples::{Samples, Window};
use crate::http::{Cluster, NodeInfo, PlanInfo, Ready, ShardExplanation};

/// What a node that is well, and leads, says in its metrics.
const WELL: &str = "\
steading_leading 1
steading_setting_seconds{setting=\"drain_timeout\"} 25.0
steading_setting_seconds{setting=\"lease_ttl\"} 5.0
steading_process_resident_memory_bytes 10
steading_process_memory_max_bytes 100
steading_cluster_oldest_move_seconds 0
steading_cluster_oldest_unowned_seconds 0
steading_cluster_load_variation 0.1
steading_cluster_load_per_node{of=\"max\"} 0.2
steading_fence_margin_seconds 3.6
steading_fence_seconds 4.5
steading_watch_lag_seconds 0.01
";

fn info(id: &str) -> NodeInfo {
    let value = json!({
        "id": id, "incarnation": 7, "state": "active", "registered_state": "active", "cordoned": false, "zone": null,
        "weight": 1.0, "labels": {}, "version": "1.0.0", "object_types": ["Counter"],
        "addresses": { "grpc": "h:1", "http": format!("{id}:7480") },
        "shards_owned": 32, "shards_targeted": 32, "objects": 5, "load": null,
    });
    serde_json::from_value(value).expect("a node")
}

fn cluster() -> Cluster {
    let value = json!({
        "cluster_id": "c1", "shard_count": 64, "leader": "a", "term": 3, "paused": false,
        "revision": 100, "nodes": [info("a"), info("b")],
        "shards": { "total": 64, "owned": 64, "unowned": 0, "moving": 0, "at_risk": 0 },
    });
    serde_json::from_value(value).expect("a cluster")
}

fn ready(node: &str, unmet: &[&str]) -> Ready {
    let names = [
        "store_connected",
        "lease_alive",
        "not_fenced",
        "view_caught_up",
        "reached",
        "planned",
        "shards_claimed",
        "accepting",
        "storage_works",
        "not_draining",
    ];
    let conditions: Vec<_> = names
        .iter()
        .map(|name| json!({ "name": name, "met": !unmet.contains(name), "since": "2026-01-01T00:00:00Z" }))
        .collect();
    let value = json!({
        "ready": unmet.is_empty(), "node": node, "conditions": conditions, "claimed": 32,
        "targeted": 32, "waiting_for": null,
    });
    serde_json::from_value(value).expect("a readiness")
}

fn told(node: &str) -> Told {
    let text = if node == "a" {
        WELL.to_owned()
    } else {
        WELL.replace("steading_leading 1", "steading_leading 0")
    };
    Told {
        ready: ready(node, &[]),
        metrics: Window {
            before: Samples::parse(&text),
            after: Samples::parse(&text),
        },
        clock_ahead: Some(0.2),
    }
}

/// A cluster of two nodes and one member of etcd, all well.
fn well() -> Facts {
    let node = |name: &str| NodeFacts {
        name: name.into(),
        address: format!("http://{name}:7480"),
        info: Some(info(name)),
        told: Ok(told(name)),
    };
    let health = MemberHealth {
        version: "3.5.30".into(),
        cluster_id: 1,
        has_leader: true,
        database_bytes: 1 << 20,
        alarms: Vec::new(),
        took: Duration::from_millis(2),
    };
    Facts {
        cluster: Some(cluster()),
        nodes: vec![node("a"), node("b")],
        store: Some(StoreFacts {
            members: vec![("http://e1:2379".into(), Ok(health))],
            cluster: Ok(cluster()),
            irregular: Vec::new(),
        }),
        measured: Duration::from_secs(3),
        grace: Some(Duration::from_secs(40)),
        now: 1_800_000_000.0,
        ..Facts::default()
    }
}

/// Adds to what node b says in its second scrape.
fn says(facts: &mut Facts, more: &str) {
    let told = facts.nodes[1].told.as_mut().expect("it answers");
    let text = WELL.replace("steading_leading 1", "steading_leading 0");
    // What comes first is of this test: a series of the same name stands for what it adds.
    let kept = text.lines().filter(|line| {
        let name = line.split(' ').next().unwrap_or_default();
        !more
            .lines()
            .any(|other| other.split(' ').next() == Some(name))
    });
    let kept = kept.collect::<Vec<_>>().join("\n");
    told.metrics.after = Samples::parse(&format!("{more}\n{kept}\n"));
}

/// Adds to what the leader says.
fn leader_says(facts: &mut Facts, more: &str) {
    facts.nodes.swap(0, 1);
    says(facts, more);
    let told = facts.nodes[1].told.as_mut().expect("it answers");
    let leads = Samples::parse("steading_leading 1\n");
    assert_eq!(leads.sum("steading_leading", &[]), Some(1.0));
    let text = format!("{more}\nsteading_leading 1\n");
    told.metrics.after = Samples::parse(&text);
}

fn explanation(shard: u32, pinned: bool) -> ShardExplanation {
    let value = json!({
        "shard": {
            "shard": shard, "target": "gone", "owner": null, "incarnation": null, "token": 5,
            "state": "unowned", "healthy": false, "objects": null, "calls_per_second": null, "cpu": null, "since": null,
        },
        "pinned": pinned, "because": null, "next": "gone claims it", "waits_for": ["gone to start"],
        "under_way_seconds": null,
    });
    serde_json::from_value(value).expect("an explanation")
}

fn plan(id: u64, outcome: &str) -> PlanInfo {
    let value = json!({
        "id": id, "reason": "join", "trigger": "c joined", "outcome": outcome, "superseded_by": null,
        "percent": 100, "ends_at": null, "leader": "a", "created_at": "x", "updated_at": "x",
        "ended_at": "x", "waves": 1, "least_moves": 1,
        "counts": { "pending": 0, "ordered": 0, "done": 0, "failed": 1, "cancelled": 0 },
        "events": [{ "at": "x", "kind": "stuck", "text": "b did not claim shard 3" }],
        "as_planned": null,
    });
    serde_json::from_value(value).expect("a plan")
}

/// What is not well, as `LEVEL check`.
fn found(facts: &Facts) -> Vec<String> {
    let findings = all(facts);
    for finding in findings.iter().filter(|of| of.level > Level::Ok) {
        assert!(finding.runbook.is_some(), "{finding:?}");
    }
    let unwell = findings.iter().filter(|of| of.level > Level::Ok);
    unwell
        .map(|of| format!("{} {}", of.level.as_str(), of.check))
        .collect()
}

fn the(facts: &Facts, check: &str) -> Finding {
    let mut findings = all(facts).into_iter();
    findings
        .find(|of| of.check == check)
        .expect("each check finds something")
}

#[test]
fn every_check_finds_a_well_cluster_well() {
    let findings = all(&well());
    assert_eq!(found(&well()), [""; 0]);
    let names: std::collections::BTreeSet<_> = findings.iter().map(|of| of.check).collect();
    assert_eq!(
        names.len(),
        super::ALL.len(),
        "each under a name of its own"
    );
}

#[test]
fn what_is_worst_comes_first() {
    let mut facts = well();
    let cluster = facts.cluster.as_mut().expect("known");
    cluster.nodes[1].cordoned = true;
    cluster.leader = None;
    assert_eq!(found(&facts), ["BAD leader", "warn orders"]);
}

#[test]
fn s0_36_a_silent_node_is_named_with_what_is_known_of_it() {
    let mut facts = well();
    facts.nodes[1].told = Err("timed out".into());
    let finding = the(&facts, "nodes_answer");
    assert_eq!(finding.level, Level::Bad);
    assert!(finding.what.contains("b does not answer"), "{finding:?}");
    assert!(finding.why.expect("a reason").contains("It is registered"));
    facts.nodes[1].info = None;
    let why = the(&facts, "nodes_answer").why.expect("a reason");
    assert!(why.contains("does not know it"), "{why}");
}

#[test]
fn a_node_that_the_cluster_does_not_know_is_named() {
    let mut facts = well();
    facts.nodes[1].info = None;
    assert_eq!(found(&facts), ["BAD nodes_answer"]);
}

#[test]
fn nothing_known_at_all_is_bad() {
    let found = found(&Facts::default());
    assert_eq!(
        found,
        ["BAD nodes_answer", "BAD leader", "BAD unowned_shards"]
    );
}

#[test]
fn where_no_node_answers_nothing_of_nodes_is_called_well() {
    let mut facts = well();
    for node in &mut facts.nodes {
        node.told = Err("connection refused".into());
    }
    facts.cluster = None;
    let findings = all(&facts);
    let well = findings.iter().filter(|of| of.level == Level::Ok);
    let claims = well.filter(|of| !of.what.starts_with("not examined"));
    let claims: Vec<_> = claims.map(|of| of.check).collect();
    assert_eq!(claims, ["etcd", "store_agrees", "store_keys"]);
}

#[test]
fn no_calls_are_none_and_not_minus_none() {
    let calls = the(&Facts::default(), "failed_calls").what;
    assert!(!calls.contains('-'), "{calls}");
    assert!(Facts::default().growth("any", &[]).is_sign_positive());
}

#[test]
fn an_unready_node_is_named_with_the_condition_and_the_page_for_it() {
    for (condition, page) in [
        ("not_fenced", "etcd-down"),
        ("view_caught_up", "watch-lag"),
        ("reached", "node-not-ready"),
        ("planned", "leader-absent"),
        ("shards_claimed", "stuck-move"),
        ("storage_works", "storage"),
    ] {
        let mut facts = well();
        facts.nodes[1].told.as_mut().expect("it answers").ready = ready("b", &[condition]);
        let finding = the(&facts, "nodes_ready");
        assert_eq!(finding.level, Level::Bad);
        assert!(finding.what.contains(condition), "{finding:?}");
        assert!(
            finding
                .runbook
                .expect("a page")
                .ends_with(&format!("{page}.md"))
        );
    }
    let mut facts = well();
    facts.nodes[1].told.as_mut().expect("it answers").ready = ready("b", &["not_draining"]);
    assert_eq!(
        the(&facts, "nodes_ready").level,
        Level::Warn,
        "draining is no fault"
    );
}

#[test]
fn a_directive_that_withholds_shards_is_named() {
    let mut facts = well();
    let told = facts.nodes[1].told.as_mut().expect("it answers");
    told.ready.conditions[4].waiting_for = Some("`steading resume`".into());
    let finding = the(&facts, "nodes_ready");
    assert_eq!(finding.level, Level::Warn, "it is ready");
    assert!(
        finding
            .why
            .as_deref()
            .is_some_and(|why| why.contains("steading resume"))
    );
}

#[test]
fn versions_and_types_that_differ_are_told() {
    let mut facts = well();
    facts.nodes[1].info.as_mut().expect("known").version = "2.0.0".into();
    assert!(the(&facts, "versions").what.contains("1.0.0: a; 2.0.0: b"));
    let mut facts = well();
    facts.nodes[1]
        .info
        .as_mut()
        .expect("known")
        .object_types
        .clear();
    assert_eq!(found(&facts), ["warn versions"]);
}

#[test]
fn settings_that_differ_are_told() {
    let mut facts = well();
    says(
        &mut facts,
        "steading_setting_seconds{setting=\"lease_ttl\"} 9.0",
    );
    let finding = the(&facts, "settings_agree");
    assert_eq!(finding.what, "lease_ttl differs (5 s: a; 9 s: b)");
}

#[test]
fn a_grace_that_is_shorter_than_a_drain_is_bad() {
    let mut facts = well();
    facts.grace = Some(Duration::from_secs(30));
    assert_eq!(found(&facts), ["BAD grace"]);
    facts.grace = None;
    assert_eq!(found(&facts), [""; 0]);
}

#[test]
fn clocks_apart_are_told() {
    let mut facts = well();
    facts.nodes[1]
        .told
        .as_mut()
        .expect("it answers")
        .clock_ahead = Some(7.0);
    assert!(
        the(&facts, "clocks")
            .what
            .contains("the clock of b is 7 s ahead of that of a")
    );
}

#[test]
fn a_full_memory_budget_is_bad() {
    let mut facts = well();
    let with = |used| {
        format!("steading_memory_budget_used_bytes {used}\nsteading_memory_budget_limit_bytes 100")
    };
    says(&mut facts, &with(60));
    assert!(found(&facts).is_empty());
    says(&mut facts, &with(74));
    assert_eq!(found(&facts), ["BAD memory_budget"]);
}

#[test]
fn full_memory_is_told() {
    let mut facts = well();
    says(&mut facts, "steading_process_resident_memory_bytes 95");
    assert_eq!(found(&facts), ["warn memory"]);
}

#[test]
fn certificates_are_told_before_they_run_out() {
    for (left, level) in [
        (30.0, Level::Ok),
        (10.0, Level::Warn),
        (1.0, Level::Bad),
        (-1.0, Level::Bad),
    ] {
        let mut facts = well();
        let ends = facts.now + left * 86_400.0;
        says(
            &mut facts,
            &format!("steading_certificate_expiry_timestamp_seconds {ends}"),
        );
        assert_eq!(the(&facts, "certificates").level, level, "{left} days");
    }
}

#[test]
fn pairs_that_do_not_reach_each_other_are_named() {
    let mut facts = well();
    let nodes = &mut facts.cluster.as_mut().expect("known").nodes;
    let (id, from) = (nodes[1].id.clone(), nodes[0].id.clone());
    nodes[1].unreachable_from = vec![from.clone()];
    let finding = the(&facts, "peers");
    assert_eq!(finding.level, Level::Bad);
    assert_eq!(finding.what, format!("{id} is unreachable from {from}"));
}

#[test]
fn s0_15_a_node_that_another_one_does_not_reach_is_named() {
    let mut facts = well();
    let health = json!({
        "healthy": false, "latency_seconds": null, "connections": 0, "consecutive_failures": 4,
        "error_rate": 1.0, "last_error": "refused", "last_error_age_seconds": 2.0,
    });
    let health = serde_json::from_value(health).expect("a health");
    facts.cluster.as_mut().expect("known").nodes[1].health = Some(health);
    let finding = the(&facts, "peers");
    assert_eq!(finding.level, Level::Bad);
    assert!(finding.why.expect("a reason").contains("refused"));
}
