//! Counts what is asked of a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::store::{KeepAlive, Listing, Store, StoreError, Txn, TxnReply, WatchStream};
use crate::ids::{LeaseId, Revision};
use crate::telemetry::{Metrics, StoreRequest, StoreWrite};

/// A store whose requests are counted and timed.
#[derive(Debug)]
pub struct Metered {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Metered {
    /// Wraps a store.
    pub fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
    }

    async fn timed<T>(&self, request: &'static str, answer: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let result = answer.await;
        let labels = StoreRequest { request };
        let histogram = self.metrics.store_request_seconds.get_or_create(&labels);
        histogram.observe(start.elapsed().as_secs_f64());
        result
    }
}

#[async_trait]
impl Store for Metered {
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.timed("list", self.store.list(prefix)).await
    }

    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        let result = self.timed("commit", self.store.commit(txn)).await;
        let outcome = match &result {
            Ok(reply) if reply.succeeded => "ok",
            Ok(_) => "conflict",
            Err(error) if error.is_transient() => "transient",
            Err(_) => "fatal",
        };
        self.metrics
            .store_writes
            .get_or_create(&StoreWrite { outcome })
            .inc();
        result
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.timed("grant", self.store.grant(ttl)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        self.timed("keep_alive", self.store.keep_alive(lease)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.timed("revoke", self.store.revoke(lease)).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.timed("watch", self.store.watch(prefix, from)).await
    }

    async fn check_limits(&self, prefix: &str) -> Result<(), StoreError> {
        self.store.check_limits(prefix).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coordination::store::{Compare, Op};
    use crate::coordination::{CommitFault, MemoryStore};

    #[tokio::test(start_paused = true)]
    async fn p16_commits_are_counted_by_outcome() {
        let memory = MemoryStore::new();
        let metrics = Arc::new(Metrics::new());
        let store = Metered::new(Arc::new(memory.clone()), metrics.clone());
        let never = Compare::Modified("absent".into(), Revision::new(1));
        let conflict = Txn {
            compares: vec![never],
            ..Txn::default()
        };
        let too_large = Txn {
            then: vec![Op::Get("key".into()); 129],
            ..Txn::default()
        };
        memory.faults().on_commit(3, CommitFault::LoseReply);
        store.commit(Txn::default()).await.unwrap();
        store.commit(conflict).await.unwrap();
        store.commit(Txn::default()).await.expect_err("reply lost");
        store.commit(too_large).await.expect_err("too large");
        let text = metrics.encode().unwrap();
        for outcome in ["ok", "conflict", "transient", "fatal"] {
            let line = format!("steading_store_writes_total{{outcome=\"{outcome}\"}} 1");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(
            text.contains("steading_store_request_seconds_count{request=\"commit\"} 4"),
            "{text}"
        );
    }
}
