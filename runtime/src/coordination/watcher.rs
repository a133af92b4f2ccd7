//! Keeps the process's view equal to the store.
//!
//! Lists everything at one revision, then watches from the next one. Whatever ends the watch, it
//! goes on from the revision after the last batch, so that no change is lost or seen twice; if
//! those revisions are compacted away it lists anew, and what vanished meanwhile becomes
//! deletions. A key that cannot be read is logged, counted and skipped, once: what the view has of
//! it stays.
//!
//! A watch can go silent without ending, and software has bugs: from time to time one
//! linearizable list is compared with the view at the same revision. A difference means that
//! calls may be routed and shards claimed by a wrong view (claims are guarded, so it is never
//! worse than that). It is counted, logged loudly, and cured by starting over.
//!
//! Every list also corrects owner records that it disproves, whatever their revision: the rule that
//! only newer owner news counts would otherwise keep a false record of a great revision forever.

mod check;
mod ignored;
mod listing;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::future::{BoxFuture, Fuse};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::check::Check;
use self::ignored::{Ignored, LOGGED_MAX, Log};
pub(crate) use self::listing::Correction;
use self::listing::read_listing;
use super::SharedView;
use super::keys::{BadEntry, Keys};
use super::store::{Event, Listing, Store, StoreError, WatchBatch, WatchStream};
use crate::ids::Revision;
use crate::telemetry::Metrics;

/// How often the view is compared with the store. A change that takes longer to arrive is lost.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// The first wait before another try to list or watch; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(20);

/// The longest wait before another try to list or watch.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Most differences that are logged one by one.
const DIFFERENCES_LOGGED_MAX: usize = 10;

/// What a watcher is made of.
#[derive(Debug)]
pub struct WatcherParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The view to keep.
    pub view: Arc<SharedView>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// Whether the view follows the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchState {
    /// The cluster must be listed, for the first time or anew.
    Listing,
    /// Everything listed is in the view, and changes arrive.
    CaughtUp,
    /// The watch ended; the view grows old until another is open.
    Disconnected,
}

/// The task; see the [module](self).
#[derive(Debug)]
pub struct Watcher {
    parts: WatcherParts,
    ignored: Mutex<Ignored>,
    state: watch::Sender<WatchState>,
}

impl Watcher {
    /// Makes a watcher, which begins with [`Watcher::run`], and a receiver of whether the view
    /// follows the store.
    pub fn new(parts: WatcherParts) -> (Self, watch::Receiver<WatchState>) {
        let (state, seen) = watch::channel(WatchState::Listing);
        let watcher = Self {
            parts,
            ignored: Mutex::default(),
            state,
        };
        (watcher, seen)
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    ///
    /// Never, since every failure of the store is tried again; the type is what
    /// [`Tasks::spawn`](crate::Tasks::spawn) wants.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let follow = async {
            loop {
                self.list().await;
                self.follow().await;
                self.parts.metrics.coordination.watch_relists.inc();
                self.state.send_replace(WatchState::Listing);
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = follow => {}
        }
        Ok(())
    }

    /// Brings a whole list into the view.
    async fn list(&self) {
        let mut waits = waits();
        let (before, listing) = loop {
            let before = self.parts.view.current();
            match self.parts.store.list(self.parts.keys.prefix()).await {
                Ok(listing) => break (before, listing),
                Err(error) => {
                    warn!(%error, "cannot list the cluster: trying again");
                    sleep(waits.next().unwrap_or(RETRY_MAX)).await;
                }
            }
        };
        let (revision, entries) = (listing.revision, listing.entries.len());
        let view = self.parts.view.current();
        let irregular = |entry| self.parts.keys.irregularity(entry, view.meta.shard_count);
        let irregular: Vec<_> = listing.entries.iter().filter_map(irregular).collect();
        self.ignored.lock().retain(&irregular);
        for bad in &irregular {
            self.skip(bad);
        }
        let read = read_listing(listing, &view, &self.parts.keys);
        self.count_ignored();
        let corrections = read.corrections(&before, &self.parts.keys);
        self.parts.view.correct(&corrections);
        self.parts.view.advance(revision, read.news);
        info!(%revision, entries, "listed the cluster");
    }

    /// Follows the changes after the view's revision, over as many watches as it takes, until
    /// the cluster must be listed anew.
    async fn follow(&self) {
        let mut waits = waits();
        let mut first = true;
        loop {
            let revision = self.parts.view.current().revision;
            let from = Revision::new(revision.get() + 1);
            let error = match self.parts.store.watch(self.parts.keys.prefix(), from).await {
                Err(error) => error,
                Ok(stream) => {
                    if !first {
                        self.parts.metrics.coordination.watch_reconnects.inc();
                    }
                    let resumed = !std::mem::take(&mut first);
                    self.state.send_replace(WatchState::CaughtUp);
                    match self.read(stream, resumed).await {
                        Ok(Mismatch) => return,
                        Err(error) => error,
                    }
                }
            };
            if let StoreError::Compacted(oldest) = error {
                warn!(%revision, %oldest, "changes are compacted away: listing anew");
                return;
            }
            self.state.send_replace(WatchState::Disconnected);
            warn!(%error, %revision, "the watch ended: resuming");
            if self.parts.view.current().revision > revision {
                waits = self::waits(); // It worked for a while.
            }
            sleep(waits.next().unwrap_or(RETRY_MAX)).await;
        }
    }

