//! Where each shard stands on this node, with the numbers and times that go with it.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::Progress;
use crate::ids::{Revision, ShardCount, ShardId};
use crate::placement::ShardTable;
use crate::placement::ownership::{Ending, Facts, Newest, Phase, Step};

/// The most doublings of a rest; far beyond every limit in use.
const DOUBLINGS_MAX: u32 = 16;

/// Every shard of the cluster, as it stands on this node.
#[derive(Debug)]
pub(super) struct Shards {
    local: ShardTable<Local>,
    /// The resting shards, by the end of their rest.
    resting: BTreeSet<(Instant, ShardId)>,
    /// The shards that are closing or closed, by when that began.
    closing: BTreeSet<(Instant, ShardId)>,
    owned: u32,
    targeted: u32,
    number: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Local {
    phase: Phase,
    /// The number of the step under way; the end of any other means nothing.
    number: u64,
    /// When the present effort, to own the shard or to give it up, began.
    since: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    resting_until: Option<Instant>,
    owned: bool,
    targeted: bool,
}

impl Shards {
    pub(super) fn new(count: ShardCount) -> Self {
        Self {
            local: ShardTable::filled(count, Local::default()),
            resting: BTreeSet::new(),
            closing: BTreeSet::new(),
            owned: 0,
            targeted: 0,
            number: 0,
        }
    }

    /// Forgets everything but the numbers, and returns the shards that may be open at the host.
    pub(super) fn reset(&mut self) -> Vec<ShardId> {
        let count = self.local.count();
        let fresh = Self {
            number: self.number,
            ..Self::new(count)
        };
        let old = mem::replace(self, fresh);
        let open = old.local.iter().filter(|(_, local)| local.phase.is_open());
        open.map(|(shard, _)| shard).collect()
    }

    /// Notes whom the newest news names and whether this node is the target.
    pub(super) fn count(&mut self, shard: ShardId, newest: Newest, targeted: bool) {
        let owned = newest == Newest::Me;
        let local = self.local.get(shard);
        if (local.owned, local.targeted) == (owned, targeted) {
            return;
        }
        self.owned = self.owned + u32::from(owned) - u32::from(local.owned);
        self.targeted = self.targeted + u32::from(targeted) - u32::from(local.targeted);
        self.update(shard, |local| {
            local.owned = owned;
            local.targeted = targeted;
        });
    }

    /// Returns the step to start now. A resting shard starts none that may fail.
    pub(super) fn next_step(&mut self, shard: ShardId, facts: Facts, now: Instant) -> Option<Step> {
        let local = self.local.get(shard);
        let step = local.phase.next_step(facts);
        match step {
            Some(Step::Open(_) | Step::Discard) => step,
            Some(
                Step::Claim
                | Step::TakeOver(_)
                | Step::Close(_)
                | Step::Release(_)
                | Step::Restamp(_),
            ) => step.filter(|_| local.resting_until.is_none_or(|until| until <= now)),
            None => {
                if local.phase == Phase::Idle && local.since.is_some() {
                    self.update(shard, |local| local.since = None);
                }
                None
            }
        }
    }

    /// Returns the number for the next step that ends later.
    pub(super) fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// Notes that a step was started and returns its number.
    pub(super) fn begin(&mut self, shard: ShardId, step: Step, now: Instant) -> u64 {
        let number = self.next_number();
        self.begin_as(shard, step, number, now);
        number
    }

    /// Notes that a step was started under a number that it shares with others.
    pub(super) fn begin_as(&mut self, shard: ShardId, step: Step, number: u64, now: Instant) {
        self.update(shard, |local| {
            local.phase = Phase::after_start(step);
            local.number = number;
            local.since = match step {
                Step::Claim | Step::TakeOver(_) | Step::Release(_) | Step::Restamp(_) => {
                    local.since.or(Some(now))
                }
                Step::Close(_) => Some(now),
                Step::Open(_) | Step::Discard => None,
            };
        });
    }

