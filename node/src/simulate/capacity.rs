//! Whether nodes suffice, today and when the load has grown (`docs/sizing.md`).

use std::collections::BTreeSet;

use super::numbers::{as_f64, rounded, short};
use super::report::{CapacityFigures, ChangeFigures};
use super::world::World;

/// No node should use more than this part of its CPUs: beyond it, calls wait for each other.
const CPU_MAX: f64 = 0.7;

/// No node should use more than this part of its memory: moves and peaks need some.
const MEMORY_MAX: f64 = 0.8;

/// What all nodes do together, and the busiest of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) calls_per_s: f64,
    /// CPUs that the turns of the busiest object keep busy; one object never uses more than one.
    pub(super) hottest_object: f64,
}

/// Says for each multiple of the load whether the nodes suffice, also after the worst loss.
pub(super) fn capacity(
    world: &World,
    totals: Totals,
    changes: &[ChangeFigures],
    growths: &[f64],
) -> Vec<CapacityFigures> {
    let now = Parts::of(world);
    let losses = || changes.iter().filter(|change| change.is_loss);
    let unplaced = losses().map(|loss| loss.unplaced).max().unwrap_or(0);
    let after_loss = Parts {
        cpu: losses().map(|loss| loss.cpu).fold(now.cpu, f64::max),
        memory: losses().map(|loss| loss.memory).fold(now.memory, f64::max),
    };
    let grown = growths.iter().map(|growth| {
        let (now, after_loss) = (now.times(*growth), after_loss.times(*growth));
        let mut short_of = after_loss.short_of();
        if unplaced > 0 {
            short_of.push(format!("room for {unplaced} shards after a loss"));
        }
        let hottest = totals.hottest_object * growth;
        if hottest >= 1.0 {
            short_of.push(format!(
                "one CPU for the busiest object, which needs {hottest:.1}"
            ));
        }
        let memory_bytes = as_f64(all_memory(world)) * growth;
        CapacityFigures {
            growth: *growth,
            calls_per_s: short(totals.calls_per_s * growth),
            memory_bytes: rounded(memory_bytes),
            cpu: short(now.cpu),
            memory: short(now.memory),
            cpu_after_loss: short(after_loss.cpu),
            memory_after_loss: short(after_loss.memory),
            nodes_needed: nodes_needed(world, *growth),
            short_of,
        }
    });
    grown.collect()
}

/// What the busiest node uses of its CPUs, and the fullest of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Parts {
    pub(super) cpu: f64,
    pub(super) memory: f64,
}

impl Parts {
    pub(super) fn of(world: &World) -> Self {
        let machine = world.machine;
        let parts = world.uses().into_values().map(|used| Self {
            cpu: used.cpus / machine.cpus,
            memory: as_f64(used.memory_bytes) / as_f64(machine.memory_bytes),
        });
        parts.fold(Self::default(), |most, one| Self {
            cpu: most.cpu.max(one.cpu),
            memory: most.memory.max(one.memory),
        })
    }

    fn times(self, growth: f64) -> Self {
        Self {
            cpu: self.cpu * growth,
            memory: self.memory * growth,
        }
    }

    fn short_of(self) -> Vec<String> {
        let mut short_of = Vec::new();
        if self.cpu > CPU_MAX {
            short_of.push("CPU".into());
        }
        if self.memory > MEMORY_MAX {
            short_of.push("memory".into());
        }
        short_of
    }
}

fn all_memory(world: &World) -> u64 {
    world.rates.iter().map(|rates| rates.state_bytes).sum()
}

/// Returns how many nodes of this kind it takes, so that the loss of one, or of a zone where there are
/// several, leaves enough: what is needed, over what nodes may use, times the zones over all of
/// them but one.
fn nodes_needed(world: &World, growth: f64) -> u64 {
    let cost: f64 = world.rates.iter().map(|rates| as_f64(rates.cost())).sum();
    let cpus = cost / 1e9 * growth / (world.machine.cpus * CPU_MAX);
    let memory = as_f64(all_memory(world)) * growth;
    let memory = memory / (as_f64(world.machine.memory_bytes) * MEMORY_MAX);
    let needed = cpus.max(memory).ceil().max(1.0);
    let zones: BTreeSet<_> = world.takers().map(|(_, record)| &record.zone).collect();
    match as_f64(zones.len() as u64) {
        zones if zones >= 2.0 => rounded((needed * zones / (zones - 1.0)).ceil()),
        _ => rounded(needed + 1.0),
    }
}
