//! What HTTP shows of a small view.

use steading::ids::{Incarnation, Revision, ShardCount, ShardId};
use steading::node::{Contact, LastFailure, NodeHealth, NodeLoad, NodeReport, QueryError};
use steading::object::ShardLoad;
use steading::placement::{ClusterMeta, Leader, News, Owner, OwnerRecord, Target};
use tokio::time::Instant;

use super::*;

fn record(incarnation: u64) -> NodeRecord {
    NodeRecord {
        grpc: "127.0.0.1:1".into(),
        version: "0.1.0".into(),
        object_types: vec!["Counter".into()],
        lease_ttl: Duration::from_secs(5),
        ..NodeRecord::of(Incarnation::new(incarnation))
    }
}

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a good name")
}

/// Four shards: 0 owned by its target, 1 moving from a to b, 2 of a dead life, 3 quarantined.
fn view() -> ClusterView {
    let count = ShardCount::new(4).expect("a power of two");
    let mut view = ClusterView::empty(ClusterMeta::new("c", count));
    view.apply(News::Node(id("a"), Some(record(1))));
    view.apply(News::Node(id("b"), Some(record(2))));
    let term = steading::ids::Term::new(9);
    view.apply(News::Leader(Some(Leader {
        node: id("b"),
        term,
    })));
    let owners = [("a", 1), ("a", 1), ("a", 0)];
    for (shard, (node, incarnation)) in count.shards().zip(owners) {
        let owner = Owner {
            node: id(node),
            incarnation: Incarnation::new(incarnation),
        };
        let revision = Revision::new(5);
        view.apply(News::Owner(
            shard,
            OwnerRecord {
                revision,
                owner: Some(owner),
                parcel: None,
            },
        ));
    }
    for (block, (node, quarantined)) in
        (0..).zip([("a", false), ("b", false), ("a", false), ("a", true)])
    {
        let target = Target {
            node: Some(id(node)),
            quarantined,
            ..Target::default()
        };
        view.apply(News::Targets {
            block,
            targets: vec![target],
        });
    }
    view
}

#[test]
fn s0_17_the_cluster_counts_owned_unowned_and_moving_shards() {
    let cluster = Cluster::of(&view(), &heard(&["a"], BTreeMap::new()));
    let totals = ShardTotals {
        total: 4,
        owned: 2,
        unowned: 2,
        moving: 1,
        at_risk: 0,
    };
    assert_eq!(cluster.shards, totals);
    assert_eq!(
        (cluster.leader.as_deref(), cluster.term),
        (Some("b"), Some(9))
    );
    let shards = |node: &NodeInfo| (node.shards_owned, node.shards_targeted, node.objects);
    let nodes: Vec<_> = cluster.nodes.iter().map(shards).collect();
    assert_eq!(nodes, [(2, 3, Some(7)), (0, 1, None)]);
}

/// Of node a: five seconds of one of two CPUs in ten seconds, and 7 objects, 3 in shard 1.
fn report() -> NodeReport {
    let shard = ShardId::new(1, view().meta.shard_count).expect("in range");
    let load = ShardLoad {
        turns: 25,
        cpu: Duration::from_millis(2500),
        ..ShardLoad::default()
    };
    NodeReport {
        node: id("a"),
        incarnation: Some(Incarnation::new(1)),
        objects: 7,
        by_shard: BTreeMap::from([(shard, 3)]),
        load: NodeLoad {
            number: 1,
            window: Duration::from_secs(10),
            cpu: Duration::from_secs(5),
            cpus: 2,
            turns: 100,
            ..NodeLoad::default()
        },
        shards: BTreeMap::from([(shard, load)]),
        arrivals: BTreeMap::new(),
        sent: BTreeMap::new(),
        fence_left: Some(Duration::from_secs(3)),
    }
}

#[test]
fn s2_44_nodes_and_shards_show_their_load() {
    let view = view();
    let heard = heard(&["a"], BTreeMap::new());
    let cluster = Cluster::of(&view, &heard);
    let load = cluster.nodes[0].load.as_ref().expect("it reported");
    assert_eq!((load.cpu, load.calls_per_second), (0.25, 10.0));
    assert_eq!(cluster.nodes[1].load, None, "it did not answer");
    let shard = ShardId::new(1, view.meta.shard_count).expect("in range");
    let info = ShardInfo::of(&view, shard).with(&view, shard, &heard);
    assert_eq!(
        (info.objects, info.calls_per_second, info.cpu),
        (Some(3), Some(2.5), Some(0.25))
    );
}

