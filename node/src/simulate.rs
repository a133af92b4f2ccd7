//! What would be: the real planner on a cluster that need not exist.
//!
//! A function of values: nodes, keys and what they cost go in, a [`Report`] comes out, the same for
//! the same input. Reads no file, asks no node and knows no clock; `commands::simulate` does.

mod capacity;
mod distribution;
mod keys;
mod lints;
mod load;
mod looks;
mod nodes;
mod numbers;
mod pattern;
mod report;
mod spread;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;

use steading::ids::{InvalidObjectKey, Layout, NodeId};
use steading::placement::NodeRecord;
use steading::placement::planner::{Advice, ShardRates};

use capacity::{Parts, Totals, capacity};
use lints::Facts;
use load::Load;
use numbers::short;
use report::{BalancingFigures, ChangeFigures, HotKey, HotShard, KeyFigures, NodeFigures};
use spread::Evenness;

pub(crate) use distribution::Distribution;
pub(crate) use keys::{Keys, KeysError, made, read};
pub(crate) use lints::Level;
pub(crate) use load::{LoadSpec, OBJECT_BYTES};
pub(crate) use nodes::{NODES_MAX, NodeSpec, alike, records};
pub(crate) use numbers::{as_f64, bytes, rounded, written_bytes};
pub(crate) use pattern::Pattern;
pub(crate) use report::Report;
pub(crate) use world::{Machine, World};

/// So many of the hottest keys and shards are told.
const HOT_MAX: usize = 5;

/// Where the load comes from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Keys, and what is said of them.
    Keys(Keys, LoadSpec),
    /// A running cluster: what its nodes say of each shard, with calls a second.
    Reported(Vec<(ShardRates, f64)>),
}

/// All that a simulation rests on.
#[derive(Debug)]
pub(crate) struct Simulation {
    /// The nodes, and what is placed already.
    pub(crate) world: World,
    /// How keys map to shards.
    pub(crate) layout: Layout,
    /// The load.
    pub(crate) source: Source,
    /// For which multiples of the load to say whether the nodes suffice.
    pub(crate) growths: Vec<f64>,
}

/// Why nothing can be simulated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulationError {
    /// An ID names a shard or node that cannot exist.
    #[error("key {number}")]
    Key {
        /// Counted from one, without repetitions.
        number: usize,
        /// Why.
        #[source]
        source: InvalidObjectKey,
    },
    /// Nobody could hold a shard.
    #[error("there is no node that takes shards")]
    NoTakers,
}

/// Finds out what would be.
///
/// Costs a hash for each key, and some plans of the real planner: well below a second for 8192
/// shards and a hundred thousand keys.
///
/// # Errors
///
/// [`SimulationError`].
pub(crate) fn run(simulation: Simulation) -> Result<Report, SimulationError> {
    let Simulation {
        mut world,
        layout,
        source,
        growths,
    } = simulation;
    if world.takers().next().is_none() {
        return Err(SimulationError::NoTakers);
    }
    let (keys, load, mut totals) = match source {
        Source::Keys(keys, spec) => {
            let load = Load::of(&keys, &layout, &spec)
                .map_err(|(number, source)| SimulationError::Key { number, source })?;
            let hottest = load.shares.iter().copied().fold(0.0, f64::max) * load.calls_per_s;
            let totals = Totals {
                calls_per_s: load.calls_per_s,
                hottest_object: hottest * spec.cpu_per_call.as_secs_f64(),
            };
            (Some(keys), load, totals)
        }
        Source::Reported(shards) => (None, reported(&shards), Totals::default()),
    };
    totals.calls_per_s = load.calls_per_s;
    world.rates.clone_from(&load.rates);
    let mut advice = world.place();
    let before = world.clone();
    let balancing = world.balance();
    advice.extend(balancing.advice);
    let nodes = node_figures(&before, &world, &load);
    let changes = changes(&world);
    let facts = |keys| Facts {
        keys,
        shares: &load.shares,
        nodes: nodes.len(),
    };
    Ok(Report {
        shard_count: layout.count().get(),
        keys: keys.as_ref().map(|keys| key_figures(keys, &load, &before)),
        balancing: BalancingFigures {
            moves: balancing.moves,
            before: Evenness::of(nodes.iter().map(|node| node.of_share_before)),
            after: Evenness::of(nodes.iter().map(|node| node.of_share)),
            advice: texts(advice),
        },
        hot_shards: hot_shards(&world, &load),
        capacity: capacity(&world, totals, &changes, &growths),
        lints: keys
            .as_ref()
            .map_or_else(Vec::new, |keys| lints::lints(facts(keys))),
        changes,
        nodes,
    })
}

