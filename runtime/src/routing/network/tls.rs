//! Mutual TLS over another network.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{Io, Listener, Network, Origin};
use crate::connections::Connections;
use crate::telemetry::CertificateMetrics;
use crate::tls::{self, Clients, Tls, mistrust_in};
use crate::write_through::write_through;

/// How long the handshake of a client may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A network on which both ends show a certificate of the cluster, or there is no connection.
#[derive(Debug)]
pub struct TlsNetwork {
    inner: Arc<dyn Network>,
    tls: Tls,
    metrics: CertificateMetrics,
}

impl TlsNetwork {
    /// Shakes hands over the connections of another network.
    pub fn new(inner: Arc<dyn Network>, tls: Tls, metrics: CertificateMetrics) -> Self {
        Self {
            inner,
            tls,
            metrics,
        }
    }
}

#[async_trait]
impl Network for TlsNetwork {
    async fn connect(&self, address: &str) -> io::Result<Io> {
        let io = self.inner.connect(address).await?;
        let connecting = self.tls.connect(host(address), io);
        match timeout(HANDSHAKE_TIMEOUT, connecting).await {
            Ok(Ok(stream)) => Ok(Io::new(InWords(stream))),
            Ok(Err(mistrust)) => Err(io::Error::new(io::ErrorKind::InvalidData, mistrust)),
            Err(_) => {
                let why = format!("no handshake within {HANDSHAKE_TIMEOUT:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            }
        }
    }

    async fn listen(&self, address: &str, connections: &Connections) -> io::Result<Listener> {
        let Listener { address, incoming } = self.inner.listen(address, connections).await?;
        let incoming = incoming.map(|arrived| {
            let io = arrived?;
            let origin = io.origin().clone();
            Ok((io, origin))
        });
        let (tls, metrics) = (self.tls.clone(), self.metrics.clone());
        let accepted = tls::accept(incoming, Clients::Certified(tls), metrics);
        let incoming = accepted.map(|accepted| {
            let accepted = accepted?;
            let role = Some(accepted.role);
            Ok(Io::new(accepted.io).with_origin(Origin {
                role,
                ..accepted.from
            }))
        });
        Ok(Listener {
            address,
            incoming: incoming.boxed(),
        })
    }

    fn has_settings(&self) -> bool {
        true
    }
}

/// Returns the host of an address `host:port`, without the brackets of IPv6.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A client's end. That the server refuses its certificate is seen when it first reads, and is told
/// in words.
struct InWords(TlsStream<Io>);

impl AsyncRead for InWords {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.0).poll_read(cx, buffer));
        Poll::Ready(read.map_err(|error| match mistrust_in(&error) {
            Some(mistrust) => io::Error::new(error.kind(), mistrust),
            None => error,
        }))
    }
}

write_through!(impl for InWords, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_addresses() {
        assert_eq!(host("a.example:7400"), "a.example");
        assert_eq!(host("127.0.0.1:7400"), "127.0.0.1");
        assert_eq!(host("[::1]:7400"), "::1");
    }
}