/// Asks both nodes, of which these answer; the question took three seconds.
fn heard(answering: &[&str], healths: BTreeMap<NodeId, NodeHealth>) -> Heard {
    let answers = ["a", "b"].map(|node| {
        let error = QueryError::NoSuchNode(id(node));
        let answer = answering.contains(&node).then(report).ok_or(error);
        (id(node), answer)
    });
    let asked = Instant::now();
    let now = asked + Duration::from_secs(3);
    Heard::of(
        &view(),
        BTreeMap::from(answers),
        healths,
        true,
        (asked, now),
    )
}

/// What probes found of a node that answered once, 7 objects ago, and then left two unanswered.
fn health() -> NodeHealth {
    NodeHealth {
        healthy: true,
        latency: Some(Duration::from_millis(2)),
        connections: 1,
        consecutive_failures: 2,
        error_rate: 0.5,
        last_failure: Some(LastFailure {
            reason: "no answer".into(),
            age: Duration::from_secs(4),
        }),
        contact: Contact::default(),
        objects_last_seen: Some(7),
    }
}

/// S0-15.
#[test]
fn a_silent_node_shows_what_is_at_risk() {
    let healths = BTreeMap::from([(id("a"), health())]);
    let cluster = Cluster::of(&view(), &heard(&["b"], healths.clone()));
    let a = &cluster.nodes[0];
    assert_eq!(
        (a.state.as_str(), a.registered_state.as_str()),
        ("silent", "active")
    );
    assert_eq!((a.objects, &a.load), (None, &None), "no figure is repeated");
    let risk = a.at_risk.as_ref().expect("it owns shards");
    assert_eq!((risk.shards, risk.objects_last_seen), (2, Some(7)));
    assert_eq!(risk.takeover_seconds, Some(3.0), "5 s and one, less 3");
    assert_eq!(cluster.shards.at_risk, 2);
    let shown = a.health.as_ref().expect("it was probed");
    assert_eq!((shown.healthy, shown.latency_seconds), (false, None));
    let b = &cluster.nodes[1];
    assert_eq!(
        b.state, "silent",
        "another incarnation answered at its address"
    );
    let count = view().meta.shard_count;
    let heard = heard(&["b"], healths);
    for shard in count.shards() {
        let info = ShardInfo::of(&view(), shard).with(&view(), shard, &heard);
        assert!(!info.healthy, "{info:?}");
    }
}

#[test]
fn a_fenced_node_is_not_active() {
    let fenced = NodeReport {
        fence_left: Some(Duration::ZERO),
        ..report()
    };
    let answers = BTreeMap::from([(id("a"), Ok(fenced))]);
    let now = Instant::now();
    let heard = Heard::of(&view(), answers, BTreeMap::new(), true, (now, now));
    let cluster = Cluster::of(&view(), &heard);
    assert_eq!(
        (cluster.nodes[0].state.as_str(), cluster.shards.at_risk),
        ("fenced", 2)
    );
    assert_eq!(cluster.nodes[0].objects, Some(7), "it answers");
    let shard = ShardId::new(0, view().meta.shard_count).expect("in range");
    let info = ShardInfo::of(&view(), shard).with(&view(), shard, &heard);
    assert_eq!(
        (info.owner_state.as_deref(), info.healthy),
        (Some("fenced"), false)
    );
}

#[test]
fn a_leader_key_that_names_no_live_node_leads_nobody() {
    let mut view = view();
    let cluster = |view: &ClusterView| Cluster::of(view, &Heard::nothing(Instant::now()));
    assert_eq!(cluster(&view).leader.as_deref(), Some("b"));
    view.leader = view.leader.map(|leader| Leader {
        node: id("ghost"),
        ..leader
    });
    assert_eq!((cluster(&view).leader, cluster(&view).term), (None, None));
}

#[test]
fn s0_18_a_shard_of_a_dead_life_is_unowned_and_keeps_its_token() {
    let view = view();
    let shard = ShardId::new(2, view.meta.shard_count).expect("in range");
    let info = ShardInfo::of(&view, shard);
    assert_eq!((info.owner, info.token), (None, Some(5)));
    assert_eq!(info.state, ShardState::Unowned);
}
