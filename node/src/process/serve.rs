//! The HTTP servers of a process.

use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::serve::Listener;
use steading::node::ObserverSettings;
use steading::telemetry::CertificateMetrics;
use steading::tls::{Clients, ServerTls, Tls};
use steading::{Node, Tasks};
use steading_http::HttpsListener;
use steading_inspector::{Access, Inspector};
use tokio::net::TcpListener;

use super::GrpcExtras;
use super::door::{Door, Origin, say_if_closing};
use crate::http::{self, Guest};

/// How long open HTTP connections may take to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The HTTP servers of a process, and the tasks that go with them.
#[derive(Debug)]
pub(crate) struct Server {
    tasks: Tasks,
    door: Door,
}

impl Server {
    /// Begins without any.
    pub(crate) fn new() -> Self {
        Self {
            tasks: Tasks::new(),
            door: Door::new(),
        }
    }

    /// Returns where HTTP clients come in; closed before a node leaves, so that their calls are answered.
    pub(crate) fn door(&self) -> &Door {
        &self.door
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
                let listener = HttpsListener::new(listener, Clients::All(tls.clone()), metrics);
                let routes = routes.layer(from_fn(http::certified_only));
                self.serve("https", listener, routes);
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
        tls: Option<(ServerTls, CertificateMetrics)>,
    ) {
        let inspector = Inspector::start(observed, access);
        self.tasks.spawn("inspector", |shutdown| async move {
            let serving = inspector.serve(listener, tls);
            let served = shutdown.run_until_cancelled(serving).await;
            inspector.stop().await;
            served.unwrap_or(Ok(()))
        });
    }

    fn serve<L>(&self, name: &'static str, listener: L, routes: Router)
    where
        L: Listener,
        L::Addr: Origin,
    {
        let listener = self.door.count(listener);
        let routes = routes
            .layer(from_fn_with_state(self.door.clone(), say_if_closing))
            .into_make_service_with_connect_info::<Guest>();
        let closed = self.door.closed();
        self.tasks.spawn(name, |shutdown| async move {
            let ends = shutdown.clone();
            let end = async move {
                tokio::select! {
                    () = closed => {}
                    () = ends.cancelled_owned() => {}
                }
            };
            axum::serve(listener, routes)
                .with_graceful_shutdown(end)
                .await?;
            // The end of one task ends all, and the others are wanted until the node has left.
            shutdown.cancelled().await;
            Ok::<_, std::io::Error>(())
        });
    }

    /// Stops serving. Answers that are under way get a moment to end.
    pub(crate) async fn stop(self) {
        self.tasks.stop(CLOSE_TIMEOUT).await;
    }
}
