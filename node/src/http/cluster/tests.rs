//! What HTTP shows of a small view.

use steading::ids::{Incarnation, Revision, ShardCount, ShardId};
use steading::node::{LastFailure, NodeLoad};
use steading::object::ShardLoad;
use steading::placement::{ClusterMeta, Leader, News, Owner, OwnerRecord, Target};

use super::*;

fn record(incarnation: u64) -> NodeRecord {
    NodeRecord {
        grpc: "127.0.0.1:1".into(),
        version: "0.1.0".into(),
        object_types: vec!["Counter".into()],
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
    let cluster = Cluster::of(&view(), &BTreeMap::from([(id("a"), report())]));
    let totals = ShardTotals {
        total: 4,
        owned: 2,
        unowned: 2,
        moving: 1,
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
        incarnation: None,
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
    let cluster = Cluster::of(&view, &BTreeMap::from([(id("a"), report())]));
    let load = cluster.nodes[0].load.as_ref().expect("it reported");
    assert_eq!((load.cpu, load.calls_per_second), (0.25, 10.0));
    assert_eq!(cluster.nodes[1].load, None, "it did not answer");
    let shard = ShardId::new(1, view.meta.shard_count).expect("in range");
    let info = ShardInfo::of(&view, shard).with_report(shard, &report());
    assert_eq!(
        (info.objects, info.calls_per_second, info.cpu),
        (Some(3), Some(2.5), Some(0.25))
    );
}

#[test]
fn s0_15_nodes_and_shards_show_how_they_answer() {
    let silent = NodeHealth {
        healthy: false,
        latency: Some(Duration::from_millis(2)),
        connections: 1,
        consecutive_failures: 3,
        error_rate: 0.5,
        last_failure: Some(LastFailure {
            reason: "no answer".into(),
            age: Duration::from_secs(4),
        }),
    };
    let healths = BTreeMap::from([(id("a"), silent)]);
    let cluster = Cluster::of(&view(), &BTreeMap::new()).with_health(&healths);
    let shown = NodeHealthInfo {
        healthy: false,
        latency_seconds: Some(0.002),
        connections: 1,
        consecutive_failures: 3,
        error_rate: 0.5,
        last_error: Some("no answer".into()),
        last_error_age_seconds: Some(4.0),
    };
    let health: Vec<_> = cluster.nodes.into_iter().map(|node| node.health).collect();
    assert_eq!(health, [Some(shown), None]);
    let healthy = |shard| {
        let info = ShardInfo::of(&view(), shard);
        info.with_health(&view(), shard, &healths).healthy
    };
    let count = view().meta.shard_count;
    assert!(!count.shards().any(healthy), "owned by a, or by nobody");
}

#[test]
fn s0_18_a_shard_of_a_dead_life_is_unowned_and_keeps_its_token() {
    let view = view();
    let shard = ShardId::new(2, view.meta.shard_count).expect("in range");
    let info = ShardInfo::of(&view, shard);
    assert_eq!((info.owner, info.token), (None, Some(5)));
    assert_eq!(info.state, ShardState::Unowned);
}
