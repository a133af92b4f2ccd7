//! The plans of a reign that have not ended, and those that the store keeps. Pure.
//!
//! A plan is followed by the view alone: a move is done when its target owns the shard, and not
//! wanted any more when the shard has another target. So nothing has to be remembered, and the
//! leader that comes next goes on where the view says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::counting::handed_over;
use super::flights::Touched;
use super::waves::Basis;
use crate::clock::Moment;
use crate::coordination::keys::{self, BadEntry, Keys};
use crate::coordination::plans::{
    MovePhase, PLANS_KEPT, PlanCheck, PlanEventKind, PlanOutcome, PlanRecord, PlannedMove,
};
use crate::coordination::store::Entry;
use crate::ids::{PlanId, Revision, ShardId};
use crate::placement::ClusterView;

/// How long after its last record a plan's progress is written again.
const RECORD_INTERVAL: Duration = Duration::from_millis(500);

/// Most records that one transaction writes, beside up to 64 blocks of targets.
const RECORDS_MAX: usize = 16;

/// Most old plans that one transaction deletes.
const DELETIONS_MAX: usize = 32;

/// A plan that has not ended, or whose end is not written yet.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) record: Arc<PlanRecord>,
    /// What the planner rested it on; `None`: not known, or it is not the planner's.
    pub(super) basis: Option<Basis>,
    /// The record in the store is older than this one.
    dirty: bool,
    written_at: Option<Moment>,
}

/// All plans. A copy is cheap, so that a draft can change one and be dropped.
#[derive(Clone, Debug, Default)]
pub(super) struct Book {
    /// Those in the store, oldest first.
    kept: VecDeque<PlanId>,
    open: BTreeMap<PlanId, Open>,
}

/// What a transaction does to the records in the store.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) written: Vec<Arc<PlanRecord>>,
    pub(super) deleted: Vec<PlanId>,
}

impl Records {
    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }
}

impl Book {
    /// Reads what the store keeps; plans that have not ended are open again. What their records
    /// do not list is read off the view.
    pub(super) fn read(
        entries: &[Entry],
        keys: &Keys,
        view: &ClusterView,
    ) -> (Self, Vec<BadEntry>) {
        let (mut book, mut unreadable) = (Self::default(), Vec::new());
        for entry in entries {
            book.kept.extend(keys.plan_id(&entry.key));
            match keys::decode_plan(entry, keys, view.meta.shard_count) {
                Ok(mut record) if record.ended_at.is_none() => {
                    record.list_what_was_ordered(view);
                    book.open.insert(record.id, Open::of(record, None, false));
                }
                Ok(_) => {}
                Err(error) => unreadable.push(error),
            }
        }
        (book, unreadable)
    }

    /// Returns the plans that have not ended, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Returns a plan that has not ended.
    pub(super) fn get(&self, plan: PlanId) -> Option<&Open> {
        self.open.get(&plan)
    }

    /// Whether the store keeps this plan.
    pub(super) fn keeps(&self, plan: PlanId) -> bool {
        self.kept.contains(&plan)
    }

    /// Begins a plan.
    pub(super) fn add(&mut self, record: PlanRecord, basis: Option<Basis>) {
        self.open.insert(record.id, Open::of(record, basis, true));
    }

    /// Changes a plan that has not ended.
    pub(super) fn change(&mut self, plan: PlanId, change: impl FnOnce(&mut PlanRecord)) {
        if let Some(open) = self.open.get_mut(&plan) {
            change(Arc::make_mut(&mut open.record));
            open.dirty = true;
        }
    }

    /// Says what a plan rests on from now on.
    pub(super) fn rest_on(&mut self, plan: PlanId, basis: Basis) {
        if let Some(open) = self.open.get_mut(&plan) {
            open.basis = Some(basis);
        }
    }

    /// Follows the moves under way, as far as the touched shards tell, and ends what is through.
    /// Returns the moves that have ended.
    pub(super) fn see(
        &mut self,
        view: &ClusterView,
        touched: &Touched,
        now: SystemTime,
    ) -> Vec<PlannedMove> {
        let mut ended = Vec::new();
        for open in self.open.values_mut() {
            let places: Vec<usize> = match touched {
                Touched::All => (0..open.record.moves.len()).collect(),
                Touched::Some(shards) => shards
                    .iter()
                    .filter_map(|shard| open.record.place(*shard))
                    .collect(),
            };
            for place in places {
                if open.follow(place, view, now) {
                    let step = &open.record.moves[place];
                    ended.extend(step.is_ended().then(|| step.clone()));
                }
            }
        }
        self.end_what_is_through(view, now);
        ended
    }

