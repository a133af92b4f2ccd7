//! The one live copy of an object in this process: begun, called, saved and ended.
//!
//! It has no task and no channel of its own. A call to an object at rest runs its turn in the
//! calling task; calls that find it busy wait in its mailbox, and a task that lives only as long
//! as somebody waits works through them.
//!
//! Two locks, never held while code of users runs: the slot's table, then the mailbox.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use super::context::Context;
use super::directory::{Slot, Stage};
use super::envelope::{Queued, Refusal};
use super::hosted::{Hosted, HostedType};
use super::mailbox::{End, Mailbox, Next};
use super::meter::{self, Sample};
use super::timers::{Due, Timers};
use super::travel::{Dormant, Packed, STATE_BYTES_MAX, StateError};
use super::turn::{CallInfo, Held, Saved, fenced, panic_text};
use super::{CALL_TIMEOUT_DEFAULT, CallPath, Caller, Object, ObjectInfo, TimerError, timers};
use crate::clock::{Clock, Moment};
use crate::error::CallError;
use crate::ids::{ObjectKey, Token};
use crate::storage::StorageError;
use crate::tasks::Tasks;
use crate::telemetry::{self, Trace};

mod calling;
mod timing;

pub(super) use calling::{Called, Tried};

type State<T> = Arc<Held<T>>;
type Todo<T> = Next<State<T>, Arc<dyn Queued<T>>>;

/// The one live copy of an object.
///
/// What each turn writes comes first, beside the reference counts: so a turn touches few lines of
/// cache that another core may have.
#[repr(C)]
pub(super) struct Activation<T> {
    mailbox: Mutex<Mailbox<State<T>, Arc<dyn Queued<T>>>>,
    hosted: Arc<Hosted<T>>,
    slot: Arc<Slot>,
    token: Token,
    key: ObjectKey,
    /// The lease is lost: its turns may not store nor answer any more.
    discarded: AtomicBool,
    /// Its deactivation hook has run, though it is still here: its shard was to move.
    parted: AtomicBool,
    /// It has timers, or had.
    timed: AtomicBool,
}

/// An activation whose type is not known.
pub(super) trait Live: Any + fmt::Debug + Send + Sync {
    fn key(&self) -> &ObjectKey;
    fn token(&self) -> Token;
    /// The clock of its calls' deadlines.
    fn clock(&self) -> Clock;
    /// How its turns call others; `None` while the node ends.
    fn caller(&self) -> Option<Caller>;
    /// A token that is cancelled when it ends.
    fn cancellation(&self) -> CancellationToken;
    fn info(&self, now: u64) -> ObjectInfo;
    /// How many bytes storage has of its state, as far as that is known now.
    fn state_len(&self) -> usize;
    /// The method whose turn began last.
    fn running(&self) -> &'static str;
    /// Whether no turn runs.
    fn is_quiet(&self) -> bool;
    /// Lets no more turns start and sends away those that wait, except for calls of turns of the
    /// same shard: the shard closes.
    fn pause(&self);
    /// Lets no turn start at all, if it is paused and none runs; returns whether that is so.
    fn seal(&self) -> bool;
    /// Takes back what [`Live::seal`] did.
    fn unseal(&self);
    /// Lets turns start again: the shard does not close after all.
    fn resume(self: Arc<Self>);
    /// Prepares a sealed activation for the move of its shard, and returns its state if that
    /// travels. Everything stays as it is but for what the deactivation hook does.
    fn pack(self: Arc<Self>) -> BoxFuture<'static, Result<Option<Packed>, StateError>>;
    /// Lets a sealed activation go on. One whose deactivation hook has run cannot: its state is
    /// returned, to begin anew from.
    fn reopen(self: Arc<Self>) -> Option<Dormant>;
    /// Ends a sealed activation; returns what must be awaited for that.
    fn end_paused(self: Arc<Self>) -> Option<BoxFuture<'static, ()>>;
    /// Ends it without saving, and keeps running turns from storing and answering.
    fn discard(&self);
    /// The host's timers.
    fn timers(&self) -> &Arc<Timers>;
    /// Notes that it has timers, before it is given one.
    fn note_timed(&self);
    /// Whether it has ended.
    fn is_over(&self) -> bool;
    /// Returns the full name of a method, if the type has it and it can read these arguments.
    fn readable(&self, method: &str, args: &[u8]) -> Result<&'static str, TimerError>;
    /// Lets a tick of one of its timers wait for its turn.
    fn tick(self: Arc<Self>, due: Due<Weak<dyn Live>>);
    /// Begins its orderly end if it has not been used for its type's idle time, and has no timers.
    fn expire(self: Arc<Self>, now: u64) -> Option<BoxFuture<'static, ()>>;
}

