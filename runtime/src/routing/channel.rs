//! gRPC over the `Network` port.

use std::error::Error;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::network::Network;

/// A connection that was silent for this long is asked for a sign of life …
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// … and given up if none comes within this time.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes may be under way before the receiver must have read some.
pub(super) const STREAM_WINDOW: u32 = 2 << 20;

/// What HTTP/2 says if the other end wants TLS and there is none.
const INADEQUATE_SECURITY_TEXT: &str = "minimum security requirements";

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
    connecting.await.map_err(|error| with_causes(&error))
}

/// Returns why a request failed, with its causes: what keeps two nodes from talking is at the end.
pub(crate) fn why(status: &Status) -> String {
    let mut text = status.message().to_owned();
    if let Some(cause) = status.source() {
        let causes = with_causes(cause);
        if text.is_empty() || causes.contains(&text) {
            text = causes;
        } else if !text.contains(&causes) {
            text = format!("{text}: {causes}");
        }
    }
    if text.contains(INADEQUATE_SECURITY_TEXT) {
        text = format!("it speaks TLS only: set `tls_ca`, `tls_cert` and `tls_key` ({text})");
    }
    text
}

/// Writes an error with all its causes, each once.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