/// Takes what a running cluster's nodes say of their shards.
fn reported(shards: &[(ShardRates, f64)]) -> Load {
    Load {
        rates: shards.iter().map(|(rates, _)| *rates).collect(),
        keys: shards.iter().map(|(rates, _)| rates.objects).collect(),
        calls: shards.iter().map(|(_, calls)| *calls).collect(),
        shards: Vec::new(),
        shares: Vec::new(),
        calls_per_s: shards.iter().map(|(_, calls)| calls).sum(),
    }
}

fn texts(mut advice: Vec<Advice>) -> Vec<String> {
    advice.sort();
    advice.dedup();
    advice.iter().map(ToString::to_string).collect()
}

fn key_figures(keys: &Keys, load: &Load, placed: &World) -> KeyFigures {
    let mut per_node: BTreeMap<&NodeId, u64> = placed.takers().map(|(node, _)| (node, 0)).collect();
    for (shard, target) in placed.cluster.view.targets.iter() {
        if let Some(count) = target.node.as_ref().and_then(|node| per_node.get_mut(node)) {
            *count += load.keys[shard.index()];
        }
    }
    let in_shards: u64 = load.keys.iter().sum();
    let mean = as_f64(in_shards) / as_f64(load.keys.len() as u64);
    let mut places: Vec<usize> = (0..keys.len()).collect();
    places.sort_by(|a, b| load.shares[*b].total_cmp(&load.shares[*a]));
    let hot = places.iter().take(HOT_MAX).map(|place| HotKey {
        key: keys.each[*place].key.to_string(),
        shard: load.shards[*place].map(steading::ids::ShardId::get),
        calls_per_s: short(load.shares[*place] * load.calls_per_s),
        of_all: short(load.shares[*place]),
    });
    KeyFigures {
        keys: keys.len(),
        bound_to_nodes: load.shards.iter().filter(|shard| shard.is_none()).count(),
        calls_per_s: short(load.calls_per_s),
        per_shard: Evenness::of(load.keys.iter().map(|count| as_f64(*count))),
        chance: if mean > 0.0 {
            short(mean.sqrt().recip())
        } else {
            0.0
        },
        per_node: Evenness::of(per_node.into_values().map(as_f64)),
        hot_keys: hot.collect(),
    }
}

/// Returns what each node does that takes shards, before and after balancing.
fn node_figures(before: &World, after: &World, load: &Load) -> Vec<NodeFigures> {
    let (uses_before, uses) = (before.uses(), after.uses());
    let counts = after.shards_of_nodes();
    let total: f64 = uses.values().map(|used| used.cpus).sum();
    let weights: f64 = after.takers().map(|(_, record)| weight(record)).sum();
    let machine = after.machine;
    let figures = after.takers().map(|(node, record)| {
        let share = total * weight(record) / weights;
        let of_share = |cpus: f64| {
            if share > 0.0 {
                short(cpus / share)
            } else {
                0.0
            }
        };
        let own = || {
            let targets = after.cluster.view.targets.iter();
            targets.filter(|(_, target)| target.node.as_ref() == Some(node))
        };
        let calls: f64 = own().map(|(shard, _)| load.calls[shard.index()]).sum();
        NodeFigures {
            node: node.to_string(),
            zone: record.zone.clone(),
            weight: weight(record),
            shards: counts[node],
            keys: own().map(|(shard, _)| load.keys[shard.index()]).sum(),
            calls_per_s: short(calls),
            cpu: short(uses[node].cpus / machine.cpus),
            memory: short(as_f64(uses[node].memory_bytes) / as_f64(machine.memory_bytes)),
            of_share_before: of_share(uses_before[node].cpus),
            of_share: of_share(uses[node].cpus),
        }
    });
    figures.collect()
}