impl<T: Object> Activation<T> {
    /// Makes the activation of an object that has none. Whoever puts it into the table must then
    /// call [`Activation::start`].
    pub(super) fn new(
        key: ObjectKey,
        token: Token,
        slot: Arc<Slot>,
        hosted: Arc<Hosted<T>>,
    ) -> Arc<Self> {
        Self::with_queue(key, token, slot, hosted, VecDeque::new())
    }

    fn with_queue(
        key: ObjectKey,
        token: Token,
        slot: Arc<Slot>,
        hosted: Arc<Hosted<T>>,
        queue: VecDeque<Arc<dyn Queued<T>>>,
    ) -> Arc<Self> {
        let mailbox = Mailbox::activating(queue, hosted.common.now());
        Arc::new(Self {
            key,
            token,
            slot,
            hosted,
            mailbox: Mutex::new(mailbox),
            discarded: AtomicBool::new(false),
            parted: AtomicBool::new(false),
            timed: AtomicBool::new(false),
        })
    }

    /// Activates the object; calls wait until it is done. The call that needed it gives the path
    /// and the least deadline of what the hook calls.
    pub(super) fn start(self: &Arc<Self>, info: &CallInfo) {
        self.hosted.common.metrics.objects.activations.inc();
        if self.hosted.wakes_slowly() {
            let work = self.clone().activate(info.clone());
            self.hosted.common.tasks.spawn_work(work);
            return;
        }
        if let Some(dormant) = self.slot.take_dormant(&self.key) {
            return self.begin_with(dormant);
        }
        match catch_unwind(T::create) {
            Ok(state) => self.activated(ready(state, None)),
            Err(panic) => self.fail(&panic_text(&*panic)),
        }
    }

    /// Loads and greets it. State that came with the shard is kept if that fails, but for a panic.
    pub(super) async fn activate(self: Arc<Self>, info: CallInfo) {
        let arrived = self.slot.take_dormant(&self.key);
        let used = arrived.as_ref().map(|dormant| dormant.used);
        let mut arrived = arrived.map(|dormant| {
            self.install(dormant.timers);
            state_of(dormant.state)
        });
        let made = AssertUnwindSafe(self.load_and_greet(&mut arrived, info)).catch_unwind();
        let made = made.await;
        if let (Some(state), Some(used)) = (arrived, used) {
            self.keep_for_later(state, used);
        }
        match made {
            Ok(Ok(end)) => self.activated(end),
            Ok(Err(why)) => self.fail(&why),
            Err(panic) => self.fail(&panic_text(&*panic)),
        }
    }

    /// Begins with state that came with the shard.
    pub(super) fn begin_with(self: &Arc<Self>, dormant: Dormant) {
        self.install(dormant.timers);
        let end = ready(state_of(dormant.state), None);
        let next = self.mailbox.lock().leave_alone(end, dormant.used);
        self.act(next);
    }

    fn activated(self: &Arc<Self>, end: End<State<T>>) {
        let next = self
            .mailbox
            .lock()
            .leave_alone(end, self.hosted.common.now());
        self.act(next);
    }

    async fn load_and_greet(
        self: &Arc<Self>,
        arrived: &mut Option<T>,
        mut info: CallInfo,
    ) -> Result<End<State<T>>, String> {
        let (mut state, saved) = self.load(arrived).await?;
        let mut deactivate = false;
        if let Some(hook) = self.hosted.activate {
            let least = self.now().plus(CALL_TIMEOUT_DEFAULT);
            info.deadline = info.deadline.max(least);
            let context = Context::new(self.clone(), info);
            if let Err(why) = hook(&mut state.0, &context).await {
                if state.1 {
                    *arrived = Some(state.0);
                }
                return Err(why);
            }
            deactivate = context.wants_deactivation();
        }
        Ok(End {
            deactivate,
            ..ready(state.0, saved)
        })
    }

