//! Which nodes do more than their share.

use std::time::Duration;

use fnv::FnvHashMap;

use super::{LOAD_STALE_WINDOWS, Loads, PlanSettings};
use crate::clock::Moment;
use crate::ids::NodeId;
use crate::placement::{ClusterView, NodeState};

/// How much a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy<'a> {
    pub(super) node: &'a NodeId,
    /// What its shards cost, in thousandths of its share of what all shards cost.
    pub(super) load_permille: u32,
    /// Whether it uses enough of what it has for its load to matter.
    pub(super) is_above_floor: bool,
}

/// Returns how much each node does that takes shards and whose reports are fresh, in order of
/// their names. Shards count where they are targeted at, so a move counts once it is ordered.
pub(super) fn busy<'a>(
    view: &'a ClusterView,
    loads: &Loads,
    settings: &PlanSettings,
    now: Moment,
) -> Vec<Busy<'a>> {
    let stale_after = stale_after(settings);
    let mut costs: FnvHashMap<&NodeId, u128> = FnvHashMap::default();
    for (shard, target) in view.targets.iter() {
        let load = loads.shard(shard, stale_after, now);
        if let (Some(node), Some(load)) = (&target.node, load) {
            *costs.entry(node).or_default() += u128::from(load.cost());
        }
    }
    let takers = view.nodes.iter().filter_map(|(node, record)| {
        let takes = record.state == NodeState::Active && !record.weight.is_gate();
        let load = loads.node(node, stale_after, now).filter(|_| takes)?;
        let cost = costs.get(node).copied().unwrap_or(0);
        Some((node, u128::from(record.weight.thousandths()), cost, load))
    });
    let takers: Vec<_> = takers.collect();
    let weights: u128 = takers.iter().map(|(_, weight, ..)| weight).sum();
    let total: u128 = takers.iter().map(|(_, _, cost, _)| cost).sum();
    let busy = takers.into_iter().map(|(node, weight, cost, load)| Busy {
        node,
        load_permille: permille(cost.saturating_mul(weights), total.saturating_mul(weight)),
        is_above_floor: load.cpu_permille.max(load.memory_permille) >= settings.load_floor_permille,
    });
    busy.collect()
}

/// Returns how long what was reported counts.
pub(super) fn stale_after(settings: &PlanSettings) -> Duration {
    settings.load_window.saturating_mul(LOAD_STALE_WINDOWS)
}

/// Returns thousandths of the whole; of nothing, nothing.
fn permille(part: u128, whole: u128) -> u32 {
    let permille = part.saturating_mul(1000).checked_div(whole).unwrap_or(0);
    u32::try_from(permille).unwrap_or(u32::MAX)
}
