//! How many objects and turns each shard has: for the planner, for metrics.

use std::cmp::Reverse;
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::Host;
use crate::ids::ShardId;
use crate::object::directory::Slot;
use crate::object::load::{HostLoad, Seen};
use crate::telemetry::{CountTurns, HostCounts};

/// Shards whose load is looked at before other tasks may run.
const SLOTS_PER_YIELD: usize = 128;

/// Most of the fullest shards that metrics name.
const TOP_SHARDS: usize = 10;

impl Host {
    /// Counts all live objects, node-bound ones too.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.all_slots().map(|slot| slot.table.read().len()).sum()
    }

    /// Counts the live objects of each shard that has any. Costs some tens of nanoseconds per
    /// shard of the cluster, however many objects there are.
    pub fn counts(&self) -> Vec<(ShardId, usize)> {
        let count = |slot: &Arc<Slot>| Some((slot.shard?, slot.table.read().len()));
        let counts = self.slots.iter().filter_map(count);
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// Returns what the shards did in the last window that ended.
    pub fn load(&self) -> Arc<HostLoad> {
        self.windows.last()
    }

    /// Ends the present window of load and begins the next. Looks at every shard: some
    /// milliseconds in all, with breaks for other tasks.
    ///
    /// Cancel safety: dropped before its end, the window goes on.
    pub async fn end_load_window(&self) {
        let mut seen = Vec::with_capacity(self.slots.len() + 1);
        for (i, slot) in self.all_slots().enumerate() {
            seen.push(Seen::of(slot));
            if i % SLOTS_PER_YIELD == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.windows.end(Instant::now(), &seen);
        self.common.busiest.end_window(self.common.now());
    }
}

/// Reads the turns' counts when metrics are asked for: turns themselves count in their shard,
/// where no other shard's turns write.
pub(super) struct TurnCounts {
    pub(super) host: Weak<Host>,
}

impl CountTurns for TurnCounts {
    fn counts(&self) -> Option<HostCounts> {
        let host = self.host.upgrade()?;
        let mut counts = HostCounts::default();
        let mut objects = Vec::new();
        for slot in host.all_slots() {
            let totals = slot.meter.totals();
            counts.turns += totals.turns;
            counts.failures += totals.failures;
            counts.waits += totals.waits;
            counts.refusals += totals.refusals;
            let table = slot.table.read();
            counts.objects += table.len();
            if let (Some(shard), true) = (slot.shard, table.is_open()) {
                objects.push((table.len(), shard));
            }
        }
        // The fullest first; of those that are equal, the lowest number.
        objects.sort_unstable_by_key(|(count, shard)| (Reverse(*count), *shard));
        let named = objects.iter().filter(|(count, _)| *count > 0);
        let named = named.take(TOP_SHARDS);
        counts.fullest = named.map(|(count, shard)| (*shard, *count)).collect();
        counts.by_shard = objects.into_iter().map(|(count, _)| count).collect();
        Some(counts)
    }
}
