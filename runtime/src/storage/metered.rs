//! Counts what is asked of storage.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Storage, StorageError, Stored};
use crate::ids::{ObjectKey, Token};
use crate::telemetry::{Metrics, StorageRequest};

/// A storage whose requests are counted and timed.
#[derive(Debug)]
pub(crate) struct Metered {
    storage: Arc<dyn Storage>,
    metrics: Arc<Metrics>,
}

impl Metered {
    pub(crate) fn new(storage: Arc<dyn Storage>, metrics: Arc<Metrics>) -> Self {
        Self { storage, metrics }
    }

    async fn timed<T>(
        &self,
        request: &'static str,
        answer: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let began = Instant::now();
        let result = answer.await;
        let outcome = match &result {
            Ok(_) => "ok",
            Err(StorageError::Fenced { .. }) => "fenced",
            Err(StorageError::Conflict { .. }) => "conflict",
            Err(StorageError::Unavailable(_)) => "unavailable",
            Err(StorageError::Damaged(_)) => "damaged",
            Err(StorageError::Unknown(_)) => "unknown",
        };
        let labels = StorageRequest { request, outcome };
        self.metrics.storage.note(&labels, began.elapsed());
        result
    }
}

#[async_trait]
impl Storage for Metered {
    async fn load(&self, key: &ObjectKey, token: Token) -> Result<Stored, StorageError> {
        self.timed("load", self.storage.load(key, token)).await
    }

    async fn save(
        &self,
        key: &ObjectKey,
        token: Token,
        version: u64,
        state: Option<Vec<u8>>,
    ) -> Result<u64, StorageError> {
        let saved = self.storage.save(key, token, version, state);
        self.timed("save", saved).await
    }

    fn trouble(&self) -> Option<String> {
        self.storage.trouble()
    }

    async fn failed(&self) -> String {
        self.storage.failed().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Revision;
    use crate::storage::MemoryStorage;

    #[tokio::test]
    async fn s2_9_rejected_tokens_and_conflicts_are_counted_apart() {
        let metrics = Arc::new(Metrics::new());
        let storage = Metered::new(Arc::new(MemoryStorage::new()), metrics.clone());
        let key = ObjectKey::new("Counter", "c1").expect("a good key");
        let (old, new) = (token(1), token(2));
        storage.load(&key, new).await.expect("the first");
        storage.load(&key, old).await.expect_err("a lower token");
        let saved = storage.save(&key, new, 0, Some(vec![1])).await;
        saved.expect("the owner saves");
        let fenced = storage.save(&key, old, 1, None).await;
        fenced.expect_err("a lower token");
        let conflict = storage.save(&key, new, 0, None).await;
        conflict.expect_err("an old version");
        let text = metrics.encode().expect("it can be written");
        for (request, outcome) in [
            ("load", "ok"),
            ("load", "fenced"),
            ("save", "ok"),
            ("save", "fenced"),
            ("save", "conflict"),
        ] {
            let labels = format!("{{request=\"{request}\",outcome=\"{outcome}\"}}");
            let line = format!("steading_storage_requests_total{labels} 1\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        let line = "steading_storage_request_seconds_count{request=\"save\"} 3\n";
        assert!(text.contains(line), "{line} is not in {text}");
    }

    fn token(revision: u64) -> Token {
        Token::of(0, Revision::new(revision))
    }
}
