//! How long a plan takes: for 8192 shards on 100 nodes, by count only, where the aim is under a
//! millisecond, and with zones, loads and swaps, where it is under ten; for the largest cluster
//! there can be, 65 536 shards, on 5000 nodes; and for 524 288 shards, which only the planner can
//! have, on 5000 nodes, where 375 000 shards are to take under five seconds.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use steading::clock::Moment;
use steading::ids::{Incarnation, NodeId, ShardCount, ShardId};
use steading::placement::planner::{
    LoadReport, NodeUse, PlanSettings, Rehearsal, ShardRates, Strength, ZoneRule,
};
use steading::placement::{ClusterMeta, ClusterView, NodeRecord};

/// When the last reports came.
const NOW: Moment = Moment::from_nanos(40_000_000_000);

fn planner(criterion: &mut Criterion) {
    let empty = cluster(ShardCount::DEFAULT, 100);
    let mut settled = empty.clone();
    settled.carry_out(&empty.plan(NOW));
    let mut one_lost = settled.clone();
    one_lost.view.nodes.remove(&id(50));
    let mut one_more = settled.clone();
    one_more.view.nodes.insert(id(100), record(100));
    let mut group = criterion.benchmark_group("plan 8192 shards on 100 nodes");
    for (name, world) in [
        ("nothing to do", &settled),
        ("first placement", &empty),
        ("one node lost", &one_lost),
        ("one node more", &one_more),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(world).plan(NOW)));
    }
    group.finish();
    in_full(
        criterion,
        "8192 shards on 100 nodes",
        ShardCount::DEFAULT,
        100,
    );
    let most = ShardCount::new(1 << 16).expect("a power of two");
    in_full(criterion, "65536 shards on 5000 nodes", most, 5000);
    let beyond = ShardCount::beyond_max(19);
    in_full(criterion, "524288 shards on 5000 nodes", beyond, 5000);
}

/// Measures plans with rules for zones and with loads.
fn in_full(criterion: &mut Criterion, size: &str, shards: ShardCount, nodes: usize) {
    let mut empty = cluster(shards, nodes);
    add_rules(&mut empty);
    let mut settled = empty.clone();
    settled.carry_out(&empty.plan(NOW));
    let mut loaded = settled.clone();
    report(&mut loaded);
    let swaps = loaded.plan(NOW).moves.len() + loaded.plan(NOW).pending.len();
    assert!(swaps > nodes / 10, "only {swaps} moves");
    let mut one_more = loaded.clone();
    one_more.view.nodes.insert(id(nodes), record(nodes));
    let mut group = criterion.benchmark_group(format!("plan zones and loads of {size}"));
    group.sample_size(10);
    for (name, world) in [
        ("first placement", &empty),
        ("nothing to do", &settled),
        ("one node more", &one_more),
        ("loads with swaps", &loaded),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(world).plan(NOW)));
    }
    group.finish();
}

/// Binds an eighth of the shards to one zone, and lets another eighth wish for another.
fn add_rules(world: &mut Rehearsal) {
    let shards: Vec<_> = world.view.meta.shard_count.shards().collect();
    let eighth = shards.len() / 8;
    let rule = |part: usize, zone: &str, strength| ZoneRule {
        first: shards[part * eighth],
        last: shards[(part + 1) * eighth - 1],
        zone: zone.into(),
        strength,
    };
    let (hard, soft) = (Strength::Hard, Strength::Soft);
    world.settings.zone_rules = vec![rule(0, "zone-0", hard), rule(1, "zone-1", soft)];
}

/// Lets every node report loads that differ greatly, for long enough.
fn report(world: &mut Rehearsal) {
    let rates = |shard: ShardId| ShardRates {
        calls_per_s: 10_000_000 / (1 + u64::from(shard.get()) * 7919 % 8192),
        ..ShardRates::default()
    };
    let mut reports: BTreeMap<NodeId, LoadReport> = BTreeMap::new();
    for (shard, target) in world.view.targets.iter() {
        let node = target.node.clone().expect("everything is placed");
        let report = reports.entry(node.clone()).or_insert_with(|| LoadReport {
            node,
            load: NodeUse {
                cpu_permille: 700,
                memory_permille: 0,
            },
            shards: Vec::new(),
        });
        report.shards.push((shard, rates(shard)));
    }
    for window in 0..4 {
        let now = Moment::START.plus(Duration::from_secs(10 * (window + 1)));
        world.report(reports.values(), now);
    }
}

fn cluster(shard_count: ShardCount, nodes: usize) -> Rehearsal {
    let mut view = ClusterView::empty(ClusterMeta::new("bench", shard_count));
    let numbers = 0..nodes;
    view.nodes = numbers.map(|number| (id(number), record(number))).collect();
    Rehearsal::new(view, PlanSettings::default())
}

fn id(number: usize) -> NodeId {
    NodeId::new(&format!("node-{number}")).expect("a good name")
}

/// Nodes stand in four zones.
fn record(number: usize) -> NodeRecord {
    NodeRecord {
        zone: Some(format!("zone-{}", number % 4)),
        ..NodeRecord::of(Incarnation::new(1))
    }
}

criterion_group!(benches, planner);
criterion_main!(benches);
