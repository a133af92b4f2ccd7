//! What each shard costs its owner, as the owners report it.
//!
//! Reports come once a window and are smoothed, so that a single burst moves nothing. All in
//! integers: the same reports give the same loads on every machine.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};

/// After this time without reports, half of what was known before counts.
pub const LOAD_HALF_LIFE: Duration = Duration::from_secs(10);

/// A report counts for this many windows.
pub const LOAD_STALE_WINDOWS: u32 = 3;

/// What a call costs beside its turn, in nanoseconds of CPU time: routing, frames, wake-ups.
const CALL_NANOS: u64 = 5_000;

/// What an object in memory costs a second, in nanoseconds of CPU time: idle checks, and its part in
/// what a move costs.
const OBJECT_NANOS: u64 = 100;

/// So many bytes of state cost one nanosecond of CPU time a second.
const BYTES_A_NANO: u64 = 64;

/// What one shard does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardRates {
    /// CPU time of its turns, in microseconds a second.
    pub cpu_micros_per_s: u64,
    /// Calls a second.
    pub calls_per_s: u64,
    /// Objects in memory.
    pub objects: u64,
    /// Bytes of their state.
    pub state_bytes: u64,
}

impl ShardRates {
    /// Returns what all of this costs together, in nanoseconds of CPU time a second.
    ///
    /// Turns count as measured, calls 5 µs each beside their turns, objects 100 ns each, and
    /// state 1 ns for 64 bytes: enough that idle shards full of objects are spread too, and
    /// nothing beside real work.
    pub fn cost(&self) -> u64 {
        let cpu = self.cpu_micros_per_s.saturating_mul(1_000);
        let calls = self.calls_per_s.saturating_mul(CALL_NANOS);
        let objects = self.objects.saturating_mul(OBJECT_NANOS);
        let state = self.state_bytes / BYTES_A_NANO;
        cpu.saturating_add(calls)
            .saturating_add(objects)
            .saturating_add(state)
    }
}

/// How busy a node's process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// CPU time used, in thousandths of what the process may use.
    pub cpu_permille: u32,
    /// Memory used, in thousandths of what the process may use.
    pub memory_permille: u32,
}

/// What one node says of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadReport {
    /// Who says it.
    pub node: NodeId,
    /// How busy it is.
    pub load: NodeUse,
    /// What each shard it owns does. One that is left out keeps what was last said of it, until
    /// that is stale.
    pub shards: Vec<(ShardId, ShardRates)>,
}

/// What is known of all loads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads {
    /// By the number of the shard; as long as the highest shard ever reported.
    shards: Vec<Option<Known<ShardRates>>>,
    nodes: BTreeMap<NodeId, Known<NodeUse>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known<T> {
    value: T,
    at: Moment,
}

impl Loads {
    /// Takes in a report that came at `now`.
    ///
    /// What was known before loses half of its weight in [`LOAD_HALF_LIFE`]; a first report, or one after
    /// [`LOAD_STALE_WINDOWS`] half-lives of silence, counts as it is. Costs time in proportion to
    /// the report.
    pub fn absorb(&mut self, report: &LoadReport, now: Moment) {
        let node = self.nodes.get(&report.node).copied();
        let value = smoothed(node, report.load, now, |old, new, mix| NodeUse {
            cpu_permille: mix.of_u32(old.cpu_permille, new.cpu_permille),
            memory_permille: mix.of_u32(old.memory_permille, new.memory_permille),
        });
        self.nodes
            .insert(report.node.clone(), Known { value, at: now });
        for (shard, load) in &report.shards {
            if self.shards.len() <= shard.index() {
                self.shards.resize(shard.index() + 1, None);
            }
            let known = &mut self.shards[shard.index()];
            let value = smoothed(*known, *load, now, |old, new, mix| ShardRates {
                cpu_micros_per_s: mix.of(old.cpu_micros_per_s, new.cpu_micros_per_s),
                calls_per_s: mix.of(old.calls_per_s, new.calls_per_s),
                objects: mix.of(old.objects, new.objects),
                state_bytes: mix.of(old.state_bytes, new.state_bytes),
            });
            *known = Some(Known { value, at: now });
        }
    }

    /// Forgets what nodes said that have been silent for `kept`, which bounds what is kept by the
    /// nodes that live.
    pub fn forget(&mut self, kept: Duration, now: Moment) {
        self.nodes.retain(|_, known| now.since(known.at) <= kept);
    }

    /// Whether no node has said anything.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Returns what a shard does, if that was said no longer than `stale_after` ago.
    pub fn shard(&self, shard: ShardId, stale_after: Duration, now: Moment) -> Option<ShardRates> {
        let known = self.shards.get(shard.index())?.as_ref()?;
        (now.since(known.at) <= stale_after).then_some(known.value)
    }

