//! Where each shard stands on this node, with the numbers and times that go with it.

mod resting;

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use tokio::time::Instant;

use super::Progress;
use super::stages::{Stage, Stages};
use crate::ids::{Incarnation, Revision, ShardCount, ShardId};
use crate::placement::ShardTable;
use crate::placement::ownership::{Ending, Facts, Newest, Phase, Standing, Step};

/// Most shards that are kept closed at the same time, or are about to be. Calls to them wait, and
/// the more there are, the longer each waits for its turn; a transaction takes about as many.
pub(super) const CLOSED_MAX: usize = 64;

/// A closing that took this long waits for turns that run on, and keeps no other shard from
/// closing any more.
pub(super) const SLOW_CLOSING: Duration = Duration::from_millis(250);

/// Every shard of the cluster, as it stands on this node.
#[derive(Debug)]
pub(super) struct Shards {
    local: ShardTable<Local>,
    /// The resting shards, by the end of their rest.
    resting: BTreeSet<(Instant, ShardId)>,
    /// The shards that are closing or closed, by when that began.
    closing: BTreeSet<(Instant, ShardId)>,
    /// How many of those are closed.
    closed: usize,
    stages: Stages,
    owned: u32,
    targeted: u32,
    number: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Local {
    phase: Phase,
    /// The number of the step under way; the end of any other means nothing.
    number: u64,
    /// When the present attempt, to own the shard or to give it up, began.
    since: Option<Instant>,
    /// When the first of those attempts to give it up began that came to nothing so far.
    giving_since: Option<Instant>,
    /// When the step under way began, and when the last one ended.
    step_since: Option<Instant>,
    /// When the shard was closed.
    closed_at: Option<Instant>,
    /// When its state was sent.
    sent_at: Option<Instant>,
    /// By which transaction it should leave, and when that was sent.
    departure: Option<(Departure, Instant)>,
    /// Whether the state could not be sent in the present attempt.
    undelivered: bool,
    /// Failures in a row.
    failures: u32,
    resting_until: Option<Instant>,
    owned: bool,
    targeted: bool,
    /// This node took it over from a dead owner, or tried to.
    taken_over: bool,
}

/// How a shard was to leave this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Departure {
    HandOver(Incarnation),
    Release,
}

/// What the end of a step was, and how long that step took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Took {
    Close(Duration),
    Send(Duration),
}

/// How a shard left this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// To its target, after these times: of the transaction, since it was closed, in all.
    HandedOver {
        commit: Duration,
        gap: Duration,
        total: Duration,
    },
    /// To nobody, after this time in all.
    Released { total: Duration },
}

impl Shards {
    /// Begins with every shard idle. Turns have `drain` to end when their shard closes.
    pub(super) fn new(count: ShardCount, drain: Duration) -> Self {
        Self {
            local: ShardTable::filled(count, Local::default()),
            resting: BTreeSet::new(),
            closing: BTreeSet::new(),
            closed: 0,
            stages: Stages::new(drain),
            owned: 0,
            targeted: 0,
            number: 0,
        }
    }

    /// Forgets everything but the numbers, and returns the shards that the host may hold: open,
    /// or closed with their objects.
    pub(super) fn reset(&mut self) -> Vec<ShardId> {
        let count = self.local.count();
        let local = mem::replace(&mut self.local, ShardTable::filled(count, Local::default()));
        self.resting.clear();
        self.closing.clear();
        self.stages.clear();
        (self.closed, self.owned, self.targeted) = (0, 0, 0);
        let held = local.iter().filter(|(_, local)| {
            let phase = local.phase;
            phase.is_open() || phase.is_closed()
        });
        held.map(|(shard, _)| shard).collect()
    }

