//! Serves routes over HTTP/1 and HTTP/2, with and without TLS, within the limits of connections.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::BoxStream;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use steading::connections::{
    Acceptor, BodyError, BodyRule, ConnectionLimits, Connections, Guarded, Refused, Rules, Slot,
    TrackLayer, Tracked,
};
use steading::memory_budget::MemoryBudget;
use steading::telemetry::CertificateMetrics;
use steading::tls::{Accepted, Clients, accept};
use steading::{Outcome, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::{Layer, ServiceExt};
use tracing::debug;

use crate::Problem;

/// The most requests in progress on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// The most bytes of the headers of one HTTP/2 request.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// The most bytes that HTTP/1 buffers of one connection, headers included.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Streams that a client opened and reset, and that the server has not yet forgotten: one more ends
/// the connection.
const RESET_STREAMS_MAX: usize = 32;

/// An HTTP/2 client that was silent for this long is asked for a sign of life …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// … and given up if none comes within this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What answers while every connection of clients is in use: probes need it then most.
const RESERVED_PATHS: [&str; 3] = ["/healthz", "/ready", "/metrics"];

/// The client at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it showed a certificate of the cluster.
    pub certified: bool,
}

/// A listener with its limits, and TLS if it has any.
#[derive(Debug)]
pub struct Server {
    /// Where clients connect.
    pub listener: TcpListener,
    /// Its connections.
    pub connections: Connections,
    /// The limits that those were made with.
    pub limits: ConnectionLimits,
    /// The bytes that may be in flight in the process.
    pub budget: MemoryBudget,
    /// Which clients it takes over TLS; without, it speaks no TLS.
    pub tls: Option<(Clients, CertificateMetrics)>,
}

type Service = Tracked<Router, Body>;
type Arrived = (TokioIo<Guarded<ByteStream>>, Client, Slot);
type ByteStream = Box<dyn ReadWrite>;

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

impl Server {
    /// Serves the routes until `closed`; then takes no more connections, and those that are open
    /// end with the response to the request in progress. They are tasks of `tasks`, and end at once
    /// when those are stopped.
    ///
    /// Routes find a [`ConnectInfo`] of [`Client`] and one of [`SocketAddr`].
    pub async fn serve(self, routes: Router, tasks: &Tasks, closed: impl Future<Output = ()>) {
        let service = TrackLayer {
            rules: RULES,
            body_timeout: self.limits.timeouts.body,
            budget: self.budget.clone(),
        }
        .layer(routes);
        let enforced = self.connections.clone();
        tasks.spawn("http connections", |shutdown| enforced.enforce(shutdown));
        let mut arriving = self.arriving();
        let ending = CancellationToken::new();
        let _end_all = ending.clone().drop_guard();
        let mut closed = pin!(closed);
        loop {
            let arrived = tokio::select! {
                biased; // Nothing is taken that would be closed at once.
                () = &mut closed => return,
                arrived = arriving.next() => arrived,
            };
            let Some(arrived) = arrived else { return };
            let driving = drive(arrived, service.clone(), ending.clone());
            let shutdown = tasks.shutdown().clone();
            drop(tasks.spawn_work(async move { shutdown.run_until_cancelled(driving).await }));
        }
    }

    fn arriving(self) -> BoxStream<'static, Arrived> {
        let accepted = Acceptor::new(self.listener, self.connections).into_stream();
        let Some((clients, metrics)) = self.tls else {
            let plain = accepted.map(|(stream, address, slot)| {
                let certified = false;
                arrived(Box::new(stream), Client { address, certified }, slot)
            });
            return plain.boxed();
        };
        let accepted =
            accepted.map(|(stream, address, slot)| Ok((stream, Arriving { address, slot })));
        let encrypted = accept(accepted.boxed(), clients, metrics);
        let arrived = encrypted.filter_map(|accepted| {
            std::future::ready(accepted.ok().map(|accepted| {
                let Accepted {
                    io,
                    role,
                    from: Arriving { address, slot },
                } = accepted;
                let certified = role.is_certified();
                arrived(Box::new(io), Client { address, certified }, slot)
            }))
        });
        arrived.boxed()
    }
}

/// Where a connection comes from during its handshake.
struct Arriving {
    address: SocketAddr,
    slot: Slot,
}

impl std::fmt::Debug for Arriving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

fn arrived(stream: ByteStream, client: Client, slot: Slot) -> Arrived {
    (
        TokioIo::new(Guarded::new(stream, slot.clone())),
        client,
        slot,
    )
}

/// Serves one connection until it ends; `ending` makes its next response the last.
async fn drive((io, client, slot): Arrived, service: Service, ending: CancellationToken) {
    let service = service.map_request(move |mut request: Request<Incoming>| {
        let extensions = request.extensions_mut();
        extensions.insert(slot.clone());
        extensions.insert(ConnectInfo(client));
        extensions.insert(ConnectInfo(client.address));
        request
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_pending_accept_reset_streams(RESET_STREAMS_MAX);
    let mut connection = pin!(builder.serve_connection(io, TowerToHyperService::new(service)));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = ending.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(client = %client.address, error, "a connection ended early");
    }
}

/// How requests are treated.
const RULES: Rules<Body> = Rules {
    slot: |extensions| extensions.get().cloned(),
    body: |_| BodyRule::Whole,
    reserved: |path| RESERVED_PATHS.contains(&path),
    refuse: |refused| {
        let mut problem = overloaded(&refused.to_string());
        if matches!(refused, Refused::Reply(_)) {
            problem.outcome = Outcome::Unknown.as_str().into();
        }
        closing(problem)
    },
    error: Into::into,
};

/// Returns the problem of a server that has no room for a request.
pub fn overloaded(why: &str) -> Problem {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    Problem::new(status, "overloaded", "Overloaded", why)
}

/// Returns the problem of a request whose body was given up, if that is why it could not be read.
pub fn body_problem(rejection: &(dyn Error + 'static)) -> Option<Problem> {
    let error = BodyError::find(rejection)?;
    let (status, code, title) = match error {
        BodyError::Overloaded(why) => return Some(overloaded(&why.to_string())),
        BodyError::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            "Request body too slow",
        ),
        BodyError::Stopping => (
            StatusCode::SERVICE_UNAVAILABLE,
            "stopping",
            "Server stopping",
        ),
    };
    Some(Problem::new(status, code, title, error.to_string()))
}

fn closing(problem: Problem) -> Response {
    let mut response = problem.into_response();
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}
