//! All routes in one place, and what requests get that match none.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn;
use axum::routing::get;
use axum::{Json, Router};
use steading::object::PAYLOAD_LEN_MAX;
use steading::{CallError, Node, Tasks};
use steading_http::{Guard, PROBLEM_JSON, Problem};
use utoipa::OpenApi;
use utoipa::openapi::path::{ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{ContentBuilder, Ref, Required, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::certified::certified_only;
use super::since::Since;
use super::{calls, explain, handlers, health, objects, operate};

/// Where the OpenAPI document is found.
const DOCUMENT_PATH: &str = "/v1/openapi.json";

/// What handlers need.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) node: Node,
    pub(super) since: Since,
}

/// The document's frame; its paths and schemas come from the handlers.
#[derive(OpenApi)]
#[openapi(info(
    title = "Steading",
    description = "Calls objects by ID, and shows where they live. Any node answers for all. \
                   Every POST needs `Content-Type: application/json`, or, if it has no body, the header \
                   `X-Steading-Command: 1`: no form of a web page can send either. Requests of pages of \
                   other origins are rejected unless `http_cors_origins` lists them.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Frame;

/// Returns the routes of a node's HTTP server, behind a guard against web pages. One of `tasks` follows the
/// node's view, to tell since when things are as they are.
pub fn router(node: Node, tasks: &Tasks, guard: &Guard) -> Router {
    guard.protect(unguarded(node, tasks))
}

/// Returns the same for a server with TLS, which asks most clients for a certificate.
pub(crate) fn certified_router(node: Node, tasks: &Tasks, guard: &Guard) -> Router {
    guard.protect(unguarded(node, tasks).layer(from_fn(certified_only)))
}

fn unguarded(node: Node, tasks: &Tasks) -> Router {
    let since = Since::default();
    let (following, views) = (since.clone(), node.subscribe());
    tasks.spawn("http-since", |shutdown| async move {
        shutdown.run_until_cancelled(following.follow(views)).await;
        Ok::<_, Infallible>(())
    });
    let (routes, document) = routes().split_for_parts();
    let document = Arc::new(with_rejections(document));
    routes
        .route(
            DOCUMENT_PATH,
            get(move || std::future::ready(Json(document.clone()))),
        )
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(PAYLOAD_LEN_MAX))
        .with_state(Served { node, since })
}

/// Returns the OpenAPI document of the HTTP server.
pub fn openapi() -> utoipa::openapi::OpenApi {
    with_rejections(routes().split_for_parts().1)
}

/// Adds to every operation what the guard says to it, and to those that change something how it is asked.
fn with_rejections(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let rejected = |why| {
        ResponseBuilder::new()
            .description(why)
            .content(PROBLEM_JSON, content.clone())
            .build()
    };
    let header = ParameterBuilder::new()
        .name("X-Steading-Command")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "`1`: wanted if there is neither a body nor its content type",
        ))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            let cross_site = rejected("Code `cross_site`: a page of another origin sent it");
            responses.insert("403".into(), cross_site.into());
            let wrong_host =
                rejected("Code `wrong_host`: the server does not answer to this `Host`");
            responses.insert("421".into(), wrong_host.into());
        }
        if let Some(operation) = &mut item.post {
            let not_json = rejected("Code `unsupported_media_type`: it is not sent as JSON");
            let responses = &mut operation.responses.responses;
            responses.insert("415".into(), not_json.into());
            operation
                .parameters
                .get_or_insert_default()
                .push(header.clone().into());
        }
    }
    document
}

fn routes() -> OpenApiRouter<Served> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(calls::call))
        .routes(routes!(objects::list))
        .routes(routes!(handlers::cluster))
        .routes(routes!(handlers::shards))
        .routes(routes!(handlers::shard))
        .routes(routes!(handlers::locate))
        .routes(routes!(explain::shard))
        .routes(routes!(explain::object))
        .routes(routes!(explain::node))
        .merge(commands())
        .routes(routes!(health::healthz))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

/// What operators order, and the plans that come of it.
fn commands() -> OpenApiRouter<Served> {
    OpenApiRouter::new()
        .routes(routes!(operate::pin))
        .routes(routes!(operate::unpin))
        .routes(routes!(operate::move_one))
        .routes(routes!(operate::move_many))
        .routes(routes!(operate::release))
        .routes(routes!(operate::cordon))
        .routes(routes!(operate::uncordon))
        .routes(routes!(operate::drain))
        .routes(routes!(operate::undrain))
        .routes(routes!(operate::pause))
        .routes(routes!(operate::resume))
        .routes(routes!(operate::plans, operate::rebalance))
        .routes(routes!(operate::plan))
        .routes(routes!(operate::abort))
}

/// Tells what is wrong with a path that names nothing.
async fn no_such_route(uri: Uri) -> Problem {
    let path = uri.path();
    let of_an_object = path.starts_with("/v1/objects/") || path.starts_with("/v1/locate/");
    if of_an_object && path[1..].split('/').any(str::is_empty) {
        let why = "neither the type name, the ID nor the method may be empty";
        return CallError::InvalidId(why.into()).into();
    }
    let hint = if of_an_object {
        "; a slash in an ID is written %2F"
    } else {
        ""
    };
    Problem::not_found(format!("there is nothing at {path}{hint}"))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}", uri.path());
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "Method not allowed",
        detail,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_openapi_document() {
        let document = openapi();
        let paths: Vec<_> = document.paths.paths.keys().map(String::as_str).collect();
        let expected = [
            "/healthz",
            "/metrics",
            "/ready",
            "/v1/cluster",
            "/v1/explain/node/{node}",
            "/v1/explain/object/{type}/{id}",
            "/v1/explain/shard/{shard}",
            "/v1/locate/{type}/{id}",
            "/v1/moves",
            "/v1/nodes/{node}/cordon",
            "/v1/nodes/{node}/drain",
            "/v1/nodes/{node}/uncordon",
            "/v1/nodes/{node}/undrain",
            "/v1/objects",
            "/v1/objects/{type}/{id}/{method}",
            "/v1/pause",
            "/v1/plans",
            "/v1/plans/{plan}",
            "/v1/plans/{plan}/abort",
            "/v1/resume",
            "/v1/shards",
            "/v1/shards/{shard}",
            "/v1/shards/{shard}/move",
            "/v1/shards/{shard}/pin",
            "/v1/shards/{shard}/release",
            "/v1/shards/{shard}/unpin",
        ];
        assert_eq!(paths, expected);
        let text = document.to_json().expect("it can be written as JSON");
        for schema in [
            "Problem",
            "Cluster",
            "ShardInfo",
            "Location",
            "Objects",
            "Ready",
        ] {
            assert!(
                text.contains(&format!("#/components/schemas/{schema}")),
                "{schema}"
            );
        }
    }
}
