//! A way to a server with TLS, for clients that speak none.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use steading::tls::Tls;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Forwards TCP connections to a server by TLS. Ends, with all connections, when dropped.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Tunnel {
    /// Begins to forward to the server at `host:port`, as a client with these certificates.
    ///
    /// # Panics
    ///
    /// If there is no free port.
    pub async fn start(server: String, tls: Tls) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, tls));
        Self {
            address,
            _tasks: tasks,
        }
    }

    /// Returns its host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

async fn accept(listener: TcpListener, server: String, tls: Tls) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (server, tls) = (server.clone(), tls.clone());
        connections.spawn(async move {
            // The client sees its connection end, and says so.
            let _ = forward(client, &server, &tls).await;
        });
    }
}

async fn forward(mut client: TcpStream, server: &str, tls: &Tls) -> io::Result<()> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(tls.http_client()));
    let connection = TcpStream::connect(server).await?;
    let mut server = connector.connect(name, connection).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
