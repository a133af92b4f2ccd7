//! The certificates for etcd: checked here, used by etcd's client.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::TlsError;
use super::cluster::certified;
use super::files::{Contents, TlsFiles};
use super::watched::Watched;

/// The certificates by which this process and etcd know each other. A cheap handle: clones are the
/// same, and a change of the files is seen through all of them.
#[derive(Clone)]
pub struct StoreTls {
    pub(super) watched: Arc<Watched<StorePem>>,
}

/// What etcd's client takes, as PEM.
pub(crate) struct StorePem {
    /// `None`: those that the system trusts.
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl StoreTls {
    /// Reads the files and checks that each holds what it should, and that the key is that of the
    /// certificate. Who vouches for it is for etcd to say.
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

    /// Looks at the files if that is due, and returns how often they were replaced so far.
    pub(crate) async fn number(&self) -> u64 {
        if self.watched.is_due() {
            let watched = self.watched.clone();
            let looked =
                tokio::task::spawn_blocking(move || watched.look_if_due(SystemTime::now()));
            // Whether it found anything is told below, and by whoever follows the files.
            drop(looked.await);
        }
        self.watched.current().number
    }

    /// Gives what is in use.
    pub(crate) fn with_pem<T>(&self, take: impl FnOnce(&StorePem) -> T) -> T {
        take(&self.watched.current().material)
    }
}

fn build(
    files: &TlsFiles,
    contents: &Contents,
    _: &BTreeSet<String>,
    _: SystemTime,
) -> Result<StorePem, TlsError> {
    if let Some((_, key)) = &files.identity {
        let provider = rustls::crypto::ring::default_provider();
        let own = certified(files, contents, &provider)?;
        if own.keys_match().is_err() {
            return Err(key.unusable("is not the key of the certificate"));
        }
    }
    Ok(StorePem {
        ca: contents.ca.clone(),
        identity: contents.cert.clone().zip(contents.key.clone()),
    })
}

impl fmt::Debug for StoreTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreTls")
            .field(&self.watched.files)
            .finish()
    }
}
