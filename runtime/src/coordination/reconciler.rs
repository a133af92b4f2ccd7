//! Keeps the shards that this node owns equal to those that are targeted at it.
//!
//! The thin shell around [`placement::ownership`](crate::placement::ownership), which decides and
//! explains each step: this module sends transactions, lets the host open and close, and brings
//! the outcomes back.
//!
//! - It is driven by what changes: the view, membership, the end of a transaction or closing, a
//!   retry falling due. The slow rescan only bounds the harm of a forgotten wake.
//! - Steps on owner keys go in batches up to what a transaction holds, several under way at once.
//!   A batch is all or nothing, so a shard whose guard fails makes the others try again: at once
//!   if the reply brought news, which then splits them, else after a rest.
//! - Every batch proves that this life of the node is registered, so a dead life changes nothing.
//! - A reply counts only while the life that sent it goes on. The end of a life leaves nothing:
//!   every shard is idle, and what may still be open at the host is discarded.
//! - Without the right to write (not active, or fenced) nothing is sent and no closing begins.
//!   What is known still counts: a shard of mine opens, one of another's is discarded.
//! - Closings run beside all this, so that a slow one holds up nothing but its own shard.

mod batch;
mod closings;
mod handle;
mod host;
mod shards;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::batch::{Batch, Outcome, batches};
use self::closings::{CLOSINGS_MAX, Closings, Ended};
pub use self::handle::{Progress, ReconcilerHandle};
pub use self::host::{Closing, SendError, Sent, ShardHost};
use self::shards::Shards;
use super::keys::Keys;
use super::store::{Store, StoreError, TxnReply};
use super::{Rights, SharedView};
use crate::ids::{ShardId, Token};
use crate::placement::ownership::{Ending, Facts, Stance, Step};
use crate::placement::{ClusterView, NodeState, Owner};
use crate::tasks::Tasks;
use crate::telemetry::{BatchLabels, Metrics};

/// Most transactions under way at once.
const BATCHES_IN_FLIGHT_MAX: usize = 16;

/// How often every shard is looked at even if nothing happened.
const RESCAN: Duration = Duration::from_secs(10);

/// How long a shard rests after its first failed transaction; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(50);

/// The longest that a shard rests after a failed transaction.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// How long a shard rests after its first overdue closing; doubles up to [`CLOSE_RETRY_MAX`].
const CLOSE_RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest that a shard rests after an overdue closing.
const CLOSE_RETRY_MAX: Duration = Duration::from_mins(1);

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
    /// Where closings run.
    pub tasks: Tasks,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// How long a shard's closing waits for running turns. The node's default is 25 s.
    pub drain_timeout: Duration,
}

