//! Mutual TLS: how the processes of a cluster prove to each other that they belong to it.
//!
//! Whoever shows a certificate of the cluster's authority belongs to the cluster: as a node if the
//! certificate is for servers too, else as a client (ADR-0039). Certificates and keys are PEM files, which are looked at again and again: what replaced
//! them is used for new connections, and a set that is incomplete, garbage or expired is not, so
//! that a file caught in the midst of a change harms nobody (ADR-0019).
//!
//! What must hold:
//! - The certificate, its key and the authorities are swapped together: no handshake sees the new
//!   one and the old other.
//! - Each handshake shows and checks certificates. Sessions are not resumed, for a resumed one would
//!   be trusted on account of an authority that may be gone.

mod accept;
mod cluster;
mod error;
mod files;
mod follow;
mod plain;
mod role;
mod server;
mod store;
mod watched;
mod words;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use accept::OUTCOMES as HANDSHAKE_OUTCOMES;
pub use accept::{Accepted, Begun, Clients, accept};
pub use error::TlsError;
pub use files::TlsFiles;
pub use follow::follow_server;
pub(crate) use follow::{OUTCOMES as RELOAD_OUTCOMES, follow};
pub(crate) use plain::INADEQUATE_SECURITY;
pub use role::Role;
pub use server::ServerTls;
pub(crate) use store::StorePem;
pub use store::StoreTls;
pub use words::{Mistrust, mistrust_in};

use cluster::Cluster;
use watched::{Current, Watched};

/// The certificates of one process, by which nodes, gates and clients of a cluster know each other.
/// A cheap handle: clones are the same, and a change of the files is seen through all of them.
#[derive(Clone)]
pub struct Tls {
    watched: Arc<Watched<Cluster>>,
}

impl Tls {
    /// Reads the files and checks that they go together: the key is that of the certificate, which
    /// is valid now and vouched for by one of the authorities.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the setting and the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let watched = Watched::load(files, cluster::build, SystemTime::now())?;
        Ok(Self {
            watched: Arc::new(watched),
        })
    }

    /// Checks that others may know the process by this certificate when they connect to `host`, now
    /// and whenever the files are replaced: from then on, ones that will not do are refused.
    ///
    /// # Errors
    ///
    /// [`TlsError`] tells which name the certificate lacks, or that it is no node's.
    pub fn serve_as(&self, host: &str) -> Result<(), TlsError> {
        self.watched.require(host, SystemTime::now())
    }

    /// Returns how an HTTP client connects with the present certificates, with no protocols named.
    pub fn http_client(&self) -> ClientConfig {
        (*self.current().material.http_client).clone()
    }

    /// Shakes hands with the server at `host` over `io`. Sets no time limit of its own.
    pub(crate) async fn connect<T>(
        &self,
        host: &str,
        io: T,
    ) -> Result<tokio_rustls::client::TlsStream<T>, Mistrust>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin,
    {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| Mistrust(format!("`{host}` is no name of a host")))?;
        let config = self.current().material.node_client.clone();
        let connector = tokio_rustls::TlsConnector::from(config);
        let connected = connector.connect(name, io).await;
        connected.map_err(|error| words::of_io(&error))
    }

    fn current(&self) -> Arc<Current<Cluster>> {
        self.watched.current()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.watched.files).finish()
    }
}
