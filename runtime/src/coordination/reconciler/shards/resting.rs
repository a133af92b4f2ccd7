//! Shards that rest after a failure: for longer after each, and until others may treat them otherwise.

use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::Shards;
use crate::ids::ShardId;
use crate::placement::ownership::Standing;

/// The most doublings of a rest; far beyond every limit in use.
const DOUBLINGS_MAX: u32 = 16;

impl Shards {
    /// Lets a shard rest after a failure: `first`, doubled by each failure in a row, up to `max`.
    pub(in crate::coordination::reconciler) fn rest(
        &mut self,
        shard: ShardId,
        now: Instant,
        first: Duration,
        max: Duration,
    ) {
        let failures = self.local.get(shard).failures.min(DOUBLINGS_MAX);
        let until = now + first.saturating_mul(1 << failures).min(max);
        self.set_rest(shard, Some(until), failures + 1);
    }

    /// Ends a shard's rest and forgets its failures.
    pub(in crate::coordination::reconciler) fn forgive(&mut self, shard: ShardId) {
        if self.local.get(shard).failures > 0 {
            self.set_rest(shard, None, 0);
        }
    }

    /// Ends the rest of every shard that other nodes may treat otherwise now: of those that are
    /// not held here in any way, and of those that stay open though `target_changed` holds.
    pub(in crate::coordination::reconciler) fn forgive_others(
        &mut self,
        target_changed: impl Fn(ShardId) -> bool,
    ) {
        let resting: Vec<ShardId> = self.resting.iter().map(|(_, shard)| *shard).collect();
        for shard in resting {
            let is_other = match self.local.get(shard).phase.standing() {
                Standing::Idle => true,
                Standing::Open => target_changed(shard),
                Standing::Claiming | Standing::Closing | Standing::Closed => false,
            };
            if is_other {
                self.forgive(shard);
            }
        }
    }

    /// Ends every rest.
    pub(in crate::coordination::reconciler) fn forgive_all(&mut self) {
        for (_, shard) in mem::take(&mut self.resting) {
            self.forgive(shard);
        }
    }

    /// Returns when the next rest ends.
    pub(in crate::coordination::reconciler) fn next_rested(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Takes out the shards whose rest is over. Their failures are not forgotten.
    pub(in crate::coordination::reconciler) fn rested(&mut self, now: Instant) -> Vec<ShardId> {
        let mut rested = Vec::new();
        while let Some((until, shard)) = self
            .resting
            .first()
            .copied()
            .filter(|(until, _)| *until <= now)
        {
            self.resting.remove(&(until, shard));
            self.update(shard, |local| local.resting_until = None);
            rested.push(shard);
        }
        rested
    }

    fn set_rest(&mut self, shard: ShardId, until: Option<Instant>, failures: u32) {
        if let Some(old) = self.local.get(shard).resting_until {
            self.resting.remove(&(old, shard));
        }
        if let Some(until) = until {
            self.resting.insert((until, shard));
        }
        self.update(shard, |local| {
            local.resting_until = until;
            local.failures = failures;
        });
    }
}
