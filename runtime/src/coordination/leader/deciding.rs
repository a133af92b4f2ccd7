//! What to write, given what the planner wants. Pure.
//!
//! - What nobody serves is placed at once, all of it, as a plan of its own.
//! - Everything else is one plan at a time, which is carried out wave by wave as it was made. It is
//!   not made anew because of what it changes itself, nor because loads drift meanwhile: only if
//!   what it rests on changes, and the planner then wants something else, does another plan take
//!   its place. Moves under way go on all the same.
//! - Moves that operators ordered are plans beside it, under the same budget.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::book::{Book, Open};
use super::draft::{Draft, waiting};
use super::flights::Flights;
use super::stuck::Overdue;
use super::waves::{self, Basis, Budget, is_held};
use crate::coordination::membership::Identity;
use crate::coordination::plans::{
    MoveCounts, MovePhase, PlanEventKind, PlanOutcome, PlanRecord, PlannedMove,
};
use crate::ids::{NodeId, PlanId, ShardId, Term};
use crate::placement::planner::{Move, Reason};
use crate::placement::{ClusterView, NodeState};

/// Most nodes that a trigger names.
const NODES_NAMED_MAX: usize = 4;

/// Who decides, and on what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deciding<'v, 'a> {
    pub(super) view: &'v ClusterView,
    pub(super) book: &'a Book,
    pub(super) flights: &'a Flights,
    pub(super) budget: Budget,
    pub(super) me: &'a Identity,
    pub(super) term: Term,
    pub(super) now: SystemTime,
}

/// What the planner wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    /// Every move that leads to where it wants the shards, begun or not.
    pub(super) moves: Vec<Move>,
    /// The fewest moves that would do.
    pub(super) least: u32,
    /// It will want something else in a moment, when nodes that join have waited for each other.
    pub(super) waits: bool,
    /// Why it was asked, if not because the cluster changed.
    pub(super) trigger: Option<String>,
}

