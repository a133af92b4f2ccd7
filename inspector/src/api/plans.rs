//! Plans, as the page shows them.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use steading::coordination::plans::{PlanOutcome, PlanRecord, PlannedMove};
use steading::ids::PlanId;
use steading::node::Plans;

use super::Answer;
use crate::board::Board;
use crate::problem::Problem;

/// How many plans a page is told without asking.
const LISTED_MAX: usize = 40;

/// A plan: what moves why, how far it is, and what came of it. Times are milliseconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PlanInfo {
    id: u64,
    reason: &'static str,
    trigger: String,
    outcome: &'static str,
    superseded_by: Option<u64>,
    percent: u32,
    ends_at: Option<u64>,
    leader: String,
    term: u64,
    created_at: u64,
    updated_at: u64,
    ended_at: Option<u64>,
    waves: u32,
    least_moves: u32,
    counts: Counts,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    moves: Vec<MoveInfo>,
    events: Vec<EventInfo>,
    as_planned: Option<bool>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Counts {
    pending: u32,
    ordered: u32,
    done: u32,
    failed: u32,
    cancelled: u32,
}

/// One move of a plan.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MoveInfo {
    shard: u32,
    from: Option<String>,
    to: String,
    reason: &'static str,
    phase: &'static str,
    ordered_at: Option<u64>,
    ended_at: Option<u64>,
}

#[derive(Clone, Debug, Serialize)]
struct EventInfo {
    at: u64,
    kind: &'static str,
    text: String,
}

impl PlanInfo {
    /// Shows a plan with its moves, those that have not ended first.
    pub(crate) fn of(plan: &PlanRecord) -> Self {
        let mut moves: Vec<&PlannedMove> = plan.moves.iter().collect();
        moves.sort_by_key(|step| (step.is_ended(), step.shard));
        Self {
            moves: moves.into_iter().map(MoveInfo::of).collect(),
            ..Self::without_moves(plan)
        }
    }

    /// Shows a plan in a list.
    pub(crate) fn without_moves(plan: &PlanRecord) -> Self {
        let counts = plan.counts();
        let superseded_by = match plan.outcome {
            PlanOutcome::Superseded(by) => Some(by.get()),
            PlanOutcome::Running
            | PlanOutcome::Done
            | PlanOutcome::Aborted
            | PlanOutcome::Failed => None,
        };
        Self {
            id: plan.id.get(),
            reason: plan.reason.as_str(),
            trigger: plan.trigger.clone(),
            outcome: plan.outcome.as_str(),
            superseded_by,
            percent: plan.percent(),
            ends_at: plan.ends_at().map(ms),
            leader: plan.leader.to_string(),
            term: plan.term.get(),
            created_at: ms(plan.created_at),
            updated_at: ms(plan.updated_at),
            ended_at: plan.ended_at.map(ms),
            waves: plan.waves,
            least_moves: plan.least,
            counts: Counts {
                pending: counts.pending,
                ordered: counts.ordered,
                done: counts.done,
                failed: counts.failed,
                cancelled: counts.cancelled,
            },
            moves: Vec::new(),
            events: plan
                .events
                .iter()
                .map(|event| EventInfo {
                    at: ms(event.at),
                    kind: event.kind.as_str(),
                    text: event.text.clone(),
                })
                .collect(),
            as_planned: plan.check.map(|check| check.is_good()),
        }
    }
}

impl MoveInfo {
    /// Shows a move.
    pub(crate) fn of(step: &PlannedMove) -> Self {
        Self {
            shard: step.shard.get(),
            from: step.from.as_ref().map(ToString::to_string),
            to: step.to.to_string(),
            reason: step.reason.as_str(),
            phase: step.phase.as_str(),
            ordered_at: step.ordered_at.map(ms),
            ended_at: step.ended_at.map(ms),
        }
    }
}

/// Lists the newest plans, newest first.
pub(crate) fn listed(plans: &Plans) -> Vec<PlanInfo> {
    let newest = plans.values().rev().take(LISTED_MAX);
    newest.map(|plan| PlanInfo::without_moves(plan)).collect()
}

pub(super) async fn list(State(board): State<Arc<Board>>) -> Answer<Vec<PlanInfo>> {
    let plans = board.observer()?.plans().borrow().clone();
    let plans = plans.values().rev();
    Ok(Json(
        plans.map(|plan| PlanInfo::without_moves(plan)).collect(),
    ))
}

pub(super) async fn plan(
    State(board): State<Arc<Board>>,
    Path(text): Path<String>,
) -> Answer<PlanInfo> {
    let id = plan_id(&text)?;
    let plans = board.observer()?.plans().borrow().clone();
    let plan = plans.get(&id);
    let plan = plan.ok_or_else(|| Problem::not_found(format!("no plan {id} is kept")))?;
    Ok(Json(PlanInfo::of(plan)))
}

/// Reads the number of a plan.
pub(super) fn plan_id(text: &str) -> Result<PlanId, Problem> {
    let number = text.parse().map(PlanId::new);
    number.map_err(|_| Problem::bad_request(format!("`{text}` is not the number of a plan")))
}

/// Returns a moment in milliseconds since 1970.
pub(super) fn ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
