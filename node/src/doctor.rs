//! `doctor`: runs the checks of the runbooks against a cluster, and says what is wrong, why, and what
//! to type.
//!
//! Gathering and judging are apart: [`gather`] asks nodes and the store, each for a bounded time,
//! and puts what came into [`Facts`](facts::Facts); the [`checks`] are functions of that alone.

mod checks;
mod facts;
mod finding;
mod gather;
mod samples;
mod show;
mod store;

use std::time::Duration;

use clap::Args;
use steading_settings::StoreSettings;

use crate::args::AskArgs;
use crate::client::{AskError, Client};
use crate::exit::Exit;
use crate::settings::{SettingsError, TlsSettings};

/// Arguments of `doctor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorArgs {
    /// HTTP servers of nodes, comma-separated. One is enough to find the others; one that is named
    /// here and does not answer is reported, even if the cluster has forgotten it.
    #[arg(
        long,
        env = "STEADING_ADDRESS",
        value_name = "URL,…",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7480"
    )]
    pub(crate) address: Vec<String>,

    /// How long to measure calls, such as 5s.
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "3s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) measure: Duration,

    /// How long whoever stops nodes waits before it kills them: `terminationGracePeriodSeconds`, or
    /// `TimeoutStopSec`. Given, it is compared with what nodes need.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub(crate) grace: Option<Duration>,

    /// Where the cluster agrees. Given, the store is examined too, which works even if no node
    /// answers.
    #[command(flatten)]
    pub(crate) store: StoreSettings,

    /// The certificates for addresses `https://…`.
    #[command(flatten)]
    pub(crate) tls: TlsSettings,
}

impl DoctorArgs {
    /// Returns a client of the node at `address`.
    fn client(&self, address: &str) -> Result<Client, AskError> {
        Client::new(&AskArgs {
            address: address.into(),
            tls: self.tls.clone(),
        })
    }

    /// Returns a client of the node at `address`, found in the cluster: where there are certificates,
    /// every node uses them.
    fn client_of(&self, address: &str) -> Result<Client, AskError> {
        match &self.tls.tls_cert {
            Some(_) => self.client(&format!("https://{address}")),
            None => self.client(address),
        }
    }
}

/// Why the doctor cannot even begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoctorError {
    /// An address is wrong.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// A setting of the store is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl DoctorError {
    /// Returns the process's exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Ask(error) => error.exit(),
            Self::Settings(_) => Exit::Usage,
        }
    }
}

/// Examines a cluster and prints what it finds; exit code 1 if something is bad.
pub(crate) async fn doctor(args: &DoctorArgs, json: bool) -> Result<Exit, DoctorError> {
    args.store.check()?;
    let facts = gather::facts(args).await?;
    let findings = checks::all(&facts);
    show::print(&facts, &findings, json);
    let is_bad = findings.iter().any(|of| of.level == finding::Level::Bad);
    Ok(if is_bad { Exit::Refused } else { Exit::Done })
}
