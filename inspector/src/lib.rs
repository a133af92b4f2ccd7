//! The web UI that shows where objects live.
//!
//! One page, rendered on the server from the newest [`ClusterView`], and the same as JSON. Only
//! looks: it has nothing but the view, and asks no store and no other node.

mod page;
mod summary;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum::{Json, Router, middleware};
use steading::placement::ClusterView;
use tokio::sync::watch;

pub use summary::{BlockSummary, LeaderSummary, NodeSummary, ShardTotals, ViewSummary};

type View = watch::Receiver<Arc<ClusterView>>;

/// The page may use what this router serves, and nothing else from anywhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Returns the Inspector of one process's view: the page at `/`, JSON at `/api/view`.
///
/// Paths on the page are relative, so that the router can be nested under any path that ends
/// with a slash.
pub fn router(view: watch::Receiver<Arc<ClusterView>>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/view", get(api_view))
        .route(
            "/style.css",
            get(|| text("text/css; charset=utf-8", include_str!("page/style.css"))),
        )
        .route(
            "/renew.js",
            get(|| {
                text(
                    "text/javascript; charset=utf-8",
                    include_str!("page/renew.js"),
                )
            }),
        )
        .layer(middleware::map_response(secured))
        .with_state(view)
}

async fn page(State(view): State<View>) -> impl IntoResponse {
    Html(page::page(&summary(&view)).into_string())
}

async fn api_view(State(view): State<View>) -> impl IntoResponse {
    Json(summary(&view))
}

fn summary(view: &View) -> ViewSummary {
    // The guard must not be held while summing up: it keeps the writer of the view waiting.
    let view = view.borrow().clone();
    ViewSummary::of(&view)
}

fn text(
    content_type: &'static str,
    text: &'static str,
) -> std::future::Ready<impl IntoResponse + use<>> {
    std::future::ready(([(header::CONTENT_TYPE, content_type)], text))
}

async fn secured(mut response: axum::response::Response) -> axum::response::Response {
    let headers: [(HeaderName, &'static str); 4] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
