//! How long each stage of owning a shard, or of giving it up, may take before it counts as stuck.
//!
//! Nothing is undone when a limit passes: every step goes on or is tried again by itself. Stuck work
//! is reported, so that operators see it and the leader can plan without the node that does not
//! act.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::work::SEND_LIMIT;
use super::{MOVE_RETRY_MAX, SENT_LIMIT};
use crate::ids::{NodeId, ShardId};
use crate::placement::ownership::Phase;

/// How long it may take to own a shard, with retries. A transaction takes milliseconds, and its
/// failure is known within seconds.
const CLAIM_LIMIT: Duration = Duration::from_secs(10);

/// How much longer than its own limit the host's work may take.
const WORK_GRACE: Duration = Duration::from_secs(3);

/// How long a hand-over may take, with retries, until the shard opens again.
const HAND_OVER_LIMIT: Duration = SENT_LIMIT.saturating_mul(5);

/// How long a release may take, with retries.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// How long a transaction may be in doubt.
const RESOLVE_LIMIT: Duration = Duration::from_secs(10);

/// What a shard that is under way goes through, as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// It is claimed or taken over.
    Claim,
    /// It could not be given up, stays open and is tried again.
    Retry,
    /// Its running turns end.
    Close,
    /// Its state is sent to the target.
    Send,
    /// It is handed over.
    HandOver,
    /// Its objects end.
    End,
    /// It is released to nobody.
    Release,
    /// Whether it was given up is in doubt.
    Resolve,
}

/// A shard that is on its way here or away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    /// Which shard.
    pub shard: ShardId,
    /// What is done with it now.
    pub stage: Stage,
    /// For how long it has been in this stage; in [`Stage::Retry`] since the first attempt.
    pub age: Duration,
    /// Whether that is longer than the stage may take.
    pub stuck: bool,
    /// Where it should be.
    pub target: Option<NodeId>,
    /// What went wrong last, if anything did.
    pub cause: Option<Arc<str>>,
}

/// The shards that are under way, and since when.
#[derive(Debug)]
pub(super) struct Stages {
    /// How long running turns have to end.
    drain: Duration,
    entries: BTreeMap<ShardId, Entry>,
    /// When each shard that is not stuck yet will be.
    limits: BTreeSet<(Instant, ShardId)>,
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    since: Instant,
    /// `None` once it has passed.
    limit: Option<Instant>,
    cause: Option<Arc<str>>,
}

impl Stages {
    pub(super) fn new(drain: Duration) -> Self {
        Self {
            drain,
            entries: BTreeMap::new(),
            limits: BTreeSet::new(),
        }
    }

    /// Forgets every shard.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.drain);
    }

    /// Sets how long turns have to end from now on, for stages that begin from now on.
    pub(super) fn set_drain(&mut self, drain: Duration) {
        self.drain = drain;
    }

    /// Notes in which stage a shard is; `since` counts if that is another one than before.
    pub(super) fn note(&mut self, shard: ShardId, stage: Option<Stage>, since: Instant) {
        let before = self.entries.get(&shard).map(|entry| entry.stage);
        if before == stage {
            return;
        }
        let old = self.entries.remove(&shard);
        if let Some(limit) = old.as_ref().and_then(|entry| entry.limit) {
            self.limits.remove(&(limit, shard));
        }
        let Some(stage) = stage else {
            return;
        };
        let limit = since.checked_add(self.limit(stage));
        self.limits.extend(limit.map(|limit| (limit, shard)));
        let entry = Entry {
            stage,
            since,
            limit,
            cause: old.and_then(|entry| entry.cause),
        };
        self.entries.insert(shard, entry);
    }

    /// Notes what went wrong with a shard that is under way.
    pub(super) fn blame(&mut self, shard: ShardId, cause: &Arc<str>) {
        if let Some(entry) = self.entries.get_mut(&shard) {
            entry.cause = Some(cause.clone());
        }
    }

    /// Returns when the next shard will be stuck.
    pub(super) fn next_limit(&self) -> Option<Instant> {
        self.limits.first().map(|(limit, _)| *limit)
    }

    /// Takes out the shards that are stuck since the last time.
    pub(super) fn newly_stuck(&mut self, now: Instant) -> Vec<ShardId> {
        let mut stuck = Vec::new();
        while let Some((limit, shard)) = self.limits.first().copied()
            && limit <= now
        {
            self.limits.remove(&(limit, shard));
            let entry = self.entries.get_mut(&shard);
            entry.expect("what has a limit is under way").limit = None;
            stuck.push(shard);
        }
        stuck
    }

    /// Returns how many shards are stuck.
    pub(super) fn stuck(&self) -> usize {
        self.entries.len() - self.limits.len()
    }

    /// Returns how a shard stands that is under way.
    pub(super) fn get(&self, shard: ShardId, now: Instant) -> Option<UnderWay> {
        let entry = self.entries.get(&shard)?;
        Some(UnderWay {
            shard,
            stage: entry.stage,
            age: now - entry.since,
            stuck: entry.limit.is_none(),
            target: None,
            cause: entry.cause.clone(),
        })
    }

    /// Returns the shards that are under way, the oldest first, at most `max`.
    pub(super) fn oldest(&self, max: usize, now: Instant) -> Vec<UnderWay> {
        let ages = self
            .entries
            .iter()
            .map(|(shard, entry)| (entry.since, *shard));
        let mut ages: Vec<(Instant, ShardId)> = ages.collect();
        ages.sort_unstable();
        let oldest = ages.into_iter().take(max);
        oldest
            .filter_map(|(_, shard)| self.get(shard, now))
            .collect()
    }

    /// Returns how long a stage may take.
    fn limit(&self, stage: Stage) -> Duration {
        match stage {
            Stage::Claim => CLAIM_LIMIT,
            Stage::Close | Stage::End => self.drain.saturating_add(WORK_GRACE),
            Stage::Retry => self.drain.saturating_add(MOVE_RETRY_MAX),
            Stage::Send => SEND_LIMIT + WORK_GRACE,
            Stage::HandOver => HAND_OVER_LIMIT,
            Stage::Release => RELEASE_LIMIT,
            Stage::Resolve => RESOLVE_LIMIT,
        }
    }
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 8] = [
        Self::Claim,
        Self::Retry,
        Self::Close,
        Self::Send,
        Self::HandOver,
        Self::End,
        Self::Release,
        Self::Resolve,
    ];

    /// Returns the name that metrics, logs and answers to operators use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Retry => "retry",
            Self::Close => "close",
            Self::Send => "send",
            Self::HandOver => "hand_over",
            Self::End => "end",
            Self::Release => "release",
            Self::Resolve => "resolve",
        }
    }

    /// Returns the stage of a shard; `None` if it rests where it is. `in_effort`: an attempt to own
    /// it, or to give it up, has begun and did not end.
    pub(super) fn of(phase: Phase, in_effort: bool) -> Option<Self> {
        match phase {
            Phase::Idle => in_effort.then_some(Self::Claim),
            Phase::Open(_) => in_effort.then_some(Self::Retry),
            Phase::Claiming => Some(Self::Claim),
            Phase::Closing(_) => Some(Self::Close),
            Phase::Closed(_) | Phase::Sending(_, _) | Phase::Undeliverable(_) => Some(Self::Send),
            Phase::Sent(_, _) | Phase::HandingOver(_, _) => Some(Self::HandOver),
            Phase::Ending(_) => Some(Self::End),
            Phase::Ended(_) | Phase::Releasing(_) => Some(Self::Release),
            Phase::Unresolved(_) | Phase::Restamping(_) => Some(Self::Resolve),
        }
    }
}
