//! The HTTP server's end of TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::Listener;
use futures::StreamExt;
use futures::stream::BoxStream;
use steading::telemetry::CertificateMetrics;
use steading::tls::{Accepted, Begun, Clients, Tls, accept};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tracing::error;

use super::door::Origin;

/// The pause after the system gave no connection, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

type Connection = Accepted<TcpStream, SocketAddr>;

/// Where connections arrive that have shaken hands.
pub(crate) struct HttpsListener {
    address: SocketAddr,
    accepted: BoxStream<'static, io::Result<Connection>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    certified: bool,
}

impl HttpsListener {
    /// Shakes hands with whoever comes.
    pub(crate) fn new(listener: TcpListener, tls: Tls, metrics: CertificateMetrics) -> Self {
        let address = listener.local_addr();
        let address = address.expect("a listener that was bound has an address");
        let incoming = futures::stream::unfold(listener, |listener| async move {
            Some((listener.accept().await, listener))
        });
        Self {
            address,
            accepted: accept(incoming.boxed(), tls, Clients::All, metrics).boxed(),
        }
    }
}

impl Listener for HttpsListener {
    type Io = TlsStream<Begun<TcpStream>>;
    type Addr = Client;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.accepted.next().await {
                Some(Ok(Accepted { io, certified, .. })) => return (io, Client { certified }),
                Some(Err(error)) => {
                    error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Client { certified: false })
    }
}

impl Origin for Client {
    fn certified(&self) -> bool {
        self.certified
    }
}

impl fmt::Debug for HttpsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpsListener").field(&self.address).finish()
    }
}
