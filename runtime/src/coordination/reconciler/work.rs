//! The host's work under way: closings, sendings and ends of shards.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;
use tracing::error;

use super::{Closing, SendError, Sent, ShardHost};
use crate::ids::ShardId;
use crate::placement::{Owner, Parcel};
use crate::tasks::Tasks;

/// Most pieces of work under way at once; further shards stay open until one has ended.
pub(super) const WORK_MAX: usize = 512;

/// How long sending a shard's state ahead may take. Far above what it takes between neighbours;
/// short, because calls wait meanwhile.
pub(super) const SEND_LIMIT: Duration = Duration::from_secs(5);

/// The shortest time that objects get to end, whatever is left of a leaving node's.
const END_LIMIT_MIN: Duration = Duration::from_secs(1);

/// How much longer than its limit a piece of work is waited for, before it is given up.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the host's work as tasks of their own, because sending and saving may be real work.
pub(super) struct Work {
    host: Arc<dyn ShardHost>,
    tasks: Tasks,
    running: FuturesUnordered<BoxFuture<'static, Ended>>,
}

/// The end of a piece of work.
pub(super) struct Ended {
    pub(super) shard: ShardId,
    /// The number it was begun under.
    pub(super) number: u64,
    pub(super) result: WorkResult,
}

/// What came of a piece of work.
pub(super) enum WorkResult {
    Closing(Closing),
    /// `Ok`: what the target has staged; empty if there was nothing to send.
    Sending(Owner, Result<Parcel, SendError>),
    Ended,
}

impl Work {
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

    pub(super) fn close(&mut self, shard: ShardId, number: u64, limit: Duration) {
        let host = self.host.clone();
        // As good as overdue: it is tried again, and until then nothing is sent.
        let failed = WorkResult::Closing(Closing::Overdue(Vec::new()));
        self.run(shard, number, failed, async move {
            WorkResult::Closing(host.close(shard, limit).await)
        });
    }

    pub(super) fn send_ahead(&mut self, shard: ShardId, number: u64, to: Owner, parcel: Parcel) {
        let host = self.host.clone();
        let failed = SendError::Failed("sending ended without an answer".into());
        let failed = WorkResult::Sending(to.clone(), Err(failed));
        self.run(shard, number, failed, async move {
            let sending = host.send_ahead(shard, &to, parcel, SEND_LIMIT);
            let result = match timeout(SEND_LIMIT + GRACE, sending).await {
                Ok(Ok(Sent::Staged)) => Ok(parcel),
                Ok(Ok(Sent::Nothing)) => Ok(Parcel::empty(parcel.revision)),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(SendError::Late),
            };
            WorkResult::Sending(to, result)
        });
    }

    pub(super) fn end(&mut self, shard: ShardId, number: u64, limit: Duration) {
        let host = self.host.clone();
        let limit = limit.max(END_LIMIT_MIN);
        self.run(shard, number, WorkResult::Ended, async move {
            if timeout(limit.saturating_add(GRACE), host.end(shard, limit))
                .await
                .is_err()
            {
                error!(%shard, ?limit, "objects did not end in time");
            }
            WorkResult::Ended
        });
    }

    fn run(
        &mut self,
        shard: ShardId,
        number: u64,
        failed: WorkResult,
        work: impl Future<Output = WorkResult> + Send + 'static,
    ) {
        let ended = self.tasks.spawn_work(work).map(move |joined| Ended {
            shard,
            number,
            result: joined.unwrap_or_else(|failure| {
                error!(%shard, %failure, "the host's work ended without an answer");
                failed
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

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("running", &self.len())
            .finish_non_exhaustive()
    }
}