impl<'v> Deciding<'v, '_> {
    /// Draws up the next changes; none if everything is on its way. `None` of the planner: it has
    /// nothing new to say.
    pub(super) fn next(&self, wanted: Option<&Wanted>) -> Draft<'v> {
        let mut draft = Draft::new(self.view, self.book, self.now);
        match wanted {
            Some(wanted) => self.follow_planner(&mut draft, wanted),
            None => self.begin_wave(&mut draft),
        }
        draft.book.end_what_is_through(self.view, self.now);
        draft
    }

    pub(super) fn follow_planner(&self, draft: &mut Draft<'v>, wanted: &Wanted) {
        let (urgent, rest): (Vec<Move>, Vec<Move>) = wanted
            .moves
            .iter()
            .cloned()
            .partition(|step| is_urgent(step.reason));
        if urgent.is_empty() {
            self.follow_plan(draft, rest, wanted);
            self.begin_wave(draft);
        } else {
            // The rest is planned again once these are in the view: they change the counts.
            let shards: Vec<ShardId> = urgent.iter().map(|step| step.shard).collect();
            let plan = self.add(draft, &urgent, None, wanted);
            draft.order(plan, &shards);
        }
    }

    /// Gives up moves that take too long: their shards stay where they are, or may go elsewhere.
    pub(super) fn give_up(&self, overdue: &[Overdue]) -> Draft<'v> {
        let mut draft = Draft::new(self.view, self.book, self.now);
        for step in overdue {
            let target = draft.target(step.shard);
            let instead = step.instead(&target);
            let is_given_up = instead.is_some();
            if let Some(instead) = instead {
                draft.set(step.shard, instead, Reason::Failure);
            }
            let (text, shard) = (step.to_string(), step.shard);
            let ordered = self
                .book
                .ordered()
                .find(|(_, ordered)| ordered.shard == shard);
            if let Some((plan, _)) = ordered {
                draft.book.change(plan, |record| {
                    if let Some(place) = record.place(shard).filter(|_| is_given_up) {
                        record.set_phase(place, MovePhase::Failed, self.now);
                    }
                    record.note(self.now, PlanEventKind::Stuck, &text);
                });
            }
        }
        let first = overdue.first().map(ToString::to_string).unwrap_or_default();
        let trigger = match overdue.len() {
            0 | 1 => first,
            more => format!("{first}, and {} more", more - 1),
        };
        let record = PlanRecord {
            trigger,
            ..self.empty(draft.plan_id(), Reason::Failure)
        };
        draft.book.add(record, None);
        draft.book.end_what_is_through(self.view, self.now);
        draft
    }

    /// Goes on with the planner's plan that runs, or puts another in its place.
    fn follow_plan(&self, draft: &mut Draft<'v>, moves: Vec<Move>, wanted: &Wanted) {
        let moves: Vec<Move> = moves
            .into_iter()
            .filter(|step| !is_held(step.reason, self.view))
            .collect();
        let basis = Basis::of(self.view);
        let is_held = |open: &&Open| is_held(open.record.reason, self.view);
        // What an operator paused stays as it is, and is looked at again on resuming.
        let running: Vec<&Open> = self
            .book
            .open()
            .filter(|open| is_replaceable(open))
            .collect();
        let running: Vec<&Open> = running.into_iter().filter(|open| !is_held(open)).collect();
        let rests_on = |open: &&Open| open.basis.as_ref() == Some(&basis);
        match running.as_slice() {
            [] if moves.is_empty() => {}
            [] => {
                self.add(draft, &moves, Some(basis), wanted);
            }
            _ if wanted.waits => {} // What runs goes on meanwhile.
            plans if wanted.trigger.is_none() && plans.iter().all(rests_on) => {}
            [plan] if wanted.trigger.is_none() && has_all(plan, &moves) => {
                self.go_on(draft, plan, &moves, basis);
            }
            plans => self.replace(draft, plans, &moves, basis, wanted),
        }
    }

    /// Lets what waits of these plans be, and puts a plan with these moves in their place.
    fn replace(
        &self,
        draft: &mut Draft<'v>,
        plans: &[&Open],
        moves: &[Move],
        basis: Basis,
        wanted: &Wanted,
    ) {
        let id = draft.plan_id();
        for open in plans {
            let by = (!moves.is_empty()).then_some(id);
            supersede(draft, open.record.id, by, self.now);
        }
        if !moves.is_empty() {
            self.add(draft, moves, Some(basis), wanted);
        }
    }

    /// Goes on with a plan of which the planner still wants some or all.
    fn go_on(&self, draft: &mut Draft<'v>, open: &Open, moves: &[Move], basis: Basis) {
        let (id, now) = (open.record.id, self.now);
        let wanted: BTreeMap<ShardId, &Move> =
            moves.iter().map(|step| (step.shard, step)).collect();
        draft.book.change(id, |record| {
            if record.unlisted.pending > 0 {
                record.unlisted.pending = 0;
                let listed: BTreeSet<_> = record.moves.iter().map(|step| step.shard).collect();
                let missing: Vec<Move> = moves
                    .iter()
                    .filter(|step| !listed.contains(&step.shard))
                    .cloned()
                    .collect();
                record.moves.extend(waiting(&missing));
                record.moves.sort_by_key(|step| step.shard);
            }
            let why = "they are not needed any more";
            record.drop_pending(now, why, |step| {
                wanted
                    .get(&step.shard)
                    .is_none_or(|wanted| wanted.to != step.to)
            });
            if record.term != self.term {
                let text = format!("{} goes on with it", self.me.node);
                record.note(now, PlanEventKind::Continued, &text);
                record.leader = self.me.node.clone();
                record.term = self.term;
            }
        });
        draft.book.rest_on(id, basis);
    }

    /// Begins a plan whose moves all wait.
    pub(super) fn add(
        &self,
        draft: &mut Draft<'v>,
        moves: &[Move],
        basis: Option<Basis>,
        wanted: &Wanted,
    ) -> PlanId {
        let reasons = moves.iter().map(|step| step.reason);
        let reason = Reason::weightiest(reasons).expect("a plan has moves");
        let trigger = wanted.trigger.clone();
        let record = PlanRecord {
            moves: waiting(moves),
            least: wanted.least,
            trigger: trigger.unwrap_or_else(|| trigger_of(moves, reason, self.view)),
            ..self.empty(draft.plan_id(), reason)
        };
        draft.book.add(record, basis);
        draft.plan_id()
    }

    /// Returns a plan without moves.
    pub(super) fn empty(&self, id: PlanId, reason: Reason) -> PlanRecord {
        PlanRecord {
            id,
            reason,
            trigger: String::new(),
            leader: self.me.node.clone(),
            term: self.term,
            created_at: self.now,
            updated_at: self.now,
            ended_at: None,
            outcome: PlanOutcome::Running,
            waves: 0,
            least: 0,
            moves: Vec::new(),
            unlisted: MoveCounts::default(),
            events: Vec::new(),
            check: None,
        }
    }

    /// Orders the moves that fit under the budget, and drops those that cannot be any more.
    pub(super) fn begin_wave(&self, draft: &mut Draft<'v>) {
        let wave = waves::next(&draft.book, self.flights, self.view, self.budget);
        for (plan, shards) in by_plan(&wave.drop) {
            draft.book.change(plan, |record| {
                let why = "the shard or its new node is not as it was";
                record.drop_pending(self.now, why, |step| shards.contains(&step.shard));
            });
        }
        for (plan, shards) in by_plan(&wave.begin) {
            draft.order(plan, &shards);
        }
    }
}

