//! The settings of the Inspector, inside a node's process and as a program of its own.

use std::path::PathBuf;

use clap::{Args, Parser};
use steading::tls::{ServerTls, TlsFiles};
use steading_http::HostName;
use steading_settings::{
    Address, LimitSettings, LogSettings, Secret, SecretNames, SettingsError, StoreSettings,
    TlsSettings,
};

use crate::guard::Access;

/// Where the Inspector listens if its settings do not say.
const LISTEN_DEFAULT: &str = "127.0.0.1:7490";

/// The settings that `steading-inspector`, `dev`, `node` and `gate` share.
#[derive(Args, Clone, Debug)]
pub struct InspectorSettings {
    /// Address of the Inspector. [default: `127.0.0.1:7490` for `dev` and `steading-inspector`;
    /// `node` and `gate` serve it only if this is set]
    #[arg(long, env = "STEADING_INSPECTOR_LISTEN", value_name = "HOST:PORT")]
    pub inspector_listen: Option<Address>,

    /// More host names that the Inspector answers to, comma-separated, without ports. On the loopback interface it
    /// answers to `localhost` and loopback addresses otherwise; on others to all names, or, if this is set, to
    /// these, to IP addresses and to `localhost`.
    #[arg(
        long,
        env = "STEADING_INSPECTOR_HOSTS",
        value_name = "HOST,…",
        value_delimiter = ','
    )]
    pub inspector_hosts: Vec<HostName>,

    /// Token of the Inspector: wanted for actions, and for everything if other machines reach it.
    /// Other users of the machine can read flags: prefer the variable or `inspector_token_file`.
    #[arg(
        long,
        env = "STEADING_INSPECTOR_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    pub inspector_token: Option<Secret>,

    /// File with that token, instead of `inspector_token`; one newline at its end is no part of it.
    #[arg(long, env = "STEADING_INSPECTOR_TOKEN_FILE", value_name = "FILE")]
    pub inspector_token_file: Option<PathBuf>,

    /// PEM file with the certificate of the Inspector's page, and whatever stands between it and an authority
    /// that browsers trust; needs `inspector_tls_key`. The page then speaks TLS, and asks nobody for a certificate.
    /// New files are used within seconds. [default: no TLS]
    #[arg(long, env = "STEADING_INSPECTOR_TLS_CERT", value_name = "FILE")]
    pub inspector_tls_cert: Option<PathBuf>,

    /// PEM file with that certificate's key.
    #[arg(long, env = "STEADING_INSPECTOR_TLS_KEY", value_name = "FILE")]
    pub inspector_tls_key: Option<PathBuf>,

    /// Let operators act from the Inspector's page, if they have the token.
    #[arg(
        long,
        env = "STEADING_ALLOW_ACTIONS",
        value_name = "BOOL",
        default_value = "false",
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        value_parser = clap::builder::BoolishValueParser::new(),
        hide_possible_values = true
    )]
    pub allow_actions: bool,
}

const TOKEN: SecretNames = SecretNames {
    value: "inspector_token",
    file: "inspector_token_file",
};

/// The shortest token that is taken.
const TOKEN_LEN_MIN: usize = 8;

impl InspectorSettings {
    /// Returns the address, or the default one.
    pub fn listen(&self) -> Address {
        let default = || LISTEN_DEFAULT.parse().expect("it is an address");
        self.inspector_listen.clone().unwrap_or_else(default)
    }

    /// Returns the files of the page's certificate, if it is to have one.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if one of the two settings is there without the other.
    pub fn tls_files(&self) -> Result<Option<TlsFiles>, SettingsError> {
        let why = "`inspector_tls_cert` and `inspector_tls_key` need each other";
        let missing = |setting| Err(SettingsError::Missing { setting, why });
        match (&self.inspector_tls_cert, &self.inspector_tls_key) {
            (None, None) => Ok(None),
            (Some(cert), Some(key)) => Ok(Some(TlsFiles::for_inspector(cert, key))),
            (Some(_), None) => missing("inspector_tls_key"),
            (None, Some(_)) => missing("inspector_tls_cert"),
        }
    }

    /// Reads the page's certificate, if it is to have one.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] if one setting is missing, or the files cannot be used.
    pub fn tls(&self) -> Result<Option<ServerTls>, SettingsError> {
        let files = self.tls_files()?;
        Ok(files.map(ServerTls::load).transpose()?)
    }

    /// Returns who may do what, if that is safe.
    ///
    /// # Errors
    ///
    /// [`SettingsError`]: actions, and an address that other machines reach, need a token.
    pub fn access(&self) -> Result<Access, SettingsError> {
        let is_local = self.listen().is_loopback();
        let token = TOKEN.read(
            self.inspector_token.as_ref(),
            self.inspector_token_file.as_deref(),
        )?;
        match &token {
            None if self.allow_actions || !is_local => {
                return Err(SettingsError::Missing {
                    setting: "inspector_token",
                    why: "actions need it, or `inspector_token_file`, and so does an Inspector \
                          that other machines reach",
                });
            }
            Some(token) if token.reveal().len() < TOKEN_LEN_MIN => {
                return Err(SettingsError::Refused {
                    setting: "inspector_token",
                    why: format!("it needs at least {TOKEN_LEN_MIN} characters"),
                });
            }
            None | Some(_) => {}
        }
        Ok(Access {
            token,
            allow_actions: self.allow_actions,
            is_local,
            hosts: self.inspector_hosts.clone(),
        })
    }
}

/// Shows a cluster: where objects live, why, and what is going on. Looks from outside, so it may
/// come and go without the cluster noticing.
#[derive(Debug, Parser)]
#[command(name = "steading-inspector", version, max_term_width = 100)]
pub struct Program {
    /// Print JSON: one line for each event.
    #[arg(long)]
    pub json: bool,
    /// The settings.
    #[command(flatten)]
    pub settings: ProgramSettings,
}

/// The settings of `steading-inspector`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Settings")]
pub struct ProgramSettings {
    /// TOML file with any of these settings; its keys are their names with underscores.
    #[arg(long, env = "STEADING_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the cluster agrees.
    #[command(flatten)]
    pub store: StoreSettings,
    /// The cluster's certificates.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// What is served.
    #[command(flatten)]
    pub inspector: InspectorSettings,
    /// How many connections are kept.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// What to log.
    #[command(flatten)]
    pub logs: LogSettings,
}

impl ProgramSettings {
    /// Checks all settings, and returns who may do what.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the setting.
    pub fn check(&self) -> Result<Access, SettingsError> {
        if self.store.etcd.is_empty() {
            return Err(SettingsError::Missing {
                setting: "etcd",
                why: "that is where the cluster is found",
            });
        }
        self.store.check()?;
        self.tls.files()?;
        self.inspector.tls_files()?;
        self.limits.check()?;
        self.logs.check()?;
        self.inspector.access()
    }
}

#[cfg(test)]
mod tests;
