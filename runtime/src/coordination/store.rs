//! The port onto the store that the cluster agrees through.
//!
//! Two implementations with the same semantics: [`EtcdStore`](super::EtcdStore) and
//! [`MemoryStore`](super::MemoryStore). One conformance suite runs against both. Keys are full
//! keys; the cluster's prefix is added by [`keys`](super::keys). Object state never goes here.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::evidence::Evidence;
use crate::ids::{LeaseId, Revision};

/// Most compares, and most operations, in one transaction; they are counted apart.
pub const TXN_OPS_MAX: usize = 128;

/// A store of keys with revisions, transactions, leases and watches.
///
/// Every method has a time limit of the implementation's; dropping a future may leave its request
/// under way, so after a drop, as after [`StoreError::Unknown`], a write may or may not happen.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns every key with this prefix as of one revision, in order of the keys. Linearizable.
    ///
    /// # Errors
    ///
    /// [`StoreError`], never `Unknown`: reading changes nothing.
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError>;

    /// Runs a transaction: if all compares hold the operations of `then`, else those of
    /// `otherwise`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unknown`] if the transaction may have been committed or may yet be;
    /// [`StoreError::TooManyOperations`] if a part has more than [`TXN_OPS_MAX`], before anything
    /// is sent; otherwise it surely does not happen.
    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError>;

    /// Grants a lease that ends `ttl` after its last keep-alive. Whole seconds, at least two.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after `Unknown` there may be a lease without keys, which ends by itself.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Opens a stream of keep-alives of a lease.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the stream cannot be opened.
    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError>;

    /// Ends a lease now and deletes its keys. A lease that is gone already is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; after `Unknown` the lease may live on until its time to live has passed.
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Watches all keys with this prefix, from the changes of revision `from` on.
    ///
    /// The stream ends with its first error: [`StoreError::Compacted`] asks for a new list, every
    /// other for a new watch from the revision after the last batch.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the watch cannot be opened.
    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError>;

    /// Checks that the store takes transactions as large as a cluster needs, without any change.
    /// Costs a request of 1 MiB, so ask only if a cluster does not work.
    ///
    /// # Errors
    ///
    /// [`StoreError::Limits`] names the limit that is too low; else it could not be found out.
    async fn check_limits(&self, prefix: &str) -> Result<(), StoreError>;
}

/// What a watch brings, until its first error.
pub type WatchStream = BoxStream<'static, Result<WatchBatch, StoreError>>;

/// One stream of keep-alives. Dropping it closes the stream; later replies are lost with it, so
/// that no reply is ever taken for the answer to another send.
#[async_trait]
pub trait KeepAlive: fmt::Debug + Send {
    /// Sends one keep-alive, waits for its reply, and returns the revision of whichever member of
    /// the store answered; it may lag. Never more than one is under way. Not cancel safe: after a
    /// drop or an error, drop the stream and open another.
    ///
    /// # Errors
    ///
    /// [`StoreError::LeaseGone`] if the store no longer knows the lease; else a transient error.
    async fn ping(&mut self) -> Result<Revision, StoreError>;
}

/// A key with its value and revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// When it was created, since when it was not deleted.
    pub create_revision: Revision,
    /// When it was last written.
    pub mod_revision: Revision,
    /// The lease that takes it along when it ends.
    pub lease: Option<LeaseId>,
}

/// All keys with a prefix as of one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision.
    pub revision: Revision,
    /// The keys, in order.
    pub entries: Vec<Entry>,
}

/// A condition of a transaction. A key that does not exist has revision zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key was created at this revision.
    Created(String, Revision),
    /// The key was last written at this revision.
    Modified(String, Revision),
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a key, under a lease if one is given.
    Put {
        /// The full key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
        /// The lease that takes the key along when it ends.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; one that does not exist is fine.
    Delete(String),
    /// Reads a key into [`TxnReply::reads`].
    Get(String),
}

/// A transaction; see [`Store::commit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// What to do if they do.
    pub then: Vec<Op>,
    /// What to do if one does not.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// Refuses a transaction that the store would refuse for its size.
    pub(crate) fn check_size(&self) -> Result<(), StoreError> {
        let parts = [self.compares.len(), self.then.len(), self.otherwise.len()];
        match parts.into_iter().max() {
            Some(operations) if operations > TXN_OPS_MAX => {
                Err(StoreError::TooManyOperations { operations })
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnReply {
    /// Whether all compares held.
    pub succeeded: bool,
    /// The store's revision after it; the mod revision of every key it wrote.
    pub revision: Revision,
    /// What its [`Op::Get`]s found, in order; a key that does not exist is `None`.
    pub reads: Vec<Option<Entry>>,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The key was written.
    Put(Entry),
    /// The key was deleted, or its lease ended.
    Delete {
        /// The full key.
        key: String,
        /// When.
        revision: Revision,
    },
}

/// All changes of some revisions: none of a revision is in another batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// The newest revision of the batch; resume after it.
    pub revision: Revision,
    /// The changes, oldest first. Empty: only the revision is news.
    pub events: Vec<Event>,
}

/// Why the store did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be reached, has no leader, or is overloaded. Nothing happened; try again later.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The request was sent and no answer came. A write may have happened, or may yet.
    #[error("the store did not answer: {0}")]
    Unknown(String),
    /// The wanted revisions are compacted away; list anew.
    #[error("revisions before {0} are compacted away")]
    Compacted(Revision),
    /// There is no such lease any more.
    #[error("lease {0} is gone")]
    LeaseGone(LeaseId),
    /// A transaction has too many compares or operations. Nothing was sent.
    #[error("a transaction of {operations} operations is too large: at most {TXN_OPS_MAX}")]
    TooManyOperations {
        /// How many its largest part has.
        operations: usize,
    },
    /// The store's own limits are too low for this cluster. Nothing happened.
    #[error("the limits of the store are too low: {0}")]
    Limits(String),
    /// User or password is wrong, or may not do this. Trying again will not help.
    #[error("the store refuses access: {0}")]
    Refused(String),
    /// The store answered something this client does not understand, or refused the request as
    /// malformed. Trying again will not help.
    #[error("the store and this client do not understand each other: {0}")]
    Protocol(String),
    /// It is not the store that this process joined. Nothing of what this process knows counts
    /// there, so trying again will not help, not even after it came back: start anew.
    #[error("the store is not the one that this process joined: {0}")]
    Replaced(Evidence),
}

impl StoreError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Unknown(_) => true,
            Self::Compacted(_)
            | Self::LeaseGone(_)
            | Self::TooManyOperations { .. }
            | Self::Limits(_)
            | Self::Refused(_)
            | Self::Protocol(_)
            | Self::Replaced(_) => false,
        }
    }

    /// Says which endpoint it is about, where that is not told otherwise.
    pub(super) fn at(self, endpoint: &str) -> Self {
        let named = |why: String| format!("{endpoint}: {why}");
        match self {
            Self::Unavailable(why) => Self::Unavailable(named(why)),
            Self::Unknown(why) => Self::Unknown(named(why)),
            Self::Refused(why) => Self::Refused(named(why)),
            Self::Protocol(why) => Self::Protocol(named(why)),
            Self::Limits(why) => Self::Limits(named(why)),
            error @ (Self::Compacted(_)
            | Self::LeaseGone(_)
            | Self::TooManyOperations { .. }
            | Self::Replaced(_)) => error,
        }
    }
}
