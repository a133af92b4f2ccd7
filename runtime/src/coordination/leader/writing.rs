//! How a draft is written, and what follows from each answer.

use tokio::time::Instant;
use tracing::{info, warn};

use super::book::Records;
use super::draft::Draft;
use super::traced::trace_plan;
use super::{Leader, RETRY};
use crate::coordination::keys;
use crate::coordination::membership::Identity;
use crate::coordination::plans::PlanRecord;
use crate::coordination::store::{Entry, StoreError, TxnReply};
use crate::placement::ClusterView;
use crate::placement::planner::{Plan, Reason};
use crate::telemetry::{PlanEndLabels, PlanLabels};

/// Whether a draft is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Yes,
    /// It was refused, or nobody knows: the view will tell.
    No,
}

impl Leader {
    /// Writes a draft with these records. Whether it worked is seen by the reign's book.
    pub(super) async fn write(
        &mut self,
        draft: Draft<'_>,
        records: &Records,
        view: &ClusterView,
        me: &Identity,
    ) -> Written {
        let (Some(reign), true) = (
            &self.reign,
            self.parts.rights.to_write().as_ref() == Some(me),
        ) else {
            self.skip("suspended");
            return Written::No;
        };
        let begun = draft.begun();
        let txn = reign.txn(&draft, records, view, me, &self.parts.keys);
        let result = self.parts.store.commit(txn).await;
        if draft.changes_the_cluster() {
            self.settled = None;
        }
        let outcome = match result {
            Ok(reply) if reply.succeeded => {
                self.note_written(draft, records, &reply, view);
                "written"
            }
            Ok(reply) => self.note_refused(&reply, me),
            Err(StoreError::Unknown(error)) => {
                warn!(%error, "whether the plan was written is unknown: planning again");
                self.rest_for(RETRY);
                "unknown"
            }
            Err(error) => {
                warn!(%error, "cannot write the plan: planning again");
                self.rest_for(RETRY);
                "transient"
            }
        };
        if let Some(plan) = begun {
            self.count_plan(plan.reason, outcome);
        }
        if outcome == "written" {
            Written::Yes
        } else {
            Written::No
        }
    }

    fn note_written(
        &mut self,
        draft: Draft<'_>,
        records: &Records,
        reply: &TxnReply,
        view: &ClusterView,
    ) {
        let now = self.parts.clock.now();
        let begun = draft.begun();
        let moves = Plan {
            moves: draft.ordered,
            ..Plan::default()
        };
        self.memory.note(&moves, &self.parts.settings, now);
        let mut book = draft.book;
        book.written(records, now);
        let reign = self.reign.as_mut().expect("only a leader writes plans");
        reign.written(book, reply.revision);
        if let Some(plan) = &begun {
            self.note_begun(plan);
        }
        let ended = records.written.iter();
        for record in ended.filter(|record| record.ended_at.is_some()) {
            let reign = self.reign.as_mut().expect("only a leader writes plans");
            if reign.counting.written(record.id) {
                note_check(record);
            } else {
                reign.counting.begin(record, view, now);
                self.note_ended(record);
            }
        }
    }

    fn note_begun(&self, plan: &PlanRecord) {
        let free = plan
            .moves
            .iter()
            .filter(|step| is_free(step.reason))
            .count();
        let metrics = &self.parts.metrics.coordination;
        metrics.plan_moves.inc_by(free as u64);
        metrics.plan_moves_least.inc_by(plan.least.into());
        let PlanRecord {
            id,
            reason,
            trigger,
            least,
            ..
        } = plan;
        let moves = plan.moves.len();
        info!(plan = %id, reason = reason.as_str(), trigger, moves, least, "began a plan");
    }

    fn note_ended(&self, plan: &PlanRecord) {
        let labels = PlanEndLabels {
            reason: plan.reason.as_str(),
            outcome: plan.outcome.as_str(),
        };
        self.parts
            .metrics
            .coordination
            .plans_ended
            .get_or_create(&labels)
            .inc();
        let PlanRecord { id, waves, .. } = plan;
        let (reason, outcome) = (plan.reason.as_str(), plan.outcome.as_str());
        let (took, moves) = (plan.took(), plan.counts().total());
        note_check(plan);
        let cluster = &self.parts.view.current().meta.cluster_id;
        trace_plan(&self.parts.metrics.traces, cluster, plan);
        info!(plan = %id, reason, outcome, moves, waves, ?took, "a plan ended");
    }

    /// Finds out why a draft was refused.
    fn note_refused(&mut self, reply: &TxnReply, me: &Identity) -> &'static str {
        let reign = self.reign.as_mut().expect("only a leader writes plans");
        let leader = reply.reads.first().and_then(Option::as_ref);
        let mine = |entry: &&Entry| {
            entry.create_revision.get() == reign.term.get()
                && keys::decode_leader(entry).is_ok_and(|leader| leader.node == me.node)
        };
        if let Some(entry) = leader.filter(mine) {
            warn!("an earlier plan of unknown outcome was written after all");
            reign.stamp = entry.mod_revision;
            reign.must_see = entry.mod_revision;
            reign.book = None; // It is not known what exactly was written.
            self.settled = None;
            self.rest = Some((entry.mod_revision, Instant::now())); // Wakes the task at once.
            return "overtaken";
        }
        warn!(term = %reign.term, "the plan is refused: another node leads");
        self.rest = Some((reply.revision, Instant::now() + RETRY));
        self.end_reign();
        "deposed"
    }

    pub(super) fn count_plan(&self, reason: Reason, outcome: &'static str) {
        let labels = PlanLabels {
            reason: reason.as_str(),
            outcome,
        };
        self.parts
            .metrics
            .coordination
            .plans
            .get_or_create(&labels)
            .inc();
    }
}

/// Tells if a plan's shards are not as they should be.
fn note_check(plan: &PlanRecord) {
    match &plan.check {
        Some(check) if !check.is_good() => {
            warn!(plan = %plan.id, ?check, "the shards of a plan are not as it left them");
        }
        Some(_) | None => {}
    }
}

/// Whether the shards of such moves could have stayed where they were.
fn is_free(reason: Reason) -> bool {
    match reason {
        Reason::Zone | Reason::Join | Reason::Load => true,
        Reason::Failure | Reason::Unplaced | Reason::Manual | Reason::Pin | Reason::Drain => false,
    }
}
