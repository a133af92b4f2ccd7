//! The closings under way at the host.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tracing::error;

use super::{Closing, ShardHost};
use crate::ids::ShardId;
use crate::tasks::Tasks;

/// Most closings under way at once; further shards stay open until one has ended.
pub(super) const CLOSINGS_MAX: usize = 512;

/// Runs closings as tasks of their own, because saving a shard's objects may be real work.
pub(super) struct Closings {
    host: Arc<dyn ShardHost>,
    tasks: Tasks,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
}

/// The end of a closing.
pub(super) struct Ended {
    pub(super) shard: ShardId,
    /// The number it was begun under.
    pub(super) number: u64,
    pub(super) closing: Closing,
}

impl Closings {
    pub(super) fn new(host: Arc<dyn ShardHost>, tasks: Tasks) -> Self {
        Self {
            host,
            tasks,
            running: FuturesUnordered::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn begin(&mut self, shard: ShardId, number: u64, limit: Duration) {
        let host = self.host.clone();
        let closing = self
            .tasks
            .spawn_work(async move { host.close(shard, limit).await });
        let ended = closing.map(move |joined| Ended {
            shard,
            number,
            closing: joined.unwrap_or_else(|failure| {
                error!(%shard, %failure, "closing ended without an answer");
                // As good as overdue: it is tried again, and until then nothing is released.
                Closing::Overdue(Vec::new())
            }),
        });
        self.running.push(ended.boxed());
    }

    /// Waits for the next end; `None` if nothing is under way. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Ended> {
        self.running.next().await
    }

    /// Lets what is under way run out unheard.
    pub(super) fn forget_all(&mut self) {
        self.running.clear();
    }
}

impl fmt::Debug for Closings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closings")
            .field("running", &self.len())
            .finish_non_exhaustive()
    }
}
