//! Keeps the shards that this node owns equal to those that are targeted at it.
//!
//! The thin shell around [`placement::ownership`](crate::placement::ownership), which decides and
//! explains each step: this module sends transactions, lets the host open, close, send and end,
//! and brings the outcomes back.
//!
//! - It is driven by what changes: the view, membership, the end of a transaction or of the host's
//!   work, a retry or a time limit falling due. The slow rescan only bounds the harm of a forgotten wake.
//! - Steps on owner keys go in batches up to what a transaction holds, several under way at once.
//!   A batch is whatever is ready; nothing waits to fill one. It is all or nothing, so a shard
//!   whose guard fails makes the others try again: at once if the reply brought news, which then
//!   splits them, else after a rest.
//! - Every batch proves that this life of the node is registered, so a dead life changes nothing.
//! - A reply counts only while the life that sent it goes on. The end of a life leaves nothing:
//!   every shard is idle, and what the host may still hold is discarded.
//! - Without the right to write (not active, or fenced) nothing is sent and no closing begins.
//!   What is known still counts: a shard of mine opens, one of another's is dropped.
//! - The host's work runs beside all this, so that a slow closing holds up only its own shard. But
//!   few shards are closed at the same time, so that calls to each wait for a short time.

mod batch;
mod ending;
mod handle;
mod host;
mod shards;
mod stages;
mod stepping;
mod telling;
#[cfg(test)]
mod tests;
mod traced;
mod work;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::batch::Batch;
use self::handle::{Ends, Question};
pub use self::handle::{Progress, ReconcilerHandle, UNDER_WAY_MAX};
pub use self::host::{Closing, SendError, Sent, ShardHost};
use self::shards::Shards;
pub use self::stages::{Stage, UnderWay};
use self::work::{Ended, Work};
use super::keys::Keys;
use super::store::{Store, StoreError, TxnReply};
use super::{Rights, SharedView};
use crate::ids::ShardId;
use crate::placement::{ClusterView, Owner};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// How often every shard is looked at even if nothing happened.
const RESCAN: Duration = Duration::from_secs(10);

/// How long a shard rests after its first failed transaction; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest that a shard rests after a failed transaction.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How long a shard rests, open, after its first overdue closing or failed sending; doubles up to
/// [`MOVE_RETRY_MAX`].
const MOVE_RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest that a shard rests after an overdue closing or failed sending.
const MOVE_RETRY_MAX: Duration = Duration::from_mins(1);

/// How old what was sent ahead may be when a hand-over is sent. Far below the time for which the
/// target keeps it, and short, because calls wait meanwhile: then the shard opens here again.
const SENT_LIMIT: Duration = Duration::from_secs(2);

/// What a reconciler is made of.
#[derive(Debug)]
pub struct ReconcilerParts {
    /// Where the cluster agrees.
    pub store: Arc<dyn Store>,
    /// The cluster's keys.
    pub keys: Keys,
    /// The node's copy of the cluster. The reconciler adds what its own replies tell.
    pub view: Arc<SharedView>,
    /// The life that claims, and whether it may.
    pub rights: Rights,
    /// Whoever runs turns.
    pub host: Arc<dyn ShardHost>,
    /// Where the host's work runs.
    pub tasks: Tasks,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// Names what is sent ahead of shards. Nobody may guess the names, so it must be seeded by the
    /// system.
    pub rng: StdRng,
    /// How long a shard's closing waits for running turns. The node's default is 25 s.
    pub drain_timeout: Duration,
}

/// The task; see the [module](self).
pub struct Reconciler {
    parts: ReconcilerParts,
    news: watch::Receiver<Arc<ClusterView>>,
    leaving: watch::Receiver<Option<Duration>>,
    progress: watch::Sender<Progress>,
    questions: mpsc::Receiver<Question>,
    /// The life that everything below belongs to.
    life: Option<Owner>,
    /// The view that the last pass looked at.
    seen: Arc<ClusterView>,
    shards: Shards,
    /// Shards to look at in the next pass.
    dirty: BTreeSet<ShardId>,
    /// Shards that are to be closed once there is room.
    crowded: BTreeSet<ShardId>,
    /// When there is room for them at the latest.
    more_room: Option<Instant>,
    flights: FuturesUnordered<BoxFuture<'static, Landing>>,
    work: Work,
}