    /// Returns the state, and whether it arrived with the shard: then that counts, not what storage
    /// has. Loading still comes first, for it raises storage's token over the old owner's.
    async fn load(
        self: &Arc<Self>,
        arrived: &mut Option<T>,
    ) -> Result<((T, bool), Option<Box<Saved>>), String> {
        let Some(codec) = T::STATE else {
            let came = arrived.is_some();
            return Ok(((arrived.take().unwrap_or_else(T::create), came), None));
        };
        let storage = &self.hosted.common.storage;
        let stored = storage.load(&self.key, self.token).await;
        let stored = stored.map_err(|error| error.to_string())?;
        let mut saved = Box::new(Saved {
            version: stored.version,
            bytes: stored.state,
            dirty: false,
        });
        if let Some(state) = arrived {
            self.store_arrived(state, &mut saved).await?;
            let state = arrived.take().expect("it was there just now");
            return Ok(((state, true), Some(saved)));
        }
        let state = match &saved.bytes {
            Some(bytes) => {
                (codec.decode)(bytes).map_err(|why| format!("cannot read its state: {why}"))?
            }
            None => T::create(),
        };
        Ok(((state, false), Some(saved)))
    }

    /// Saves what arrived if storage has something else: it is not the old owner's storage.
    async fn store_arrived(&self, state: &T, saved: &mut Saved) -> Result<(), String> {
        let codec = T::STATE.expect("only stored types are loaded");
        let bytes = (codec.encode)(state)?;
        if saved.bytes.as_ref() != Some(&bytes) {
            let put = self.put(saved.version, Some(bytes.clone())).await;
            saved.version = put.map_err(|error| error.to_string())?;
            saved.bytes = Some(bytes);
        }
        Ok(())
    }

    /// Runs the hook, saves, and writes the state of a sealed activation.
    async fn prepare(self: &Arc<Self>, held: &mut State<T>) -> Result<Option<Bytes>, String> {
        if self.hosted.deactivate.is_some() && !self.parted.swap(true, Ordering::AcqRel) {
            self.say_goodbye(held).await;
        }
        self.save(held).await.map_err(|error| error.to_string())?;
        let written = T::TRAVEL.map(|codec| (codec.encode)(&held.state));
        match written.transpose()? {
            Some(state) if state.len() > STATE_BYTES_MAX => Err(format!(
                "it has {} bytes, and at most {STATE_BYTES_MAX} travel",
                state.len()
            )),
            written => Ok(written.map(Bytes::from)),
        }
    }

    fn fail(self: &Arc<Self>, why: &str) {
        warn!(object = %self.key, why, "cannot activate");
        let error = CallError::Activation(format!("{}: {why}", self.key));
        self.over(Some(&error));
    }

    /// Makes the effects of an exclusive turn last, as the type's settings say.
    pub(super) async fn commit(self: &Arc<Self>, held: &mut State<T>) -> Result<(), CallError> {
        if T::STATE.is_none() {
            return Ok(());
        }
        if self.hosted.settings.save_every.is_none() {
            return self
                .save(held)
                .await
                .map_err(|error| self.not_stored(error));
        }
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let saved = held
            .saved
            .as_mut()
            .expect("a stored type knows its version");
        if !std::mem::replace(&mut saved.dirty, true) {
            self.hosted.note_dirty(self);
        }
        Ok(())
    }

    pub(super) fn not_stored(&self, error: SaveError) -> CallError {
        match error {
            SaveError::Fenced => fenced(self, "save"),
            error @ (SaveError::Encode(_) | SaveError::Storage(_)) => {
                warn!(object = %self.key, %error, "cannot save");
                CallError::NotStored(format!("{}: {error}", self.key))
            }
        }
    }

    /// Saves the state if it differs from what storage has.
    pub(super) async fn save(&self, held: &mut State<T>) -> Result<(), SaveError> {
        let Some(codec) = T::STATE else {
            return Ok(());
        };
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let saved = held
            .saved
            .as_mut()
            .expect("a stored type knows its version");
        let bytes = (codec.encode)(&held.state).map_err(SaveError::Encode)?;
        if saved.bytes.as_ref() != Some(&bytes) {
            if !self.may_take_effect() {
                return Err(SaveError::Fenced);
            }
            saved.version = self.put(saved.version, Some(bytes.clone())).await?;
            saved.bytes = Some(bytes);
        }
        saved.dirty = false;
        Ok(())
    }

    /// Deletes the stored state.
    pub(super) async fn unsave(&self, held: &mut State<T>) -> Result<(), SaveError> {
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let Some(saved) = held.saved.as_mut() else {
            return Ok(());
        };
        if !self.may_take_effect() {
            return Err(SaveError::Fenced);
        }
        if saved.bytes.is_some() {
            saved.version = self.put(saved.version, None).await?;
            saved.bytes = None;
        }
        Ok(())
    }