/// Whether shards with this reason are served by nobody, so that nothing is to be saved up.
fn is_urgent(reason: Reason) -> bool {
    match reason {
        Reason::Failure | Reason::Unplaced => true,
        Reason::Manual
        | Reason::Pin
        | Reason::Drain
        | Reason::Zone
        | Reason::Join
        | Reason::Load => false,
    }
}

/// Whether operators alone cause moves with this reason.
pub(super) fn is_ordered(reason: Reason) -> bool {
    match reason {
        Reason::Manual | Reason::Pin => true,
        Reason::Failure
        | Reason::Unplaced
        | Reason::Drain
        | Reason::Zone
        | Reason::Join
        | Reason::Load => false,
    }
}

/// Whether another plan of the planner's may take this one's place: some of it waits, and no
/// operator ordered it.
fn is_replaceable(open: &Open) -> bool {
    let waits = open.record.counts().pending > 0;
    waits && !is_ordered(open.record.reason) && open.record.outcome == PlanOutcome::Running
}

/// Whether all these moves wait in a plan already. Of those that are not listed, only the number
/// is known.
fn has_all(open: &Open, moves: &[Move]) -> bool {
    let record = &open.record;
    let waits = |step: &&Move| {
        record.place(step.shard).is_some_and(|place| {
            let listed: &PlannedMove = &record.moves[place];
            listed.phase == MovePhase::Pending && listed.to == step.to
        })
    };
    let unknown = moves.iter().filter(|step| !waits(step)).count();
    !moves.is_empty() && unknown <= record.unlisted.pending as usize
}

/// Drops what waits of a plan, in favour of another if there is one.
fn supersede(draft: &mut Draft<'_>, plan: PlanId, by: Option<PlanId>, now: SystemTime) {
    let why = match by {
        Some(by) => format!("plan {by} takes this plan's place"),
        None => "they are not needed any more".into(),
    };
    draft.book.change(plan, |record| {
        record.drop_pending(now, &why, |_| true);
        record.unlisted.cancelled += record.unlisted.pending;
        record.unlisted.pending = 0;
        if let Some(by) = by {
            record.outcome = PlanOutcome::Superseded(by);
        }
    });
}

fn by_plan(moves: &[(PlanId, ShardId)]) -> BTreeMap<PlanId, Vec<ShardId>> {
    let mut plans: BTreeMap<PlanId, Vec<ShardId>> = BTreeMap::new();
    for (plan, shard) in moves {
        plans.entry(*plan).or_default().push(*shard);
    }
    plans
}

/// Says in words what set the planner off.
fn trigger_of(moves: &[Move], reason: Reason, view: &ClusterView) -> String {
    let moves = || moves.iter().filter(|step| step.reason == reason);
    let froms = || moves().filter_map(|step| step.from.as_ref());
    let count = moves().count();
    match reason {
        Reason::Unplaced => format!("{count} shards had no node"),
        Reason::Failure => format!("{} went away", named(froms(), |_| true)),
        Reason::Drain => {
            let drains = |node: &NodeId| {
                view.nodes
                    .get(node)
                    .is_some_and(|r| r.state == NodeState::Draining)
            };
            format!("{} gives its shards up", named(froms(), drains))
        }
        Reason::Manual | Reason::Pin => "an operator ordered it".into(),
        Reason::Zone => format!("{count} shards were in another zone than they should be"),
        Reason::Load => format!("{} did more than its share", named(froms(), |_| true)),
        Reason::Join => {
            let tos = moves().map(|step| &step.to);
            format!("{} takes its share", named(tos, |_| true))
        }
    }
}

/// Writes some nodes: `n1, n2 and 3 more`.
fn named<'a>(nodes: impl Iterator<Item = &'a NodeId>, only: impl Fn(&NodeId) -> bool) -> String {
    let nodes: BTreeSet<&NodeId> = nodes.filter(|node| only(node)).collect();
    let names: Vec<&str> = nodes
        .iter()
        .take(NODES_NAMED_MAX)
        .map(|node| node.as_str())
        .collect();
    match nodes.len().saturating_sub(NODES_NAMED_MAX) {
        _ if names.is_empty() => "a node".into(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}
