//! What a turn knows of its call, and can do besides changing its object.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activation::Live;
use super::timers::{self, Timer, TimerError, TimerInfo};
use super::turn::CallInfo;
use super::{Object, ObjectRef};
use crate::ids::{ObjectKey, Token};
use crate::telemetry::TraceContext;

/// What a turn knows of its call, and can do besides changing its object.
pub struct Context {
    /// `None`: of a method that takes no context, so that nobody can ask.
    activation: Option<Arc<dyn Live>>,
    info: CallInfo,
    /// The call's deadline, once somebody has asked.
    deadline: OnceLock<Instant>,
    deactivate: AtomicBool,
}

impl Context {
    pub(super) fn new(activation: Arc<dyn Live>, info: CallInfo) -> Self {
        Self::of(Some(activation), info)
    }

    /// Makes what stands for a context where none is taken, which costs next to nothing.
    pub(super) fn unused(info: CallInfo) -> Self {
        Self::of(None, info)
    }

    fn of(activation: Option<Arc<dyn Live>>, info: CallInfo) -> Self {
        Self {
            activation,
            info,
            deadline: OnceLock::new(),
            deactivate: AtomicBool::new(false),
        }
    }

    fn activation(&self) -> &Arc<dyn Live> {
        let activation = self.activation.as_ref();
        activation.expect("a method that takes a context gets one")
    }

    /// Returns the object's own key.
    pub fn key(&self) -> &ObjectKey {
        self.activation().key()
    }

    /// Returns the object's own ID.
    pub fn id(&self) -> &str {
        self.key().id()
    }

    /// Returns the fencing token of the ownership under which this activation lives: for effects
    /// outside Steading that must refuse an earlier owner.
    pub fn token(&self) -> Token {
        self.activation().token()
    }

    /// Returns when the caller stops waiting. The turn may run on, but nobody hears of it.
    pub fn deadline(&self) -> Instant {
        let resolve = || self.activation().clock().instant(self.info.deadline);
        *self.deadline.get_or_init(resolve)
    }

    /// Returns the span of this turn, for those who pass it on by other ways than calls of objects;
    /// `None` if it is not sampled. It is also the active one while the method runs.
    pub fn trace(&self) -> Option<TraceContext> {
        self.info.trace.context().and_then(TraceContext::of)
    }

    /// Returns a handle to another object. Its calls carry this call's path, so that a call which
    /// would wait for itself fails at once, and they end no later than this call's deadline.
    pub fn object<T: Object>(&self, id: impl AsRef<str>) -> T::Handle {
        let path = self.info.path.then(self.key().clone());
        let caller = self.activation().caller();
        ObjectRef::within(caller, id.as_ref(), path, &self.info).into()
    }

    /// Sets a timer of this object: a turn of one of its own methods that nobody calls for. A timer
    /// of the same name is replaced. Holds at once, also if this turn fails, unless that ends the
    /// activation.
    ///
    /// `args` are the method's arguments: `()`, a tuple in their order, or a struct or map with
    /// their names. What the method returns is dropped; a panic ends the activation, as in any
    /// turn. Its turn waits in the mailbox like a call, and its context has a deadline of 10 s.
    ///
    /// Timers live in memory, as the activation does, and end with it. They keep it from being idle.
    /// When the shard is moved on purpose they go along, each with the time that is left of it,
    /// if the object's state does; a crash loses them. An activation hook finds those that came
    /// along, by [`Context::timer`].
    ///
    /// Costs a few hundred bytes and a place in the node's list of what is due; objects without
    /// timers pay nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// # use serde::{Deserialize, Serialize};
    /// use steading::{Context, Object, Timer, TimerError, methods};
    ///
    /// #[derive(Default, Serialize, Deserialize, Object)]
    /// struct Basket {
    ///     items: Vec<String>,
    /// }
    ///
    /// #[methods]
    /// impl Basket {
    ///     fn put(&mut self, ctx: &Context, item: String) -> Result<(), String> {
    ///         self.items.push(item);
    ///         let limit = Timer::after(Duration::from_mins(30));
    ///         let set = ctx.set_timer("abandoned", limit, "clear", ("too late",));
    ///         set.map_err(|error| error.to_string())
    ///     }
    ///
    ///     fn clear(&mut self, why: String) {
    ///         println!("cleared: {why}");
    ///         self.items.clear();
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`TimerError`] says which bound it is beyond, or that the method cannot be called so.
    pub fn set_timer(
        &self,
        name: &str,
        timer: Timer,
        method: &str,
        args: impl Serialize,
    ) -> Result<(), TimerError> {
        timers::set(self.activation(), name, timer, method, &args)
    }

    /// Cancels a timer of this object, and returns whether there was one. It never ticks again, also
    /// if its tick was due already and waited for its turn.
    pub fn cancel_timer(&self, name: &str) -> bool {
        timers::cancel(&**self.activation(), name)
    }

    /// Returns one of this object's timers, if it has one of that name. One that ticks once is gone
    /// when its turn begins.
    pub fn timer(&self, name: &str) -> Option<TimerInfo> {
        self.timers().into_iter().find(|timer| timer.name == name)
    }

    /// Lists this object's timers, in the order in which they were set.
    pub fn timers(&self) -> Vec<TimerInfo> {
        timers::list(&**self.activation())
    }

    /// Ends the activation after this turn. The next call activates the object again.
    pub fn deactivate(&self) {
        self.deactivate.store(true, Ordering::Relaxed);
    }

    pub(super) fn wants_deactivation(&self) -> bool {
        self.deactivate.load(Ordering::Relaxed)
    }

    /// Returns a token that is cancelled when the activation ends, however that happens: for
    /// background work that an object starts.
    pub fn cancellation(&self) -> CancellationToken {
        self.activation().cancellation()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("key", self.key())
            .field("deadline", &self.deadline())
            .field("path", &self.info.path)
            .finish_non_exhaustive()
    }
}
