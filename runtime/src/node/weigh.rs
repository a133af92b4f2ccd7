//! Turns what nodes report into what the planner weighs. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::NodeId;
use crate::object::ShardLoad;
use crate::placement::ClusterView;
use crate::placement::planner::{
    LOAD_HALF_LIFE, LOAD_STALE_WINDOWS, LoadReport, Loads, NodeUse, ShardRates,
};
use crate::routing::NodeReport;

/// What a silent node said is kept this long.
const KEPT: Duration = LOAD_HALF_LIFE.saturating_mul(LOAD_STALE_WINDOWS);

/// Takes in what nodes report of a window that they had not reported before. A report of another
/// life of its node counts for nothing.
pub(super) fn absorb(
    loads: &mut Loads,
    reports: &BTreeMap<NodeId, NodeReport>,
    before: &BTreeMap<NodeId, NodeReport>,
    view: &ClusterView,
    now: Moment,
) {
    for (node, report) in reports {
        let life = view.nodes.get(node).map(|record| record.incarnation);
        let known = before
            .get(node)
            .filter(|known| known.incarnation == report.incarnation);
        let is_new = known.is_none_or(|known| known.load.number != report.load.number);
        if life.is_some() && life == report.incarnation && report.load.number > 0 && is_new {
            loads.absorb(&weighed(report, view), now);
        }
    }
    loads.forget(KEPT, now);
}

/// Shards at rest are left out of a report; here they count as resting.
fn weighed(report: &NodeReport, view: &ClusterView) -> LoadReport {
    let owned = view.meta.shard_count.shards().filter(|shard| {
        let owner = view.live_owner(*shard);
        owner.is_some_and(|owner| owner.node == report.node)
    });
    let window = report.load.window;
    let shards = owned.map(|shard| {
        let objects = report.by_shard.get(&shard).copied().unwrap_or(0);
        let rates = report.shards.get(&shard).map_or_else(
            || ShardRates {
                objects,
                ..ShardRates::default()
            },
            |load| rates(load, window),
        );
        (shard, rates)
    });
    let (cpu, available) = (
        report.load.cpu,
        window.saturating_mul(report.load.cpus.max(1)),
    );
    LoadReport {
        node: report.node.clone(),
        load: NodeUse {
            cpu_permille: permille(nanos(cpu), nanos(available)),
            memory_permille: permille(report.load.memory_bytes, report.load.memory_max_bytes),
        },
        shards: shards.collect(),
    }
}

fn rates(load: &ShardLoad, window: Duration) -> ShardRates {
    let per_second = |count: u64| {
        let nanos = nanos(window).max(1);
        let rate = u128::from(count) * 1_000_000_000 / u128::from(nanos);
        u64::try_from(rate).unwrap_or(u64::MAX)
    };
    let micros = u64::try_from(load.cpu.as_micros()).unwrap_or(u64::MAX);
    ShardRates {
        cpu_micros_per_s: per_second(micros),
        calls_per_s: per_second(load.turns),
        objects: load.objects,
        state_bytes: load.state_bytes,
    }
}

fn permille(part: u64, whole: u64) -> u32 {
    let permille = (u128::from(part) * 1000).checked_div(whole.into());
    permille.map_or(0, |permille| u32::try_from(permille).unwrap_or(u32::MAX))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_window_counted_is_a_rate_and_nothing_of_unknown_is_nothing() {
        let load = ShardLoad {
            turns: 5_000,
            cpu: Duration::from_secs(2),
            objects: 7,
            state_bytes: 99,
        };
        let weighed = rates(&load, Duration::from_secs(10));
        let wanted = ShardRates {
            cpu_micros_per_s: 200_000,
            calls_per_s: 500,
            objects: 7,
            state_bytes: 99,
        };
        assert_eq!(weighed, wanted);
        assert_eq!(
            rates(&load, Duration::ZERO).objects,
            7,
            "no division by zero"
        );
        assert_eq!((permille(1, 4), permille(9, 0)), (250, 0));
    }
}
