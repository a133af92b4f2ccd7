//! What the leader does at each wake: follow what is under way, ask the planner, draw up a draft.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, warn};

use super::book::Book;
use super::deciding::{Deciding, Wanted};
use super::flights::Touched;
use super::waves::Budget;
use super::{Leader, RETRY};
use crate::coordination::membership::Identity;
use crate::coordination::plans::{MovePhase, PlannedMove};
use crate::placement::ClusterView;
use crate::placement::checker;
use crate::placement::planner::{self, Planning, Reason};
use crate::telemetry::MoveLabels;

/// Most broken invariants of a refused plan that are logged.
const BROKEN_LOGGED_MAX: usize = 10;

/// Most moves of shards that have an owner under way at once.
const IN_FLIGHT_MAX: usize = 128;

/// Most of them away from one node, and towards one node.
const PER_NODE_MAX: usize = 32;

impl Leader {
    /// Does what is to be done on this view while this node leads.
    pub(super) async fn lead(&mut self, view: Arc<ClusterView>, me: &Identity) {
        let Some(reign) = &self.reign else { return };
        if view.revision < reign.must_see {
            return self.skip("view_behind");
        }
        if reign.book.is_none() && !self.read_plans(&view).await {
            return;
        }
        self.follow(&view);
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
    fn is_settled(&self, view: &ClusterView) -> bool {
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
        let in_flight: Vec<planner::Move> = self.in_flight();
        let loads = self.parts.loads.borrow_and_update().clone();
        let planning = Planning {
            view,
            changed: self.changes.times(),
            loads: &loads,
            in_flight: &in_flight,
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
        let soon = now.plus(self.parts.settings.join_delay_max);
        Some(Wanted {
            waits: plan.again_at.is_some_and(|at| at <= soon),
            least: u32::try_from(least).unwrap_or(u32::MAX),
            moves: plan.moves,
            trigger: None,
        })
    }

    /// Returns the moves that are under way in any plan.
    fn in_flight(&self) -> Vec<planner::Move> {
        let book = self.reign.as_ref().and_then(|reign| reign.book.as_ref());
        let ordered = book.into_iter().flat_map(Book::ordered);
        let moves = ordered.map(|(_, step)| planner::Move {
            shard: step.shard,
            from: step.from.clone(),
            to: step.to.clone(),
            reason: step.reason,
        });
        moves.collect()
    }

    async fn draw_up(&mut self, wanted: Option<&Wanted>, view: &Arc<ClusterView>, me: &Identity) {
        let Some(reign) = &self.reign else { return };
        let Some(book) = &reign.book else { return };
        let now = self.parts.clock.now();
        let deciding = Deciding {
            view,
            book,
            flights: &reign.flights,
            budget: BUDGET,
            me,
            term: reign.term,
            now: self.wall.at(now),
        };
        let draft = deciding.next(wanted);
        let records = draft.book.due(now);
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
        self.write(draft, &records, view, me).await;
    }

    /// Keeps what was decided and needs no write now.
    fn keep(&mut self, book: Book) {
        if let Some(reign) = &mut self.reign {
            reign.book = Some(book);
        }
    }
}

const BUDGET: Budget = Budget {
    in_flight_max: IN_FLIGHT_MAX,
    per_node_max: PER_NODE_MAX,
};
