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

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use steading::Tasks;
use steading::connections::{ConnectionLimits, Connections};
use steading::memory_budget::MemoryBudget;
use steading::node::ObserverSettings;
use steading::telemetry::CertificateMetrics;
use steading::tls::{Clients, ServerTls, follow_server};
use steading_http::Server;
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

/// What an Inspector is served with.
#[derive(Debug)]
pub struct Listening {
    /// Where pages connect.
    pub listener: TcpListener,
    /// The connections of the listener.
    pub connections: Connections,
    /// Their limits.
    pub limits: ConnectionLimits,
    /// The bytes that may be in flight in the process.
    pub budget: MemoryBudget,
    /// The certificate, and its metrics; without, the server speaks no TLS.
    pub tls: Option<(ServerTls, CertificateMetrics)>,
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

    /// Serves the routes at a listener; the certificate of a new file is used for new connections.
    /// Ends by itself only if a background task has ended, since pages would show what was known then
    /// for ever. Dropping the future closes the listener, and [`Inspector::stop`] ends the connections
    /// that are open.
    pub async fn serve(&self, listening: Listening) {
        let tls = listening.tls.map(|(tls, metrics)| {
            let (followed, counted) = (tls.clone(), metrics.clone());
            self.tasks.spawn("certificate", |shutdown| {
                follow_server(followed, counted, shutdown)
            });
            (Clients::Anybody(tls), metrics)
        });
        let server = Server {
            listener: listening.listener,
            connections: listening.connections,
            limits: listening.limits,
            budget: listening.budget,
            tls,
        };
        // Pages keep their connection as long as they are open: nothing waits for them.
        let never = std::future::pending();
        tokio::select! {
            () = server.serve(self.router(), &self.tasks, never) => {}
            () = self.tasks.shutdown().cancelled() => {}
        }
    }

    /// Stops looking. Pages that are open see that it went.
    pub async fn stop(&self) {
        self.tasks.stop(STOP_TIMEOUT).await;
    }
}
