//! Operators' commands, and plans. Every command may be given again.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use steading::coordination::commands::{Command, Done, Refusal};
use steading::ids::{NodeId, ShardId};
use steading::object::PAYLOAD_LEN_MAX;
use steading_http::{
    Abort, Answer, Moves, NewPlan, PlanInfo, Problem, Whereto, node_named, plan_named, shard_named,
};

use super::router::Served;

type Answered = Result<Json<Answer>, Problem>;
type PathOf<T> = Result<Path<T>, PathRejection>;
type BodyOf = Result<Bytes, BytesRejection>;

/// Pins a shard to a node, or to where it is.
#[utoipa::path(
    post, path = "/v1/shards/{shard}/pin", tag = "commands",
    params(("shard" = u32, Path, description = "Its number")), request_body = Whereto,
    responses(
        (status = 200, body = Answer),
        (status = "4XX", description = "Refused; the code tells why", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "Code `no_leader`, `not_leader`, `no_answer` or `busy`",
            body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pin(
    State(served): State<Served>,
    path: PathOf<String>,
    body: BodyOf,
) -> Answered {
    let shard = shard_of(path, &served)?;
    let whereto: Whereto = read(body)?;
    let node = whereto.node()?;
    order(&served, Command::Pin { shard, node }).await
}

/// Lets a shard be moved again.
#[utoipa::path(
    post, path = "/v1/shards/{shard}/unpin", tag = "commands",
    params(("shard" = u32, Path, description = "Its number")),
    responses((status = 200, body = Answer))
)]
pub(super) async fn unpin(State(served): State<Served>, path: PathOf<String>) -> Answered {
    let shard = shard_of(path, &served)?;
    order(&served, Command::Unpin { shard }).await
}

/// Moves a shard to a node.
#[utoipa::path(
    post, path = "/v1/shards/{shard}/move", tag = "commands",
    params(("shard" = u32, Path, description = "Its number")), request_body = Whereto,
    responses((status = 200, body = Answer))
)]
pub(super) async fn move_one(
    State(served): State<Served>,
    path: PathOf<String>,
    body: BodyOf,
) -> Answered {
    let shard = shard_of(path, &served)?;
    let whereto: Whereto = read(body)?;
    let moves = vec![(shard, whereto.wanted_node()?)];
    order(&served, Command::Move { moves }).await
}

/// Moves many shards, all or none.
#[utoipa::path(
    post, path = "/v1/moves", tag = "commands", request_body = Moves,
    responses((status = 200, body = Answer))
)]
pub(super) async fn move_many(State(served): State<Served>, body: BodyOf) -> Answered {
    let moves: Moves = read(body)?;
    let view = served.node.view();
    let moves = moves.moves.iter().map(|step| {
        let shard = ShardId::new(step.shard, view.meta.shard_count)
            .map_err(|error| Problem::not_found(error.to_string()))?;
        Ok((shard, node_named(&step.node)?))
    });
    let moves = moves.collect::<Result<_, Problem>>()?;
    order(&served, Command::Move { moves }).await
}

/// Releases a shard from quarantine.
#[utoipa::path(
    post, path = "/v1/shards/{shard}/release", tag = "commands",
    params(("shard" = u32, Path, description = "Its number")),
    responses((status = 200, body = Answer))
)]
pub(super) async fn release(State(served): State<Served>, path: PathOf<String>) -> Answered {
    let shard = shard_of(path, &served)?;
    order(&served, Command::Release { shard }).await
}

/// Lets a node keep what it has and get nothing more.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/cordon", tag = "commands",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Answer))
)]
pub(super) async fn cordon(State(served): State<Served>, path: PathOf<String>) -> Answered {
    let node = node_of(path)?;
    order(&served, Command::Cordon { node }).await
}

/// Lets a node get shards again.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/uncordon", tag = "commands",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Answer))
)]
pub(super) async fn uncordon(State(served): State<Served>, path: PathOf<String>) -> Answered {
    let node = node_of(path)?;
    order(&served, Command::Uncordon { node }).await
}

/// Lets a node hand its shards over while it serves; then it leaves and its process exits.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/drain", tag = "commands",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Answer))
)]
pub(super) async fn drain(State(served): State<Served>, path: PathOf<String>) -> Answered {
    let node = node_of(path)?;
    answer(served.node.cluster().drain(&node).await)
}

