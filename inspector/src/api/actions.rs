//! What operators order from the page. Each is logged with who did what and what came of it.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::ExtensionRejection;
use axum::extract::{Extension, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::{Json, middleware};
use serde::Serialize;
use serde_json::Value;
use steading::coordination::commands::{Command, Done, Refusal};
use steading::ids::{NodeId, ObjectKey, ShardId};
use steading::node::Observer;
use steading::object::DEACTIVATE;
use steading_http::{
    Abort, Answer, NewPlan, Problem, Whereto, node_named, plan_named, read, shard_named,
};
use tracing::{info, warn};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::objects::{key, place};
use crate::board::{Board, no_store, now_ms};
use crate::guard::{Operator, may_act};
use crate::history::Event;

/// What came of an order.
type Ordered = Result<Json<Answer>, Problem>;

/// Returns the routes, with the guard of actions before them.
pub(super) fn routes(board: &Arc<Board>) -> OpenApiRouter<Arc<Board>> {
    OpenApiRouter::new()
        .routes(routes!(session))
        .routes(routes!(move_shard))
        .routes(routes!(pin))
        .routes(routes!(unpin))
        .routes(routes!(release))
        .routes(routes!(drain))
        .routes(routes!(undrain))
        .routes(routes!(cordon))
        .routes(routes!(uncordon))
        .routes(routes!(rebalance))
        .routes(routes!(abort))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(deactivate))
        .routes(routes!(call))
        .route_layer(middleware::from_fn_with_state(board.clone(), may_act))
}

/// An operator who may act, and on what.
struct Acting {
    board: Arc<Board>,
    by: Operator,
}

impl FromRequestParts<Arc<Board>> for Acting {
    type Rejection = ExtensionRejection;

    async fn from_request_parts(
        parts: &mut Parts,
        board: &Arc<Board>,
    ) -> Result<Self, ExtensionRejection> {
        let Extension(by) = Extension::from_request_parts(parts, board).await?;
        let board = board.clone();
        Ok(Self { board, by })
    }
}

impl Acting {
    fn shard(&self, text: &str) -> Result<ShardId, Problem> {
        shard_named(text, &*self.board.view()?)
    }

    async fn order(self, what: String, command: Command) -> Ordered {
        let done = self.board.observer()?.cluster().order(command).await;
        self.ordered(&what, done)
    }

    fn ordered(self, what: &str, done: Result<Done, Refusal>) -> Ordered {
        self.log(what, done.as_ref().err());
        Ok(Json(done?.into()))
    }

    /// Writes down who did what, for the log and for everybody who looks.
    fn log(&self, what: &str, failed: Option<&impl std::fmt::Display>) {
        let by = &self.by.name;
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
        self.board.note(Event {
            at: now_ms(),
            kind: "action",
            bad: failed.is_some(),
            text,
            node: None,
        });
    }
}

/// Who a token lets act.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    /// The name they gave, and where they come from.
    operator: String,
}

/// Tells whether a token is good, and who it lets act.
#[utoipa::path(post, path = "/api/session", tag = "actions", responses((status = 200, body = Session)))]
async fn session(acting: Acting) -> Json<Session> {
    let operator = acting.by.name;
    Json(Session { operator })
}

/// Moves a shard: `{"node": …}`.
#[utoipa::path(
    post, path = "/api/shards/{shard}/move", tag = "actions",
    request_body = Whereto, responses((status = 200, body = Answer))
)]
async fn move_shard(acting: Acting, Path(shard): Path<String>, body: Bytes) -> Ordered {
    let shard = acting.shard(&shard)?;
    let node = read::<Whereto>(&body)?.wanted_node()?;
    let what = format!("move shard {shard} to {node}");
    let moves = vec![(shard, node)];
    acting.order(what, Command::Move { moves }).await
}

/// Pins a shard: `{"node": …}`, or without: where it is.
#[utoipa::path(
    post, path = "/api/shards/{shard}/pin", tag = "actions",
    request_body = Whereto, responses((status = 200, body = Answer))
)]
async fn pin(acting: Acting, Path(shard): Path<String>, body: Bytes) -> Ordered {
    let shard = acting.shard(&shard)?;
    let node = read::<Whereto>(&body)?.node()?;
    let what = match &node {
        Some(node) => format!("pin shard {shard} to {node}"),
        None => format!("pin shard {shard} where it is"),
    };
    acting.order(what, Command::Pin { shard, node }).await
}

/// Lets a shard be moved again.
#[utoipa::path(
    post, path = "/api/shards/{shard}/unpin", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn unpin(acting: Acting, Path(shard): Path<String>) -> Ordered {
    let shard = acting.shard(&shard)?;
    let what = format!("unpin shard {shard}");
    acting.order(what, Command::Unpin { shard }).await
}

/// Releases a shard from quarantine.
#[utoipa::path(
    post, path = "/api/shards/{shard}/release", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn release(acting: Acting, Path(shard): Path<String>) -> Ordered {
    let shard = acting.shard(&shard)?;
    let what = format!("release shard {shard} from quarantine");
    acting.order(what, Command::Release { shard }).await
}

