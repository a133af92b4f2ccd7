//! A plan as an object: what it moves and why, how far it is, and what came of it.
//!
//! Pure values. The leader keeps them while a plan runs and writes them under `plans/<id>`, for
//! those who ask why and for the leader that comes next; nothing is ever owned because of them.

#[cfg(test)]
pub(super) mod tests;

use std::time::{Duration, SystemTime};

use crate::ids::{NodeId, PlanId, Revision, ShardId, Term};
use crate::placement::Arrival;
use crate::placement::planner::Reason;

/// Most moves of a plan that the store lists one by one; of the others it has counts.
pub const MOVES_LISTED_MAX: usize = 512;

/// Most events of a plan that are kept, the newest.
pub const EVENTS_MAX: usize = 32;

/// Most characters of a trigger or of an event's text.
pub const TEXT_LEN_MAX: usize = 300;

/// How many plans are kept in the store for those who ask why.
pub const PLANS_KEPT: usize = 100;

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRecord {
    /// Its name, which grows from plan to plan.
    pub id: PlanId,
    /// The weightiest reason of its moves.
    pub reason: Reason,
    /// What set it off, in words.
    pub trigger: String,
    /// Who carries it out, or did last.
    pub leader: NodeId,
    /// In which reign.
    pub term: Term,
    /// When it was made, by the leader's wall clock, as are all times here.
    pub created_at: SystemTime,
    /// When this record was made of it.
    pub updated_at: SystemTime,
    /// When its last move ended.
    pub ended_at: Option<SystemTime>,
    /// What came of it so far.
    pub outcome: PlanOutcome,
    /// How many times some of its moves were ordered together.
    pub waves: u32,
    /// The fewest moves that would have led to as even a spread.
    pub least: u32,
    /// Its moves, in order of the shards, but for the unlisted ones.
    pub moves: Vec<PlannedMove>,
    /// Counts of moves that are not listed one by one.
    pub unlisted: MoveCounts,
    /// What happened to it that was not planned, oldest first.
    pub events: Vec<PlanEvent>,
    /// What a look at its shards showed after its last move.
    pub check: Option<PlanCheck>,
}

/// One move of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedMove {
    /// Which shard.
    pub shard: ShardId,
    /// Its target before.
    pub from: Option<NodeId>,
    /// Its target after.
    pub to: NodeId,
    /// Why.
    pub reason: Reason,
    /// How far it is.
    pub phase: MovePhase,
    /// When its target was written.
    pub ordered_at: Option<SystemTime>,
    /// When it ended, however.
    pub ended_at: Option<SystemTime>,
    /// The revision of the shard's owner key when the move was ordered.
    pub before: Revision,
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MovePhase {
    /// It waits for its wave.
    Pending,
    /// The shard's target is written, its owner another or none.
    Ordered,
    /// The target owns the shard.
    Done,
    /// It took too long and was given up.
    Failed,
    /// It is not wanted any more.
    Cancelled,
}

/// What came of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanOutcome {
    /// Some of its moves have not ended.
    Running,
    /// All moves that were still wanted are done.
    Done,
    /// An operator ended it early.
    Aborted,
    /// The cluster changed under it, and this plan took its place.
    Superseded(PlanId),
    /// Some of its moves took too long.
    Failed,
}

/// How many moves are in which phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveCounts {
    /// Waiting for their wave.
    pub pending: u32,
    /// Under way.
    pub ordered: u32,
    /// Done.
    pub done: u32,
    /// Given up.
    pub failed: u32,
    /// Not wanted any more.
    pub cancelled: u32,
}

/// Something that happened to a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanEvent {
    /// When.
    pub at: SystemTime,
    /// What kind of thing.
    pub kind: PlanEventKind,
    /// What exactly, in words.
    pub text: String,
}

/// What can happen to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanEventKind {
    /// Moves took longer than they may.
    Stuck,
    /// Another leader goes on with it.
    Continued,
    /// An operator ended it.
    Aborted,
    /// Moves were dropped, as the cluster changed.
    Dropped,
}

/// What a look at the shards of a plan showed after its last move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlanCheck {
    /// Moves that were done and looked at: those that no later plan moved again.
    pub checked: u32,
    /// Of those, the ones whose shard its target does not own.
    pub not_owned: u32,
    /// Of those, the ones whose token did not grow, though the owner changed.
    pub old_token: u32,
    /// Objects whose state the old owners sent with those shards, as they counted them. Objects
    /// that stay behind, and those of owners that died, are none of them. `None` until all new
    /// owners have told, a moment after the last move.
    pub objects_before: Option<u64>,
    /// Objects whose state the new owners have taken in, as they counted them.
    pub objects_after: Option<u64>,
    /// Of those shards, the ones that opened without the state that had been sent.
    pub parcels_missing: u32,
}

impl PlanRecord {
    /// Counts all moves by their phase.
    pub fn counts(&self) -> MoveCounts {
        let mut counts = self.unlisted;
        self.moves.iter().for_each(|step| counts.add(step.phase));
        counts
    }

    /// Whether moves of it are under way or wait for their wave.
    pub fn is_running(&self) -> bool {
        let counts = self.counts();
        counts.pending + counts.ordered > 0
    }

