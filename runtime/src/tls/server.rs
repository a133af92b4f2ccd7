//! The certificate of a server that asks its clients for none: browsers.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::TlsError;
use super::cluster::{own_certificate, server};
use super::files::{Contents, TlsFiles};
use super::watched::{Watched, check_time};

/// What clients may speak. No HTTP/2: what protects a page from other sites looks at the header
/// `Host`, which that has not.
const HTTP1: &[u8] = b"http/1.1";

/// The certificate that a server shows to whoever comes. A cheap handle: clones are the same, and a
/// change of the files is seen through all of them.
#[derive(Clone)]
pub struct ServerTls {
    pub(super) watched: Arc<Watched<Arc<ServerConfig>>>,
}

impl ServerTls {
    /// Reads the files and checks that they go together: the key is that of the certificate, which
    /// is valid now. Who vouches for it is for browsers to say.
    ///
    /// # Errors
    ///
    /// [`TlsError`] names the setting and the file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let watched = Watched::load(files, build, SystemTime::now())?;
        Ok(Self {
            watched: Arc::new(watched),
        })
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.watched.current().material.clone()
    }
}

fn build(
    files: &TlsFiles,
    contents: &Contents,
    _: &BTreeSet<String>,
    now: SystemTime,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = own_certificate(files, contents, &provider)?;
    if let Some((cert, _)) = &files.identity {
        check_time(cert, &own.cert[0], now)?;
    }
    let nobody = WebPkiClientVerifier::no_client_auth();
    Ok(Arc::new(server(&provider, nobody, &own, &[HTTP1])))
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls")
            .field(&self.watched.files)
            .finish()
    }
}