    async fn put(&self, version: u64, state: Option<Vec<u8>>) -> Result<u64, StorageError> {
        let storage = &self.hosted.common.storage;
        storage.save(&self.key, self.token, version, state).await
    }

    /// Deletes the stored state of an object that had no activation: this one is not activated.
    pub(super) async fn delete_cold(self: &Arc<Self>) -> Result<(), CallError> {
        drop(self.slot.take_dormant(&self.key));
        let deleted = AssertUnwindSafe(async {
            if T::STATE.is_none() {
                return Ok(());
            }
            let storage = &self.hosted.common.storage;
            let stored = storage.load(&self.key, self.token).await?;
            if stored.state.is_some() {
                if !self.may_take_effect() {
                    return Err(SaveError::Fenced);
                }
                self.put(stored.version, None).await?;
            }
            Ok(())
        });
        let deleted = deleted.catch_unwind().await;
        self.over(None);
        match deleted {
            Ok(deleted) => deleted.map_err(|error| self.not_stored(error)),
            Err(panic) => Err(CallError::NotStored(panic_text(&*panic))),
        }
    }

    /// Ends in order an object that is in no table: its state came with the shard and was never
    /// woken. It is stored or has hooks, or it would have been made an activation.
    pub(super) async fn end_arrived(self: Arc<Self>, dormant: Dormant) {
        let mut arrived = Some(state_of(dormant.state));
        match self.load(&mut arrived).await {
            Ok(_) => {}
            Err(why) => error!(object = %self.key, why, "cannot save what came with the shard"),
        }
    }

    async fn retire(self: Arc<Self>, held: State<T>) {
        self.end_in_order(held).await;
        self.over(None);
    }

    /// Runs the deactivation hook and saves. Errors are logged: nobody waits for them.
    pub(super) async fn end_in_order(self: &Arc<Self>, mut held: State<T>) {
        let end = AssertUnwindSafe(async {
            if !self.parted.load(Ordering::Acquire) {
                self.say_goodbye(&mut held).await;
            }
            self.save(&mut held).await
        });
        match end.catch_unwind().await {
            Ok(Ok(())) => debug!(object = %self.key, "deactivated"),
            Ok(Err(error)) => error!(object = %self.key, %error, "cannot save at its end"),
            Err(panic) => {
                error!(object = %self.key, why = panic_text(&*panic), "panicked at its end");
            }
        }
    }

    /// Runs the deactivation hook, if the type has one.
    pub(super) async fn say_goodbye(self: &Arc<Self>, held: &mut State<T>) {
        let Some(hook) = self.hosted.deactivate else {
            return;
        };
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let context = Context::new(self.clone(), CallInfo::background(self.clock()));
        if let Err(why) = hook(&mut held.state, &context).await {
            error!(object = %self.key, why, "the deactivation hook failed");
        }
    }

    /// Ends this activation. Calls that wait go to a new one, unless the shard is not open any
    /// more or this one `failed`.
    pub(super) fn over(self: &Arc<Self>, failed: Option<&CallError>) {
        let mut table = self.slot.table.write();
        let remains = self.mailbox.lock().finish();
        let was_there = table.remove(&**self);
        let mut refused = remains.queue;
        let keep = self.hosted.is_auto_started(&self.key);
        let mut fresh = None;
        let is_wanted = match table.stage {
            Stage::Open => keep || !refused.is_empty(),
            Stage::Closing => !refused.is_empty(),
            Stage::Closed | Stage::Sealed | Stage::Ending => false,
        };
        if failed.is_none() && was_there && is_wanted {
            let (key, slot) = (self.key.clone(), self.slot.clone());
            let queue = std::mem::take(&mut refused);
            let hosted = self.hosted.clone();
            let activation = Self::with_queue(key, table.token, slot, hosted, queue);
            if !table.is_open() {
                refused = activation.mailbox.lock().pause(|job| self.hold(job));
            }
            table.insert(activation.clone());
            fresh = Some(activation);
        }
        drop(table);
        drop(self.end_timers());
        if let Some(token) = remains.cancellation {
            token.cancel();
        }
        drop(remains.state);
        for job in refused {
            job.refuse(failed.map_or(Refusal::NotHere, |error| Refusal::Failed(error.clone())));
        }
        self.slot.quiet.notify_waiters();
        if let Some(fresh) = fresh {
            fresh.start(&CallInfo::background(self.clock()));
        } else if failed.is_some() && keep {
            self.hosted.common.restart_later(&self.slot, &self.key);
        }
    }

