//! A cluster of values: what the leader's planner would make of it, without a cluster.
//!
//! Whatever the planner orders is done at once, so nothing is ever under way. Limits on moves at
//! once only spread moves over time, and are left out.

use std::collections::{BTreeMap, BTreeSet};

use steading::clock::Moment;
use steading::ids::{NodeId, ShardCount, ShardId};
use steading::placement::planner::{
    Advice, LoadReport, NodeUse, PlanSettings, Rehearsal, ShardRates, Strategy,
};
use steading::placement::{ClusterMeta, ClusterView, NodeRecord, NodeState, Target};

use super::numbers::{as_f64, rounded};

/// After so many windows of load no further moves are looked for.
const WINDOWS_MAX: u32 = 120;

/// After so many plans with nothing in between, the planner must have come to rest.
const PLANS_MAX: u32 = 16;

/// What one node can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Machine {
    /// CPUs that the node's process may use.
    pub(crate) cpus: f64,
    /// Memory that it may use, in bytes.
    pub(crate) memory_bytes: u64,
}

/// A cluster and what its shards cost.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(super) cluster: Rehearsal,
    /// What each shard does.
    pub(super) rates: Vec<ShardRates>,
    pub(super) machine: Machine,
    now: Moment,
}

/// What the shards of a node use together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Use {
    /// CPUs kept busy.
    pub(super) cpus: f64,
    /// Bytes of memory.
    pub(super) memory_bytes: u64,
}

/// What balancing loads came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Balancing {
    /// Moves that the planner ordered.
    pub(super) moves: usize,
    /// What it cannot mend.
    pub(super) advice: Vec<Advice>,
}

impl World {
    /// Makes a cluster of which no shard is placed and none does anything.
    pub(crate) fn new(
        nodes: BTreeMap<NodeId, NodeRecord>,
        count: ShardCount,
        settings: PlanSettings,
        machine: Machine,
    ) -> Self {
        let meta = ClusterMeta::new("simulated", count);
        let mut view = ClusterView::empty(meta);
        view.nodes = nodes;
        let settings = PlanSettings {
            moves_in_flight_max: u32::MAX,
            moves_per_node_max: u32::MAX,
            ..settings
        };
        Self {
            cluster: Rehearsal::new(view, settings),
            rates: vec![ShardRates::default(); count.get() as usize],
            machine,
            // Long after whatever the planner could wait for.
            now: Moment::START.plus(std::time::Duration::from_hours(24)),
        }
    }

    /// Puts a shard on a node, as in a cluster that runs.
    pub(crate) fn put(&mut self, shard: ShardId, target: Target) {
        self.cluster.view.targets.set(shard, target);
    }

    /// Lets operators' orders count: nodes that get nothing more.
    pub(crate) fn cordon(&mut self, nodes: BTreeSet<NodeId>) {
        self.cluster.view.orders.cordoned = nodes;
    }

    /// Places every shard, without a look at loads, until nothing is left to do.
    pub(super) fn place(&mut self) -> Vec<Advice> {
        self.cluster.own();
        let mut advice = Vec::new();
        for _ in 0..PLANS_MAX {
            let plan = self.cluster.plan(self.now);
            advice.clone_from(&plan.advice);
            if plan.is_empty() {
                break;
            }
            self.cluster.carry_out(&plan);
        }
        advice
    }

    /// Lets nodes report what their shards do, window after window, and carries out what the
    /// planner makes of it.
    pub(super) fn balance(&mut self) -> Balancing {
        let mut balancing = Balancing::default();
        let mut at_rest = 0;
        for _ in 0..WINDOWS_MAX {
            self.now = self.now.plus(self.cluster.settings.load_window);
            let reports = self.reports();
            let (cluster, now) = (&mut self.cluster, self.now);
            cluster.report(&reports, now);
            let plan = cluster.plan(now);
            cluster.memory.note(&plan, &cluster.settings, now);
            balancing.moves += plan.moves.len();
            balancing.advice.clone_from(&plan.advice);
            cluster.carry_out(&plan);
            at_rest = if plan.is_empty() { at_rest + 1 } else { 0 };
            // A node must do too much for some windows before anything is done about it.
            if at_rest > self.cluster.settings.load_windows + 1 {
                break;
            }
        }
        balancing
    }

