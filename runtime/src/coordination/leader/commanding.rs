//! What operators order, as changes of a draft. Pure.
//!
//! A command says what should be. What is so already changes nothing and is answered as such, so a
//! command whose answer was lost can be given again. What the planner would undo is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;

use super::answered::Answered;
use super::book::Open;
use super::deciding::{Deciding, Wanted, is_ordered};
use super::draft::Draft;
use crate::coordination::commands::{Command, Done, MOVES_MAX, Refusal, RefusalCode};
use crate::coordination::plans::{MovePhase, PlanEventKind, PlanOutcome, PlanRecord, PlannedMove};
use crate::ids::{NodeId, PlanId, ShardId};
use crate::placement::planner::{self, Move, Plan, Reason, Strategy};
use crate::placement::{Orders, Suspicion, Target};

/// Most plans of operators that run at once.
const ORDERED_PLANS_MAX: usize = 32;

/// Asks the planner what it makes of commands, and of another strategy.
pub(super) type AskPlanner<'p> =
    dyn Fn(&BTreeMap<ShardId, planner::Command>, Option<Strategy>) -> (Plan, u32) + 'p;

/// A command, by whose way it came, and who says whether it may be.
pub(super) struct Ordered<'c> {
    pub(super) command: &'c Command,
    pub(super) via: &'c NodeId,
    pub(super) ask: &'c AskPlanner<'c>,
}

