//! A real node with its HTTP routes, without sockets for HTTP.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use serde_json::Value;
use steading::ids::{NodeId, ShardCount};
use steading::{Node, Object, Tasks, methods};
use steading_node::http::Guard;
use steading_node::samples::{Account, Counter, Word};
use tower::ServiceExt;

/// Far above the expected: expiry means a bug.
const LIMIT: Duration = Duration::from_secs(30);

/// An object that misbehaves.
#[derive(Debug, Default, Object)]
struct Trouble {}

#[methods]
impl Trouble {
    async fn panic(&mut self) {
        panic!("on purpose");
    }

    async fn hang(&self) {
        std::future::pending::<()>().await;
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) node: Node,
    routes: Router,
    tasks: Tasks,
}

impl Server {
    /// Starts a node named `n1` with 64 shards and waits until it is ready.
    pub(crate) async fn start() -> Self {
        let node = Node::builder()
            .id(NodeId::new("n1").expect("a good name"))
            .shard_count(ShardCount::new(64).expect("a power of two"))
            .drain_timeout(Duration::from_millis(100))
            .register::<Counter>()
            .register::<Account>()
            .register::<Word>()
            .register::<Trouble>()
            .start()
            .await
            .expect("it starts");
        let tasks = Tasks::new();
        let guard = Guard::new([127, 0, 0, 1].into(), Vec::new(), "http_hosts");
        let routes = steading_node::http::router(node.clone(), &tasks, &guard);
        let server = Self {
            node,
            routes,
            tasks,
        };
        let mut views = server.node.subscribe();
        let ready = async {
            while !server.node.readiness().is_ready() {
                views.changed().await.expect("the node lives");
            }
        };
        tokio::time::timeout(LIMIT, ready)
            .await
            .expect("it gets ready");
        server
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> (StatusCode, Value) {
        let json = [("content-type", "application/json")];
        self.send(Method::POST, path, &json, body).await
    }

    /// Sends a request, to `localhost` unless a header says otherwise; an answer that is no JSON comes back as a text.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:7480");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Body::from(body.to_owned()))
            .expect("a good request");
        let answer = tokio::time::timeout(LIMIT, self.routes.clone().oneshot(request)).await;
        let answer = answer
            .expect("it answers in time")
            .expect("routes do not fail");
        let status = answer.status();
        let media_type = answer.headers().get("content-type").cloned();
        let body = to_bytes(answer.into_body(), usize::MAX)
            .await
            .expect("the body is whole");
        let value = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into()));
        if status.is_client_error() || (status.is_server_error() && !path.starts_with("/ready")) {
            assert_eq!(
                media_type.expect("a type"),
                "application/problem+json",
                "{path}"
            );
        }
        (status, value)
    }

    pub(crate) async fn stop(self) {
        self.node.stop().await;
        self.tasks.stop(LIMIT).await;
    }
}
