//! How long a plan takes for 8192 shards on 100 nodes; the aim is under a millisecond.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use steading::clock::Moment;
use steading::ids::{Incarnation, LeaseId, NodeId, Revision, ShardCount};
use steading::placement::planner::{Loads, Plan, PlanSettings, Planning, plan};
use steading::placement::{
    ClusterMeta, ClusterView, NodeRecord, NodeState, Owner, OwnerRecord, Weight,
};

fn planner(criterion: &mut Criterion) {
    let empty = cluster(100);
    let mut settled = empty.clone();
    carry_out(&mut settled);
    let mut one_lost = settled.clone();
    one_lost.nodes.remove(&id(50));
    let mut one_more = settled.clone();
    one_more.nodes.insert(id(100), record());

    let mut group = criterion.benchmark_group("plan 8192 shards on 100 nodes");
    for (name, view) in [
        ("nothing to do", &settled),
        ("first placement", &empty),
        ("one node lost", &one_lost),
        ("one node more", &one_more),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| planned(black_box(view))));
    }
    group.finish();
}

fn planned(view: &ClusterView) -> Plan {
    plan(Planning {
        view,
        changed: &BTreeMap::new(),
        loads: &Loads::default(),
        in_flight: &[],
        settings: &PlanSettings::default(),
        now: Moment::START,
    })
}

/// Plans, and lets every target own its shards.
fn carry_out(view: &mut ClusterView) {
    for (shard, target) in planned(view).targets {
        let owner = target.node.clone().map(|node| Owner {
            node,
            incarnation: Incarnation::new(1),
        });
        view.targets.set(shard, target);
        view.owners.set(
            shard,
            OwnerRecord {
                revision: Revision::new(2),
                owner,
                parcel: None,
            },
        );
    }
}

fn cluster(nodes: usize) -> ClusterView {
    let mut view = ClusterView::empty(ClusterMeta {
        cluster_id: "bench".into(),
        shard_count: ShardCount::DEFAULT,
        restore_generation: 0,
        regions: steading::ids::Regions::default(),
    });
    view.nodes = (0..nodes).map(|number| (id(number), record())).collect();
    view
}

fn id(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).expect("a good name")
}

fn record() -> NodeRecord {
    NodeRecord {
        incarnation: Incarnation::new(1),
        lease: LeaseId::new(1),
        grpc: String::new(),
        http: None,
        zone: None,
        weight: Weight::ONE,
        labels: BTreeMap::new(),
        version: String::new(),
        object_types: Vec::new(),
        state: NodeState::Active,
        boot_id: String::new(),
    }
}

criterion_group!(benches, planner);
criterion_main!(benches);
