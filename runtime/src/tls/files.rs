//! Which files hold the certificates, and what is in them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// The most that is read of one file. A bundle of all public authorities has a fifth of it.
const FILE_LEN_MAX: u64 = 1 << 20;

/// The files that certificates come from, by the names of their settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub(super) ca: Option<PemFile>,
    /// A certificate and its key.
    pub(super) identity: Option<(PemFile, PemFile)>,
    pub(super) name: Option<String>,
}

/// A file and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PemFile {
    pub(super) setting: &'static str,
    pub(super) path: PathBuf,
}

impl TlsFiles {
    /// Takes the files of a process of the cluster, all PEM: the authorities that may vouch for
    /// others (`tls_ca`), this process's certificate with whatever stands between it and an
    /// authority (`tls_cert`), and its key (`tls_key`).
    pub fn new(ca: impl Into<PathBuf>, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let identity = (PemFile::new("tls_cert", cert), PemFile::new("tls_key", key));
        Self {
            ca: Some(PemFile::new("tls_ca", ca)),
            identity: Some(identity),
            name: None,
        }
    }

    /// Sets the one name that the certificate of a server must carry (`tls_name`). Default: the host
    /// of the address that is connected to.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..self
        }
    }

    /// Takes the files of a client of etcd: the authorities that may vouch for etcd (`etcd_ca`;
    /// default: those of the system), and a certificate with its key (`etcd_cert`, `etcd_key`).
    pub fn for_etcd(ca: Option<PathBuf>, identity: Option<(PathBuf, PathBuf)>) -> Self {
        let both = |(cert, key)| {
            (
                PemFile::new("etcd_cert", cert),
                PemFile::new("etcd_key", key),
            )
        };
        Self {
            ca: ca.map(|ca| PemFile::new("etcd_ca", ca)),
            identity: identity.map(both),
            name: None,
        }
    }

    /// Takes the certificate of the Inspector's page with its key (`inspector_tls_cert`,
    /// `inspector_tls_key`).
    pub fn for_inspector(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let cert = PemFile::new("inspector_tls_cert", cert);
        Self {
            ca: None,
            identity: Some((cert, PemFile::new("inspector_tls_key", key))),
            name: None,
        }
    }

    /// Returns the files of the certificate and the key that this process shows to others.
    pub(super) fn own(&self) -> Result<&(PemFile, PemFile), TlsError> {
        self.identity.as_ref().ok_or(TlsError::Missing("tls_cert"))
    }

    /// Reads all of them. They may change meanwhile, so what was read need not go together.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |file: &PemFile| file.read();
        let (cert, key) = self
            .identity
            .as_ref()
            .map(|(cert, key)| (cert, key))
            .unzip();
        Ok(Contents {
            ca: self.ca.as_ref().map(read).transpose()?,
            cert: cert.map(read).transpose()?,
            key: key.map(read).transpose()?,
        })
    }
}

impl PemFile {
    fn new(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { setting, path }
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        read_bounded(&self.path).map_err(|error| TlsError::Unreadable {
            setting: self.setting,
            path: self.path.clone(),
            why: error.to_string(),
        })
    }

    /// Returns the certificates in what was read: one at least.
    pub(super) fn certificates(
        &self,
        pem: &[u8],
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        match found {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            Ok(_) => Err(self.unusable("holds no certificate in PEM form")),
            Err(error) => Err(self.unusable(format!("is no good PEM: {error}"))),
        }
    }

    /// Returns the key in what was read. What is wrong with it is not told: it may be a key.
    pub(super) fn key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(pem)
            .map_err(|_| self.unusable("holds no private key in PEM form"))
    }

    pub(super) fn unusable(&self, why: impl Into<String>) -> TlsError {
        TlsError::Unusable {
            setting: self.setting,
            path: self.path.clone(),
            why: why.into(),
        }
    }
}

fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        let why = format!("it has more than {FILE_LEN_MAX} bytes");
        return Err(std::io::Error::other(why));
    }
    Ok(bytes)
}

/// What was read of each file. Has no `Debug`, for there is a key in it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) cert: Option<Vec<u8>>,
    pub(super) key: Option<Vec<u8>>,
}
