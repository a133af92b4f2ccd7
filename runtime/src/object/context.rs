//! What a turn knows of its call, and can do besides changing its object.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activation::Live;
use super::turn::CallInfo;
use super::{Object, ObjectRef};
use crate::ids::{ObjectKey, Token};

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

    /// Returns a handle to another object. Its calls carry this call's path, so that a call which
    /// would wait for itself fails at once, and they end no later than this call's deadline.
    pub fn object<T: Object>(&self, id: impl AsRef<str>) -> T::Handle {
        let path = self.info.path.then(self.key().clone());
        let caller = self.activation().caller();
        ObjectRef::within(caller, id.as_ref(), path, self.info.deadline).into()
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
