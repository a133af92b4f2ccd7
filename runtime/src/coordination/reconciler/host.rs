//! The side of the objects: what the reconciler asks of whoever runs turns.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tracing::warn;

use crate::ids::{ObjectKey, ShardId, Token};

/// Most overdue methods of one shard that are logged.
const OVERDUE_LOGGED_MAX: usize = 10;

/// Runs turns of shards while it is told to. Only the reconciler calls this.
#[async_trait]
pub trait ShardHost: fmt::Debug + Send + Sync + 'static {
    /// Lets turns of a shard begin, under this token. A shard that is open under it already
    /// stays as it is. Must not block.
    fn open(&self, shard: ShardId, token: Token);

    /// Begins no more turns of a shard, lets running ones end within `limit`, then saves and
    /// drops its objects. New calls wait meanwhile. A shard that is not open is closed already.
    ///
    /// Must end soon after `limit`. If a turn has not ended by then the shard is open again
    /// under the same token, unless it was discarded meanwhile.
    async fn close(&self, shard: ShardId, limit: Duration) -> Closing;

    /// Drops a shard's objects without saving and lets no turn begin: another node owns it, or
    /// this life is over. Ends a closing of it. A shard that is not open is fine. Must not block.
    fn discard(&self, shard: ShardId);
}

/// How closing a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// No turn runs and none will; its objects are saved and dropped.
    Closed,
    /// These methods did not end in time; the shard is open again.
    Overdue(Vec<(ObjectKey, String)>),
}

/// Says which methods kept a shard from closing.
pub(super) fn report_overdue(shard: ShardId, methods: &[(ObjectKey, String)]) {
    let running = methods.len();
    for (object, method) in methods.iter().take(OVERDUE_LOGGED_MAX) {
        warn!(%shard, running, %object, method, "a turn did not end in time: the shard stays open");
    }
    if methods.is_empty() {
        warn!(%shard, "closing failed: the shard stays open");
    }
}