    /// Returns how much of it has ended, from 0 to 100, rounded down. A plan without moves is
    /// through.
    pub fn percent(&self) -> u32 {
        let counts = self.counts();
        let ended = u64::from(counts.ended()) * 100;
        ended
            .checked_div(counts.total().into())
            .map_or(100, |percent| u32::try_from(percent).expect("at most 100"))
    }

    /// Returns when its last move will probably end, if the rest goes as fast as it did so far;
    /// `None` if nothing has ended yet, or all has.
    pub fn ends_at(&self) -> Option<SystemTime> {
        let counts = self.counts();
        let (ended, left) = (counts.ended(), counts.total() - counts.ended());
        if ended == 0 || left == 0 {
            return None;
        }
        let took = self.updated_at.duration_since(self.created_at).ok()?;
        Some(self.updated_at + took.mul_f64(f64::from(left) / f64::from(ended)))
    }

    /// Returns how long it has taken, or took.
    pub fn took(&self) -> Duration {
        let until = self.ended_at.unwrap_or(self.updated_at);
        until.duration_since(self.created_at).unwrap_or_default()
    }

    /// Notes what happened; the oldest events make room.
    pub fn note(&mut self, at: SystemTime, kind: PlanEventKind, text: &str) {
        let excess = (self.events.len() + 1).saturating_sub(EVENTS_MAX);
        self.events.drain(..excess);
        let text = shortened(text);
        self.events.push(PlanEvent { at, kind, text });
    }

    /// Returns what the store is to hold: no more moves than it lists one by one, those that have
    /// not ended or have failed before all others.
    #[must_use]
    pub fn bounded(&self) -> Self {
        let mut record = Self {
            trigger: shortened(&self.trigger),
            ..self.clone()
        };
        let excess = self.moves.len().saturating_sub(MOVES_LISTED_MAX);
        if excess > 0 {
            let mut order: Vec<usize> = (0..self.moves.len()).collect();
            order.sort_by_key(|place| (self.moves[*place].phase.rank(), *place));
            let mut listed = order[..MOVES_LISTED_MAX].to_vec();
            listed.sort_unstable();
            record.moves = listed
                .iter()
                .map(|place| self.moves[*place].clone())
                .collect();
            for place in &order[MOVES_LISTED_MAX..] {
                record.unlisted.add(self.moves[*place].phase);
            }
        }
        record
    }
}

impl PlannedMove {
    /// Whether it has ended, however.
    pub fn is_ended(&self) -> bool {
        self.phase.is_ended()
    }
}

impl MovePhase {
    /// Every phase.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Ordered,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns the stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ordered => "ordered",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the phase of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }

    /// Whether a move in it has ended, however.
    pub fn is_ended(self) -> bool {
        match self {
            Self::Pending | Self::Ordered => false,
            Self::Done | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Says what is listed first, where there is no room for all.
    fn rank(self) -> u32 {
        match self {
            Self::Ordered => 0,
            Self::Failed => 1,
            Self::Pending => 2,
            Self::Cancelled => 3,
            Self::Done => 4,
        }
    }
}

impl PlanOutcome {
    /// Returns the stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Aborted => "aborted",
            Self::Superseded(_) => "superseded",
            Self::Failed => "failed",
        }
    }
}

impl PlanEventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Stuck, Self::Continued, Self::Aborted, Self::Dropped];

    /// Returns the stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Continued => "continued",
            Self::Aborted => "aborted",
            Self::Dropped => "dropped",
        }
    }

    /// Returns the kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl MoveCounts {
    /// Returns how many moves there are.
    pub fn total(&self) -> u32 {
        self.pending + self.ordered + self.ended()
    }

    /// Returns how many have ended, however.
    pub fn ended(&self) -> u32 {
        self.done + self.failed + self.cancelled
    }

    /// Counts one more move.
    pub fn add(&mut self, phase: MovePhase) {
        *match phase {
            MovePhase::Pending => &mut self.pending,
            MovePhase::Ordered => &mut self.ordered,
            MovePhase::Done => &mut self.done,
            MovePhase::Failed => &mut self.failed,
            MovePhase::Cancelled => &mut self.cancelled,
        } += 1;
    }
}

impl PlanCheck {
    /// Whether all is as planned, as far as is known.
    pub fn is_good(&self) -> bool {
        let is_known = self.objects_before.is_some() && self.objects_after.is_some();
        let differs = is_known && self.objects_before != self.objects_after;
        self.not_owned == 0 && self.old_token == 0 && self.parcels_missing == 0 && !differs
    }

    /// Takes in what came with its shards.
    pub(super) fn count(&mut self, arrivals: &[Arrival]) {
        let missing = arrivals.iter().filter(|came| came.sent.is_none()).count();
        self.parcels_missing = u32::try_from(missing).unwrap_or(u32::MAX);
        self.objects_before = Some(arrivals.iter().filter_map(|came| came.sent).sum());
        self.objects_after = Some(arrivals.iter().map(|came| came.taken).sum());
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_LEN_MAX).collect()
}
