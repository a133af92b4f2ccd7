//! All routes in one place, and what requests get that match none.

mod actions;
mod events;
mod objects;
pub(crate) mod plans;
mod shards;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use serde::Serialize;
use serde_json::{Value, json};
use steading_http::{PROBLEM_JSON, Problem};
use utoipa::openapi::{ContentBuilder, Ref, ResponseBuilder};
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::assets;
use crate::board::{Board, CAUGHT_UP, Figures, Point, now_ms};
use crate::guard::may_look;
use crate::health::Finding;
use crate::snapshot::{NodeInfo, Snapshot};

/// Answers, or a problem.
type Answer<T> = Result<Json<T>, Problem>;

/// The page may use what this server serves, and nothing else from anywhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Where the OpenAPI document is found.
const DOCUMENT_PATH: &str = "/api/openapi.json";

/// The document's frame; its paths and schemas come from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Steading Inspector",
        description = "What the Inspector's page asks: where objects live and why, and what \
                       operators order. Times are milliseconds since 1970, those of plans RFC 3339. \
                       Actions want the token in the header X-Steading-Token, or as a bearer, and \
                       `Content-Type: application/json`, or, without a body, `X-Steading-Command: 1`. \
                       Requests of pages of other sites are rejected.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem))
)]
struct Frame;

/// Returns all routes.
pub(crate) fn router(board: Arc<Board>) -> Router {
    let (asked, document) = routes(&board).split_for_parts();
    let document = Arc::new(with_problems(document));
    let list = Arc::new(Listed::all(&document));
    let looking = asked
        .route("/api", get(move || std::future::ready(Json(list.clone()))))
        .route(
            DOCUMENT_PATH,
            get(move || std::future::ready(Json(document.clone()))),
        )
        .merge(assets::routes())
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(board.clone(), may_look));
    let guard = board.access.guard();
    let routes = Router::new()
        .route("/healthz", get(|| std::future::ready("ok\n")))
        .route("/ready", get(ready))
        .merge(looking)
        .layer(middleware::map_response(in_one_form))
        .with_state(board);
    let routes = guard.protect(routes);
    routes.layer(middleware::map_response(secured))
}

fn routes(board: &Arc<Board>) -> OpenApiRouter<Arc<Board>> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(view))
        .routes(routes!(nodes))
        .routes(routes!(figures))
        .routes(routes!(points))
        .routes(routes!(health))
        .routes(routes!(shards::heat))
        .routes(routes!(shards::history))
        .routes(routes!(events::events))
        .routes(routes!(shards::list))
        .routes(routes!(shards::story))
        .routes(routes!(objects::locate))
        .routes(routes!(objects::list))
        .routes(routes!(objects::types))
        .routes(routes!(plans::list))
        .routes(routes!(plans::plan))
        .merge(actions::routes(board))
}

/// Adds to every operation how it tells a problem.
fn with_problems(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let problem = ResponseBuilder::new()
        .description("Why it was not done; the code is stable")
        .content(PROBLEM_JSON, content)
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            responses.insert("default".into(), problem.clone().into());
        }
    }
    document
}

/// A path of the API with what it does.
#[derive(Debug, Serialize)]
struct Listed {
    method: &'static str,
    path: String,
    what: String,
}

impl Listed {
    fn all(document: &utoipa::openapi::OpenApi) -> Vec<Self> {
        let paths = document.paths.paths.iter();
        let listed = paths.flat_map(|(path, item)| {
            let operations = [("GET", &item.get), ("POST", &item.post)];
            operations.into_iter().filter_map(move |(method, found)| {
                let what = found.as_ref()?.summary.clone().unwrap_or_default();
                let path = path.clone();
                Some(Self { method, path, what })
            })
        });
        listed.collect()
    }
}

/// Gives what was refused before a handler saw it the form that all problems have.
async fn in_one_form(response: Response) -> Response {
    /// The longest text of a refusal that is repeated.
    const TEXT_LEN_MAX: usize = 4096;
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_text = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    let status = response.status();
    if !status.is_client_error() || !is_text {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), TEXT_LEN_MAX).await;
    let detail = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let problem = if status == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(status, "payload_too_large", "Payload too large", detail)
    } else {
        Problem::bad_request(detail)
    };
    problem.into_response()
}

/// Adds what the browser is to be told about every answer.
async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
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