    /// Ends the plans of which no move is left.
    pub(super) fn end_what_is_through(&mut self, view: &ClusterView, now: SystemTime) {
        for open in self.open.values_mut() {
            if open.record.ended_at.is_none() && !open.record.is_running() {
                open.end(view, now);
            }
        }
    }

    /// Returns the moves that are under way in any plan, with their plan.
    pub(super) fn ordered(&self) -> impl Iterator<Item = (PlanId, &PlannedMove)> {
        self.moves_in(MovePhase::Ordered)
    }

    /// Returns the moves that wait for their wave in any plan, with their plan.
    pub(super) fn pending(&self) -> impl Iterator<Item = (PlanId, &PlannedMove)> {
        self.moves_in(MovePhase::Pending)
    }

    fn moves_in(&self, phase: MovePhase) -> impl Iterator<Item = (PlanId, &PlannedMove)> {
        self.open.iter().flat_map(move |(id, open)| {
            let moves = open
                .record
                .moves
                .iter()
                .filter(move |step| step.phase == phase);
            moves.map(|step| (*id, step))
        })
    }

    /// Returns what of the records has to be written at this moment: what began or ended, and
    /// progress whose record is old enough.
    pub(super) fn due(&self, now: Moment) -> Records {
        let due = self
            .open
            .values()
            .filter(|open| open.due_at().is_some_and(|at| at <= now));
        let mut written: Vec<_> = due.map(|open| open.record.clone()).collect();
        written.sort_by_key(|record| self.keeps(record.id)); // What begins must not wait.
        written.truncate(RECORDS_MAX);
        let new = written
            .iter()
            .filter(|record| !self.keeps(record.id))
            .count();
        let excess = (self.kept.len() + new)
            .saturating_sub(PLANS_KEPT)
            .min(DELETIONS_MAX);
        let oldest = self
            .kept
            .iter()
            .filter(|plan| !self.open.contains_key(plan));
        Records {
            written,
            deleted: oldest.take(excess).copied().collect(),
        }
    }

    /// Returns when something will be due.
    pub(super) fn due_at(&self) -> Option<Moment> {
        self.open.values().filter_map(Open::due_at).min()
    }

    /// Notes what was written; plans that have ended are not open any more.
    pub(super) fn written(&mut self, records: &Records, now: Moment) {
        let deleted: BTreeSet<_> = records.deleted.iter().copied().collect();
        self.kept.retain(|plan| !deleted.contains(plan));
        for record in &records.written {
            if !self.kept.contains(&record.id) {
                self.kept.push_back(record.id);
            }
            if record.ended_at.is_some() {
                self.open.remove(&record.id);
            } else if let Some(open) = self.open.get_mut(&record.id) {
                open.dirty = false;
                open.written_at = Some(now);
            }
        }
    }
}

impl Open {
    fn of(record: PlanRecord, basis: Option<Basis>, dirty: bool) -> Self {
        Self {
            record: Arc::new(record),
            basis,
            dirty,
            written_at: None,
        }
    }

    fn due_at(&self) -> Option<Moment> {
        let at = match self.written_at {
            Some(at) if self.record.ended_at.is_none() => at.plus(RECORD_INTERVAL),
            Some(_) | None => Moment::START,
        };
        self.dirty.then_some(at)
    }

    /// Takes a move to the phase that the view shows, and returns whether that is another.
    fn follow(&mut self, place: usize, view: &ClusterView, now: SystemTime) -> bool {
        let step = &self.record.moves[place];
        let phase = match step.phase {
            MovePhase::Ordered => followed(step, view),
            // Only a leader that has just begun can see this: its predecessor ordered the move
            // after the record was written.
            MovePhase::Pending if is_its_target(step, view) => followed(step, view),
            MovePhase::Pending => step.phase,
            MovePhase::Done | MovePhase::Failed | MovePhase::Cancelled => step.phase,
        };
        let changed = phase != step.phase;
        if changed {
            Arc::make_mut(&mut self.record).set_phase(place, phase, now);
            self.dirty = true;
        }
        changed
    }

