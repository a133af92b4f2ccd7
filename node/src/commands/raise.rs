//! `raise-tokens`: the last step of restoring etcd from a snapshot.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use steading::coordination::EtcdStore;
use steading::coordination::restore::{RaiseError, raise_tokens};
use steading::coordination::store::StoreError;
use steading_settings::StoreSettings;
use tokio::time::{Instant, sleep};

use crate::exit::Exit;
use crate::output;
use crate::settings::SettingsError;

/// How long the leases of nodes that were stopped are waited for: the longest that one can be, and
/// what a restored etcd takes to notice.
const LEASES_WAIT_MAX: Duration = Duration::from_secs(70);

const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Arguments of `raise-tokens`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RaiseArgs {
    /// Where the cluster agrees.
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Why tokens were not raised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RaiseTokensError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No endpoint was given.
    #[error("`--etcd` (or STEADING_ETCD) must say where etcd is")]
    NoEtcd,
    /// etcd does not answer.
    #[error("cannot reach etcd")]
    Store(#[from] StoreError),
    /// They cannot be raised as things are.
    #[error(transparent)]
    Raise(#[from] RaiseError),
}

impl RaiseTokensError {
    /// Returns the process's exit code for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) | Self::NoEtcd => Exit::Usage,
            Self::Store(_) | Self::Raise(RaiseError::Store(_)) => Exit::Unreachable,
            Self::Raise(_) => Exit::Refused,
        }
    }
}

/// Waits until no node is registered, then raises the tokens.
pub(crate) async fn raise(args: &RaiseArgs, json: bool) -> Result<Exit, RaiseTokensError> {
    args.store.check()?;
    if args.store.etcd.is_empty() {
        return Err(RaiseTokensError::NoEtcd);
    }
    let store = EtcdStore::connect(args.store.etcd_settings()?).await?;
    let began = Instant::now();
    let mut told = false;
    let generation = loop {
        match raise_tokens(&store, args.store.prefix.as_str()).await {
            Ok(generation) => break generation,
            Err(RaiseError::Registered(nodes)) if began.elapsed() < LEASES_WAIT_MAX => {
                if !told && !json {
                    let nodes = nodes.join(", ");
                    output::line(format_args!("waiting for the leases of {nodes} to run out"));
                }
                told = true;
                sleep(LOOK_INTERVAL).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if json {
        output::json(&json!({ "restore_generation": generation }));
    } else {
        output::line(format_args!(
            "tokens are raised (restore generation {generation}); nodes can be started"
        ));
    }
    Ok(Exit::Done)
}