    /// Begins the span of a turn.
    #[cold]
    pub(super) fn span_of_turn(&self, call: &Trace, method: &str) -> Trace {
        let traces = &self.hosted.common.metrics.traces;
        let trace = traces.call(call, SpanKind::Internal, &self.key, method);
        if let (Some(context), Some(shard)) = (trace.context(), self.slot.shard) {
            context.span().set_attribute(telemetry::shard(shard));
        }
        trace
    }

    /// Begins to time the turn that begins now, if it is one of those that are timed.
    #[inline]
    pub(super) fn sample(&self, method: &'static str) -> Option<Box<Sample>> {
        let now = self.hosted.common.now();
        let is_due = self.slot.meter.is_due(now) || meter::is_timing();
        let begin = || {
            Sample::begin(
                self.slot.clone(),
                self.hosted.clone(),
                &self.key,
                method,
                now,
            )
        };
        is_due.then(|| Box::new(begin()))
    }

    /// Reads the clock of the fence.
    pub(super) fn now(&self) -> Moment {
        self.hosted.common.fence.clock().now()
    }

    /// Whether a turn may begin at `now`, which was just read.
    pub(super) fn may_begin(&self, now: Moment) -> bool {
        self.hosted.common.fence.is_open_at(now) && !self.discarded.load(Ordering::Acquire)
    }

    pub(super) fn may_take_effect(&self) -> bool {
        self.hosted.common.fence.is_open() && !self.discarded.load(Ordering::Acquire)
    }

    pub(super) fn note_panic(&self, method: &str, why: &str) {
        error!(object = %self.key, method, why, "a method panicked; the activation is discarded");
        self.hosted.common.metrics.objects.panics.inc();
    }

    /// Has the next save at an interval try again.
    pub(super) fn note_unsaved(self: &Arc<Self>, held: &mut State<T>) {
        if let Some(saved) = Arc::get_mut(held).and_then(|held| held.saved.as_mut()) {
            saved.dirty = true;
            self.hosted.note_dirty(self);
        }
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.hosted.common.tasks
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }
}

impl<T: Object> Live for Activation<T> {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

    fn token(&self) -> Token {
        self.token
    }

    fn clock(&self) -> Clock {
        self.hosted.common.clock()
    }

    fn caller(&self) -> Option<Caller> {
        self.hosted.common.caller()
    }

    fn cancellation(&self) -> CancellationToken {
        self.mailbox.lock().cancellation()
    }

    fn info(&self, now: u64) -> ObjectInfo {
        let mailbox = self.mailbox.lock();
        let idle_millis = if mailbox.is_quiet() {
            now.saturating_sub(mailbox.used().at())
        } else {
            0
        };
        ObjectInfo {
            key: self.key.clone(),
            shard: self.slot.shard,
            waiting: mailbox.waiting(),
            idle: Duration::from_millis(idle_millis),
            method: mailbox.running().into(),
            state_bytes: saved_len(&mailbox) as u64,
            turns: mailbox.used().turns(),
            timed: self.hosted.common.busiest.of(&self.key, now),
        }
    }

    fn state_len(&self) -> usize {
        saved_len(&self.mailbox.lock())
    }