fn weight(record: &NodeRecord) -> f64 {
    f64::from(record.weight.thousandths()) / 1000.0
}

fn hot_shards(world: &World, load: &Load) -> Vec<HotShard> {
    let cost = |shard: usize| world.rates[shard].cost();
    let total: f64 = (0..world.rates.len())
        .map(|shard| as_f64(cost(shard)))
        .sum();
    let share = total / as_f64(world.takers().count() as u64);
    let mut shards: Vec<_> = world.cluster.view.meta.shard_count.shards().collect();
    shards.sort_by_key(|shard| (std::cmp::Reverse(cost(shard.index())), *shard));
    let hot = shards
        .iter()
        .take(HOT_MAX)
        .filter(|shard| cost(shard.index()) > 0);
    let figures = hot.map(|shard| HotShard {
        shard: shard.get(),
        node: world
            .cluster
            .view
            .targets
            .get(*shard)
            .node
            .as_ref()
            .map(ToString::to_string),
        keys: load.keys[shard.index()],
        calls_per_s: short(load.calls[shard.index()]),
        of_node_share: short(as_f64(cost(shard.index())) / share),
    });
    figures.collect()
}

/// Whether a change adds nodes or takes some away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gain,
    Loss,
}

/// Returns what it would be if a node joined, the busiest left, and each zone were lost.
fn changes(world: &World) -> Vec<ChangeFigures> {
    let mut changes = vec![change(
        world,
        "one node joins".into(),
        Kind::Gain,
        |nodes| {
            let spec = newcomer(nodes);
            nodes.insert(spec.node.clone(), spec.record());
        },
    )];
    let uses = world.uses();
    let busiest = uses.iter().max_by(|a, b| a.1.cpus.total_cmp(&b.1.cpus));
    if let (Some((node, _)), true) = (busiest, uses.len() > 1) {
        let what = format!("{node} leaves or dies");
        changes.push(change(world, what, Kind::Loss, |nodes| {
            nodes.remove(node);
        }));
    }
    let mut zones: Vec<_> = world
        .takers()
        .map(|(_, record)| record.zone.clone())
        .collect();
    zones.sort();
    zones.dedup();
    for zone in zones.iter().flatten().filter(|_| zones.len() > 1) {
        let what = format!("zone {zone} is lost");
        changes.push(change(world, what, Kind::Loss, |nodes| {
            nodes.retain(|_, record| record.zone.as_ref() != Some(zone));
        }));
    }
    changes
}

fn change(
    world: &World,
    what: String,
    kind: Kind,
    change: impl FnOnce(&mut BTreeMap<NodeId, NodeRecord>),
) -> ChangeFigures {
    let changed = world.after(change);
    let parts = Parts::of(&changed.world);
    let uses = changed.world.uses();
    let busiest = uses.iter().max_by(|a, b| a.1.cpus.total_cmp(&b.1.cpus));
    ChangeFigures {
        change: what,
        moves: changed.moves,
        fewest: changed.fewest,
        unplaced: changed.world.unplaced(),
        busiest: busiest.map(|(node, _)| node.to_string()),
        cpu: short(parts.cpu),
        memory: short(parts.memory),
        is_loss: kind == Kind::Loss,
    }
}

/// Describes a further node of weight 1, in the zone with the least weight.
fn newcomer(nodes: &BTreeMap<NodeId, NodeRecord>) -> NodeSpec {
    let mut zones: BTreeMap<&Option<String>, u64> = BTreeMap::new();
    for record in nodes.values().filter(|record| !record.weight.is_gate()) {
        *zones.entry(&record.zone).or_default() += u64::from(record.weight.thousandths());
    }
    let least = zones.into_iter().min_by_key(|(_, weight)| *weight);
    let names = (0..=nodes.len()).map(|number| format!("newcomer-{number}"));
    let mut ids = names.map(|name| NodeId::new(&name).expect("a good name"));
    let free = ids.find(|id| !nodes.contains_key(id));
    NodeSpec {
        zone: least.and_then(|(zone, _)| zone.clone()),
        ..NodeSpec::plain(free.expect("one more name than there are nodes"))
    }
}