/// 200 while the cluster is seen and the view follows the store.
async fn ready(State(board): State<Arc<Board>>) -> (StatusCode, Json<Value>) {
    let store = board.store_state();
    let status = if store == CAUGHT_UP {
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

/// The whole cluster: nodes, and a column for each fact about shards.
#[utoipa::path(
    get, path = "/api/view", tag = "cluster", responses((status = 200, body = Snapshot))
)]
async fn view(State(board): State<Arc<Board>>) -> Answer<Snapshot> {
    Ok(Json(Snapshot::of(&*board.view()?, now_ms())))
}

/// A node and how it fares.
#[derive(Serialize, ToSchema)]
struct NodeAndFigures {
    #[serde(flatten)]
    node: NodeInfo,
    /// How many shards it owns.
    shards_owned: u32,
    /// How it fares; none before it was asked.
    figures: Option<crate::figures::NodeFigures>,
}

/// The live nodes with their figures.
#[utoipa::path(
    get, path = "/api/nodes", tag = "cluster", responses((status = 200, body = Vec<NodeAndFigures>))
)]
async fn nodes(State(board): State<Arc<Board>>) -> Answer<Vec<NodeAndFigures>> {
    board.freshen().await;
    let view = board.view()?;
    let mut figures = board.figures().into_nodes();
    let nodes = NodeInfo::all(&view).into_iter().map(|mut node| {
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
        let figures = figures.remove(&node.id);
        if let Some(figures) = &figures {
            node.state = figures.state;
        }
        NodeAndFigures {
            shards_owned: u32::try_from(count).unwrap_or(u32::MAX),
            figures,
            node,
        }
    });
    Ok(Json(nodes.collect()))
}

/// The figures of the cluster and its nodes.
#[utoipa::path(
    get, path = "/api/figures", tag = "cluster", responses((status = 200, body = Figures))
)]
async fn figures(State(board): State<Arc<Board>>) -> Answer<Figures> {
    board.observer()?;
    board.freshen().await;
    Ok(Json(board.figures()))
}

/// The cluster's figures of the last hour.
#[utoipa::path(
    get, path = "/api/figures/history", tag = "cluster", responses((status = 200, body = Vec<Point>))
)]
async fn points(State(board): State<Arc<Board>>) -> Answer<Vec<Point>> {
    board.observer()?;
    Ok(Json(board.points()))
}

/// What is wrong and what to do, the worst first.
#[utoipa::path(
    get, path = "/api/health", tag = "cluster", responses((status = 200, body = Vec<Finding>))
)]
async fn health(State(board): State<Arc<Board>>) -> Answer<Vec<Finding>> {
    board.freshen().await;
    let view = board.view()?;
    Ok(Json(board.findings(&view)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Access;

    fn document() -> utoipa::openapi::OpenApi {
        let board = Arc::new(Board::new(Access::read_only()));
        with_problems(routes(&board).split_for_parts().1)
    }

    #[test]
    fn every_path_is_in_the_documentation_and_says_what_it_does() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/inspector.md");
        let page = std::fs::read_to_string(page).expect("it is there");
        let listed = Listed::all(&document());
        assert_eq!(listed.len(), 30, "one operation a line");
        for Listed { method, path, what } in listed {
            let row = format!("| {method} | `{path}` | {what} |");
            assert!(page.contains(&row), "docs/inspector.md lacks: {row}");
        }
    }

    #[test]
    fn the_openapi_document_is_complete() {
        let document = serde_json::to_value(document()).expect("it can be written");
        let schemas = &document["components"]["schemas"];
        let paths = document["paths"].as_object().expect("paths");
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("operations") {
                let at = format!("{method} {path}: {operation}");
                assert!(operation["summary"].is_string(), "{at}");
                assert!(operation["responses"]["200"]["content"].is_object(), "{at}");
                assert!(operation["responses"]["default"].is_object(), "{at}");
                let named = operation["parameters"].as_array().map_or(0, |named| {
                    named.iter().filter(|it| it["in"] == "path").count()
                });
                assert_eq!(named, path.matches('{').count(), "{at}");
            }
        }
        let text = document.to_string();
        let used = text.split("#/components/schemas/").skip(1);
        for name in used.filter_map(|rest| rest.split('"').next()) {
            assert!(schemas[name].is_object(), "{name} is not described");
        }
    }

    #[test]
    fn every_route_is_in_the_openapi_document() {
        // Routes are made of documented handlers; what is put beside them is no part of the API.
        let source = include_str!("api.rs");
        let (source, _) = source.split_once("#[cfg(test)]").expect("tests come last");
        let beside = source.matches(".route(").count();
        assert_eq!(beside, 4, "the list, the document, /healthz and /ready");
        assert!(!include_str!("api/actions.rs").contains(".route("));
    }
}
