//! All routes in one place, and what requests get that match none.

mod actions;
mod events;
mod objects;
pub(crate) mod plans;
mod shards;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::assets;
use crate::board::{Board, Figures, Point, now_ms};
use crate::guard::{may_act, may_look};
use crate::health::Finding;
use crate::problem::Problem;
use crate::snapshot::{NodeInfo, Snapshot};

/// Answers, or a problem.
type Answer<T> = Result<Json<T>, Problem>;

/// The page may use what this server serves, and nothing else from anywhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Every path of the API with what it does: `GET /api` answers it, and `docs/inspector.md` has it.
pub(crate) const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/api", "This list."),
    (
        "GET",
        "/api/view",
        "The whole cluster: nodes, and a column for each fact about shards.",
    ),
    ("GET", "/api/nodes", "The live nodes with their figures."),
    (
        "GET",
        "/api/figures",
        "The figures of the cluster and its nodes.",
    ),
    (
        "GET",
        "/api/figures/history",
        "The cluster's figures of the last hour.",
    ),
    (
        "GET",
        "/api/health",
        "What is wrong and what to do, the worst first.",
    ),
    (
        "GET",
        "/api/heat?by=objects|calls|cpu",
        "A number for each shard, for the map.",
    ),
    (
        "GET",
        "/api/history?since=MS",
        "Changes of owners since a moment, and all events.",
    ),
    ("GET", "/api/events", "Live updates as server-sent events."),
    ("GET", "/api/shards", "Every shard: owner, target, state."),
    (
        "GET",
        "/api/shards/{shard}",
        "A shard's story: why here, why now, what next.",
    ),
    (
        "GET",
        "/api/locate/{type}/{id}",
        "The shard and owner of an object, which is not activated.",
    ),
    (
        "GET",
        "/api/objects?type=&prefix=&shard=&node=&after=&limit=",
        "Live objects.",
    ),
    (
        "GET",
        "/api/types",
        "The object types with their methods, and what their turns take.",
    ),
    (
        "GET",
        "/api/plans",
        "The plans that are kept, newest first.",
    ),
    ("GET", "/api/plans/{plan}", "A plan with its moves."),
    (
        "POST",
        "/api/session",
        "Tells whether a token is good, and who it lets act.",
    ),
    (
        "POST",
        "/api/shards/{shard}/move",
        "Moves a shard: `{\"node\": …}`.",
    ),
    (
        "POST",
        "/api/shards/{shard}/pin",
        "Pins a shard: `{\"node\": …}`, or without: where it is.",
    ),
    (
        "POST",
        "/api/shards/{shard}/unpin",
        "Lets a shard be moved again.",
    ),
    (
        "POST",
        "/api/shards/{shard}/release",
        "Releases a shard from quarantine.",
    ),
    (
        "POST",
        "/api/nodes/{node}/drain",
        "Lets a node hand over and leave.",
    ),
    ("POST", "/api/nodes/{node}/undrain", "Takes a drain back."),
    (
        "POST",
        "/api/nodes/{node}/cordon",
        "Gives a node nothing more.",
    ),
    (
        "POST",
        "/api/nodes/{node}/uncordon",
        "Gives a node shards again.",
    ),
    (
        "POST",
        "/api/plans",
        "Rebalances: `{\"dry_run\": …, \"strategy\": \"count\" or \"load\"}`.",
    ),
    (
        "POST",
        "/api/plans/{plan}/abort",
        "Ends a plan early: `{\"reverse\": …}`.",
    ),
    ("POST", "/api/pause", "Pauses balancing."),
    ("POST", "/api/resume", "Goes on balancing."),
    (
        "POST",
        "/api/objects/{type}/{id}/deactivate",
        "Ends an object's activation in order.",
    ),
    (
        "POST",
        "/api/objects/{type}/{id}/call/{method}",
        "Calls a read-only method with the body as arguments in JSON.",
    ),
];