    fn running(&self) -> &'static str {
        self.mailbox.lock().running()
    }

    fn is_quiet(&self) -> bool {
        self.mailbox.lock().is_quiet()
    }

    fn pause(&self) {
        let waiting = self.mailbox.lock().pause(|job| self.hold(job));
        for job in waiting {
            job.refuse(Refusal::NotHere);
        }
    }

    fn seal(&self) -> bool {
        self.mailbox.lock().seal()
    }

    fn unseal(&self) {
        self.mailbox.lock().unseal();
    }

    fn resume(self: Arc<Self>) {
        let next = self.mailbox.lock().resume();
        self.act(next);
    }

    fn pack(self: Arc<Self>) -> BoxFuture<'static, Result<Option<Packed>, StateError>> {
        Box::pin(async move {
            let (mut held, used) = {
                let mut mailbox = self.mailbox.lock();
                match mailbox.take_last() {
                    Some(held) => (held, mailbox.used().at()),
                    None => return Ok(None), // It cannot be trusted, and begins anew.
                }
            };
            let prepared = AssertUnwindSafe(self.prepare(&mut held))
                .catch_unwind()
                .await;
            let prepared = match prepared {
                Ok(prepared) => prepared,
                Err(panic) => {
                    self.note_panic("deactivate", &panic_text(&*panic));
                    return Ok(None);
                }
            };
            drop(self.mailbox.lock().put_back(held));
            let (key, now) = (self.key.clone(), self.hosted.common.now());
            match prepared {
                Ok(state) => Ok(state.map(|state| Packed {
                    key,
                    state,
                    idle: Duration::from_millis(now.saturating_sub(used)),
                    timers: timers::pack(self.kept_timers(), Instant::now()),
                })),
                Err(reason) => Err(StateError {
                    object: key,
                    reason,
                }),
            }
        })
    }

    fn reopen(self: Arc<Self>) -> Option<Dormant> {
        if !self.parted.load(Ordering::Acquire) {
            self.unseal();
            self.resume();
            return None;
        }
        let (held, used) = {
            let mut mailbox = self.mailbox.lock();
            (mailbox.take_last(), mailbox.used().at())
        };
        let timers = self.end_timers();
        self.discard();
        let held = Arc::into_inner(held?)?;
        let state = Box::new(held.state);
        Some(Dormant {
            state,
            used,
            timers,
        })
    }

    fn end_paused(self: Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        let last = self.mailbox.lock().take_last();
        let held = last.filter(|held| {
            let dirty = held.saved.as_ref().is_some_and(|saved| saved.dirty);
            dirty || self.hosted.deactivate.is_some() && !self.parted.load(Ordering::Acquire)
        });
        let Some(held) = held else {
            self.over(None);
            return None;
        };
        Some(Box::pin(self.retire(held)))
    }

    fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
        let remains = self.mailbox.lock().finish();
        drop(self.end_timers());
        if let Some(token) = remains.cancellation {
            token.cancel();
        }
        for job in remains.queue {
            job.refuse(Refusal::NotHere);
        }
    }

    fn timers(&self) -> &Arc<Timers> {
        &self.hosted.common.timers
    }

    fn note_timed(&self) {
        self.timed.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.discarded.load(Ordering::Acquire) || self.mailbox.lock().is_over()
    }

    fn readable(&self, method: &str, args: &[u8]) -> Result<&'static str, TimerError> {
        self.hosted.readable(method, args)
    }

    fn tick(self: Arc<Self>, due: Due<Weak<dyn Live>>) {
        let method = self.hosted.method(due.spec.method);
        let method = method.expect("it was there when the timer was set");
        (method.tick)(&self, self.timers(), due);
    }

    fn expire(self: Arc<Self>, now: u64) -> Option<BoxFuture<'static, ()>> {
        if self.hosted.is_auto_started(&self.key) {
            return None;
        }
        let used_before = now.checked_sub(self.hosted.idle_millis)?;
        if self.has_timers() {
            return None;
        }
        let held = self.mailbox.lock().retire_if_idle(used_before)?;
        Some(Box::pin(self.retire(held)))
    }
}

/// How many bytes storage has of the state in a mailbox, as far as that is known now.
fn saved_len<T: Object>(mailbox: &Mailbox<State<T>, Arc<dyn Queued<T>>>) -> usize {
    let saved = mailbox.state().and_then(|held| held.saved.as_ref());
    let bytes = saved.and_then(|saved| saved.bytes.as_ref());
    bytes.map_or(0, Vec::len)
}

impl<T> fmt::Debug for Activation<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Activation")
            .field("key", &self.key)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

impl CallInfo {
    /// Of what no caller waits for.
    pub(super) fn background(clock: Clock) -> Self {
        Self {
            deadline: clock.now().plus(CALL_TIMEOUT_DEFAULT),
            path: CallPath::EMPTY,
            trace: Trace::NONE,
        }
    }
}

/// Why a state was not saved.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    #[error("the node is fenced")]
    Fenced,
    #[error("cannot write the state: {0}")]
    Encode(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Returns the state of an object of this type.
fn state_of<T: Object>(state: Box<dyn Any + Send + Sync>) -> T {
    let state = state.downcast();
    *state.expect("state was read by the type that it belongs to")
}

fn ready<T>(state: T, saved: Option<Box<Saved>>) -> End<State<T>> {
    End {
        state: Some(Arc::new(Held { state, saved })),
        deactivate: false,
    }
}