impl<'v> Deciding<'v, '_> {
    /// Draws up what a command changes.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if it cannot be carried out; then nothing changes.
    pub(super) fn obey(&self, ordered: &Ordered<'_>) -> Result<Answered<'v>, Refusal> {
        let mut draft = Draft::new(self.view, self.book, self.now);
        let draft_mut = &mut draft;
        let mut judged = None;
        let mut done = match ordered.command {
            Command::Pin { shard, node } => self.pin(draft_mut, ordered, *shard, node.as_ref())?,
            Command::Unpin { shard } => self.unpin(draft_mut, ordered, *shard)?,
            Command::Move { moves } => self.move_shards(draft_mut, ordered, moves, &mut judged)?,
            Command::Cordon { node } => self.cordon(draft_mut, node)?,
            Command::Uncordon { node } => self.uncordon(draft_mut, node),
            Command::Release { shard } => self.release(draft_mut, ordered, *shard)?,
            Command::Rebalance { dry_run, strategy } => {
                self.rebalance(draft_mut, ordered, *dry_run, *strategy)?
            }
            Command::Pause => self.pause(draft_mut, true),
            Command::Resume => self.pause(draft_mut, false),
            Command::Abort { plan, reverse } => self.abort(draft_mut, ordered, *plan, *reverse)?,
        };
        draft.book.end_what_is_through(self.view, self.now);
        if let Some(plan) = draft.begun() {
            done.plan = Some((*plan).clone());
        }
        Ok(Answered {
            draft,
            done,
            judged,
        })
    }

    fn pin(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        shard: ShardId,
        node: Option<&NodeId>,
    ) -> Result<Done, Refusal> {
        let target = self.view.targets.get(shard);
        let place = || self.view.live_owner(shard).map(|owner| owner.node.clone());
        let node = node.cloned().or_else(place).or_else(|| target.node.clone());
        let node = node.ok_or_else(|| {
            let detail = format!("shard {shard} is nowhere: name the node to pin it to");
            Refusal::new(RefusalCode::Nowhere, detail)
        })?;
        if target.pinned && target.node.as_ref() == Some(&node) {
            return Ok(Done::already(format!("shard {shard} is pinned to {node}")));
        }
        let command = planner::Command::Pin(node.clone());
        admitted(ordered, &[(shard, command)].into())?;
        let text = format!("shard {shard} is pinned to {node}");
        if target.node.as_ref() == Some(&node) {
            self.drop_waiting(draft, &[shard].into());
            let target = Target {
                pinned: true,
                ..target.clone()
            };
            self.mark_one(draft, shard, target, ordered, Reason::Pin)?;
        } else {
            self.order_moves(draft, ordered, &[(shard, node)], Reason::Pin)?;
        }
        Ok(changed(text))
    }

    fn unpin(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        shard: ShardId,
    ) -> Result<Done, Refusal> {
        let target = self.view.targets.get(shard);
        let waits = |open: &Open| {
            let place = open.record.place(shard);
            place.is_some_and(|place| {
                let step = &open.record.moves[place];
                step.reason == Reason::Pin && step.phase == MovePhase::Pending
            })
        };
        let text = format!("shard {shard} is not pinned");
        if !target.pinned && !self.book.open().any(waits) {
            return Ok(Done::already(text));
        }
        self.drop_waiting(draft, &[shard].into());
        let target = Target {
            pinned: false,
            ..target.clone()
        };
        self.mark_one(draft, shard, target, ordered, Reason::Manual)?;
        Ok(changed(text))
    }

    fn move_shards(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        moves: &[(ShardId, NodeId)],
        judged: &mut Option<Plan>,
    ) -> Result<Done, Refusal> {
        let wanted: BTreeMap<ShardId, NodeId> = moves.iter().cloned().collect();
        let malformed = |detail: String| Err(Refusal::new(RefusalCode::Malformed, detail));
        if moves.is_empty() {
            return Ok(Done::already("there is nothing to move"));
        }
        if moves.len() > MOVES_MAX {
            let (most, named) = (MOVES_MAX, moves.len());
            return malformed(format!(
                "a command moves at most {most} shards, not {named}"
            ));
        }
        if wanted.len() < moves.len() {
            return malformed("a command names each shard once".into());
        }
        let there = |shard: &ShardId, node: &NodeId| {
            self.view.targets.get(*shard).node.as_ref() == Some(node)
        };
        let left: Vec<(ShardId, NodeId)> = wanted
            .into_iter()
            .filter(|(shard, node)| !there(shard, node))
            .collect();
        if left.is_empty() {
            return Ok(Done::already("the shards are there, or on their way"));
        }
        let command =
            |(shard, node): &(ShardId, NodeId)| (*shard, planner::Command::Move(node.clone()));
        *judged = Some(admitted(ordered, &left.iter().map(command).collect())?);
        self.order_moves(draft, ordered, &left, Reason::Manual)?;
        Ok(changed(match left.as_slice() {
            [(shard, node)] => format!("shard {shard} moves to {node}"),
            moves => format!("{} shards move", moves.len()),
        }))
    }

    fn cordon(&self, draft: &mut Draft<'v>, node: &NodeId) -> Result<Done, Refusal> {
        let text = format!("{node} gets no more shards, and keeps what it has");
        if self.view.orders.cordoned.contains(node) {
            return Ok(Done::already(text));
        }
        if !self.view.nodes.contains_key(node) {
            let detail = format!("there is no live node {node}");
            return Err(Refusal::new(RefusalCode::UnknownNode, detail));
        }
        let orders = self.orders(draft);
        orders.cordoned.insert(node.clone());
        Ok(changed(text))
    }

    fn uncordon(&self, draft: &mut Draft<'v>, node: &NodeId) -> Done {
        let text = format!("{node} gets shards");
        if !self.view.orders.cordoned.contains(node) {
            return Done::already(text);
        }
        let orders = self.orders(draft);
        orders.cordoned.remove(node);
        changed(text)
    }

    fn release(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        shard: ShardId,
    ) -> Result<Done, Refusal> {
        let text = format!("shard {shard} is in no quarantine");
        let target = self.view.targets.get(shard);
        if !target.quarantined {
            return Ok(Done::already(text));
        }
        // Where it goes is planned as soon as this is in the view.
        let target = Target {
            node: None,
            quarantined: false,
            suspicion: target.suspicion.map(|suspicion| self.pardoned(suspicion)),
            ..target.clone()
        };
        self.mark_one(draft, shard, target, ordered, Reason::Manual)?;
        Ok(changed(text))
    }

    /// Returns what stays on the record of a shard whose quarantine an operator ends: it is a prime
    /// suspect, and its next quarantine is short again.
    fn pardoned(&self, suspicion: Suspicion) -> Suspicion {
        Suspicion {
            deaths: suspicion.deaths.saturating_sub(1),
            at: self.now.duration_since(UNIX_EPOCH).unwrap_or_default(),
            quarantines: 0,
        }
    }

    fn rebalance(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        dry_run: bool,
        strategy: Option<Strategy>,
    ) -> Result<Done, Refusal> {
        let (plan, least) = (ordered.ask)(&BTreeMap::new(), strategy);
        let moves = [plan.moves, plan.pending].concat();
        let Some(reason) = Reason::weightiest(moves.iter().map(|step| step.reason)) else {
            return Ok(Done::already("the shards are where they should be"));
        };
        let wanted = Wanted {
            trigger: Some(trigger(ordered, "asked to balance")),
            moves,
            least,
            ..Wanted::default()
        };
        let count = wanted.moves.len();
        if dry_run {
            let mut record = self.empty(draft.plan_id(), reason);
            record.moves = super::draft::waiting(&wanted.moves);
            record.least = least;
            record.trigger = wanted.trigger.unwrap_or_default();
            return Ok(Done {
                text: format!("{count} shards would move"),
                changed: false,
                plan: Some(record),
            });
        }
        if self.view.orders.paused {
            let detail = "balancing is paused: resume it first";
            return Err(Refusal::new(RefusalCode::Paused, detail));
        }
        self.follow_planner(draft, &wanted);
        Ok(changed(format!("{count} shards move")))
    }

    fn pause(&self, draft: &mut Draft<'v>, paused: bool) -> Done {
        let text = if paused {
            "balancing is paused: only what nobody serves, what drains and what you order moves"
        } else {
            "balancing goes on"
        };
        if self.view.orders.paused == paused {
            return Done::already(text);
        }
        self.orders(draft).paused = paused;
        changed(text.to_owned())
    }

    fn abort(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        plan: PlanId,
        reverse: bool,
    ) -> Result<Done, Refusal> {
        let Some(open) = self.book.get(plan) else {
            if self.book.keeps(plan) {
                return Ok(Done::already(format!("plan {plan} has ended")));
            }
            let detail = format!("no plan {plan} is kept");
            return Err(Refusal::new(RefusalCode::UnknownPlan, detail));
        };
        if !is_abortable(open.record.reason) {
            let detail = format!(
                "plan {plan} moves shards that cannot stay where they are ({})",
                open.record.reason.as_str()
            );
            return Err(Refusal::new(RefusalCode::NotAbortable, detail));
        }
        let back = if reverse {
            undone(&open.record)
        } else {
            Vec::new()
        };
        let is_the_planners = !is_ordered(open.record.reason);
        draft.book.change(plan, |record| {
            record.drop_pending(self.now, "an operator aborted the plan", |_| true);
            let text = trigger(ordered, "aborted the plan");
            record.note(self.now, PlanEventKind::Aborted, &text);
            record.outcome = PlanOutcome::Aborted;
        });
        if !back.is_empty() {
            self.order_moves(draft, ordered, &back, Reason::Manual)?;
        }
        // Else the planner would begin the same again at once.
        if is_the_planners && !self.view.orders.paused {
            self.orders(draft).paused = true;
        }
        let how = if back.is_empty() {
            "what is under way goes on, the rest is cancelled".to_owned()
        } else {
            format!("{} shards move back", back.len())
        };
        let paused = if is_the_planners {
            "; balancing is paused until you resume it"
        } else {
            ""
        };
        Ok(changed(format!("plan {plan} is aborted: {how}{paused}")))
    }

    /// Begins a plan that moves these shards, instead of what waits to be done with them.
    fn order_moves(
        &self,
        draft: &mut Draft<'v>,
        ordered: &Ordered<'_>,
        moves: &[(ShardId, NodeId)],
        reason: Reason,
    ) -> Result<(), Refusal> {
        self.check_room()?;
        self.drop_waiting(draft, &moves.iter().map(|(shard, _)| *shard).collect());
        let moves: Vec<Move> = moves
            .iter()
            .map(|(shard, node)| Move {
                shard: *shard,
                from: self.view.targets.get(*shard).node.clone(),
                to: node.clone(),
                reason,
                gain_permille: 0,
            })
            .collect();
        let wanted = Wanted {
            trigger: Some(trigger(
                ordered,
                &format!("ordered a {}", ordered.command.name()),
            )),
            least: u32::try_from(moves.len()).unwrap_or(u32::MAX),
            ..Wanted::default()
        };
        self.add(draft, &moves, None, &wanted);
        self.begin_wave(draft);
        Ok(())
    }

    /// Gives one shard another target at once, with a plan of no moves as the trace.
    fn mark_one(
        &self,
        draft: &mut Draft<'v>,
        shard: ShardId,
        target: Target,
        ordered: &Ordered<'_>,
        reason: Reason,
    ) -> Result<(), Refusal> {
        self.check_room()?;
        draft.set(shard, target, reason);
        let did = format!(
            "gave the command `{}` for shard {shard}",
            ordered.command.name()
        );
        let record = PlanRecord {
            trigger: trigger(ordered, &did),
            ..self.empty(draft.plan_id(), reason)
        };
        draft.book.add(record, None);
        Ok(())
    }

    fn check_room(&self) -> Result<(), Refusal> {
        let ordered = self
            .book
            .open()
            .filter(|open| is_ordered(open.record.reason));
        if ordered.count() < ORDERED_PLANS_MAX {
            return Ok(());
        }
        let detail = format!("{ORDERED_PLANS_MAX} plans that operators ordered are not done yet");
        Err(Refusal::new(RefusalCode::Busy, detail))
    }

    /// Cancels the moves of these shards that wait in any plan.
    fn drop_waiting(&self, draft: &mut Draft<'v>, shards: &BTreeSet<ShardId>) {
        let waits = |step: &PlannedMove| shards.contains(&step.shard);
        for open in self.book.open() {
            let some = |step: &PlannedMove| step.phase == MovePhase::Pending && waits(step);
            if open.record.moves.iter().any(some) {
                draft.book.change(open.record.id, |record| {
                    record.drop_pending(self.now, "an operator ordered something else", waits);
                });
            }
        }
    }

    fn orders<'d>(&self, draft: &'d mut Draft<'v>) -> &'d mut Orders {
        draft.orders.get_or_insert_with(|| self.view.orders.clone())
    }
}