/// Lets a node hand over and leave.
#[utoipa::path(
    post, path = "/api/nodes/{node}/drain", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn drain(acting: Acting, Path(node): Path<String>) -> Ordered {
    let node = node_named(&node)?;
    let done = acting.board.observer()?.cluster().drain(&node).await;
    acting.ordered(&format!("drain {node}"), done)
}

/// Takes a drain back.
#[utoipa::path(
    post, path = "/api/nodes/{node}/undrain", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn undrain(acting: Acting, Path(node): Path<String>) -> Ordered {
    let node = node_named(&node)?;
    let done = acting.board.observer()?.cluster().undrain(&node).await;
    acting.ordered(&format!("take the drain of {node} back"), done)
}

/// Gives a node nothing more.
#[utoipa::path(
    post, path = "/api/nodes/{node}/cordon", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn cordon(acting: Acting, Path(node): Path<String>) -> Ordered {
    let node = node_named(&node)?;
    let what = format!("cordon {node}");
    acting.order(what, Command::Cordon { node }).await
}

/// Gives a node shards again.
#[utoipa::path(
    post, path = "/api/nodes/{node}/uncordon", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn uncordon(acting: Acting, Path(node): Path<String>) -> Ordered {
    let node = node_named(&node)?;
    let what = format!("uncordon {node}");
    acting.order(what, Command::Uncordon { node }).await
}

/// Rebalances: `{"dry_run": …, "strategy": "count" or "load"}`.
#[utoipa::path(
    post, path = "/api/plans", tag = "actions",
    request_body = NewPlan, responses((status = 200, body = Answer))
)]
async fn rebalance(acting: Acting, body: Bytes) -> Ordered {
    let wanted: NewPlan = read(&body)?;
    let what = if wanted.dry_run {
        "see what a rebalance would move"
    } else {
        "rebalance"
    };
    acting.order(what.into(), wanted.command()?).await
}

/// Ends a plan early: `{"reverse": …}`.
#[utoipa::path(
    post, path = "/api/plans/{plan}/abort", tag = "actions",
    request_body = Abort, responses((status = 200, body = Answer))
)]
async fn abort(acting: Acting, Path(plan): Path<String>, body: Bytes) -> Ordered {
    let plan = plan_named(&plan)?;
    let Abort { reverse } = read(&body)?;
    let what = format!("abort plan {plan}");
    acting.order(what, Command::Abort { plan, reverse }).await
}

/// Pauses balancing.
#[utoipa::path(post, path = "/api/pause", tag = "actions", responses((status = 200, body = Answer)))]
async fn pause(acting: Acting) -> Ordered {
    acting.order("pause balancing".into(), Command::Pause).await
}

/// Goes on balancing.
#[utoipa::path(post, path = "/api/resume", tag = "actions", responses((status = 200, body = Answer)))]
async fn resume(acting: Acting) -> Ordered {
    acting
        .order("resume balancing".into(), Command::Resume)
        .await
}

/// Ends an object's activation in order.
#[utoipa::path(
    post, path = "/api/objects/{type}/{id}/deactivate", tag = "actions",
    responses((status = 200, body = Answer))
)]
async fn deactivate(acting: Acting, Path((object_type, id)): Path<(String, String)>) -> Ordered {
    let observer = acting.board.observer()?;
    let key = key(object_type, id)?;
    let node = host(&observer, &key)?;
    let answer = observer.call(&node, &key, DEACTIVATE, Bytes::new()).await;
    acting.log(&format!("deactivate {key}"), answer.as_ref().err());
    answer?;
    Ok(Json(Answer {
        text: format!("{key} is not active any more"),
        changed: true,
        plan: None,
    }))
}

/// What a method returned.
#[derive(Debug, Serialize, ToSchema)]
struct Returned {
    /// Its value.
    value: Value,
}

/// Calls a read-only method with the body as arguments in JSON.
#[utoipa::path(
    post, path = "/api/objects/{type}/{id}/call/{method}", tag = "actions",
    request_body = Value, responses((status = 200, body = Returned))
)]
async fn call(
    acting: Acting,
    Path((object_type, id, method)): Path<(String, String, String)>,
    body: Bytes,
) -> Result<Json<Returned>, Problem> {
    let observer = acting.board.observer()?;
    let key = key(object_type, id)?;
    let node = host(&observer, &key)?;
    let types = observer.types(&node).await?;
    let hosted = types.iter().find(|hosted| hosted.name == key.object_type());
    let known = hosted.and_then(|hosted| hosted.methods.iter().find(|known| known.name == method));
    let object_type = key.object_type();
    let none = || Problem::not_found(format!("{object_type} has no method {method}"));
    if !known.ok_or_else(none)?.read_only {
        let why = "may change the object; the Inspector calls what only reads";
        return Err(Problem::bad_request(format!("{method} {why}")));
    }
    let answer = observer.call(&node, &key, &method, body).await;
    acting.log(&format!("call {key} {method}"), answer.as_ref().err());
    let value = serde_json::from_slice(&answer?);
    let value = value.map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(Json(Returned { value }))
}

/// Returns who is asked to call an object.
fn host(observer: &Observer, key: &ObjectKey) -> Result<NodeId, Problem> {
    let (_, node) = place(observer, key)?;
    node.ok_or_else(|| no_store("nobody owns the object's shard now"))
}
