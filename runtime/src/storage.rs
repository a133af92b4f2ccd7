//! Where the state of objects is kept: the port, and its providers.
//!
//! The last line of defence for one effective writer: loading raises a key's token before it
//! reads, every save names its token and the version it was computed from, and storage refuses a
//! lower token or another version.

mod embedded;
mod memory;
mod metered;

use std::fmt;

use async_trait::async_trait;

use crate::ids::{ObjectKey, Token};

pub use embedded::{EmbeddedStorage, OpenError};
pub use memory::MemoryStorage;
pub(crate) use metered::Metered;

/// A stored state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Counts the saves of this key; the next save must name it.
    pub version: u64,
    /// The state, as the type's codec wrote it; `None`: never saved, or deleted.
    pub state: Option<Vec<u8>>,
}

/// Keeps the state of objects.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// Raises the key's token to `token`, then reads its state. From then on every holder of a
    /// lower token is refused.
    ///
    /// # Errors
    ///
    /// [`StorageError::Fenced`] if the key's token is greater already.
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError>;

    /// Replaces the state (`None` deletes it) that has `version` and returns the new version.
    /// When this returns, the state is as durable as the provider makes it.
    ///
    /// # Errors
    ///
    /// [`StorageError`]; after `Unknown` the state may have been replaced, or may yet be.
    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError>;

    /// Returns why requests fail at present, as with a full disk. A node whose storage is in trouble
    /// is not ready. Default: no trouble.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Waits until this storage has failed for good, and returns why: nothing will be answered any
    /// more, so the process should end. Providers may look after themselves while it is polled, so
    /// each node polls it as long as it lives. Default: never.
    ///
    /// Cancel safety: only waits; dropping the future changes nothing.
    async fn failed(&self) -> String {
        std::future::pending().await
    }
}

/// Why storage did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// A later owner has touched the key: the asker is no longer its owner.
    #[error("refused: token {held} is behind {stored}")]
    Fenced {
        /// The asker's token.
        held: Token,
        /// The key's token.
        stored: Token,
    },
    /// The state was replaced by somebody else since it was loaded.
    #[error("refused: the state has version {stored}, not {expected}")]
    Conflict {
        /// The version the asker computed from.
        expected: u64,
        /// The version in storage.
        stored: u64,
    },
    /// Storage cannot be reached or is overloaded. Nothing happened.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// What is stored of this object is damaged. Other objects are not affected, and nothing was
    /// changed.
    #[error("the stored state is damaged: {0}")]
    Damaged(String),
    /// The request was under way and no answer came.
    #[error("storage did not answer: {0}")]
    Unknown(String),
}
