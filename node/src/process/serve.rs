//! The HTTP servers of a process.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn;
use steading::node::ObserverSettings;
use steading::tls::Tls;
use steading::{Node, Tasks};
use steading_inspector::{Access, Inspector};
use tokio::net::TcpListener;

use super::GrpcExtras;
use super::https::HttpsListener;
use crate::http;

/// How long open HTTP connections may take to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The HTTP servers of a process, and the tasks that go with them.
#[derive(Debug)]
pub(crate) struct Server {
    tasks: Tasks,
}

impl Server {
    /// Begins without any.
    pub(crate) fn new() -> Self {
        Self {
            tasks: Tasks::new(),
        }
    }

    /// Returns the tasks that serve, for what lives as long as they do.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Serves a node's HTTP routes, and tells its health over gRPC. With certificates, the server
    /// speaks TLS, and asks for one of clients that want more than the node's health.
    pub(crate) fn add(
        &self,
        node: &Node,
        listener: TcpListener,
        extras: GrpcExtras,
        tls: Option<&Tls>,
    ) {
        extras.follow(node.clone(), &self.tasks);
        let routes = http::router(node.clone(), &self.tasks);
        match tls {
            None => self.serve("http", listener, routes),
            Some(tls) => {
                let metrics = node.metrics().certificates.clone();
                let listener = HttpsListener::new(listener, tls.clone(), metrics);
                self.serve_certified("https", listener, routes);
            }
        }
    }

    /// Serves the Inspector, which looks at the cluster as one from outside would. Pages keep their
    /// connection as long as they are open, so nobody waits for them at the end.
    pub(crate) fn inspector(
        &self,
        observed: ObserverSettings,
        access: Access,
        listener: TcpListener,
    ) {
        let inspector = Inspector::start(observed, access);
        self.tasks.spawn("inspector", |shutdown| async move {
            let routes = inspector
                .router()
                .into_make_service_with_connect_info::<SocketAddr>();
            let serving = axum::serve(listener, routes).into_future();
            let served = shutdown.run_until_cancelled(serving).await;
            inspector.stop().await;
            served.unwrap_or(Ok(()))
        });
    }

    fn serve(&self, name: &'static str, listener: TcpListener, routes: Router) {
        self.tasks.spawn(name, |shutdown| {
            axum::serve(listener, routes)
                .with_graceful_shutdown(shutdown.cancelled_owned())
                .into_future()
        });
    }

    fn serve_certified(&self, name: &'static str, listener: HttpsListener, routes: Router) {
        let routes = routes
            .layer(from_fn(http::certified_only))
            .into_make_service_with_connect_info::<http::Certified>();
        self.tasks.spawn(name, |shutdown| {
            axum::serve(listener, routes)
                .with_graceful_shutdown(shutdown.cancelled_owned())
                .into_future()
        });
    }

    /// Stops serving. Answers that are under way get a moment to end.
    pub(crate) async fn stop(self) {
        self.tasks.stop(CLOSE_TIMEOUT).await;
    }
}
