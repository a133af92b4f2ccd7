//! What one transaction of the leader is to change. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::book::Book;
use crate::coordination::plans::{MovePhase, PlanRecord, PlannedMove};
use crate::ids::{Incarnation, PlanId, Revision, ShardId};
use crate::placement::planner::{Move, Reason};
use crate::placement::{Cause, ClusterView, Orders, Target};

/// Changes that are made together or not at all, drawn up on a view.
#[derive(Clone, Debug)]
pub(super) struct Draft<'a> {
    view: &'a ClusterView,
    now: SystemTime,
    /// The plans as they are if this is written.
    pub(super) book: Book,
    /// New targets.
    pub(super) targets: BTreeMap<ShardId, Target>,
    /// New orders.
    pub(super) orders: Option<Orders>,
    /// Dead incarnations whose activity notes are judged, and deleted.
    pub(super) judged: BTreeSet<Incarnation>,
    /// The moves that begin.
    pub(super) ordered: Vec<Move>,
}

impl<'a> Draft<'a> {
    /// Begins without a change.
    pub(super) fn new(view: &'a ClusterView, book: &Book, now: SystemTime) -> Self {
        Self {
            view,
            now,
            book: book.clone(),
            targets: BTreeMap::new(),
            orders: None,
            judged: BTreeSet::new(),
            ordered: Vec::new(),
        }
    }

    /// Whether targets, orders or notes change: such a draft is written whether records are due or not.
    pub(super) fn changes_the_cluster(&self) -> bool {
        !self.targets.is_empty() || self.orders.is_some() || !self.judged.is_empty()
    }

    /// Returns the view as it is once this is written, if nothing else changes.
    pub(super) fn view_after(&self) -> ClusterView {
        let mut view = self.view.clone();
        for (shard, target) in &self.targets {
            view.targets.set(*shard, target.clone());
        }
        if let Some(orders) = &self.orders {
            view.orders = orders.clone();
        }
        view.activity
            .retain(|incarnation, _| !self.judged.contains(incarnation));
        view
    }

    /// Returns the ID of a plan that begins with this draft. One draft begins one plan.
    pub(super) fn plan_id(&self) -> PlanId {
        PlanId::new(self.view.revision.get())
    }

    /// Returns the plan that begins with this draft, if one does.
    pub(super) fn begun(&self) -> Option<Arc<PlanRecord>> {
        self.book
            .get(self.plan_id())
            .map(|open| open.record.clone())
    }

    /// Orders moves that wait in a plan, as one wave.
    pub(super) fn order(&mut self, plan: PlanId, shards: &[ShardId]) {
        let Some(open) = self.book.get(plan) else {
            return;
        };
        let record = open.record.clone();
        for shard in shards {
            if let Some(place) = record.place(*shard) {
                let step = &record.moves[place];
                let before = self.target(*shard);
                let target = Target {
                    node: Some(step.to.clone()),
                    pinned: before.pinned || step.reason == Reason::Pin,
                    cause: Some(self.cause(plan, step.reason)),
                    ..before
                };
                self.targets.insert(*shard, target);
                self.ordered.push(Move {
                    shard: *shard,
                    from: step.from.clone(),
                    to: step.to.clone(),
                    reason: step.reason,
                    gain_permille: 0,
                });
            }
        }
        let (view, now) = (self.view, self.now);
        self.book.change(plan, |record| {
            record.waves += 1;
            for shard in shards {
                if let Some(place) = record.place(*shard) {
                    record.moves[place].before = revision_before(&record.moves[place], view);
                    record.set_phase(place, MovePhase::Ordered, now);
                }
            }
        });
    }

    /// Gives a shard another target at once, on behalf of the plan that begins with this draft.
    pub(super) fn set(&mut self, shard: ShardId, target: Target, reason: Reason) {
        let cause = Some(self.cause(self.plan_id(), reason));
        self.targets.insert(shard, Target { cause, ..target });
    }

    /// Changes what is held against a shard, which is nobody's plan.
    pub(super) fn suspect(&mut self, shard: ShardId, target: Target) {
        self.targets.insert(shard, target);
    }

    fn cause(&self, plan: PlanId, reason: Reason) -> Cause {
        Cause {
            plan,
            reason,
            at: self.now.duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Returns a shard's target as it is with this draft.
    pub(super) fn target(&self, shard: ShardId) -> Target {
        let drafted = self.targets.get(&shard);
        drafted
            .unwrap_or_else(|| self.view.targets.get(shard))
            .clone()
    }
}

/// Returns the revision that the shard's ownership must exceed once the move is done; zero if the
/// target owns it already.
fn revision_before(step: &PlannedMove, view: &ClusterView) -> Revision {
    let owner = view.live_owner(step.shard);
    if owner.is_some_and(|owner| owner.node == step.to) {
        return Revision::default();
    }
    view.owners.get(step.shard).revision
}

/// Makes moves that wait of the planner's moves.
pub(super) fn waiting(moves: &[Move]) -> Vec<PlannedMove> {
    let mut waiting: Vec<PlannedMove> = moves
        .iter()
        .map(|step| PlannedMove {
            shard: step.shard,
            from: step.from.clone(),
            to: step.to.clone(),
            reason: step.reason,
            phase: MovePhase::Pending,
            ordered_at: None,
            ended_at: None,
            before: Revision::default(),
        })
        .collect();
    waiting.sort_by_key(|step| step.shard);
    waiting
}