/// Takes a drain back, as long as the node has not begun to leave.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/undrain", tag = "commands",
    params(("node" = String, Path, description = "Its name")),
    responses((status = 200, body = Answer))
)]
pub(super) async fn undrain(State(served): State<Served>, path: PathOf<String>) -> Answered {
    let node = node_of(path)?;
    answer(served.node.cluster().undrain(&node).await)
}

/// Pauses balancing: only what nobody serves, what drains and what operators order moves.
#[utoipa::path(
    post, path = "/v1/pause", tag = "commands", responses((status = 200, body = Answer))
)]
pub(super) async fn pause(State(served): State<Served>) -> Answered {
    order(&served, Command::Pause).await
}

/// Goes on balancing.
#[utoipa::path(
    post, path = "/v1/resume", tag = "commands", responses((status = 200, body = Answer))
)]
pub(super) async fn resume(State(served): State<Served>) -> Answered {
    order(&served, Command::Resume).await
}

/// Lists the plans that are kept, newest first, without their moves.
#[utoipa::path(
    get, path = "/v1/plans", tag = "plans",
    responses(
        (status = 200, body = Vec<PlanInfo>),
        (status = 503, description = "Code `store`", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn plans(State(served): State<Served>) -> Result<Json<Vec<PlanInfo>>, Problem> {
    let plans = served
        .node
        .cluster()
        .plans()
        .await
        .map_err(|error| store_away(&error))?;
    Ok(Json(plans.iter().map(PlanInfo::without_moves).collect()))
}

/// Shows a plan with its moves.
#[utoipa::path(
    get, path = "/v1/plans/{plan}", tag = "plans",
    params(("plan" = u64, Path, description = "Its number")),
    responses(
        (status = 200, body = PlanInfo),
        (status = 404, description = "No such plan is kept", body = Problem,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn plan(
    State(served): State<Served>,
    path: PathOf<String>,
) -> Result<Json<PlanInfo>, Problem> {
    let id = plan_named(&segment(path)?)?;
    let plans = served
        .node
        .cluster()
        .plans()
        .await
        .map_err(|error| store_away(&error))?;
    let plan = plans.iter().find(|plan| plan.id == id);
    let plan = plan.ok_or_else(|| Problem::not_found(format!("no plan {id} is kept")))?;
    Ok(Json(PlanInfo::of(plan)))
}

/// Has the planner look now, without waiting; a dry run only tells what would move.
#[utoipa::path(
    post, path = "/v1/plans", tag = "plans", request_body = NewPlan,
    responses((status = 200, body = Answer))
)]
pub(super) async fn rebalance(State(served): State<Served>, body: BodyOf) -> Answered {
    let wanted: NewPlan = read(body)?;
    order(&served, wanted.command()?).await
}

/// Ends a plan early: what is under way goes on, the rest is cancelled, or all is moved back.
#[utoipa::path(
    post, path = "/v1/plans/{plan}/abort", tag = "plans",
    params(("plan" = u64, Path, description = "Its number")), request_body = Abort,
    responses((status = 200, body = Answer))
)]
pub(super) async fn abort(
    State(served): State<Served>,
    path: PathOf<String>,
    body: BodyOf,
) -> Answered {
    let plan = plan_named(&segment(path)?)?;
    let Abort { reverse } = read(body)?;
    order(&served, Command::Abort { plan, reverse }).await
}

async fn order(served: &Served, command: Command) -> Answered {
    answer(served.node.cluster().order(command).await)
}

fn answer(answer: Result<Done, Refusal>) -> Answered {
    Ok(Json(answer?.into()))
}

fn read<T: DeserializeOwned>(body: BodyOf) -> Result<T, Problem> {
    steading_http::read(&body.map_err(|error| unread(&error))?)
}

fn unread(error: &BytesRejection) -> Problem {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let most = format!("a body has at most {PAYLOAD_LEN_MAX} bytes");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            Problem::new(status, "too_large", "Body too large", most)
        }
        _ => Problem::bad_request(error.body_text()),
    }
}

fn segment<T>(path: PathOf<T>) -> Result<T, Problem> {
    let Path(segment) = path.map_err(|error| Problem::bad_request(error.body_text()))?;
    Ok(segment)
}

fn shard_of(path: PathOf<String>, served: &Served) -> Result<ShardId, Problem> {
    shard_named(&segment(path)?, &served.node.view())
}

fn node_of(path: PathOf<String>) -> Result<NodeId, Problem> {
    node_named(&segment(path)?)
}

fn store_away(error: &steading::coordination::store::StoreError) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(
        status,
        "store",
        "The store does not answer",
        error.to_string(),
    )
}
