//! What the shards of a host did over the last window: what the load is spread by.
//!
//! A window is the difference of totals that only grow, so no turn is lost between two windows,
//! and no reader of one disturbs another's. The totals of one shard are read one after the other;
//! a turn that ends in between counts in this window by one of them and in the next by another.

use std::collections::BTreeMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::directory::Slot;
use super::meter::Totals;
use crate::ids::ShardId;

/// Of so many objects of a shard the size of the state is looked up; the others count as the mean.
const STATES_SAMPLED_MAX: usize = 16;

/// What one shard's objects did over a window, and are at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardLoad {
    /// Turns that ended. Exact.
    pub turns: u64,
    /// The CPU time that they took. Estimated from a sample of them; zero for a shard of which
    /// none was timed in this window.
    pub cpu: Duration,
    /// Live objects at the end.
    pub objects: u64,
    /// The size of their state as it was last saved or loaded. Estimated from a few of them; zero
    /// for types without storage, since their state is never written while they stay.
    pub state_bytes: u64,
}

/// What the objects of a host did over a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLoad {
    /// Counts the windows of this host. Zero: none has ended yet, and all the rest is zero.
    pub number: u64,
    /// How long it was.
    pub window: Duration,
    /// When it ended.
    pub ended: Instant,
    /// By shard, those left out that had neither turns nor objects.
    pub shards: BTreeMap<ShardId, ShardLoad>,
    /// Of the objects that are bound to the node.
    pub node_bound: ShardLoad,
    /// Calls that found their object busy, or not yet activated, and had to wait for their turn.
    pub waits: u64,
    /// Calls that found the mailbox of their object full.
    pub refusals: u64,
}

/// A slot at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) shard: Option<ShardId>,
    pub(super) totals: Totals,
    pub(super) objects: u64,
    pub(super) state_bytes: u64,
}

impl Seen {
    pub(super) fn of(slot: &Slot) -> Self {
        let table = slot.table.read();
        let sampled = table.iter().take(STATES_SAMPLED_MAX);
        let (count, bytes) = sampled.fold((0_u64, 0_u64), |(count, bytes), object| {
            (count + 1, bytes + object.state_len() as u64)
        });
        let objects = table.len() as u64;
        Self {
            shard: slot.shard,
            totals: slot.meter.totals(),
            objects,
            state_bytes: bytes * objects / count.max(1),
        }
    }

    fn since(&self, before: &Totals) -> ShardLoad {
        ShardLoad {
            turns: self.totals.turns - before.turns,
            cpu: self.totals.cpu.saturating_sub(before.cpu),
            objects: self.objects,
            state_bytes: self.state_bytes,
        }
    }
}

/// The windows of a host: the last one that ended, and how the present one began.
#[derive(Debug)]
pub(super) struct Windows {
    last: ArcSwap<HostLoad>,
    began: Mutex<Began>,
}

#[derive(Debug)]
struct Began {
    at: Instant,
    number: u64,
    /// In order of the slots; empty: all zero.
    totals: Vec<Totals>,
}

impl Windows {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: ArcSwap::from_pointee(HostLoad {
                number: 0,
                window: Duration::ZERO,
                ended: now,
                shards: BTreeMap::new(),
                node_bound: ShardLoad::default(),
                waits: 0,
                refusals: 0,
            }),
            began: Mutex::new(Began {
                at: now,
                number: 0,
                totals: Vec::new(),
            }),
        }
    }

    pub(super) fn last(&self) -> std::sync::Arc<HostLoad> {
        self.last.load_full()
    }

    /// Ends the present window with the slots as they are `now`, always in the same order.
    pub(super) fn end(&self, now: Instant, slots: &[Seen]) {
        let mut began = self.began.lock();
        began.totals.resize(slots.len(), Totals::default());
        let mut load = HostLoad {
            number: began.number + 1,
            window: now - began.at,
            ended: now,
            shards: BTreeMap::new(),
            node_bound: ShardLoad::default(),
            waits: 0,
            refusals: 0,
        };
        for (seen, before) in slots.iter().zip(&began.totals) {
            let shard_load = seen.since(before);
            load.waits += seen.totals.waits - before.waits;
            load.refusals += seen.totals.refusals - before.refusals;
            match seen.shard {
                None => load.node_bound = shard_load,
                Some(_) if shard_load == ShardLoad::default() => {}
                Some(shard) => {
                    load.shards.insert(shard, shard_load);
                }
            }
        }
        *began = Began {
            at: now,
            number: load.number,
            totals: slots.iter().map(|seen| seen.totals).collect(),
        };
        self.last.store(std::sync::Arc::new(load));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardCount;

    fn seen(shard: u32, turns: u64, cpu_ms: u64, waits: u64) -> Seen {
        Seen {
            shard: Some(ShardId::new(shard, ShardCount::DEFAULT).expect("in range")),
            totals: Totals {
                turns,
                cpu: Duration::from_millis(cpu_ms),
                waits,
                ..Totals::default()
            },
            objects: 0,
            state_bytes: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s1_8_each_window_has_what_came_since_the_last_and_nothing_is_lost() {
        let windows = Windows::new(Instant::now());
        assert_eq!((windows.last().number, windows.last().shards.len()), (0, 0));
        let (mut turns, mut cpu, mut waits) = (0, Duration::ZERO, 0);
        for (i, (total, ms, waited)) in [(10, 5, 1), (10, 5, 1), (25, 70, 4)].iter().enumerate() {
            tokio::time::advance(Duration::from_secs(10)).await;
            windows.end(
                Instant::now(),
                &[seen(0, 0, 0, 0), seen(1, *total, *ms, *waited)],
            );
            let load = windows.last();
            assert_eq!(
                (load.number, load.window),
                (i as u64 + 1, Duration::from_secs(10))
            );
            turns += load.shards.values().map(|shard| shard.turns).sum::<u64>();
            cpu += load
                .shards
                .values()
                .map(|shard| shard.cpu)
                .sum::<Duration>();
            waits += load.waits;
        }
        assert_eq!((turns, cpu, waits), (25, Duration::from_millis(70), 4));
        assert_eq!(
            windows.last().shards.len(),
            1,
            "a shard at rest is left out"
        );
    }
}
