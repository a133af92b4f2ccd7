//! The web UI that shows where objects live, why they live there, and lets operators act.
//!
//! Looks at a cluster from outside: its own watch on the store, and questions to the nodes' admin
//! service at an interval, few at a time and each with a time limit. Nothing in the cluster waits
//! for it or knows of it, so a slow or dead Inspector costs nothing but its page.
//!
//! [`Inspector::start`] begins to look; [`Inspector::router`] is what a server serves: the page at
//! `/`, JSON under `/api`, and live updates at `/api/events`. The API is in `docs/inspector.md`.

#![allow(
    clippy::result_large_err,
    reason = "a problem is rare, and goes straight into the answer"
)]

mod api;
mod assets;
mod board;
mod feed;
mod figures;
mod guard;
mod health;
mod history;
mod look;
mod openmetrics;
mod rates;
mod rows;
mod settings;
mod snapshot;
mod spread;
#[cfg(test)]
mod testing;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use steading::Tasks;
use steading::node::ObserverSettings;
use steading::telemetry::CertificateMetrics;
use steading::tls::{Clients, ServerTls, follow_server};
use steading_http::{Client, HttpsListener};
use tokio::net::TcpListener;

pub use guard::Access;
pub use settings::{InspectorSettings, Program, ProgramSettings};

use board::Board;

/// How long an orderly end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// An Inspector that looks at a cluster. A cheap handle: clones are the same Inspector.
#[derive(Clone, Debug)]
pub struct Inspector {
    board: Arc<Board>,
    tasks: Tasks,
}

impl Inspector {
    /// Begins to look, however long the store is away. Must be called inside a tokio runtime.
    pub fn start(observed: ObserverSettings, access: Access) -> Self {
        let (board, tasks) = (Arc::new(Board::new(access)), Tasks::new());
        let looking = board.clone();
        tasks.spawn("look", |shutdown| look::run(looking, observed, shutdown));
        Self { board, tasks }
    }

    /// Returns the routes: the page, its files and the API. They can be nested under a path that
    /// ends with a slash.
    pub fn router(&self) -> Router {
        api::router(self.board.clone())
    }

    /// Serves the routes at a listener, over TLS if there is a certificate; that of a new file is used for new
    /// connections. Only a failure of the system ends it, or dropping it: pages keep their connection as long as
    /// they are open.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Option<(ServerTls, CertificateMetrics)>,
    ) -> io::Result<()> {
        let Some((tls, metrics)) = tls else {
            let routes = self.router();
            let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
            return axum::serve(listener, routes).await;
        };
        let clients = Clients::Anybody(tls.clone());
        let listener = HttpsListener::new(listener, clients, metrics.clone());
        self.tasks.spawn("certificate", |shutdown| {
            follow_server(tls, metrics, shutdown)
        });
        let routes = self.router().layer(from_fn(tell_address));
        let routes = routes.into_make_service_with_connect_info::<Client>();
        axum::serve(listener, routes).await
    }

    /// Stops looking. Pages that are open see that it went.
    pub async fn stop(&self) {
        self.tasks.stop(STOP_TIMEOUT).await;
    }
}

/// Tells routes where a client comes from as they are told without TLS.
async fn tell_address(
    ConnectInfo(client): ConnectInfo<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(ConnectInfo(client.address));
    next.run(request).await
}
