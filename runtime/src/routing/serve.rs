//! The gRPC server of a node: for other nodes, for clients, for operators.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use steading_proto::v1::admin_server::AdminServer;
use steading_proto::v1::objects_server::ObjectsServer;
use steading_proto::v1::peer_server::PeerServer;
use steading_proto::v1::transfer_server::TransferServer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tower::layer::layer_fn;

use super::Router;
use super::admin_service::AdminService;
use super::channel::STREAM_WINDOW;
use super::connection::call_batch_max;
use super::grpc_only::GrpcOnly;
use super::inbound::PeerService;
use super::network::{Io, Listener, Origin};
use super::nodes_only::NodesOnly;
use super::objects_service::{ObjectsService, overloaded};
use super::transfer::PIECE_OVERHEAD;
use super::transfer_service::TransferService;
use crate::connections::{BodyError, BodyRule, Rules, TrackLayer};
use crate::error::Outcome;
use crate::object::STATE_BYTES_MAX;

/// A client that was silent for this long is asked for a sign of life …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// … and given up if none comes within this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long calls that came before `shutdown` may still take.
const GRACE: Duration = Duration::from_secs(1);

/// The most requests in progress on one connection; a client makes more of them wait.
const STREAMS_MAX: u32 = 1024;

/// The most bytes of the headers of one request.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Streams that a client opened and reset, and that the server has not yet forgotten: one more ends
/// the connection.
const RESET_STREAMS_MAX: usize = 32;

/// Room for what stands around a payload in a message.
const MESSAGE_OVERHEAD: usize = 16 << 10;

/// Why a node's gRPC server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves other nodes, clients and operators until `shutdown`; then takes no more calls, answers
/// those it has within a second, and ends.
///
/// `more` is served with our own services: health, reflection. The body of a request that is no
/// stream may take `body_timeout`.
///
/// # Errors
///
/// [`ServeError`] if the listener fails.
pub async fn serve(
    router: Arc<Router>,
    listener: Listener,
    more: Routes,
    body_timeout: Duration,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let closing = CancellationToken::new();
    let message_max = router.inner.settings.payload_max + MESSAGE_OVERHEAD;
    let batch_max = call_batch_max(router.inner.settings.payload_max);
    let piece_max = STATE_BYTES_MAX + PIECE_OVERHEAD;
    let peer = PeerService {
        inner: router.inner.clone(),
        closing: closing.clone(),
    };
    let objects = ObjectsServer::new(ObjectsService(router.clone()));
    let nodes_only = NodesOnly::new(router.inner.settings.metrics.certificates.clone());
    let track = TrackLayer {
        rules: RULES,
        body_timeout,
        budget: router.inner.settings.host.budget().clone(),
    };
    let server = Server::builder()
        .layer(track)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(2 * STREAM_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
        .layer(layer_fn(GrpcOnly))
        .add_routes(more)
        .add_service(InterceptedService::new(
            PeerServer::new(peer).max_decoding_message_size(batch_max),
            nodes_only.clone(),
        ))
        .add_service(objects.max_decoding_message_size(message_max))
        .add_service(InterceptedService::new(
            TransferServer::new(TransferService(router.clone()))
                .max_decoding_message_size(piece_max),
            nodes_only,
        ))
        .add_service(AdminServer::new(AdminService(router)));
    let told = closing.clone();
    let incoming = listener.incoming.map(|io| io.map(Io::guarded));
    let serving = server.serve_with_incoming_shutdown(incoming, async move {
        shutdown.await;
        told.cancel();
    });
    let overdue = async {
        closing.cancelled().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        ended = serving => Ok(ended?),
        () = overdue => Ok(()),
    }
}

/// How requests are treated.
const RULES: Rules<Body> = Rules {
    slot: |extensions| extensions.get::<Origin>()?.slot.clone(),
    body: |path| {
        if path.starts_with("/steading.v1.Peer/") {
            BodyRule::Link
        } else if path.starts_with("/steading.v1.Transfer/") {
            BodyRule::Pieces
        } else if path.starts_with("/grpc.reflection.") {
            BodyRule::Progress
        } else {
            BodyRule::Whole
        }
    },
    reserved: |path| {
        path.starts_with("/steading.v1.Peer/")
            || path.starts_with("/steading.v1.Transfer/")
            || path == "/steading.v1.Admin/Probe"
    },
    refuse: |refused| overloaded(refused.to_string(), Outcome::NotRun).into_http(),
    error: |error| match error {
        BodyError::Overloaded(why) => overloaded(why.to_string(), Outcome::NotRun).into(),
        BodyError::TooSlow => Status::deadline_exceeded(error.to_string()).into(),
        BodyError::Stopping => Status::unavailable(error.to_string()).into(),
    },
};
