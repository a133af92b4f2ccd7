//! gRPC over the `Network` port.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

use super::network::Network;

/// A connection that was silent for this long is asked for a sign of life …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// … and given up if none comes within this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes may be under way before the receiver must have read some.
pub(super) const STREAM_WINDOW: u32 = 2 << 20;

/// Connects to the gRPC server at `address`, written `host:port`. Sets no time limit of its own.
/// The channel does not connect again when it breaks.
///
/// # Errors
///
/// In words.
pub(super) async fn open(network: &dyn Network, address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| error.to_string())?
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(2 * STREAM_WINDOW);
    let io = network
        .connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let mut io = Some(TokioIo::new(io));
    let connector = tower::service_fn(move |_| {
        let again = || std::io::Error::other("the connection broke");
        std::future::ready(io.take().ok_or_else(again))
    });
    let connecting = endpoint.connect_with_connector(connector);
    connecting.await.map_err(|error| error.to_string())
}
