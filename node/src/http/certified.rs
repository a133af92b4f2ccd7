//! Who may ask what, on a server with TLS.

use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use steading_http::{Client, Problem};

/// What anyone may ask: the probes of Kubernetes and Prometheus have no certificate of the cluster.
const OPEN_PATHS: [&str; 3] = ["/healthz", "/ready", "/metrics"];

/// Refuses whatever needs a certificate to clients that showed none.
pub(crate) async fn certified_only(
    ConnectInfo(client): ConnectInfo<Client>,
    request: Request,
    next: Next,
) -> Response {
    if client.certified || OPEN_PATHS.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let detail = "show a certificate of the cluster's authority: `tls_cert` and `tls_key` of \
                  Steading's programs, `--cert` and `--key` of curl";
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "certificate_required",
        "Certificate required",
        detail,
    )
    .into_response()
}
