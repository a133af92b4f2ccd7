//! Every finding: when it is told, and in which words.

use super::*;
use crate::testing::{id, owned_by, shard, view, with};
use steading::ids::{PlanId, Revision};
use steading::node::NodeStatus;
use steading::placement::planner::Reason;
use steading::placement::{Cause, OwnerRecord};
use steading_http::AtRisk;

fn told(
    view: &ClusterView,
    nodes: &[(NodeId, NodeFigures)],
    cluster: &ClusterFigures,
) -> Vec<Finding> {
    findings(Known {
        view,
        is_followed: true,
        nodes,
        cluster,
        bad_news: &[],
        now: 100_000,
    })
}

fn first(view: &ClusterView) -> (Severity, String) {
    let found = told(view, &[], &ClusterFigures::default());
    let first = found.first().expect("something is wrong");
    assert!(!first.advice.is_empty(), "every finding says what to do");
    (first.severity, first.what.clone())
}

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    assert_eq!(told(&view(1), &[], &ClusterFigures::default()), []);
}

#[test]
fn shards_without_an_owner_come_before_all_else() {
    let view = with(view(1), |view| {
        let shard = shard(view, 9);
        view.owners.set(shard, OwnerRecord::default());
        view.orders.paused = true;
    });
    let (severity, what) = first(&view);
    assert_eq!(severity, Severity::Trouble);
    assert_eq!(what, "1 shard has no owner: calls to their objects wait");
    assert_eq!(told(&view, &[], &ClusterFigures::default()).len(), 2);
}

#[test]
fn a_lost_leader_is_trouble() {
    let view = with(view(1), |view| view.leader = None);
    assert_eq!(first(&view).1, "No node leads: nothing is placed or moved");
}

#[test]
fn an_empty_cluster_says_what_to_start() {
    let view = with(view(1), |view| view.nodes.clear());
    assert_eq!(first(&view).1, "No node is registered");
}

#[test]
fn s2_43_a_move_that_takes_long_is_named() {
    let slow = with(owned_by(view(1), 5, "b", 7), |view| {
        let shard = shard(view, 5);
        let mut target = view.targets.get(shard).clone();
        target.cause = Some(Cause {
            plan: PlanId::new(1),
            reason: Reason::Manual,
            at: std::time::Duration::from_secs(1),
        });
        view.targets.set(shard, target);
        view.revision = Revision::new(7);
    });
    assert_eq!(first(&slow).1, "1 shard has been moving for more than 10 s");
}

/// A node that is silent or fenced and owns so many shards.
fn at_risk(state: NodeStatus, shards: usize) -> NodeFigures {
    let at_risk = AtRisk {
        shards,
        objects_last_seen: Some(12),
        silent_seconds: Some(3.0),
        takeover_seconds: Some(3.0),
        next: "others own its shards in at most 3 s".into(),
    };
    NodeFigures {
        state: state.as_str(),
        at_risk: Some(at_risk),
        error: Some("refused".into()),
        ..NodeFigures::default()
    }
}

fn active() -> NodeFigures {
    NodeFigures {
        state: NodeStatus::Active.as_str(),
        ..NodeFigures::default()
    }
}

#[test]
fn a_silent_node_is_trouble_while_it_owns_shards() {
    let of = |figures: &[NodeFigures]| {
        let ids = ["a", "b", "c"].map(id);
        let nodes: Vec<_> = ids.into_iter().zip(figures.iter().cloned()).collect();
        let found = told(&view(1), &nodes, &ClusterFigures::default());
        let first = found.first().expect("something is wrong").clone();
        (first.severity, first.what, first.advice)
    };
    let silent = |shards| at_risk(NodeStatus::Silent, shards);
    let (severity, what, advice) = of(&[active(), silent(2731)]);
    assert_eq!(severity, Severity::Trouble);
    assert_eq!(
        what,
        "1 node silent: 2731 shards may be unserved, 12 objects last seen"
    );
    assert_eq!(advice, "b (refused): others own its shards in at most 3 s.");
    let (_, what, _) = of(&[silent(7), silent(1)]);
    assert_eq!(
        what,
        "2 nodes silent: 8 shards may be unserved, 24 objects last seen"
    );
    let (severity, what, _) = of(&[active(), silent(0)]);
    assert_eq!(
        (severity, what.as_str()),
        (Severity::Warning, "1 node silent: no shards at risk")
    );
}

#[test]
fn a_fenced_node_is_trouble_whatever_it_registered() {
    let said = |a: NodeFigures, b: NodeFigures| {
        let nodes = [(id("a"), a), (id("b"), b)];
        let found = told(&view(1), &nodes, &ClusterFigures::default());
        found.first().map(|finding| finding.what.clone())
    };
    let fenced = |shards| at_risk(NodeStatus::Fenced, shards);
    assert_eq!(said(active(), active()), None);
    let late = "unserved, etcd has not acknowledged keep-alives in time";
    assert_eq!(
        said(active(), fenced(1)),
        Some(format!("1 node fenced: 1 shard {late}"))
    );
    assert_eq!(
        said(fenced(2), fenced(1)),
        Some(format!("2 nodes fenced: 3 shards {late}"))
    );
}

#[test]
fn nodes_that_went_are_told_together_and_apart_from_those_that_are_back() {
    let gone = |names: &[&str]| {
        let events = names.iter().map(|name| Event {
            at: 1,
            kind: "node",
            bad: true,
            text: format!("{name} is gone: its lease ended"),
            node: Some((*name).into()),
        });
        let bad_news: Vec<_> = events.collect();
        let found = findings(Known {
            view: &view(1),
            is_followed: true,
            nodes: &[],
            cluster: &ClusterFigures::default(),
            bad_news: &bad_news,
            now: 2,
        });
        let what = found.into_iter().map(|finding| finding.what);
        what.collect::<Vec<_>>()
    };
    assert_eq!(gone(&["c"]), ["c is gone: its lease ended"]);
    assert_eq!(gone(&["c", "c", "d"]), ["2 nodes are gone: c, d"]);
    let many = gone(&["c", "d", "e", "f", "g"]);
    assert_eq!(many, ["5 nodes are gone: c, d, e, f, …"]);
    let back = "was gone within the last minute, and is back";
    assert_eq!(gone(&["a"]), [format!("a {back}")]);
    let both = gone(&["a", "b", "c"]);
    assert_eq!(both[0], "c is gone: its lease ended");
    assert!(both[1].starts_with("2 nodes were gone"), "{both:?}");
}

#[test]
fn parked_and_failing_calls_are_warned_of() {
    let cluster = ClusterFigures {
        parked: Some(3),
        failed_calls_per_second: Some(20.0),
        refusals_per_second: Some(2.0),
        imbalance: Some(0.5),
        ..ClusterFigures::default()
    };
    let found = told(&view(1), &[], &cluster);
    let warnings = found
        .iter()
        .filter(|finding| finding.severity == Severity::Warning);
    assert_eq!((warnings.count(), found.len()), (3, 4));
}

#[test]
fn a_lost_store_says_that_what_is_shown_grows_old() {
    let found = findings(Known {
        view: &view(1),
        is_followed: false,
        nodes: &[],
        cluster: &ClusterFigures::default(),
        bad_news: &[],
        now: 0,
    });
    assert!(found[0].what.contains("lost the store"), "{found:?}");
}
