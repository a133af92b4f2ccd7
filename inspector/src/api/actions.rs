//! What operators order from the page. Each is logged with who did what and what came of it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use steading::coordination::commands::{Command, Done, Refusal};
use steading::ids::{NodeId, ObjectKey};
use steading::node::Observer;
use steading::object::DEACTIVATE;
use steading::placement::planner::Strategy;
use tracing::{info, warn};

use super::objects::{key, place};
use super::plans::{PlanInfo, plan_id};
use super::shards::shard_named;
use super::{Answer, read};
use crate::board::{Board, now_ms};
use crate::guard::Operator;
use crate::history::Event;
use crate::problem::Problem;

/// What came of a command.
#[derive(Debug, Serialize)]
pub(super) struct Ordered {
    /// What is so now, in words.
    text: String,
    /// Whether it was not so before.
    changed: bool,
    /// The plan that carries it out, or would, with its moves.
    plan: Option<PlanInfo>,
}

type Acting = State<Arc<Board>>;
type By = Extension<Operator>;

/// Returns the routes, which the guard of actions is put before.
pub(super) fn routes() -> Router<Arc<Board>> {
    Router::new()
        .route("/api/session", post(session))
        .route("/api/shards/{shard}/move", post(move_shard))
        .route("/api/shards/{shard}/pin", post(pin))
        .route("/api/shards/{shard}/unpin", post(unpin))
        .route("/api/shards/{shard}/release", post(release))
        .route("/api/nodes/{node}/drain", post(drain))
        .route("/api/nodes/{node}/undrain", post(undrain))
        .route("/api/nodes/{node}/cordon", post(cordon))
        .route("/api/nodes/{node}/uncordon", post(uncordon))
        .route("/api/plans", post(rebalance))
        .route("/api/plans/{plan}/abort", post(abort))
        .route("/api/pause", post(pause))
        .route("/api/resume", post(resume))
        .route("/api/objects/{type}/{id}/deactivate", post(deactivate))
        .route("/api/objects/{type}/{id}/call/{method}", post(call))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whereto {
    #[serde(default)]
    node: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPlan {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    strategy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Abort {
    #[serde(default)]
    reverse: bool,
}

async fn session(Extension(operator): By) -> Json<Value> {
    Json(json!({"operator": operator.name}))
}

async fn move_shard(
    State(board): Acting,
    Extension(by): By,
    Path(shard): Path<String>,
    body: Bytes,
) -> Answer<Ordered> {
    let shard = shard_named(&shard, &*board.view()?)?;
    let Whereto { node } = read(&body)?;
    let node = node.ok_or_else(|| Problem::bad_request("`node` is missing"))?;
    let what = format!("move shard {shard} to {node}");
    let moves = vec![(shard, node_named(&node)?)];
    order(&board, &by, what, Command::Move { moves }).await
}

async fn pin(
    State(board): Acting,
    Extension(by): By,
    Path(shard): Path<String>,
    body: Bytes,
) -> Answer<Ordered> {
    let shard = shard_named(&shard, &*board.view()?)?;
    let Whereto { node } = read(&body)?;
    let node = node.as_deref().map(node_named).transpose()?;
    let what = match &node {
        Some(node) => format!("pin shard {shard} to {node}"),
        None => format!("pin shard {shard} where it is"),
    };
    order(&board, &by, what, Command::Pin { shard, node }).await
}

async fn unpin(
    State(board): Acting,
    Extension(by): By,
    Path(shard): Path<String>,
) -> Answer<Ordered> {
    let shard = shard_named(&shard, &*board.view()?)?;
    let what = format!("unpin shard {shard}");
    order(&board, &by, what, Command::Unpin { shard }).await
}

async fn release(
    State(board): Acting,
    Extension(by): By,
    Path(shard): Path<String>,
) -> Answer<Ordered> {
    let shard = shard_named(&shard, &*board.view()?)?;
    let what = format!("release shard {shard} from quarantine");
    order(&board, &by, what, Command::Release { shard }).await
}

async fn drain(
    State(board): Acting,
    Extension(by): By,
    Path(node): Path<String>,
) -> Answer<Ordered> {
    let node = node_named(&node)?;
    let done = board.observer()?.cluster().drain(&node).await;
    ordered(&board, &by, &format!("drain {node}"), done)
}

async fn undrain(
    State(board): Acting,
    Extension(by): By,
    Path(node): Path<String>,
) -> Answer<Ordered> {
    let node = node_named(&node)?;
    let done = board.observer()?.cluster().undrain(&node).await;
    ordered(&board, &by, &format!("take the drain of {node} back"), done)
}

async fn cordon(
    State(board): Acting,
    Extension(by): By,
    Path(node): Path<String>,
) -> Answer<Ordered> {
    let node = node_named(&node)?;
    order(
        &board,
        &by,
        format!("cordon {node}"),
        Command::Cordon { node },
    )
    .await
}

async fn uncordon(
    State(board): Acting,
    Extension(by): By,
    Path(node): Path<String>,
) -> Answer<Ordered> {
    let node = node_named(&node)?;
    order(
        &board,
        &by,
        format!("uncordon {node}"),
        Command::Uncordon { node },
    )
    .await
}

async fn rebalance(State(board): Acting, Extension(by): By, body: Bytes) -> Answer<Ordered> {
    let NewPlan { dry_run, strategy } = read(&body)?;
    let strategy = strategy.map(|name| {
        let none = || Problem::bad_request(format!("`{name}` is not `count` or `load`"));
        Strategy::named(&name).ok_or_else(none)
    });
    let strategy = strategy.transpose()?;
    let what = if dry_run {
        "see what a rebalance would move"
    } else {
        "rebalance"
    };
    order(
        &board,
        &by,
        what.into(),
        Command::Rebalance { dry_run, strategy },
    )
    .await
}

async fn abort(
    State(board): Acting,
    Extension(by): By,
    Path(plan): Path<String>,
    body: Bytes,
) -> Answer<Ordered> {
    let plan = plan_id(&plan)?;
    let Abort { reverse } = read(&body)?;
    order(
        &board,
        &by,
        format!("abort plan {plan}"),
        Command::Abort { plan, reverse },
    )
    .await
}

async fn pause(State(board): Acting, Extension(by): By) -> Answer<Ordered> {
    order(&board, &by, "pause balancing".into(), Command::Pause).await
}

async fn resume(State(board): Acting, Extension(by): By) -> Answer<Ordered> {
    order(&board, &by, "resume balancing".into(), Command::Resume).await
}

async fn deactivate(
    State(board): Acting,
    Extension(by): By,
    Path((object_type, id)): Path<(String, String)>,
) -> Answer<Value> {
    let observer = board.observer()?;
    let key = key(object_type, id)?;
    let node = host(&observer, &key)?;
    let answer = observer.call(&node, &key, DEACTIVATE, Bytes::new()).await;
    log(
        &board,
        &by,
        &format!("deactivate {key}"),
        answer.as_ref().err(),
    );
    answer?;
    Ok(Json(
        json!({"text": format!("{key} is not active any more"), "changed": true}),
    ))
}

async fn call(
    State(board): Acting,
    Extension(by): By,
    Path((object_type, id, method)): Path<(String, String, String)>,
    body: Bytes,
) -> Answer<Value> {
    let observer = board.observer()?;
    let key = key(object_type, id)?;
    let node = host(&observer, &key)?;
    let types = observer.types(&node).await?;
    let hosted = types.iter().find(|hosted| hosted.name == key.object_type());
    let known = hosted.and_then(|hosted| hosted.methods.iter().find(|known| known.name == method));
    match known {
        None => {
            return Err(Problem::not_found(format!(
                "{} has no method {method}",
                key.object_type()
            )));
        }
        Some(known) if !known.read_only => {
            let detail =
                format!("{method} may change the object; the Inspector calls what only reads");
            return Err(Problem::bad_request(detail));
        }
        Some(_) => {}
    }
    let answer = observer.call(&node, &key, &method, body).await;
    log(
        &board,
        &by,
        &format!("call {key} {method}"),
        answer.as_ref().err(),
    );
    let value = serde_json::from_slice(&answer?);
    let value: Value = value.map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(Json(json!({"value": value})))
}

/// Returns who is asked to call an object.
fn host(observer: &Observer, key: &ObjectKey) -> Result<NodeId, Problem> {
    let (_, node) = place(observer, key)?;
    node.ok_or_else(|| Problem::no_store("nobody owns the object's shard now"))
}

async fn order(board: &Board, by: &Operator, what: String, command: Command) -> Answer<Ordered> {
    let done = board.observer()?.cluster().order(command).await;
    ordered(board, by, &what, done)
}

fn ordered(
    board: &Board,
    by: &Operator,
    what: &str,
    done: Result<Done, Refusal>,
) -> Answer<Ordered> {
    log(board, by, what, done.as_ref().err());
    let done = done?;
    Ok(Json(Ordered {
        text: done.text,
        changed: done.changed,
        plan: done.plan.as_ref().map(PlanInfo::of),
    }))
}

/// Writes down who did what, for the log and for everybody who looks.
fn log(board: &Board, by: &Operator, what: &str, failed: Option<&impl std::fmt::Display>) {
    let by = &by.name;
    let text = match failed {
        None => {
            info!(by, what, "an operator's action");
            format!("{by}: {what}")
        }
        Some(why) => {
            warn!(by, what, %why, "an operator's action failed");
            format!("{by}: {what} – refused: {why}")
        }
    };
    board.note(Event {
        at: now_ms(),
        kind: "action",
        bad: failed.is_some(),
        text,
        node: None,
    });
}

fn node_named(name: &str) -> Result<NodeId, Problem> {
    NodeId::new(name).map_err(|error| Problem::bad_request(error.to_string()))
}