    /// Returns how busy a node is, if that was said no longer than `stale_after` ago.
    pub fn node(&self, node: &NodeId, stale_after: Duration, now: Moment) -> Option<NodeUse> {
        let known = self.nodes.get(node)?;
        (now.since(known.at) <= stale_after).then_some(known.value)
    }
}

fn smoothed<T: Copy>(
    known: Option<Known<T>>,
    new: T,
    now: Moment,
    mixed: impl FnOnce(T, T, Mix) -> T,
) -> T {
    let fresh = known.filter(|known| now.since(known.at) <= LOAD_HALF_LIFE * LOAD_STALE_WINDOWS);
    fresh.map_or(new, |known| {
        mixed(known.value, new, Mix::after(now.since(known.at)))
    })
}

/// How much the old counts beside the new, in 65 536ths.
#[derive(Clone, Copy, Debug)]
struct Mix(u64);

impl Mix {
    const ONE: u64 = 1 << 16;

    /// Halves with each half-life, and falls evenly in between.
    fn after(time: Duration) -> Self {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let half_life = LOAD_HALF_LIFE.as_secs() * 1_000_000;
        let (halvings, rest) = (micros / half_life, micros % half_life);
        let between = Self::ONE - rest * (Self::ONE / 2) / half_life;
        let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
        Self(between.checked_shr(halvings).unwrap_or(0))
    }

    fn of(self, old: u64, new: u64) -> u64 {
        let old = u128::from(old) * u128::from(self.0);
        let new = u128::from(new) * u128::from(Self::ONE - self.0);
        u64::try_from((old + new) / u128::from(Self::ONE)).expect("between the two")
    }

    fn of_u32(self, old: u32, new: u32) -> u32 {
        u32::try_from(self.of(old.into(), new.into())).expect("between the two")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardCount;

    const STALE_AFTER: Duration = Duration::from_secs(30);

    #[test]
    fn s2_21_a_first_report_counts_as_it_is_and_later_ones_are_smoothed() {
        let mut loads = Loads::default();
        loads.absorb(&report(1000), at(0));
        assert_eq!(calls(&loads, 0), Some(1000));
        loads.absorb(&report(2000), at(10));
        assert_eq!(calls(&loads, 10), Some(1500));
        loads.absorb(&report(2500), at(30));
        assert_eq!(calls(&loads, 30), Some(2250));
        loads.absorb(&report(0), at(35));
        assert_eq!(
            calls(&loads, 35),
            Some(1687),
            "three quarters after half of the time"
        );
    }

    #[test]
    fn s2_22_stale_reports_are_not_believed() {
        let mut loads = Loads::default();
        loads.absorb(&report(1000), at(0));
        assert_eq!(calls(&loads, 30), Some(1000));
        assert_eq!(calls(&loads, 31), None);
        assert_eq!(loads.node(&report(0).node, STALE_AFTER, at(31)), None);
        loads.absorb(&report(2000), at(31));
        assert_eq!(calls(&loads, 31), Some(2000), "nothing to smooth it with");
    }

    #[test]
    fn nodes_that_are_silent_for_long_are_forgotten() {
        let mut loads = Loads::default();
        loads.absorb(&report(1000), at(0));
        loads.forget(STALE_AFTER, at(30));
        assert_eq!(loads.nodes.len(), 1);
        loads.forget(STALE_AFTER, at(31));
        assert_eq!(loads.nodes.len(), 0);
    }

    #[test]
    fn s1_5_a_cost_has_all_parts_and_never_overflows() {
        let load = ShardRates {
            cpu_micros_per_s: 3,
            calls_per_s: 2,
            objects: 4,
            state_bytes: 640,
        };
        assert_eq!(load.cost(), 3_000 + 10_000 + 400 + 10);
        let most = ShardRates {
            cpu_micros_per_s: u64::MAX,
            calls_per_s: u64::MAX,
            objects: u64::MAX,
            state_bytes: u64::MAX,
        };
        assert_eq!(most.cost(), u64::MAX);
    }

    #[test]
    fn a_clock_that_stands_still_keeps_the_old() {
        let mut loads = Loads::default();
        loads.absorb(&report(1000), at(5));
        loads.absorb(&report(2000), at(5));
        assert_eq!(calls(&loads, 5), Some(1000));
    }

    fn report(calls_per_s: u64) -> LoadReport {
        let load = ShardRates {
            calls_per_s,
            ..ShardRates::default()
        };
        LoadReport {
            node: NodeId::new("a").expect("a letter"),
            load: NodeUse::default(),
            shards: vec![(shard(), load)],
        }
    }

    fn calls(loads: &Loads, seconds: u64) -> Option<u64> {
        let load = loads.shard(shard(), STALE_AFTER, at(seconds))?;
        Some(load.calls_per_s)
    }

    fn shard() -> ShardId {
        ShardId::new(3, ShardCount::DEFAULT).expect("in range")
    }

    fn at(seconds: u64) -> Moment {
        Moment::START.plus(Duration::from_secs(seconds))
    }
}
