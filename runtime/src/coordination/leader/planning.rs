//! What the leader does at each wake: follow what is under way, ask the planner, draw up a draft.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::book::Book;
use super::deciding::{Deciding, Wanted};
use super::flights::Touched;
use super::reign::Reign;
use super::stuck::Overdue;
use super::waves::Budget;
use super::writing::Written;
use super::{Leader, RETRY};
use crate::clock::Moment;
use crate::coordination::membership::Identity;
use crate::coordination::plans::{MovePhase, PlannedMove};
use crate::ids::ShardId;
use crate::placement::planner::{self, InFlight, Move, Plan, Planning, Reason};
use crate::placement::{ClusterView, checker};
use crate::telemetry::{GivenUpLabels, MoveLabels};

/// Most broken invariants of a refused plan that are logged.
const BROKEN_LOGGED_MAX: usize = 10;

impl Leader {
    /// Does what is to be done on this view while this node leads.
    pub(super) async fn lead(&mut self, view: Arc<ClusterView>, me: &Identity) {
        let Some(reign) = &self.reign else { return };
        if view.revision < reign.must_see {
            // Else whatever is due would wake the task again at once, and it would spin for as long as
            // the view stands still.
            self.rest = Some((reign.must_see, Instant::now() + RETRY));
            return self.skip("view_behind");
        }
        if reign.book.is_none() && !self.read_plans(&view).await {
            return;
        }
        self.follow(&view);
        self.count(&view);
        if self.judge_deaths(&view, me).await
            || self.give_up_overdue(&view, me).await
            || self.obey_next(&view, me).await
        {
            return;
        }
        let wanted = if self.is_settled(&view) {
            None
        } else {
            self.ask_planner(&view)
        };
        self.draw_up(wanted.as_ref(), &view, me).await;
    }

    /// Learns what earlier leaders left, and returns whether that worked.
    async fn read_plans(&mut self, view: &ClusterView) -> bool {
        let entries = match self.parts.store.list(&self.parts.keys.plans()).await {
            Ok(listing) => listing.entries,
            Err(error) => {
                warn!(%error, "cannot read the plans: trying again");
                self.rest_for(RETRY);
                return false;
            }
        };
        let (book, unreadable) = Book::read(&entries, &self.parts.keys, view);
        for entry in unreadable {
            warn!(%entry, "left out");
        }
        let Some(reign) = &mut self.reign else {
            return false;
        };
        reign.book = Some(book);
        reign.seen = None;
        true
    }

    /// Sees what became of the moves under way.
    fn follow(&mut self, view: &Arc<ClusterView>) {
        let now = self.parts.clock.now();
        let at = self.wall.at(now);
        let Some(reign) = &mut self.reign else { return };
        let touched = Touched::between(reign.seen.as_deref(), view);
        reign.flights.see(view, &touched, now);
        let ended = match &mut reign.book {
            Some(book) => book.see(view, &touched, at),
            None => Vec::new(),
        };
        reign.seen = Some(view.clone());
        for step in &ended {
            self.count_ended(step);
        }
    }

    /// Takes in what came with the shards of plans that have ended, and asks for what is missing.
    fn count(&mut self, view: &ClusterView) {
        let now = self.parts.clock.now();
        let arrivals = self.parts.arrivals.borrow_and_update().clone();
        if let Some(reign) = &mut self.reign
            && reign.counting.see(view, &arrivals, now)
        {
            self.parts.ask_nodes.notify_one();
        }
    }

    fn count_ended(&self, step: &PlannedMove) {
        let labels = MoveLabels {
            reason: step.reason.as_str(),
            phase: step.phase.as_str(),
        };
        let metrics = &self.parts.metrics.coordination;
        metrics.moves_ended.get_or_create(&labels).inc();
        if let (MovePhase::Done, Some(ordered), Some(ended)) =
            (step.phase, step.ordered_at, step.ended_at)
        {
            let took = ended.duration_since(ordered).unwrap_or_default();
            metrics.move_seconds.observe(took.as_secs_f64());
        }
    }

    /// Whether nothing that the planner's answer depends on changed since all of it was on its way.
    /// Owners count only for shards without a usable target, and a settled plan left none.
    pub(super) fn is_settled(&self, view: &ClusterView) -> bool {
        self.settled.as_ref().is_some_and(|settled| {
            settled.nodes == view.nodes
                && settled.meta == view.meta
                && settled.orders == view.orders
                && view
                    .targets
                    .changed_since(&settled.targets)
                    .next()
                    .is_none()
        })
    }

