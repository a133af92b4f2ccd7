//! The memory store with slow replies and refused reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::coordination::MemoryStore;
use crate::coordination::store::{
    KeepAlive, Listing, Store, StoreError, Txn, TxnReply, WatchStream,
};
use crate::ids::{LeaseId, Revision};

/// A client of a memory store whose replies can be late.
#[derive(Clone, Debug)]
pub(super) struct Scripted {
    pub(super) inner: MemoryStore,
    script: Arc<Script>,
}

#[derive(Debug, Default)]
struct Script {
    grant_reply_ms: AtomicU64,
    ping_reply_ms: AtomicU64,
    lists_refused: AtomicBool,
    lists: AtomicU64,
    streams: AtomicU64,
    granted: Mutex<Vec<LeaseId>>,
}

impl Scripted {
    pub(super) fn new(inner: MemoryStore) -> Self {
        let script = Arc::default();
        Self { inner, script }
    }

    /// Grants are done at once and answered after this time.
    pub(super) fn delay_grant_replies(&self, delay: Duration) {
        set(&self.script.grant_reply_ms, delay);
    }

    /// Pings are done at once and answered after this time.
    pub(super) fn delay_ping_replies(&self, delay: Duration) {
        set(&self.script.ping_reply_ms, delay);
    }

    pub(super) fn refuse_lists(&self, refused: bool) {
        self.script.lists_refused.store(refused, Ordering::SeqCst);
    }

    /// How often something was listed.
    pub(super) fn lists(&self) -> u64 {
        self.script.lists.load(Ordering::SeqCst)
    }

    /// Every lease that was granted, the first one first.
    pub(super) fn granted(&self) -> Vec<LeaseId> {
        self.script.granted.lock().clone()
    }

    /// How many streams of keep-alives were opened.
    pub(super) fn streams(&self) -> u64 {
        self.script.streams.load(Ordering::SeqCst)
    }
}

fn set(ms: &AtomicU64, delay: Duration) {
    let delay = u64::try_from(delay.as_millis()).expect("a short time");
    ms.store(delay, Ordering::SeqCst);
}

async fn wait(ms: &AtomicU64) {
    sleep(Duration::from_millis(ms.load(Ordering::SeqCst))).await;
}

#[async_trait]
impl Store for Scripted {
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.script.lists.fetch_add(1, Ordering::SeqCst);
        if self.script.lists_refused.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("on purpose".into()));
        }
        self.inner.list(prefix).await
    }

    async fn commit(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        self.inner.commit(txn).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let lease = self.inner.grant(ttl).await?;
        self.script.granted.lock().push(lease);
        wait(&self.script.grant_reply_ms).await;
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Box<dyn KeepAlive>, StoreError> {
        self.script.streams.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(LateStream {
            inner: self.inner.keep_alive(lease).await?,
            script: self.script.clone(),
        }))
    }

    async fn check_limits(&self, prefix: &str) -> Result<(), StoreError> {
        self.inner.check_limits(prefix).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        self.inner.watch(prefix, from).await
    }
}

#[derive(Debug)]
struct LateStream {
    inner: Box<dyn KeepAlive>,
    script: Arc<Script>,
}

#[async_trait]
impl KeepAlive for LateStream {
    async fn ping(&mut self) -> Result<Revision, StoreError> {
        let answer = self.inner.ping().await;
        wait(&self.script.ping_reply_ms).await;
        answer
    }
}