    /// Notes that a shard was opened; returns how long it took to own it, if that was an effort.
    pub(super) fn opened(
        &mut self,
        shard: ShardId,
        at: Revision,
        now: Instant,
    ) -> Option<Duration> {
        let local = self.local.get(shard);
        let since = match local.phase {
            Phase::Idle | Phase::Claiming => local.since,
            Phase::Open(_)
            | Phase::Closing(_)
            | Phase::Closed(_)
            | Phase::Releasing(_)
            | Phase::Unresolved(_)
            | Phase::Restamping(_) => None,
        };
        self.begin(shard, Step::Open(at), now);
        self.forgive(shard);
        since.map(|since| now - since)
    }

    /// Notes that the step with this number ended, unless the shard has gone on since. Returns
    /// how long it took to give the shard up, if that is what ended.
    pub(super) fn end(
        &mut self,
        shard: ShardId,
        number: u64,
        ending: Ending,
        now: Instant,
    ) -> Option<Duration> {
        let local = self.local.get(shard);
        if local.number != number {
            return None;
        }
        let released = match (local.phase, ending) {
            (Phase::Releasing(_), Ending::Committed) => local.since.map(|since| now - since),
            (_, _) => None,
        };
        self.update(shard, |local| {
            local.phase = local.phase.after_end(ending);
            local.number = 0;
            if released.is_some() {
                local.since = None;
            }
        });
        released
    }

    /// Lets a shard rest after a failure: `first`, doubled by each failure in a row, up to `max`.
    pub(super) fn rest(&mut self, shard: ShardId, now: Instant, first: Duration, max: Duration) {
        let failures = self.local.get(shard).failures.min(DOUBLINGS_MAX);
        let until = now + first.saturating_mul(1 << failures).min(max);
        self.set_rest(shard, Some(until), failures + 1);
    }

    /// Ends a shard's rest and forgets its failures.
    pub(super) fn forgive(&mut self, shard: ShardId) {
        if self.local.get(shard).failures > 0 {
            self.set_rest(shard, None, 0);
        }
    }

    /// Ends the rest of every shard that is not held here in any way.
    pub(super) fn forgive_idle(&mut self) {
        let resting: Vec<ShardId> = self.resting.iter().map(|(_, shard)| *shard).collect();
        for shard in resting {
            if self.local.get(shard).phase == Phase::Idle {
                self.forgive(shard);
            }
        }
    }

    /// Ends every rest.
    pub(super) fn forgive_all(&mut self) {
        for (_, shard) in mem::take(&mut self.resting) {
            self.forgive(shard);
        }
    }

    /// Returns when the next rest ends.
    pub(super) fn next_rested(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Takes out the shards whose rest is over. Their failures are not forgotten.
    pub(super) fn rested(&mut self, now: Instant) -> Vec<ShardId> {
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

    pub(super) fn progress(&self) -> Progress {
        Progress {
            owned: self.owned,
            targeted: self.targeted,
            closing: u32::try_from(self.closing.len()).expect("at most every shard"),
        }
    }

    /// Returns for how long the shard that began to close first has been at it.
    pub(super) fn oldest_closing(&self, now: Instant) -> Duration {
        let oldest = self.closing.first();
        oldest.map_or(Duration::ZERO, |(since, _)| now - *since)
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

    fn update(&mut self, shard: ShardId, change: impl FnOnce(&mut Local)) {
        let mut local = self.local.get(shard).clone();
        let before = closing_since(&local);
        change(&mut local);
        let after = closing_since(&local);
        if before != after {
            before.map(|since| self.closing.remove(&(since, shard)));
            after.map(|since| self.closing.insert((since, shard)));
        }
        self.local.set(shard, local);
    }
}

fn closing_since(local: &Local) -> Option<Instant> {
    match local.phase {
        Phase::Closing(_)
        | Phase::Closed(_)
        | Phase::Releasing(_)
        | Phase::Unresolved(_)
        | Phase::Restamping(_) => local.since,
        Phase::Idle | Phase::Claiming | Phase::Open(_) => None,
    }
}