    /// Changes the nodes, and returns the shards that the planner moves for it.
    pub(super) fn after(&self, change: impl FnOnce(&mut BTreeMap<NodeId, NodeRecord>)) -> Changed {
        let mut world = self.clone();
        change(&mut world.cluster.view.nodes);
        let plan = world.cluster.plan(world.now);
        world.cluster.carry_out(&plan);
        Changed {
            moves: plan.moves.len(),
            fewest: fewest(
                &self.shards_of_nodes(),
                &world.shards_of_nodes(),
                &world.cluster.view,
            ),
            world,
        }
    }

    /// Returns how many shards each node that takes some has.
    pub(super) fn shards_of_nodes(&self) -> BTreeMap<NodeId, u64> {
        let takers = self.takers().map(|(node, _)| (node.clone(), 0));
        let mut counts: BTreeMap<NodeId, u64> = takers.collect();
        for (_, target) in self.cluster.view.targets.iter() {
            if let Some(node) = &target.node {
                *counts.entry(node.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// Returns the nodes that take shards.
    pub(super) fn takers(&self) -> impl Iterator<Item = (&NodeId, &NodeRecord)> {
        let nodes = self.cluster.view.nodes.iter();
        nodes.filter(|(_, record)| record.state == NodeState::Active && !record.weight.is_gate())
    }

    /// Returns how many shards are on no node that lives.
    pub(super) fn unplaced(&self) -> usize {
        let targets = self.cluster.view.targets.iter();
        let lives = |node: &NodeId| self.cluster.view.nodes.contains_key(node);
        targets
            .filter(|(_, target)| !target.node.as_ref().is_some_and(lives))
            .count()
    }

    /// Returns what the shards of each node use together that takes some.
    pub(super) fn uses(&self) -> BTreeMap<NodeId, Use> {
        let shards = self.shards_by_node();
        let used = |shards: Vec<ShardId>| {
            let rates = shards.iter().map(|shard| self.rates[shard.index()]);
            rates.fold(Use::default(), |used, rates| Use {
                cpus: used.cpus + as_f64(rates.cost()) / 1e9,
                memory_bytes: used.memory_bytes + rates.state_bytes,
            })
        };
        let nodes = shards.into_iter();
        nodes
            .map(|(node, shards)| (node.clone(), used(shards)))
            .collect()
    }

    /// Returns the shards of each node that takes some.
    fn shards_by_node(&self) -> BTreeMap<&NodeId, Vec<ShardId>> {
        let mut nodes: BTreeMap<&NodeId, Vec<ShardId>> =
            self.takers().map(|(node, _)| (node, Vec::new())).collect();
        for (shard, target) in self.cluster.view.targets.iter() {
            if let Some(shards) = target.node.as_ref().and_then(|node| nodes.get_mut(node)) {
                shards.push(shard);
            }
        }
        nodes
    }

    /// Returns what nodes report of the present window; nothing if only counts matter.
    fn reports(&self) -> Vec<LoadReport> {
        if self.cluster.settings.strategy == Strategy::Count {
            return Vec::new();
        }
        let permille =
            |part: f64, all: f64| u32::try_from(rounded(part * 1000.0 / all)).unwrap_or(u32::MAX);
        let uses = self.uses();
        let reports = self.shards_by_node().into_iter().map(|(node, shards)| {
            let used = uses.get(node).copied().unwrap_or_default();
            let memory = as_f64(self.machine.memory_bytes);
            LoadReport {
                node: node.clone(),
                load: NodeUse {
                    cpu_permille: permille(used.cpus, self.machine.cpus),
                    memory_permille: permille(as_f64(used.memory_bytes), memory),
                },
                shards: shards
                    .into_iter()
                    .map(|shard| (shard, self.rates[shard.index()]))
                    .collect(),
            }
        });
        reports.collect()
    }
}

/// What a change of the nodes came to.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    /// Shards that changed their node.
    pub(super) moves: usize,
    /// The fewest with which that division can be reached.
    pub(super) fewest: u64,
    /// The cluster after it.
    pub(super) world: World,
}

/// Returns how many shards must move at least to get from one division to another: all that a node
/// has beyond what it will have. What finds no room stays with a node that is gone.
fn fewest(
    before: &BTreeMap<NodeId, u64>,
    after: &BTreeMap<NodeId, u64>,
    view: &ClusterView,
) -> u64 {
    let gone = after
        .iter()
        .filter(|(node, _)| !view.nodes.contains_key(*node));
    let stays: u64 = gone.map(|(_, count)| count).sum();
    let gives = before.iter().map(|(node, count)| {
        let lives = view.nodes.contains_key(node);
        let has = after.get(node).copied().filter(|_| lives).unwrap_or(0);
        count.saturating_sub(has)
    });
    gives.sum::<u64>() - stays
}
