//! State in the memory of one process: for tests, examples and `steading dev`.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Storage, StorageError, Stored};
use crate::ids::{ObjectKey, Token};

/// Keeps state in memory, as long as the process lives. Clones share it.
///
/// Enforces tokens and versions exactly as a durable provider does.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    rows: Arc<Mutex<HashMap<ObjectKey, Row>>>,
}

#[derive(Debug, Default)]
struct Row {
    token: Token,
    stored: Stored,
}

impl MemoryStorage {
    /// Begins empty.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError> {
        let mut rows = self.rows.lock();
        let row = rows.entry(key.clone()).or_default();
        row.raise(token)?;
        Ok(row.stored.clone())
    }

    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        let mut rows = self.rows.lock();
        let row = rows.entry(key.clone()).or_default();
        row.raise(token)?;
        if row.stored.version != version {
            let stored = row.stored.version;
            return Err(StorageError::Conflict {
                expected: version,
                stored,
            });
        }
        row.stored = Stored {
            version: version + 1,
            state,
        };
        Ok(row.stored.version)
    }
}

impl Row {
    fn raise(&mut self, held: Token) -> Result<(), StorageError> {
        if held < self.token {
            return Err(StorageError::Fenced {
                held,
                stored: self.token,
            });
        }
        self.token = held;
        Ok(())
    }
}