/// Returns all routes.
pub(crate) fn router(board: Arc<Board>) -> Router {
    let acting =
        actions::routes().route_layer(middleware::from_fn_with_state(board.clone(), may_act));
    let looking = Router::new()
        .route("/api", get(routes))
        .route("/api/view", get(view))
        .route("/api/nodes", get(nodes))
        .route("/api/figures", get(figures))
        .route("/api/figures/history", get(points))
        .route("/api/health", get(health))
        .route("/api/heat", get(shards::heat))
        .route("/api/history", get(shards::history))
        .route("/api/events", get(events::events))
        .route("/api/shards", get(shards::list))
        .route("/api/shards/{shard}", get(shards::story))
        .route("/api/locate/{type}/{id}", get(objects::locate))
        .route("/api/objects", get(objects::list))
        .route("/api/types", get(objects::types))
        .route("/api/plans", get(plans::list))
        .route("/api/plans/{plan}", get(plans::plan))
        .merge(acting)
        .merge(assets::routes())
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(board.clone(), may_look));
    Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/ready", get(ready))
        .merge(looking)
        .layer(middleware::map_response(secured))
        .with_state(board)
}

/// Adds what the browser is to be told about every answer.
async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Problem::new(status, "method_not_allowed", "Method not allowed", detail)
}

async fn routes() -> Json<Vec<Value>> {
    let routes = ROUTES.iter();
    let routes =
        routes.map(|(method, path, what)| json!({"method": method, "path": path, "what": what}));
    Json(routes.collect())
}

/// 200 while the cluster is seen and the view follows the store.
async fn ready(State(board): State<Arc<Board>>) -> (StatusCode, Json<Value>) {
    let store = board.store_state();
    let status = if store == "caught_up" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let why = board.observer().err().map(|problem| problem.detail);
    (
        status,
        Json(json!({"store": store, "why": why, "pages": board.feed.counts()})),
    )
}

async fn view(State(board): State<Arc<Board>>) -> Answer<Snapshot> {
    Ok(Json(Snapshot::of(&*board.view()?, now_ms())))
}

/// A node and how it fares.
#[derive(Serialize)]
struct NodeAndFigures {
    #[serde(flatten)]
    node: NodeInfo,
    shards_owned: u32,
    figures: Option<crate::figures::NodeFigures>,
}

async fn nodes(State(board): State<Arc<Board>>) -> Answer<Vec<NodeAndFigures>> {
    let view = board.view()?;
    let mut figures = board.figures().into_nodes();
    let nodes = NodeInfo::all(&view).into_iter().map(|node| {
        let owned = |shard| {
            view.live_owner(shard)
                .is_some_and(|owner| owner.node.as_str() == node.id)
        };
        let count = view
            .meta
            .shard_count
            .shards()
            .filter(|shard| owned(*shard))
            .count();
        NodeAndFigures {
            shards_owned: u32::try_from(count).unwrap_or(u32::MAX),
            figures: figures.remove(&node.id),
            node,
        }
    });
    Ok(Json(nodes.collect()))
}

async fn figures(State(board): State<Arc<Board>>) -> Answer<Figures> {
    board.observer()?;
    Ok(Json(board.figures()))
}

async fn points(State(board): State<Arc<Board>>) -> Answer<Vec<Point>> {
    board.observer()?;
    Ok(Json(board.points()))
}

async fn health(State(board): State<Arc<Board>>) -> Answer<Vec<Finding>> {
    let view = board.view()?;
    Ok(Json(board.findings(&view)))
}

/// Reads a body; an empty one stands for all defaults.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(body).map_err(|error| Problem::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::ROUTES;

    #[test]
    fn every_path_is_in_the_documentation() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/inspector.md");
        let page = std::fs::read_to_string(page).expect("it is there");
        for (method, path, what) in ROUTES {
            let path = path.replace('|', "\\|");
            let row = format!("| {method} | `{path}` | {what} |");
            assert!(page.contains(&row), "docs/inspector.md lacks: {row}");
        }
    }
}