    fn end(&mut self, view: &ClusterView, now: SystemTime) {
        let record = Arc::make_mut(&mut self.record);
        record.ended_at = Some(now);
        record.updated_at = now;
        if record.outcome == PlanOutcome::Running {
            record.outcome = match record.counts().failed {
                0 => PlanOutcome::Done,
                _ => PlanOutcome::Failed,
            };
        }
        record.check = Some(checked(record, view));
        self.dirty = true;
    }
}

/// Returns how far a move is whose target was written.
fn followed(step: &PlannedMove, view: &ClusterView) -> MovePhase {
    let owner = view.live_owner(step.shard);
    match owner {
        _ if !is_its_target(step, view) => MovePhase::Cancelled,
        Some(owner) if owner.node == step.to => MovePhase::Done,
        Some(_) | None => MovePhase::Ordered,
    }
}

fn is_its_target(step: &PlannedMove, view: &ClusterView) -> bool {
    view.targets.get(step.shard).node.as_ref() == Some(&step.to)
}

/// Looks at what a plan's moves that are done have come to.
fn checked(record: &PlanRecord, view: &ClusterView) -> PlanCheck {
    let mut check = PlanCheck::default();
    let done = record
        .moves
        .iter()
        .filter(|step| step.phase == MovePhase::Done);
    for step in done.filter(|step| is_its_target(step, view)) {
        check.checked += 1;
        let owned = view
            .live_owner(step.shard)
            .is_some_and(|owner| owner.node == step.to);
        check.not_owned += u32::from(!owned);
        let grown = view.owners.get(step.shard).revision > step.before;
        check.old_token += u32::from(!grown);
    }
    if handed_over(record, view).next().is_none() {
        check.count(&[]); // Nothing came, and nobody has to be asked.
    }
    check
}

impl PlanRecord {
    /// Returns the place of a shard's move, if it is listed.
    pub(super) fn place(&self, shard: ShardId) -> Option<usize> {
        self.moves
            .binary_search_by_key(&shard, |step| step.shard)
            .ok()
    }

    /// Lists the moves that were ordered and are not listed, as far as the targets tell which
    /// plan set them. The others were given other targets since.
    fn list_what_was_ordered(&mut self, view: &ClusterView) {
        let mut unlisted = self.unlisted;
        if unlisted.ordered + unlisted.done == 0 {
            return;
        }
        let mut found = Vec::new();
        for (shard, target) in view.targets.iter() {
            let cause = target.cause.filter(|cause| cause.plan == self.id);
            if let (Some(cause), Some(to), None) = (cause, &target.node, self.place(shard)) {
                let left = if unlisted.ordered > 0 {
                    &mut unlisted.ordered
                } else {
                    &mut unlisted.done
                };
                *left = left.saturating_sub(1);
                found.push(PlannedMove {
                    shard,
                    from: None,
                    to: to.clone(),
                    reason: cause.reason,
                    phase: MovePhase::Ordered,
                    ordered_at: Some(UNIX_EPOCH + cause.at),
                    ended_at: None,
                    before: Revision::default(),
                });
            }
        }
        unlisted.cancelled += unlisted.ordered;
        unlisted.ordered = 0;
        self.unlisted = unlisted;
        self.moves.extend(found);
        self.moves.sort_by_key(|step| step.shard);
    }

    /// Takes a move to another phase.
    pub(super) fn set_phase(&mut self, place: usize, phase: MovePhase, now: SystemTime) {
        let step = &mut self.moves[place];
        if phase != MovePhase::Pending && step.ordered_at.is_none() && phase != MovePhase::Cancelled
        {
            step.ordered_at = Some(now);
        }
        step.ended_at = phase.is_ended().then_some(now);
        step.phase = phase;
        self.updated_at = now;
    }

    /// Drops the moves that `unwanted` says are not wanted any more, of those that wait.
    pub(super) fn drop_pending(
        &mut self,
        now: SystemTime,
        why: &str,
        unwanted: impl Fn(&PlannedMove) -> bool,
    ) {
        let mut dropped = 0;
        for place in 0..self.moves.len() {
            let step = &self.moves[place];
            if step.phase == MovePhase::Pending && unwanted(step) {
                self.set_phase(place, MovePhase::Cancelled, now);
                dropped += 1;
            }
        }
        if dropped > 0 {
            self.note(
                now,
                PlanEventKind::Dropped,
                &format!("{dropped} moves dropped: {why}"),
            );
        }
    }
}