    fn ask_planner(&mut self, view: &Arc<ClusterView>) -> Option<Wanted> {
        let now = self.parts.clock.now();
        let loads = self.parts.loads.borrow_and_update().clone();
        let seen = self.stuck.for_planner(view);
        let waiting = self.waiting_commands();
        let planning = Planning {
            view: &seen,
            changed: self.changes.times(),
            loads: &loads,
            in_flight: &InFlight::all_of(&seen),
            commands: &waiting,
            memory: &self.memory,
            settings: &self.parts.settings,
            now,
        };
        let plan = planner::plan(planning);
        // An answer in the past would only spin.
        let soon = now.plus(Duration::from_millis(1));
        self.again_at = plan.again_at.map(|at| at.max(soon));
        let broken = checker::check(&planning, &plan);
        if !broken.is_empty() {
            error!(
                broken = broken.len(),
                "refusing a plan that breaks invariants"
            );
            for broken in broken.iter().take(BROKEN_LOGGED_MAX) {
                error!(%broken, "the plan breaks an invariant");
            }
            let reasons = plan.moves.iter().map(|step| step.reason);
            if let Some(reason) = Reason::weightiest(reasons) {
                self.count_plan(reason, "broken");
            }
            self.settled = Some(view.clone());
            return None;
        }
        let least = checker::least_moves(&planning, &plan);
        self.note_advice(&plan);
        let soon = now.plus(self.parts.settings.join_delay_max);
        let mut moves = [plan.moves, plan.pending].concat();
        // They wait in their operator's plan: another plan with them would take them away from it.
        moves.retain(|step| !waits_in_its_plan(step, &waiting));
        Some(Wanted {
            waits: plan.again_at.is_some_and(|at| at <= soon),
            least: u32::try_from(least).unwrap_or(u32::MAX),
            moves,
            trigger: None,
        })
    }

    /// Returns the moves that operators ordered and that wait for their wave: the planner is not to
    /// plan against them.
    fn waiting_commands(&self) -> BTreeMap<ShardId, planner::Command> {
        let book = self.reign.as_ref().and_then(|reign| reign.book.as_ref());
        let pending = book.into_iter().flat_map(Book::pending);
        let commands = pending.filter_map(|(_, step)| match step.reason {
            Reason::Manual => Some((step.shard, planner::Command::Move(step.to.clone()))),
            Reason::Pin => Some((step.shard, planner::Command::Pin(step.to.clone()))),
            Reason::Failure
            | Reason::Unplaced
            | Reason::Drain
            | Reason::Zone
            | Reason::Join
            | Reason::Load => None,
        });
        commands.collect()
    }

    /// Returns who decides, and on what.
    pub(super) fn deciding<'v, 'a>(
        &'a self,
        view: &'v ClusterView,
        reign: &'a Reign,
        book: &'a Book,
        me: &'a Identity,
        now: Moment,
    ) -> Deciding<'v, 'a> {
        Deciding {
            view,
            book,
            flights: &reign.flights,
            budget: Budget::of(&self.parts.settings),
            me,
            term: reign.term,
            now: self.wall.at(now),
        }
    }

    /// Gives up the moves that take too long, and returns whether that wrote something.
    async fn give_up_overdue(&mut self, view: &Arc<ClusterView>, me: &Identity) -> bool {
        let now = self.parts.clock.now();
        let Some(reign) = &self.reign else {
            return false;
        };
        let Some(book) = &reign.book else {
            return false;
        };
        let overdue = self.stuck.see(&reign.flights, view, now);
        if overdue.is_empty() {
            return false;
        }
        let draft = self.deciding(view, reign, book, me, now).give_up(&overdue);
        let records = draft.book.due(now);
        if self.write(draft, &records, view, me).await == Written::Yes {
            self.stuck.note(&overdue, now);
            for step in &overdue {
                self.note_overdue(step);
            }
        }
        true
    }

    fn note_overdue(&self, step: &Overdue) {
        error!(shard = %step.shard, "a move is given up: {step}");
        let labels = GivenUpLabels {
            phase: step.phase(),
        };
        let given_up = &self.parts.metrics.coordination.moves_given_up;
        given_up.get_or_create(&labels).inc();
    }

    /// Tells what the planner cannot mend, once.
    fn note_advice(&mut self, plan: &Plan) {
        if plan.advice != self.advice {
            for advice in plan
                .advice
                .iter()
                .filter(|advice| !self.advice.contains(advice))
            {
                warn!(%advice, "the planner's advice");
            }
            self.advice.clone_from(&plan.advice);
        }
    }

    async fn draw_up(&mut self, wanted: Option<&Wanted>, view: &Arc<ClusterView>, me: &Identity) {
        let Some(reign) = &self.reign else { return };
        let Some(book) = &reign.book else { return };
        let now = self.parts.clock.now();
        let seen = self.stuck.around(view);
        let deciding = self.deciding(&seen, reign, book, me, now);
        let draft = deciding.next(wanted);
        let mut records = draft.book.due(now);
        let counted = reign.counting.counted().into_iter();
        let kept = counted.filter(|record| book.keeps(record.id));
        records.written.extend(kept);
        if !draft.changes_the_cluster() {
            if wanted.is_some() {
                self.settled = Some(view.clone());
            }
            if records.is_empty() {
                let waits = self.again_at.is_some();
                self.skip(if waits { "waiting" } else { "settled" });
                return self.keep(draft.book);
            }
        }
        // Whatever comes of it is seen in the next view.
        let _ = self.write(draft, &records, view, me).await;
    }

    /// Keeps what was decided and needs no write now.
    fn keep(&mut self, book: Book) {
        if let Some(reign) = &mut self.reign {
            reign.book = Some(book);
        }
    }
}

/// Whether a move that the planner answers is one that an operator ordered, and that waits.
fn waits_in_its_plan(step: &Move, waiting: &BTreeMap<ShardId, planner::Command>) -> bool {
    match (waiting.get(&step.shard), step.reason) {
        (Some(planner::Command::Move(to)), Reason::Manual)
        | (Some(planner::Command::Pin(to)), Reason::Pin) => *to == step.to,
        (Some(_) | None, _) => false,
    }
}