/// The task; see the [module](self).
pub struct Reconciler {
    parts: ReconcilerParts,
    news: watch::Receiver<Arc<ClusterView>>,
    leaving: watch::Receiver<Option<Duration>>,
    progress: watch::Sender<Progress>,
    /// The life that everything below belongs to.
    life: Option<Owner>,
    /// The view that the last pass looked at.
    seen: Arc<ClusterView>,
    shards: Shards,
    /// Shards to look at in the next pass.
    dirty: BTreeSet<ShardId>,
    flights: FuturesUnordered<BoxFuture<'static, Landing>>,
    closings: Closings,
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
        let (handle, progress, leaving) = ReconcilerHandle::new();
        let seen = parts.view.current();
        let reconciler = Self {
            news: parts.view.subscribe(),
            leaving,
            progress,
            life: None,
            shards: Shards::new(seen.meta.shard_count),
            seen,
            dirty: BTreeSet::new(),
            flights: FuturesUnordered::new(),
            closings: Closings::new(parts.host.clone(), parts.tasks.clone()),
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
            let rested = self.shards.next_rested();
            let wake = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = self.parts.rights.changed() => Wake::Anew,
                Some(landing) = self.flights.next() => Wake::Landed(landing),
                Some(ended) = self.closings.next() => Wake::Ended(ended),
                Ok(()) = self.news.changed() => Wake::Something,
                Ok(()) = self.leaving.changed() => Wake::Anew,
                () = sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {
                    Wake::Something
                }
                _ = rescan.tick() => Wake::Rescan,
            };
            // The end of a life comes first, so that no reply of it counts any more.
            self.follow_life();
            self.take(wake);
            self.take_whatever_ended();
            self.pass();
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
        self.closings.forget_all();
        for shard in self.shards.reset() {
            self.parts.host.discard(shard);
        }
        self.life = life;
        self.look_at_all();
    }

    fn take(&mut self, wake: Wake) {
        match wake {
            Wake::Landed(landing) => self.land(landing),
            Wake::Ended(ended) => self.end_closing(ended),
            Wake::Anew => {
                self.shards.forgive_all();
                self.look_at_all();
            }
            Wake::Rescan => self.look_at_all(),
            Wake::Something => {}
        }
    }

    /// Takes what ended meanwhile too: the more is known, the fuller the next batches.
    fn take_whatever_ended(&mut self) {
        while let Some(Some(landing)) = self.flights.next().now_or_never() {
            self.land(landing);
        }
        while let Some(Some(ended)) = self.closings.next().now_or_never() {
            self.end_closing(ended);
        }
    }

    fn land(&mut self, landing: Landing) {
        let Landing {
            batch,
            life,
            result,
        } = landing;
        let Some(me) = self.life.as_ref().filter(|me| **me == life) else {
            return; // What an earlier life committed is not this one's.
        };
        let Outcome { ending, news, bad } = batch.outcome(&result, me, &self.seen);
        let step = batch.kind.name();
        match &result {
            Ok(_) => {}
            Err(error) => warn!(step, shards = batch.shards.len(), %error, "a batch failed"),
        }
        for entry in &bad {
            warn!(%entry, "skipped");
            self.parts.metrics.coordination.bad_entries.inc();
        }
        let labels = BatchLabels {
            step,
            outcome: name_of(ending),
        };
        self.parts
            .metrics
            .coordination
            .batches
            .get_or_create(&labels)
            .inc();
        // Whoever is refused without any news is wrong about something that its reply cannot
        // show, such as a node key: that takes the watch some time.
        let rests = ending != Ending::Committed && news.is_empty();
        self.parts.view.learn(news);
        let now = Instant::now();
        for (shard, _) in &batch.shards {
            let took = self.shards.end(*shard, batch.number, ending, now);
            if rests {
                self.shards.rest(*shard, now, RETRY_MIN, RETRY_MAX);
            }
            if let Some(took) = took {
                let metrics = &self.parts.metrics.coordination;
                metrics.release_seconds.observe(took.as_secs_f64());
            }
            self.dirty.insert(*shard);
        }
    }

    fn end_closing(&mut self, ended: Ended) {
        let Ended {
            shard,
            number,
            closing,
        } = ended;
        let now = Instant::now();
        self.dirty.insert(shard);
        match closing {
            Closing::Closed => {
                self.shards.end(shard, number, Ending::Closed, now);
            }
            Closing::Overdue(methods) => {
                host::report_overdue(shard, &methods);
                self.parts.metrics.coordination.closings_overdue.inc();
                self.shards.end(shard, number, Ending::Overdue, now);
                self.shards
                    .rest(shard, now, CLOSE_RETRY_MIN, CLOSE_RETRY_MAX);
            }
        }
    }

    /// Looks at every dirty shard and starts its next step.
    fn pass(&mut self) {
        let now = Instant::now();
        self.see_news();
        self.dirty.extend(self.shards.rested(now));
        let dirty = mem::take(&mut self.dirty);
        let Some(me) = self.life.clone() else {
            return self.publish(now);
        };
        let may_write = self.may_write(&me);
        let stance = self.stance(&me);
        let mut wanted = Vec::new();
        for shard in dirty {
            // Owner news can run ahead of the view: look again when that has caught up.
            if self.seen.owners.get(shard).revision > self.seen.revision {
                self.dirty.insert(shard);
            }
            match self.step_here(shard, &me, stance, now) {
                Some(step) if may_write => wanted.push((shard, step)),
                Some(_) => self.shards.rest(shard, now, RETRY_MIN, RETRY_MAX),
                None => {}
            }
        }
        self.start(wanted, &me, now);
        self.publish(now);
    }

    /// Takes in the newest view, and marks the shards that it may concern.
    fn see_news(&mut self) {
        let seen = mem::replace(&mut self.seen, self.news.borrow_and_update().clone());
        let changed: Vec<ShardId> = self
            .seen
            .owners
            .changed_since(&seen.owners)
            .chain(self.seen.targets.changed_since(&seen.targets))
            .collect();
        for shard in changed {
            self.shards.forgive(shard);
            self.dirty.insert(shard);
        }
        if self.seen.nodes != seen.nodes {
            self.shards.forgive_idle();
            self.look_at_all();
        }
    }

    fn look_at_all(&mut self) {
        self.dirty.extend(self.seen.meta.shard_count.shards());
    }

    /// Runs the steps of a shard that need no right to write, and returns the one that does.
    fn step_here(
        &mut self,
        shard: ShardId,
        me: &Owner,
        stance: Stance,
        now: Instant,
    ) -> Option<Step> {
        let facts = Facts::of(&self.seen, shard, me, stance);
        let targeted = self.seen.targets.get(shard).node.as_ref() == Some(&me.node);
        self.shards.count(shard, facts.newest, targeted);
        loop {
            let step = self.shards.next_step(shard, facts, now)?;
            match step {
                Step::Open(at) => {
                    let token = Token::of(self.seen.meta.restore_generation, at);
                    let parcel = self.seen.owners.get(shard).parcel;
                    self.parts.host.open(shard, token, parcel);
                    if let Some(took) = self.shards.opened(shard, at, now) {
                        let metrics = &self.parts.metrics.coordination;
                        metrics.claim_seconds.observe(took.as_secs_f64());
                    }
                }
                Step::Discard => {
                    warn!(%shard, "another owner is known: discarding the shard");
                    self.parts.host.discard(shard);
                    self.shards.begin(shard, Step::Discard, now);
                }
                Step::Claim
                | Step::TakeOver(_)
                | Step::Close(_)
                | Step::Release(_)
                | Step::Restamp(_) => return Some(step),
            }
        }
    }

    /// Starts what was wanted, as far as there is room; the rest stays dirty.
    fn start(&mut self, wanted: Vec<(ShardId, Step)>, me: &Owner, now: Instant) {
        let limit = self.leaving.borrow().unwrap_or(self.parts.drain_timeout);
        let mut to_send = Vec::new();
        for (shard, step) in wanted {
            match step {
                Step::Close(_) if self.closings.len() < CLOSINGS_MAX => {
                    let number = self.shards.begin(shard, step, now);
                    self.closings.begin(shard, number, limit);
                }
                Step::Close(_) => {
                    self.dirty.insert(shard);
                }
                Step::Claim | Step::TakeOver(_) | Step::Release(_) | Step::Restamp(_) => {
                    to_send.push((shard, step));
                }
                Step::Open(_) | Step::Discard => unreachable!("it was run at once"),
            }
        }
        for batch in batches(to_send, &self.seen, me, &self.parts.keys) {
            // Asked again for each: building batches takes time, and the fence does not wait.
            if self.flights.len() < BATCHES_IN_FLIGHT_MAX && self.may_write(me) {
                self.send(batch, me.clone(), now);
            } else {
                self.dirty
                    .extend(batch.shards.iter().map(|(shard, _)| *shard));
            }
        }
    }

    fn send(&mut self, mut batch: Batch, life: Owner, now: Instant) {
        batch.number = self.shards.next_number();
        for (shard, step) in &batch.shards {
            self.shards.begin_as(*shard, *step, batch.number, now);
        }
        let store = self.parts.store.clone();
        let txn = mem::take(&mut batch.txn);
        let flight = async move {
            let result = store.commit(txn).await;
            Landing {
                batch,
                life,
                result,
            }
        };
        self.flights.push(flight.boxed());
    }

    fn may_write(&self, me: &Owner) -> bool {
        let identity = self.parts.rights.to_write();
        identity.is_some_and(|identity| identity.incarnation == me.incarnation)
    }

    fn stance(&self, me: &Owner) -> Stance {
        let registered = self.seen.nodes.get(&me.node);
        let state = registered
            .filter(|record| record.incarnation == me.incarnation)
            .map(|record| record.state);
        match (*self.leaving.borrow(), state) {
            (Some(_), _) => Stance::Leaves,
            (None, Some(NodeState::Active)) => Stance::Takes,
            (None, Some(NodeState::Joining | NodeState::Draining) | None) => Stance::Keeps,
        }
    }

    fn publish(&self, now: Instant) {
        let progress = self.shards.progress();
        let metrics = &self.parts.metrics.coordination;
        metrics
            .batches_in_flight
            .set(self.flights.len().try_into().unwrap_or(i64::MAX));
        metrics.shards_owned.set(progress.owned.into());
        metrics.shards_targeted.set(progress.targeted.into());
        metrics.shards_closing.set(progress.closing.into());
        metrics
            .oldest_closing_seconds
            .set(self.shards.oldest_closing(now).as_secs_f64());
        let changed = self
            .progress
            .send_if_modified(|old| mem::replace(old, progress) != progress);
        if changed && progress.owned == progress.targeted && progress.closing == 0 {
            info!(owned = progress.owned, "every shard is where it should be");
        }
    }
}

fn name_of(ending: Ending) -> &'static str {
    match ending {
        Ending::Committed => "committed",
        Ending::Refused => "refused",
        Ending::NotSent => "not_sent",
        Ending::Unknown => "unknown",
        Ending::Closed => "closed",
        Ending::Overdue => "overdue",
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
