//! The HTTP servers of a process.

use std::convert::Infallible;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use steading::connections::{ConnectionLimits, Connections};
use steading::node::ObserverSettings;
use steading::tls::{Clients, ServerTls, Tls};
use steading::{Node, Tasks};
use steading_inspector::{Access, Inspector, Listening};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::GrpcExtras;
use super::door::{Door, say_if_closing};
use crate::http::{self, Guard};

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
        limits: ConnectionLimits,
        tls: Option<&Tls>,
        guard: &Guard,
    ) {
        extras.follow(node.clone(), &self.tasks);
        let routes = match tls {
            None => http::router(node.clone(), &self.tasks, guard),
            Some(_) => http::certified_router(node.clone(), &self.tasks, guard),
        };
        let routes = routes.layer(from_fn_with_state(self.door.clone(), say_if_closing));
        let connections = connections("http", limits, node);
        self.door.add(connections.clone());
        let server = steading_http::Server {
            listener,
            connections,
            limits,
            budget: node.memory_budget().clone(),
            tls: tls.map(|tls| {
                let metrics = node.metrics().certificates.clone();
                (Clients::All(tls.clone()), metrics)
            }),
        };
        let (closed, tasks) = (self.door.closed(), self.tasks.clone());
        self.tasks.spawn("http", |shutdown| async move {
            server.serve(routes, &tasks, closed).await;
            // The end of one task ends all, and the others are wanted until the node has left.
            shutdown.cancelled().await;
            Ok::<_, Infallible>(())
        });
    }

    /// Serves the Inspector of a node's process, which looks at the cluster as one from outside would. Pages keep their
    /// connection as long as they are open, so nobody waits for them at the end.
    pub(crate) fn inspector(
        &self,
        node: &Node,
        observed: ObserverSettings,
        access: Access,
        listener: TcpListener,
        limits: ConnectionLimits,
        tls: Option<ServerTls>,
    ) {
        let connections = connections("inspector", limits, node);
        let tls = tls.map(|tls| (tls, node.metrics().certificates.clone()));
        let listening = Listening {
            listener,
            connections,
            limits,
            budget: node.memory_budget().clone(),
            tls,
        };
        let inspector = Inspector::start(observed, access);
        self.tasks.spawn("inspector", |shutdown| async move {
            let serving = inspector.serve(listening);
            let served = shutdown.run_until_cancelled(serving).await;
            inspector.stop().await;
            let _ = served;
            Ok::<_, Infallible>(())
        });
    }

    /// Stops serving. Answers that are under way get a moment to end.
    pub(crate) async fn stop(self) {
        let closing = self.door.close();
        // An error means that a response takes long: the node that could make it has left.
        let _ = timeout(CLOSE_TIMEOUT, closing).await;
        self.tasks.stop(CLOSE_TIMEOUT).await;
    }
}

fn connections(listener: &'static str, limits: ConnectionLimits, node: &Node) -> Connections {
    let metrics = node.metrics().connections.clone();
    Connections::new(listener, limits, metrics, node.accepting().clone())
}
