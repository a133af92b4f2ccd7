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
mod handle;
mod host;
mod shards;
mod stages;
#[cfg(test)]
mod tests;
mod traced;
mod work;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::batch::{Batch, Outcome, batches};
use self::handle::{Ends, Question};
pub use self::handle::{Progress, ReconcilerHandle, UNDER_WAY_MAX};
pub use self::host::{Closing, SendError, Sent, ShardHost};
use self::shards::{Left, Shards, Took};
pub use self::stages::{Stage, UnderWay};
use self::traced::Times;
use self::work::{Ended, WORK_MAX, Work, WorkResult};
use super::keys::Keys;
use super::store::{Store, StoreError, TxnReply};
use super::{Rights, SharedView};
use crate::ids::{Incarnation, Revision, ShardId, Token};
use crate::placement::ownership::{Ending, Facts, Stance, Step};
use crate::placement::{ClusterView, NodeState, Owner, Parcel};
use crate::tasks::Tasks;
use crate::telemetry::{BatchLabels, HandoverLabels, Metrics, SendFailureLabels, StuckLabels};

/// Most transactions under way at once.
const BATCHES_IN_FLIGHT_MAX: usize = 16;

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

    fn answer(&mut self, question: Question) {
        let now = Instant::now();
        let mut under_way = self.shards.stages().oldest(UNDER_WAY_MAX, now);
        for UnderWay { shard, target, .. } in &mut under_way {
            target.clone_from(&self.seen.targets.get(*shard).node);
        }
        // Nobody listens any more? Then nobody needs it.
        drop(question.send(under_way));
    }

    /// Reports the shards that have taken too long since the last look. What is under way goes on.
    fn report_stuck(&mut self) {
        let now = Instant::now();
        for shard in self.shards.stages().newly_stuck(now) {
            let Some(stuck) = self.shards.stages().get(shard, now) else {
                continue;
            };
            let UnderWay {
                stage, age, cause, ..
            } = stuck;
            let (phase, target) = (stage.name(), &self.seen.targets.get(shard).node);
            let target = target.as_ref().map(tracing::field::display);
            error!(%shard, phase, target, ?age, ?cause, "a shard is stuck");
            let metrics = &self.parts.metrics.coordination;
            metrics
                .moves_stuck
                .get_or_create(&StuckLabels { phase })
                .inc();
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
        let cause: Option<Arc<str>> = match &result {
            Ok(reply) if reply.succeeded => None,
            Ok(_) => Some(format!("{step} was refused").into()),
            Err(error) => Some(format!("{step} failed: {error}").into()),
        };
        // Whoever is refused without any news is wrong about something that its reply cannot
        // show, such as a node key: that takes the watch some time.
        let rests = ending != Ending::Committed && news.is_empty();
        self.parts.view.learn(news);
        let now = Instant::now();
        for (shard, _) in &batch.shards {
            if let Some(cause) = &cause {
                self.shards.stages().blame(*shard, cause);
            }
            self.shards.end(*shard, batch.number, ending, now);
            if rests {
                self.shards.rest(*shard, now, RETRY_MIN, RETRY_MAX);
            }
            self.dirty.insert(*shard);
        }
    }

    fn end_work(&mut self, ended: Ended) {
        let Ended {
            shard,
            number,
            result,
        } = ended;
        if !self.shards.awaits(shard, number) {
            return;
        }
        let now = Instant::now();
        self.dirty.insert(shard);
        let ending = match result {
            WorkResult::Closing(Closing::Closed) => Ending::Closed,
            WorkResult::Closing(Closing::Overdue(methods)) => {
                let cause = host::report_overdue(shard, &methods);
                self.shards.stages().blame(shard, &cause.into());
                self.parts.metrics.coordination.closings_overdue.inc();
                self.shards.rest(shard, now, MOVE_RETRY_MIN, MOVE_RETRY_MAX);
                Ending::Overdue
            }
            WorkResult::Sending(_, Ok(parcel)) => Ending::Sent(parcel),
            WorkResult::Sending(to, Err(error)) => {
                self.report_undelivered(shard, &to, &error);
                let cause = format!("not sent: {error}");
                self.shards.stages().blame(shard, &cause.into());
                self.rest_undelivered(shard, now);
                Ending::Undelivered
            }
            WorkResult::Ended => Ending::Ended,
        };
        match self.shards.end(shard, number, ending, now) {
            Some(Took::Close(took)) => self.observe("close", took),
            Some(Took::Send(took)) => self.observe("send", took),
            None => {}
        }
    }

    fn report_undelivered(&self, shard: ShardId, to: &Owner, error: &SendError) {
        warn!(%shard, to = %to.node, %error, "could not send the shard's state ahead");
        let labels = SendFailureLabels {
            reason: error.name(),
        };
        let metrics = &self.parts.metrics.coordination;
        metrics.sends_failed.get_or_create(&labels).inc();
    }

    /// Lets a shard rest that could not be sent. One that must leave all the same ends instead.
    fn rest_undelivered(&mut self, shard: ShardId, now: Instant) {
        if self.leaving.borrow().is_none() {
            self.shards.rest(shard, now, MOVE_RETRY_MIN, MOVE_RETRY_MAX);
        }
    }

    fn observe(&self, phase: &'static str, took: Duration) {
        let metrics = &self.parts.metrics.coordination;
        let seconds = metrics
            .handover_seconds
            .get_or_create(&HandoverLabels { phase });
        seconds.observe(took.as_secs_f64());
    }

    /// Looks at every dirty shard and starts its next step.
    fn pass(&mut self) {
        let now = Instant::now();
        self.see_news();
        self.dirty.extend(self.shards.rested(now));
        for _ in 0..self.shards.room(now) {
            self.dirty.extend(self.crowded.pop_first());
        }
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
            let now = &self.seen;
            self.shards.forgive_others(|shard| {
                let target = now.targets.get(shard).node.as_ref();
                target.is_some_and(|node| now.nodes.get(node) != seen.nodes.get(node))
            });
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
        let targeted = self.seen.targets.get(shard).node.as_ref() == Some(&me.node);
        loop {
            let facts = self.facts(shard, me, stance);
            self.shards.count(shard, facts.newest, targeted);
            let step = self.shards.next_step(shard, facts, now)?;
            match step {
                Step::Open(at) => self.open(shard, at, now),
                Step::LetGo => self.let_go(shard, now),
                Step::Discard => {
                    warn!(%shard, "another owner is known: discarding the shard");
                    self.parts.host.discard(shard);
                    self.shards.begin(shard, Step::Discard, now);
                }
                Step::HandOver(_, _) if self.shards.is_stale(shard, now, SENT_LIMIT) => {
                    warn!(%shard, "could not be handed over in time");
                    self.shards.expire(shard, now);
                    self.rest_undelivered(shard, now);
                }
                Step::Claim
                | Step::TakeOver(_)
                | Step::Close(_)
                | Step::SendAhead(_, _)
                | Step::HandOver(_, _)
                | Step::End(_)
                | Step::Release(_)
                | Step::Restamp(_) => return Some(step),
            }
        }
    }

    fn facts(&self, shard: ShardId, me: &Owner, stance: Stance) -> Facts {
        // There is no time to try again.
        let gives_up = stance == Stance::Leaves && self.shards.is_undelivered(shard);
        let stance = if gives_up { Stance::Abandons } else { stance };
        Facts::of(&self.seen, shard, me, stance)
    }

    fn open(&mut self, shard: ShardId, at: Revision, now: Instant) {
        let token = Token::of(self.seen.meta.restore_generation, at);
        let parcel = self.seen.owners.get(shard).parcel;
        let is_new = self.shards.is_new(shard);
        let parcel = parcel.filter(|parcel| is_new && !parcel.is_empty());
        let began = SystemTime::now();
        self.parts.host.open(shard, token, parcel);
        if is_new {
            self.trace_open(shard, began);
        }
        if let Some(took) = self.shards.opened(shard, at, now) {
            let metrics = &self.parts.metrics.coordination;
            metrics.claim_seconds.observe(took.as_secs_f64());
        }
    }

    fn let_go(&mut self, shard: ShardId, now: Instant) {
        self.parts.host.let_go(shard);
        let owner = self.seen.owners.get(shard).owner.as_ref();
        let life = owner.map(|owner| owner.incarnation);
        match self.shards.let_go(shard, life, now) {
            Some(Left::HandedOver { commit, gap, total }) => {
                self.observe("commit", commit);
                self.observe("gap", gap);
                self.observe("total", total);
                self.trace_hand_over(shard, Times { gap, total });
            }
            Some(Left::Released { total }) => {
                let metrics = &self.parts.metrics.coordination;
                metrics.release_seconds.observe(total.as_secs_f64());
            }
            None => info!(%shard, ?owner, "newer news than this node's own: letting the shard go"),
        }
    }

    /// Starts what was wanted, as far as there is room; the rest stays dirty.
    fn start(&mut self, wanted: Vec<(ShardId, Step)>, me: &Owner, now: Instant) {
        let limit = self.leaving.borrow().unwrap_or(self.parts.drain_timeout);
        let mut room = self.shards.room(now).min(WORK_MAX - self.work.len());
        let mut to_send = Vec::new();
        for (shard, step) in wanted {
            match step {
                Step::Close(_) if room > 0 => {
                    room -= 1;
                    let number = self.shards.begin(shard, step, now);
                    self.work.close(shard, number, limit);
                }
                Step::Close(_) => {
                    self.crowded.insert(shard);
                }
                Step::SendAhead(at, life) => self.send_ahead(shard, at, life, now),
                Step::End(_) => {
                    let number = self.shards.begin(shard, step, now);
                    self.work.end(shard, number, limit);
                }
                Step::Claim
                | Step::TakeOver(_)
                | Step::HandOver(_, _)
                | Step::Release(_)
                | Step::Restamp(_) => to_send.push((shard, step)),
                Step::Open(_) | Step::LetGo | Step::Discard => {
                    unreachable!("it was run at once")
                }
            }
        }
        let waits = !self.crowded.is_empty();
        self.more_room = self.shards.more_room(now).filter(|_| waits);
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

    fn send_ahead(&mut self, shard: ShardId, at: Revision, life: Incarnation, now: Instant) {
        let node = self.seen.targets.get(shard).node.clone();
        let to = Owner {
            node: node.expect("the target that has this life"),
            incarnation: life,
        };
        let number = self.shards.begin(shard, Step::SendAhead(at, life), now);
        let parcel = Parcel {
            revision: at,
            attempt: number, // No two are the same while this life lasts.
        };
        self.work.send_ahead(shard, number, to, parcel);
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
        Ending::Sent(_) => "sent",
        Ending::Undelivered => "undelivered",
        Ending::Ended => "ended",
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
