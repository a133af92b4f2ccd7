//! Plans, as nodes show them too.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use steading::node::Plans;
use steading_http::{PlanInfo, Problem, plan_named};

use super::Answer;
use crate::board::Board;

/// How many plans a page is told without asking.
const LISTED_MAX: usize = 40;

/// Lists the newest plans, newest first.
pub(crate) fn listed(plans: &Plans) -> Vec<PlanInfo> {
    let newest = plans.values().rev().take(LISTED_MAX);
    newest.map(|plan| PlanInfo::without_moves(plan)).collect()
}

/// The plans that are kept, newest first.
#[utoipa::path(
    get, path = "/api/plans", tag = "plans", responses((status = 200, body = Vec<PlanInfo>))
)]
pub(super) async fn list(State(board): State<Arc<Board>>) -> Answer<Vec<PlanInfo>> {
    let plans = board.observer()?.plans().borrow().clone();
    let plans = plans.values().rev();
    Ok(Json(
        plans.map(|plan| PlanInfo::without_moves(plan)).collect(),
    ))
}

/// A plan with its moves.
#[utoipa::path(
    get, path = "/api/plans/{plan}", tag = "plans", responses((status = 200, body = PlanInfo))
)]
pub(super) async fn plan(
    State(board): State<Arc<Board>>,
    Path(text): Path<String>,
) -> Answer<PlanInfo> {
    let id = plan_named(&text)?;
    let plans = board.observer()?.plans().borrow().clone();
    let plan = plans.get(&id);
    let plan = plan.ok_or_else(|| Problem::not_found(format!("no plan {id} is kept")))?;
    Ok(Json(PlanInfo::of(plan)))
}
