//! TLS between nodes, gates and clients: the cluster's certificates.

use std::path::PathBuf;

use clap::Args;
use steading::tls::{Tls, TlsFiles};

use crate::SettingsError;

/// The settings of TLS within a cluster: the first three together, or none.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsSettings {
    /// PEM file with the authorities of the cluster: whoever shows a certificate of one of them
    /// belongs to it. With `tls_cert` and `tls_key`, all connections to nodes use TLS; all processes
    /// of a cluster need it, or none. New files are used within seconds.
    #[arg(long, env = "STEADING_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,

    /// PEM file with this process's certificate, and whatever stands between it and the authority. A
    /// node or gate needs one for servers and clients, any other program one for clients.
    #[arg(long, env = "STEADING_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// PEM file with that certificate's key.
    #[arg(long, env = "STEADING_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// The one name that the certificates of all nodes carry. [default: the host of the address that
    /// is connected to]
    #[arg(long, env = "STEADING_TLS_NAME", value_name = "NAME")]
    pub tls_name: Option<String>,
}

impl TlsSettings {
    /// Returns the files, if TLS is to be used.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if only some of the settings are there.
    pub fn files(&self) -> Result<Option<TlsFiles>, SettingsError> {
        let why = "`tls_ca`, `tls_cert` and `tls_key` need each other";
        let missing = |setting| Err(SettingsError::Missing { setting, why });
        let files = match (&self.tls_ca, &self.tls_cert, &self.tls_key) {
            (None, None, None) if self.tls_name.is_some() => {
                return Err(SettingsError::Refused {
                    setting: "tls_name",
                    why: "it is for certificates, and `tls_ca` is not set".into(),
                });
            }
            (None, None, None) => return Ok(None),
            (Some(ca), Some(cert), Some(key)) => TlsFiles::new(ca, cert, key),
            (None, _, _) => return missing("tls_ca"),
            (_, None, _) => return missing("tls_cert"),
            (_, _, None) => return missing("tls_key"),
        };
        Ok(Some(match &self.tls_name {
            Some(name) => files.name(name),
            None => files,
        }))
    }

    /// Reads the certificates, if TLS is to be used.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if only some of the settings are there, or their files cannot be used.
    pub fn load(&self) -> Result<Option<Tls>, SettingsError> {
        let files = self.files()?;
        Ok(files.map(Tls::load).transpose()?)
    }
}