/// Asks the planner whether commands may be, and returns what it would do then.
fn admitted(
    ordered: &Ordered<'_>,
    commands: &BTreeMap<ShardId, planner::Command>,
) -> Result<Plan, Refusal> {
    let (plan, _) = (ordered.ask)(commands, None);
    let mut refused = plan.refused.iter();
    match refused.find(|(shard, _)| commands.contains_key(shard)) {
        Some((shard, why)) => Err(Refusal::of_shard(*shard, why)),
        None => Ok(plan),
    }
}

/// Whether the shards of plans for this reason can stay where they are.
fn is_abortable(reason: Reason) -> bool {
    match reason {
        Reason::Manual | Reason::Pin | Reason::Zone | Reason::Join | Reason::Load => true,
        Reason::Failure | Reason::Unplaced | Reason::Drain => false,
    }
}

/// Returns the moves that undo what of a plan is done or under way.
fn undone(record: &PlanRecord) -> Vec<(ShardId, NodeId)> {
    let moved = record.moves.iter().filter(|step| match step.phase {
        MovePhase::Ordered | MovePhase::Done => true,
        MovePhase::Pending | MovePhase::Failed | MovePhase::Cancelled => false,
    });
    moved
        .filter_map(|step| Some((step.shard, step.from.clone()?)))
        .collect()
}

fn changed(text: String) -> Done {
    Done {
        text,
        changed: true,
        plan: None,
    }
}

fn trigger(ordered: &Ordered<'_>, did: &str) -> String {
    format!("an operator {did}, by way of {}", ordered.via)
}
