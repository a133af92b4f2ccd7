//! A server's end of TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use futures::StreamExt;
use futures::stream::BoxStream;
use steading::telemetry::CertificateMetrics;
use steading::tls::{Accepted, Begun, Clients, accept};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tracing::error;

/// The pause after the system gave no connection, for want of file descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

type Connection = Accepted<TcpStream, SocketAddr>;

/// Where connections arrive that have shaken hands.
pub struct HttpsListener {
    address: SocketAddr,
    accepted: BoxStream<'static, io::Result<Connection>>,
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Whether it showed a certificate of the cluster.
    pub certified: bool,
}

impl HttpsListener {
    /// Shakes hands with those whom the server takes.
    ///
    /// # Panics
    ///
    /// If the listener is not bound.
    pub fn new(listener: TcpListener, clients: Clients, metrics: CertificateMetrics) -> Self {
        let address = listener.local_addr();
        let address = address.expect("a listener that was bound has an address");
        let incoming = futures::stream::unfold(listener, |listener| async move {
            Some((listener.accept().await, listener))
        });
        Self {
            address,
            accepted: accept(incoming.boxed(), clients, metrics).boxed(),
        }
    }
}

impl Listener for HttpsListener {
    type Io = TlsStream<Begun<TcpStream>>;
    type Addr = Client;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.accepted.next().await {
                Some(Ok(Accepted {
                    io,
                    certified,
                    from: address,
                })) => return (io, Client { address, certified }),
                Some(Err(error)) => {
                    error!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        let (address, certified) = (self.address, false);
        Ok(Client { address, certified })
    }
}

impl Connected<IncomingStream<'_, HttpsListener>> for Client {
    fn connect_info(stream: IncomingStream<'_, HttpsListener>) -> Self {
        *stream.remote_addr()
    }
}

impl fmt::Debug for HttpsListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpsListener").field(&self.address).finish()
    }
}
