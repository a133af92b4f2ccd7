//! Where the cluster agrees: etcd, and the prefix of the cluster's keys.

use std::path::PathBuf;

use clap::Args;
use steading::coordination::EtcdSettings;

use crate::{Endpoint, Prefix, Secret, SettingsError};

/// The settings of the store.
#[derive(Args, Clone, Debug)]
pub struct StoreSettings {
    /// Endpoints of etcd, comma-separated; `https://` uses TLS. `node` and `gate` need one, `dev`
    /// without one keeps the cluster in memory.
    #[arg(
        long,
        env = "STEADING_ETCD",
        value_name = "URL,…",
        value_delimiter = ','
    )]
    pub etcd: Vec<Endpoint>,

    /// User for etcd; needs `etcd_password`.
    #[arg(long, env = "STEADING_ETCD_USER", value_name = "NAME")]
    pub etcd_user: Option<String>,

    /// Password of that user. Other users of the machine can read flags: prefer the variable.
    #[arg(
        long,
        env = "STEADING_ETCD_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub etcd_password: Option<Secret>,

    /// PEM file with the authorities that may vouch for etcd; `https://` needs it.
    #[arg(long, env = "STEADING_ETCD_CA", value_name = "FILE")]
    pub etcd_ca: Option<PathBuf>,

    /// PEM file with the certificate shown to etcd; needs `etcd_key`.
    #[arg(long, env = "STEADING_ETCD_CERT", value_name = "FILE")]
    pub etcd_cert: Option<PathBuf>,

    /// PEM file with that certificate's key.
    #[arg(long, env = "STEADING_ETCD_KEY", value_name = "FILE")]
    pub etcd_key: Option<PathBuf>,

    /// Prefix of all keys of the cluster in etcd; begins and ends with a slash.
    #[arg(
        long,
        env = "STEADING_PREFIX",
        value_name = "PREFIX",
        default_value = "/steading/"
    )]
    pub prefix: Prefix,
}

impl StoreSettings {
    /// Checks settings that need each other or exclude each other.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the setting.
    pub fn check(&self) -> Result<(), SettingsError> {
        if let Some(twice) = first_duplicate(self.etcd.iter().map(Endpoint::as_str)) {
            return Err(refused("etcd", format!("`{twice}` is there twice")));
        }
        let pairs = [
            (
                "etcd_password",
                self.etcd_user.is_some(),
                self.etcd_password.is_some(),
            ),
            (
                "etcd_key",
                self.etcd_cert.is_some(),
                self.etcd_key.is_some(),
            ),
        ];
        for (setting, first, second) in pairs {
            match (first, second) {
                (true, false) => {
                    let why = "`etcd_user` needs `etcd_password`, and `etcd_cert` needs `etcd_key`";
                    return Err(SettingsError::Missing { setting, why });
                }
                (false, true) => {
                    let why = "it needs its counterpart, `etcd_user` or `etcd_cert`".into();
                    return Err(refused(setting, why));
                }
                (true, true) | (false, false) => {}
            }
        }
        Ok(())
    }

    /// Returns how etcd is reached, with the files read that the settings name.
    ///
    /// # Errors
    ///
    /// [`SettingsError::File`] if one cannot be read.
    pub fn etcd_settings(&self) -> Result<EtcdSettings, SettingsError> {
        let endpoints = self.etcd.iter().map(Endpoint::as_str);
        let password = self.etcd_password.as_ref();
        let password = password.map(|secret| secret.reveal().to_owned());
        let cert = read("etcd_cert", self.etcd_cert.as_ref())?;
        let key = read("etcd_key", self.etcd_key.as_ref())?;
        Ok(EtcdSettings {
            user: self.etcd_user.clone().zip(password),
            ca: read("etcd_ca", self.etcd_ca.as_ref())?,
            identity: cert.zip(key),
            ..EtcdSettings::new(endpoints)
        })
    }
}

fn read(setting: &'static str, path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, SettingsError> {
    let read = path.map(|path| {
        std::fs::read(path).map_err(|source| SettingsError::File {
            setting,
            path: path.clone(),
            source,
        })
    });
    read.transpose()
}

fn refused(setting: &'static str, why: String) -> SettingsError {
    SettingsError::Refused { setting, why }
}

fn first_duplicate<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}