    /// Notes whom the newest news names and whether this node is the target.
    pub(super) fn count(&mut self, shard: ShardId, newest: Newest, targeted: bool) {
        let owned = newest.is_me();
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
            Some(Step::Open(_) | Step::LetGo | Step::Discard) => step,
            Some(
                Step::Claim
                | Step::TakeOver(_)
                | Step::Close(_)
                | Step::SendAhead(_, _)
                | Step::HandOver(_, _)
                | Step::End(_)
                | Step::Release(_)
                | Step::Restamp(_),
            ) => step.filter(|_| local.resting_until.is_none_or(|until| until <= now)),
            None => {
                let rests = local.attempt().is_some();
                if rests {
                    self.update(shard, |local| {
                        (local.since, local.giving_since) = (None, None);
                    });
                    self.restage(shard, now);
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
        let reopens = matches!(step, Step::Open(_)) && !self.is_new(shard);
        self.update(shard, |local| {
            local.phase = Phase::after_start(step);
            local.number = number;
            local.step_since = Some(now);
            match step {
                Step::TakeOver(_) => local.taken_over = true,
                Step::Claim | Step::SendAhead(_, _) | Step::End(_) | Step::Restamp(_) => {}
                Step::HandOver(_, shipment) => {
                    local.departure = Some((Departure::HandOver(shipment.to), now));
                }
                Step::Release(_) => local.departure = Some((Departure::Release, now)),
                Step::Close(_) => {
                    local.since = None;
                    local.giving_since = local.giving_since.or(Some(now));
                    local.undelivered = false;
                }
                Step::Open(_) | Step::LetGo | Step::Discard => {
                    (local.since, local.departure) = (None, None);
                    local.taken_over &= matches!(step, Step::Open(_));
                    // A shard that opens again could not be given up, as far as is known.
                    local.giving_since = local.giving_since.filter(|_| reopens);
                    return;
                }
            }
            local.since = local.since.or(Some(now));
        });
        self.restage(shard, now);
    }

    /// Notes that a shard was opened; returns how long it took to own it, if that was an effort.
    pub(super) fn opened(
        &mut self,
        shard: ShardId,
        at: Revision,
        now: Instant,
    ) -> Option<Duration> {
        let local = self.local.get(shard);
        let (is_new, since) = (self.is_new(shard), local.since);
        self.begin(shard, Step::Open(at), now);
        if !is_new {
            return None; // Back from an attempt to give it up, whose failures count on.
        }
        self.forgive(shard);
        since.map(|since| now - since)
    }

    /// Whether a shard that opens now was not here before.
    pub(super) fn is_new(&self, shard: ShardId) -> bool {
        let phase = self.local.get(shard).phase;
        !phase.is_open() && !phase.is_closed()
    }

    /// Whether this node took a shard over from a dead owner.
    pub(super) fn is_taken_over(&self, shard: ShardId) -> bool {
        self.local.get(shard).taken_over
    }

    /// Whether what was sent ahead of a shard is older than `limit`.
    pub(super) fn is_stale(&self, shard: ShardId, now: Instant, limit: Duration) -> bool {
        let sent_at = self.local.get(shard).sent_at;
        sent_at.is_some_and(|sent_at| now - sent_at > limit)
    }

    /// Whether the state of a shard could not be sent in the present effort to give it up.
    pub(super) fn is_undelivered(&self, shard: ShardId) -> bool {
        self.local.get(shard).undelivered
    }

    /// Notes that what was sent ahead of a shard is of no use any more.
    pub(super) fn expire(&mut self, shard: ShardId, now: Instant) {
        let number = self.local.get(shard).number;
        self.end(shard, number, Ending::Undelivered, now);
    }

    /// Whether the step with this number is the one under way.
    pub(super) fn awaits(&self, shard: ShardId, number: u64) -> bool {
        self.local.get(shard).number == number
    }

    /// Notes that the step with this number ended, unless the shard has gone on since.
    pub(super) fn end(
        &mut self,
        shard: ShardId,
        number: u64,
        ending: Ending,
        now: Instant,
    ) -> Option<Took> {
        let local = self.local.get(shard);
        if local.number != number {
            return None;
        }
        let took = now - local.step_since.unwrap_or(now);
        self.update(shard, |local| {
            local.phase = local.phase.after_end(ending);
            local.number = 0;
            local.step_since = Some(now);
            match ending {
                Ending::Closed => local.closed_at = Some(now),
                Ending::Sent(_) => local.sent_at = Some(now),
                Ending::Undelivered => local.undelivered = true,
                Ending::Committed
                | Ending::Refused
                | Ending::NotSent
                | Ending::Unknown
                | Ending::Overdue
                | Ending::Ended => {}
            }
        });
        self.restage(shard, now);
        match ending {
            Ending::Closed => Some(Took::Close(took)),
            Ending::Sent(_) => Some(Took::Send(took)),
            Ending::Committed
            | Ending::Refused
            | Ending::NotSent
            | Ending::Unknown
            | Ending::Overdue
            | Ending::Undelivered
            | Ending::Ended => None,
        }
    }

    /// Notes that a closed shard was let go, since news names `owner`. Returns how it left, if it
    /// did as it should.
    pub(super) fn let_go(
        &mut self,
        shard: ShardId,
        owner: Option<Incarnation>,
        now: Instant,
    ) -> Option<Left> {
        let local = self.local.get(shard);
        let (departure, sent) = local.departure.unzip();
        let (commit, total) = (since(sent, now), since(local.since, now));
        let gap = since(local.closed_at, now);
        self.begin(shard, Step::LetGo, now);
        match (departure?, owner) {
            (Departure::HandOver(to), Some(owner)) if owner == to => {
                Some(Left::HandedOver { commit, gap, total })
            }
            (Departure::Release, None) => Some(Left::Released { total }),
            (Departure::HandOver(_) | Departure::Release, Some(_) | None) => None,
        }
    }

    /// Returns how many more shards may begin to close.
    pub(super) fn room(&self, now: Instant) -> usize {
        CLOSED_MAX.saturating_sub(self.closed + self.fast_closings(now).count())
    }

    /// Returns when there is more room at the latest, though nothing else happens until then.
    pub(super) fn more_room(&self, now: Instant) -> Option<Instant> {
        self.fast_closings(now)
            .last()
            .map(|since| since + SLOW_CLOSING)
    }

    /// Returns when each closing began that may end soon, the latest first.
    fn fast_closings(&self, now: Instant) -> impl Iterator<Item = Instant> {
        let latest = self.closing.iter().rev();
        latest
            .take_while(move |(since, _)| now < *since + SLOW_CLOSING)
            .filter(|(_, shard)| self.local.get(*shard).phase.is_open())
            .map(|(since, _)| *since)
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            owned: self.owned,
            targeted: self.targeted,
            closing: u32::try_from(self.closing.len()).expect("at most every shard"),
            stuck: u32::try_from(self.stages.stuck()).expect("at most every shard"),
        }
    }

    /// Returns for how long the shard that began to close first has been at it.
    pub(super) fn oldest_closing(&self, now: Instant) -> Duration {
        let oldest = self.closing.first();
        oldest.map_or(Duration::ZERO, |(since, _)| now - *since)
    }

    /// Returns the shards that are under way, and since when.
    pub(super) fn stages(&mut self) -> &mut Stages {
        &mut self.stages
    }

    fn restage(&mut self, shard: ShardId, now: Instant) {
        let local = self.local.get(shard);
        let attempt = local.attempt();
        let stage = Stage::of(local.phase, attempt.is_some());
        self.stages.note(shard, stage, attempt.unwrap_or(now));
    }

    fn update(&mut self, shard: ShardId, change: impl FnOnce(&mut Local)) {
        let mut local = self.local.get(shard).clone();
        let before = closing_since(&local);
        self.closed -= usize::from(local.phase.is_closed());
        change(&mut local);
        self.closed += usize::from(local.phase.is_closed());
        let after = closing_since(&local);
        if before != after {
            before.map(|since| self.closing.remove(&(since, shard)));
            after.map(|since| self.closing.insert((since, shard)));
        }
        self.local.set(shard, local);
    }
}

impl Local {
    /// Returns when the attempts began that have come to nothing so far, while none is under way.
    fn attempt(&self) -> Option<Instant> {
        match self.phase.standing() {
            Standing::Idle => self.since,
            Standing::Open => self.giving_since,
            Standing::Claiming | Standing::Closing | Standing::Closed => None,
        }
    }
}

fn closing_since(local: &Local) -> Option<Instant> {
    let is_closing = match local.phase.standing() {
        Standing::Closing | Standing::Closed => true,
        Standing::Idle | Standing::Claiming | Standing::Open => false,
    };
    local.since.filter(|_| is_closing)
}

fn since(then: Option<Instant>, now: Instant) -> Duration {
    then.map_or(Duration::ZERO, |then| now - then)
}
