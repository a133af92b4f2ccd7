//! The network as a port: TCP, or memory for clusters in one process.

mod memory;
mod tcp;
mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::connections::{Connections, Guarded, Slot};
use crate::tls::Role;
use crate::write_through::write_through;

pub use memory::MemoryNetwork;
pub use tcp::{TcpNetwork, listen};
pub use tls::TlsNetwork;
pub(crate) use tls::host;

/// Opens connections and listens for them, on behalf of one node.
#[async_trait]
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// Connects to the listener at `address`, written `host:port`. Sets no time limit of its own.
    ///
    /// # Errors
    ///
    /// Whatever the system says: nobody listens, no such host, no way to it.
    async fn connect(&self, address: &str) -> io::Result<Io>;

    /// Listens on `address`, written `host:port`; port 0 stands for any free one. Takes no more
    /// connections than `connections` admits.
    ///
    /// # Errors
    ///
    /// Whatever the system says: the port is in use, the address is not of this machine.
    async fn listen(&self, address: &str, connections: &Connections) -> io::Result<Listener>;

    /// Whether the settings of two nodes can keep them from talking, so that a node should ask
    /// others whether it can before it joins them. Default: no.
    fn has_settings(&self) -> bool {
        false
    }
}

/// Where connections of others arrive. Dropping it stops listening.
pub struct Listener {
    /// The address it really listens on.
    pub address: SocketAddr,
    /// The connections, as they are accepted.
    pub incoming: BoxStream<'static, io::Result<Io>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.address).finish()
    }
}

/// One connection: bytes both ways.
pub struct Io {
    io: Box<dyn ReadWrite>,
    origin: Origin,
}

/// Where a connection comes from. Nothing is known on the client's side, and in memory.
#[derive(Clone, Default)]
pub struct Origin {
    /// The client's address.
    pub address: Option<SocketAddr>,
    /// The connection's place at its listener.
    pub slot: Option<Slot>,
    /// What the client is by its certificate; `None` without TLS.
    pub role: Option<Role>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("an unknown address"),
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ReadWrite for T {}

impl Io {
    /// Takes anything that bytes go through both ways.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self {
            io: Box::new(io),
            origin: Origin::default(),
        }
    }

    /// Takes note of where it comes from.
    #[must_use]
    pub fn with_origin(self, origin: Origin) -> Self {
        Self { origin, ..self }
    }

    /// Returns where it comes from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Has its listener cut it when it passes a limit.
    pub(super) fn guarded(self) -> Self {
        match &self.origin.slot {
            None => self,
            Some(slot) => {
                let io = Box::new(Guarded::new(self.io, slot.clone()));
                Self { io, ..self }
            }
        }
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io").finish_non_exhaustive()
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

write_through!(impl for Io, io);

impl Connected for Io {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}
