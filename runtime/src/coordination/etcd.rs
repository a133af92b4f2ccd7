//! The store on etcd. This file and its folder are the only ones that name `etcd_client`.
//!
//! What must hold:
//! - A request goes to one member at a time. A member that fails is left for the next one, and
//!   every watch still open to it ends, so that one silent member cannot keep a view stale.
//! - What surely did not happen is tried again, on the next member and with backoff; a write that
//!   was sent and not answered never is: it is [`StoreError::Unknown`].
//! - A batch of a watch never splits a revision: etcd keeps a transaction's events together
//!   unless it is asked to fragment them, and it is not.

mod convert;
mod failure;
mod health;
mod limits;
mod members;
mod settings;
mod streams;
mod version;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use etcd_client::{Client, GetOptions};
use futures::StreamExt;
use futures::future::join_all;

use self::failure::Context;
pub use self::health::{MemberHealth, Told};
use self::members::Members;
pub use self::settings::EtcdSettings;
use self::streams::{EtcdKeepAlive, EtcdWatch};
use super::store::{KeepAlive, Listing, Store, StoreError, Txn, TxnReply, WatchStream};
use crate::ids::{LeaseId, Revision};

/// How often a request that changes nothing is sent again, beside once for each other member.
const READ_RETRIES_MAX: usize = 3;

/// How often a write that surely did not happen is sent again, beside once for each other member.
const WRITE_RETRIES_MAX: usize = 1;

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// The largest answer that is read: a list of all keys of the largest cluster is a tenth of it.
const ANSWER_LEN_MAX: usize = 256 << 20;

/// A client of an etcd cluster. Cheap to clone.
#[derive(Clone)]
pub struct EtcdStore {
    members: Arc<Members>,
}

impl EtcdStore {
    /// Checks the settings, then asks every member for its version; one answer is enough.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no member answers; try again.
    /// [`StoreError::Refused`] for a wrong user or password, and with
    /// [`EtcdSettings::strict_version`] for an etcd with known bugs.
    /// [`StoreError::Protocol`] for settings that cannot work.
    pub async fn connect(settings: EtcdSettings) -> Result<Self, StoreError> {
        let store = Self::new(&settings)?;
        store.check_versions(settings.strict_version).await?;
        Ok(store)
    }

    /// Checks the settings, and asks nobody yet.
    pub(crate) fn new(settings: &EtcdSettings) -> Result<Self, StoreError> {
        let members = Arc::new(Members::new(settings)?);
        Ok(Self { members })
    }

    /// Warns of every member with known bugs, or refuses it if `strict`.
    pub(crate) async fn check_versions(&self, strict: bool) -> Result<(), StoreError> {
        version::check(&self.server_versions().await?, strict)
    }

    /// Returns each endpoint that answers, with the version of its etcd.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if none does: that of the first, unless another one refuses access; and if two
    /// of them are of different etcd clusters.
    pub async fn server_versions(&self) -> Result<Vec<(String, String)>, StoreError> {
        let asked = (0..self.members.len()).map(|index| async move {
            let endpoint = self.members.endpoint(index);
            let version = |member, client| version_of(member, client, &self.members);
            let asked = self.members.ask(index, Context::READ, version).await;
            let version = asked.map_err(|error| error.at(endpoint))?;
            Ok((endpoint.to_owned(), version))
        });
        let (mut versions, mut errors) = (Vec::new(), Vec::new());
        for answer in join_all(asked).await {
            match answer {
                Ok(version) => versions.push(version),
                Err(error @ StoreError::Refused(_)) => errors.insert(0, error),
                Err(error) => errors.push(error),
            }
        }
        self.members.agree()?;
        match errors.into_iter().next() {
            Some(error) if versions.is_empty() => Err(error),
            Some(_) | None => Ok(versions),
        }
    }

    /// Sends a request that changes nothing, again and again if need be.
    async fn read<T, F>(&self, request: impl Fn(usize, Client) -> F + Sync) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        (|| self.members.ask_current(Context::READ, &request))
            .retry(self.backoff(READ_RETRIES_MAX))
            .when(StoreError::is_transient)
            .await
    }

    /// Sends a request that changes something; again only if it surely did not happen.
    async fn write<T, F>(
        &self,
        context: Context,
        request: impl Fn(usize, Client) -> F + Sync,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        (|| self.members.ask_current(context, &request))
            .retry(self.backoff(WRITE_RETRIES_MAX))
            .when(|error| matches!(error, StoreError::Unavailable(_)))
            .await
    }

    fn backoff(&self, retries: usize) -> ExponentialBuilder {
        ExponentialBuilder::default()
            .with_min_delay(BACKOFF_MIN)
            .with_max_delay(BACKOFF_MAX)
            .with_jitter()
            .with_max_times(retries + self.members.len() - 1)
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let request = |member, client: Client| async move {
            let mut client = client.kv_client().max_decoding_message_size(ANSWER_LEN_MAX);
            let prefixed = GetOptions::new().with_prefix();
            let reply = client.get(prefix, Some(prefixed)).await;
            let reply = reply.map_err(|error| Context::READ.classify(&error))?;
            self.members.admit(member, reply.header())?;
            convert::listing(&reply)
        };
        self.read(request).await
    }

    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        txn.check_size()?;
        let context = Context::write(convert::lease_of(&txn));
        let txn = convert::txn(txn);
        let request = |member, mut client: Client| {
            let txn = txn.clone();
            async move {
                let reply = client.txn(txn).await;
                let reply = reply.map_err(|error| context.classify(&error))?;
                self.members.admit(member, reply.header())?;
                convert::txn_reply(&reply)
            }
        };
        self.write(context, request).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let context = Context::write(None);
        let seconds = convert::whole_seconds(ttl);
        let request = |member, mut client: Client| async move {
            let reply = client.lease_grant(seconds, None).await;
            let reply = reply.map_err(|error| context.classify(&error))?;
            self.members.admit(member, reply.header())?;
            Ok(LeaseId::new(reply.id()))
        };
        self.write(context, request).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        let members = &self.members;
        let request = |member, client| EtcdKeepAlive::open(client, members.clone(), member, lease);
        Ok(Box::new(self.write(Context::READ, request).await?))
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let context = Context::write(Some(lease));
        let request = |_, mut client: Client| async move {
            let reply = client.lease_revoke(lease.get()).await;
            match reply.map_err(|error| context.classify(&error)) {
                Ok(_) | Err(StoreError::LeaseGone(_)) => Ok(()),
                Err(error) => Err(error),
            }
        };
        // Revoking twice is revoking once, so this write may be sent again.
        (|| self.members.ask_current(context, request))
            .retry(self.backoff(READ_RETRIES_MAX))
            .when(StoreError::is_transient)
            .await
    }

    async fn check_limits(&self, prefix: &str) -> Result<(), StoreError> {
        Self::check_limits(self, prefix).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let members = &self.members;
        let request =
            |member, client| EtcdWatch::open(client, members.clone(), member, prefix, from);
        Ok(self.read(request).await?.into_stream().boxed())
    }
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore")
            .field("members", &self.members)
            .finish()
    }
}

async fn version_of(
    member: usize,
    client: Client,
    members: &Members,
) -> Result<String, StoreError> {
    let status = client.maintenance_client().status().await;
    let status = status.map_err(|error| Context::READ.classify(&error))?;
    members.admit(member, status.header())?;
    Ok(status.version().to_owned())
}
