//! Follows the plans in the store: a list, then a watch from the next revision.
//!
//! Plans are for people, so a plan that cannot be read is left out, and whatever ends the watch is
//! cured by listing anew.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Plans;
use crate::coordination::keys::{Keys, decode_plan};
use crate::coordination::store::{Entry, Event, Store, StoreError, WatchBatch};
use crate::ids::{Revision, ShardCount};

/// The pause before the plans are listed again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the plans; see the [module](self).
#[derive(Debug)]
pub(super) struct Follower {
    store: Arc<dyn Store>,
    keys: Keys,
    shards: ShardCount,
    plans: watch::Sender<Arc<Plans>>,
}

impl Follower {
    pub(super) fn new(
        store: Arc<dyn Store>,
        keys: Keys,
        shards: ShardCount,
    ) -> (Self, watch::Receiver<Arc<Plans>>) {
        let (plans, seen) = watch::channel(Arc::default());
        let follower = Self {
            store,
            keys,
            shards,
            plans,
        };
        (follower, seen)
    }

    /// Runs until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let following = async {
            loop {
                if let Err(error) = self.follow().await {
                    debug!(%error, "the plans are listed anew");
                }
                sleep(RETRY).await;
            }
        };
        shutdown.run_until_cancelled(following).await;
        Ok(())
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let listing = self.store.list(&self.keys.plans()).await?;
        let read = listing.entries.iter().filter_map(|entry| self.read(entry));
        self.plans.send_replace(Arc::new(read.collect()));
        let from = Revision::new(listing.revision.get() + 1);
        let mut stream = self.store.watch(&self.keys.plans(), from).await?;
        while let Some(batch) = stream.next().await {
            self.apply(&batch?);
        }
        Ok(())
    }

    fn apply(&self, batch: &WatchBatch) {
        if batch.events.is_empty() {
            return;
        }
        let mut plans = Plans::clone(&self.plans.borrow());
        for event in &batch.events {
            match event {
                Event::Put(entry) => plans.extend(self.read(entry)),
                Event::Delete { key, .. } => {
                    if let Some(id) = self.keys.plan_id(key) {
                        plans.remove(&id);
                    }
                }
            }
        }
        self.plans.send_replace(Arc::new(plans));
    }

    fn read(&self, entry: &Entry) -> Option<(crate::ids::PlanId, Arc<super::PlanRecord>)> {
        let plan = decode_plan(entry, &self.keys, self.shards).ok()?;
        Some((plan.id, Arc::new(plan)))
    }
}
