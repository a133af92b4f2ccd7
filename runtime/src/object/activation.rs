//! The one live copy of an object in this process: begun, called, saved and ended.
//!
//! It has no task and no channel of its own. A call to an object at rest runs its turn in the
//! calling task; calls that find it busy wait in its mailbox, and a task that lives only as long
//! as somebody waits works through them.
//!
//! Two locks, never held while code of users runs: the slot's table, then the mailbox.

mod beginning;
mod calling;
mod ending;
mod live;
mod saving;
mod timing;
mod travelling;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::trace::{SpanKind, TraceContextExt};
use parking_lot::Mutex;
use tracing::error;

use super::directory::Slot;
use super::envelope::Queued;
use super::hosted::Hosted;
use super::mailbox::{Mailbox, Next};
use super::meter::{self, Sample};
use super::turn::{CallInfo, Held};
use super::{CALL_TIMEOUT_DEFAULT, CallPath, Object};
use crate::clock::{Clock, Moment};
use crate::ids::{ObjectKey, Token};
use crate::probation::Window;
use crate::tasks::Tasks;
use crate::telemetry::{self, Trace};

pub(super) use self::calling::{Called, Tried};
pub(super) use self::live::Live;
pub(super) use self::saving::SaveError;

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

    /// Returns what a turn must wait for whose method has not run yet on this node, if the shard is
    /// watched.
    #[inline]
    pub(super) fn window(
        &self,
        method: &'static str,
    ) -> Option<impl Future<Output = Option<Window>> + Send + use<T>> {
        let is_on = self.slot.watching.is_on();
        is_on.then(|| self.hosted.common.window(&self.slot, &self.key, method))?
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

    pub(super) fn tasks(&self) -> &Tasks {
        &self.hosted.common.tasks
    }

    pub(super) fn key(&self) -> &ObjectKey {
        &self.key
    }
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
