//! Where the cluster agrees: etcd, and the prefix of the cluster's keys.

use std::path::PathBuf;

use clap::Args;
use steading::coordination::EtcdSettings;
use steading::tls::{StoreTls, TlsFiles};

use crate::{Endpoint, Prefix, Secret, SecretNames, SettingsError};

const PASSWORD: SecretNames = SecretNames {
    value: "etcd_password",
    file: "etcd_password_file",
};

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

    /// Password of that user. Other users of the machine can read flags: prefer the variable or
    /// `etcd_password_file`.
    #[arg(
        long,
        env = "STEADING_ETCD_PASSWORD",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    pub etcd_password: Option<Secret>,

    /// File with the password of that user, instead of `etcd_password`; one newline at its end is
    /// no part of it.
    #[arg(long, env = "STEADING_ETCD_PASSWORD_FILE", value_name = "FILE")]
    pub etcd_password_file: Option<PathBuf>,

    /// PEM file with the authorities that may vouch for etcd. New files are used within seconds, as
    /// are those of `etcd_cert` and `etcd_key`. [default: the authorities that the system trusts]
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
        self.check_pairs()?;
        self.check_schemes()
    }

    fn check_pairs(&self) -> Result<(), SettingsError> {
        let password = self.password()?;
        match (&self.etcd_user, password) {
            (Some(_), None) => {
                return Err(SettingsError::Missing {
                    setting: "etcd_password",
                    why: "`etcd_user` needs it, or `etcd_password_file`",
                });
            }
            (None, Some(_)) => {
                return Err(refused("etcd_password", "`etcd_user` is not set".into()));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        match (&self.etcd_cert, &self.etcd_key) {
            (Some(_), None) => Err(SettingsError::Missing {
                setting: "etcd_key",
                why: "`etcd_cert` needs its key",
            }),
            (None, Some(_)) => Err(refused("etcd_key", "`etcd_cert` is not set".into())),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    /// Either all endpoints are encrypted or none is, and certificates are for those that are.
    fn check_schemes(&self) -> Result<(), SettingsError> {
        let plain = self.etcd.iter().find(|endpoint| !endpoint.is_encrypted());
        let encrypted = self.etcd.iter().find(|endpoint| endpoint.is_encrypted());
        if let (Some(plain), Some(encrypted)) = (plain, encrypted) {
            let (plain, encrypted) = (plain.as_str(), encrypted.as_str());
            let why = format!("`{encrypted}` uses TLS, and `{plain}` does not");
            return Err(refused("etcd", why));
        }
        let files = [("etcd_ca", &self.etcd_ca), ("etcd_cert", &self.etcd_cert)];
        let certificate = files.into_iter().find(|(_, file)| file.is_some());
        match (plain, certificate) {
            (Some(plain), Some((setting, _))) => {
                let why = format!(
                    "`{}` in `etcd` does not use TLS: write https://",
                    plain.as_str()
                );
                Err(refused(setting, why))
            }
            (Some(_) | None, None) | (None, Some(_)) => Ok(()),
        }
    }

    fn password(&self) -> Result<Option<Secret>, SettingsError> {
        PASSWORD.read(
            self.etcd_password.as_ref(),
            self.etcd_password_file.as_deref(),
        )
    }

    /// Returns how etcd is reached, with the files read that the settings name.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if one cannot be read or used.
    pub fn etcd_settings(&self) -> Result<EtcdSettings, SettingsError> {
        let endpoints = self.etcd.iter().map(Endpoint::as_str);
        let password = self.password()?;
        let password = password.map(|secret| secret.reveal().to_owned());
        let identity = self.etcd_cert.clone().zip(self.etcd_key.clone());
        let is_set = self.etcd_ca.is_some() || identity.is_some();
        let files = is_set.then(|| TlsFiles::for_etcd(self.etcd_ca.clone(), identity));
        let tls = files.map(StoreTls::load).transpose()?;
        Ok(EtcdSettings {
            user: self.etcd_user.clone().zip(password),
            tls,
            ..EtcdSettings::new(endpoints)
        })
    }
}

fn refused(setting: &'static str, why: String) -> SettingsError {
    SettingsError::Refused { setting, why }
}

fn first_duplicate<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::BTreeSet::new();
    names.find(|name| !seen.insert(*name))
}
