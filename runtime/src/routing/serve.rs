//! The gRPC server of a node. (Skeleton.)

use std::sync::Arc;

use tonic::service::Routes;

use super::Router;
use super::network::Listener;

/// Why a node's gRPC server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the gRPC server failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// Serves other nodes and clients until `shutdown`, then lets running calls end.
///
/// `more` is served beside our own services: health, reflection.
///
/// # Errors
///
/// [`ServeError`] if the listener fails.
#[allow(clippy::unused_async, reason = "skeleton")]
pub async fn serve(
    _router: Arc<Router>,
    _listener: Listener,
    _more: Routes,
    _shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    Ok(())
}
