//! The store on etcd. (Skeleton.)

use std::time::Duration;

use async_trait::async_trait;

use super::store::{KeepAlive, Listing, Store, StoreError, Txn, TxnReply, WatchStream};
use crate::ids::{LeaseId, Revision};

/// How to reach etcd.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// `http://` or `https://` addresses of the members; all are used. At least one.
    pub endpoints: Vec<String>,
    /// User and password, if etcd asks for them.
    pub user: Option<(String, String)>,
    /// Certificate of the authority that signed etcd's certificates, PEM. Default: the system's.
    pub ca: Option<Vec<u8>>,
    /// Client certificate and its key, PEM, if etcd asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// How long making a connection may take. Default: 1 s.
    pub connect_timeout: Duration,
    /// How long one request may take. Default: 2 s.
    pub request_timeout: Duration,
    /// Whether an etcd with known bugs is refused, instead of warned about. Default: no.
    pub strict_version: bool,
}

impl EtcdSettings {
    /// Takes the endpoints; everything else is at its default.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            ca: None,
            identity: None,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(2),
            strict_version: false,
        }
    }
}

/// A client of an etcd cluster.
#[derive(Clone, Debug)]
pub struct EtcdStore {}

impl EtcdStore {
    /// Checks the settings, then reaches etcd once: user, password and version must do.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no endpoint answers, so try again;
    /// [`StoreError::Refused`] for a wrong user or password, or with `strict_version` for an etcd
    /// with known bugs; [`StoreError::Protocol`] for settings that cannot work.
    #[allow(clippy::unused_async, reason = "the signature comes first")]
    pub async fn connect(_settings: EtcdSettings) -> Result<Self, StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn list(&self, _prefix: &str) -> Result<Listing, StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
    async fn commit(&self, _txn: Txn) -> Result<TxnReply, StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
    async fn grant(&self, _ttl: Duration) -> Result<LeaseId, StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
    async fn keep_alive(&self, _lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
    async fn revoke(&self, _lease: LeaseId) -> Result<(), StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
    async fn watch(&self, _prefix: &str, _from: Revision) -> Result<WatchStream, StoreError> {
        Err(StoreError::Protocol("not there yet".into()))
    }
}