/// The end of a transaction.
struct Landing {
    batch: Batch,
    /// The life that sent it.
    life: Owner,
    result: Result<TxnReply, StoreError>,
}

/// Why the task woke. What it does then hardly depends on it.
enum Wake {
    Landed(Landing),
    Ended(Ended),
    Asked(Question),
    /// Every shard is to be looked at, and no rest counts any more.
    Anew,
    /// Every shard is to be looked at.
    Rescan,
    /// What there is to look at is known.
    Something,
}

impl Reconciler {
    /// Makes a reconciler, which begins with [`Reconciler::run`], and its handle.
    pub fn new(parts: ReconcilerParts) -> (Self, ReconcilerHandle) {
        let (handle, ends) = ReconcilerHandle::new();
        let Ends {
            progress,
            leaving,
            questions,
        } = ends;
        let seen = parts.view.current();
        let reconciler = Self {
            news: parts.view.subscribe(),
            leaving,
            progress,
            questions,
            life: None,
            shards: Shards::new(seen.meta.shard_count, parts.drain_timeout),
            seen,
            dirty: BTreeSet::new(),
            crowded: BTreeSet::new(),
            more_room: None,
            flights: FuturesUnordered::new(),
            work: Work::new(parts.host.clone(), parts.tasks.clone()),
            parts,
        };
        (reconciler, handle)
    }

    /// Runs until `shutdown`. What is under way then is left to itself.
    ///
    /// # Errors
    ///
    /// Never; the type is what [`Tasks::spawn`] wants.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut rescan = interval(RESCAN);
        rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stuck = self.shards.stages().next_limit();
            let due = [self.shards.next_rested(), self.more_room, stuck];
            let due = due.into_iter().flatten().min();
            let wake = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.parts.rights.changed() => Wake::Anew,
                Some(landing) = self.flights.next() => Wake::Landed(landing),
                Some(ended) = self.work.next() => Wake::Ended(ended),
                Ok(()) = self.news.changed() => Wake::Something,
                Ok(()) = self.leaving.changed() => Wake::Anew,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    Wake::Something
                }
                Some(question) = self.questions.recv() => Wake::Asked(question),
                _ = rescan.tick() => Wake::Rescan,
            };
            // The end of a life comes first, so that no reply of it counts any more.
            self.follow_life();
            self.take(wake);
            self.take_whatever_ended();
            self.pass();
            self.report_stuck();
        }
    }

    /// Notices that another life began, or none is left.
    fn follow_life(&mut self) {
        let life = self.parts.rights.life().map(|identity| Owner {
            node: identity.node,
            incarnation: identity.incarnation,
        });
        if life == self.life {
            return;
        }
        if let Some(over) = &self.life {
            let incarnation = over.incarnation;
            warn!(%incarnation, "this life is over: no shard is owned here");
        }
        self.flights.clear();
        self.work.forget_all();
        self.crowded.clear();
        self.more_room = None;
        for shard in self.shards.reset() {
            self.parts.host.discard(shard);
        }
        self.life = life;
        self.look_at_all();
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Landed(landing) => self.land(landing),
            Wake::Ended(ended) => self.end_work(ended),
            Wake::Anew => {
                if let Some(limit) = *self.leaving.borrow() {
                    self.shards.stages().set_drain(limit);
                }
                self.shards.forgive_all();
                self.look_at_all();
            }
            Wake::Asked(question) => self.answer(question),
            Wake::Rescan => self.look_at_all(),
            Wake::Something => {}
        }
    }

    /// Takes what ended meanwhile too: the more is known, the fuller the next batches.
    fn take_whatever_ended(&mut self) {
        while let Some(Some(landing)) = self.flights.next().now_or_never() {
            self.land(landing);
        }
        while let Some(Some(ended)) = self.work.next().now_or_never() {
            self.end_work(ended);
        }
    }
}

impl fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("life", &self.life)
            .field("flights", &self.flights.len())
            .finish_non_exhaustive()
    }
}