    /// Brings what one watch tells into the view, until it ends or the view proves wrong.
    ///
    /// A resumed watch is compared at once: while it was away the store may have gone back in time
    /// and on again, and only the keys themselves tell.
    async fn read(&self, mut stream: WatchStream, resumed: bool) -> Result<Mismatch, StoreError> {
        let first = if resumed { Duration::ZERO } else { CHECK_EVERY };
        let mut check_at = interval_at(Instant::now() + first, CHECK_EVERY);
        check_at.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut check: Option<Check> = None;
        let mut listing: Fuse<BoxFuture<'_, Result<Listing, StoreError>>> = Fuse::terminated();
        loop {
            let mut overdue = false;
            tokio::select! {
                biased;
                batch = stream.next() => {
                    let ended = || Err(StoreError::Unavailable("the watch ended".into()));
                    let batch = batch.unwrap_or_else(ended)?;
                    self.apply(&batch);
                    if let Some(check) = &mut check {
                        check.follow(batch);
                    }
                }
                listed = &mut listing => match listed {
                    Ok(listing) => if let Some(check) = &mut check {
                        check.listed(listing, Instant::now());
                    },
                    Err(error) => {
                        warn!(%error, "cannot compare the view with the store");
                        check = None;
                    }
                },
                _ = check_at.tick() => {
                    overdue = check.is_some();
                    if check.is_none() {
                        check = Some(Check::begin(&self.parts.view.current()));
                        listing = self.parts.store.list(self.parts.keys.prefix()).fuse();
                    }
                }
            }
            if check
                .as_ref()
                .is_some_and(|check| overdue || check.is_ready())
                && let Some(check) = check.take()
                && self.is_wrong(check)
            {
                return Ok(Mismatch);
            }
        }
    }

    fn apply(&self, batch: &WatchBatch) {
        let count = self.parts.view.current().meta.shard_count;
        let mut news = Vec::with_capacity(batch.events.len());
        for event in &batch.events {
            news.extend(self.parts.keys.news(event, count).ok().flatten());
            match event {
                Event::Put(entry) => match self.parts.keys.irregularity(entry, count) {
                    Some(bad) => self.skip(&bad),
                    None => self.ignored.lock().remove(&entry.key),
                },
                Event::Delete { key, .. } => self.ignored.lock().remove(key),
            }
        }
        if !batch.events.is_empty() {
            self.count_ignored();
        }
        self.parts.view.advance(batch.revision, news);
    }

    fn is_wrong(&self, check: Check) -> bool {
        let Some(verdict) = check.judge(&self.parts.keys) else {
            return false;
        };
        let metrics = &self.parts.metrics.coordination;
        metrics
            .watch_lag_seconds
            .set(verdict.listed.elapsed().as_secs_f64());
        let (missing, disproved) = (verdict.wrong.len(), verdict.disproved.len());
        if missing + disproved == 0 {
            return false;
        }
        metrics.view_mismatches.inc();
        error!(
            missing,
            disproved, "the view differs from the store at the same revision: listing anew"
        );
        for news in verdict.wrong.iter().take(DIFFERENCES_LOGGED_MAX) {
            error!(?news, "the view does not have this");
        }
        for wrong in verdict.disproved.iter().take(DIFFERENCES_LOGGED_MAX) {
            error!(?wrong, "the view has an owner that the store never had");
        }
        true
    }

    /// Notes a key that has no effect, and logs it unless it is known or there are too many.
    fn skip(&self, bad: &BadEntry) {
        let Some(newly) = self.ignored.lock().add(bad) else {
            return;
        };
        self.parts.metrics.coordination.bad_entries.inc();
        match newly.log {
            Log::Key => warn!(key = ?bad.key, reason = bad.reason, "ignoring a key in the store"),
            Log::Last => warn!(
                logged = LOGGED_MAX,
                "ignoring more keys in the store; `steading doctor --etcd` lists them"
            ),
            Log::Nothing => {}
        }
    }

    fn count_ignored(&self) {
        let ignored = i64::try_from(self.ignored.lock().len()).unwrap_or(i64::MAX);
        self.parts.metrics.coordination.ignored_keys.set(ignored);
    }
}

/// The view is not what the store says.
struct Mismatch;

/// Returns the waits between tries.
fn waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(RETRY_MIN)
        .with_max_delay(RETRY_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}
