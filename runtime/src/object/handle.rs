//! Handles: calling objects from anywhere.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::activation::{Activation, Called, Tried};
use super::encoding::check_args;
use super::envelope::late_start;
use super::turn::CallInfo;
use super::{
    CallPath, DEACTIVATE, DELETE, Dispatch, EncodedCall, Format, Host, Method, Object, PathTooLong,
};
use crate::clock::Moment;
use crate::error::CallError;
use crate::ids::{InvalidObjectKey, Layout, ObjectKey, Place};
use crate::telemetry::Trace;

/// Takes the calls that this process cannot serve at once. Implemented by `routing::Router`.
pub trait RemoteCalls: fmt::Debug + Send + Sync + 'static {
    /// Brings a call to its object, wherever that is now or will be before the deadline.
    fn call(&self, call: EncodedCall) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

/// Where calls start: the local host first, everything else by way of the router.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The objects of this process.
    pub host: Arc<Host>,
    /// The way to all others.
    pub remote: Arc<dyn RemoteCalls>,
}

/// How long a handle's calls wait for their answer if the caller sets no other limit.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// A reference to one object, from which its typed handle is made.
///
/// Calls must be made inside a tokio runtime. Where the object lives in this process, arguments
/// and reply are passed as they are; else they are written and sent. One reference that is used
/// again and again is quicker than a new one for each call: it remembers the activation.
pub struct ObjectRef<T: Object> {
    /// `None`: the node is gone.
    caller: Option<Caller>,
    target: Result<(ObjectKey, Place), InvalidObjectKey>,
    timeout: Duration,
    /// The deadline of the turn that this reference belongs to.
    limit: Option<Moment>,
    path: Result<CallPath, PathTooLong>,
    /// The span of the turn that this reference belongs to.
    trace: Trace,
    /// Tried first. Many tasks may share the reference: reading this writes nothing they share.
    last: ArcSwapOption<Activation<T>>,
}

impl<T: Object> ObjectRef<T> {
    /// Makes a reference to the object with this ID. A bad ID shows when it is called, as
    /// [`CallError::InvalidId`].
    pub fn new(caller: Caller, id: &str) -> Self {
        Self::of(Some(caller), id, Ok(CallPath::EMPTY), None, Trace::NONE)
    }

    /// Makes a reference for use within a turn.
    pub(super) fn within(
        caller: Option<Caller>,
        id: &str,
        path: Result<CallPath, PathTooLong>,
        turn: &CallInfo,
    ) -> Self {
        Self::of(caller, id, path, Some(turn.deadline), turn.trace.clone())
    }

    fn of(
        caller: Option<Caller>,
        id: &str,
        path: Result<CallPath, PathTooLong>,
        limit: Option<Moment>,
        trace: Trace,
    ) -> Self {
        let target = ObjectKey::new(T::TYPE, id).and_then(|key| {
            let place = match &caller {
                Some(caller) => key.place(caller.host.layout())?,
                None => key.place(&Layout::default())?, // No call will get that far.
            };
            Ok((key, place))
        });
        Self {
            caller,
            target,
            timeout: CALL_TIMEOUT_DEFAULT,
            limit,
            path,
            trace,
            last: ArcSwapOption::empty(),
        }
    }

    /// Sets how long each call waits for its answer. Default: 10 s. A reference that a turn got
    /// from its context never waits longer than the turn's own caller does.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Returns the object's key.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if the ID cannot name an object.
    pub fn key(&self) -> Result<&ObjectKey, &InvalidObjectKey> {
        self.target.as_ref().map(|(key, _)| key)
    }

    /// Calls a method and returns what it returned.
    ///
    /// Cancel safety: dropping the future does not undo the call; a turn that has begun runs to
    /// its end, and one that waits may still begin.
    ///
    /// # Errors
    ///
    /// [`CallError`], which tells whether the method may have run.
    pub async fn call<M: Method<Object = T>>(&self, method: M) -> Result<M::Reply, CallError> {
        consume_budget().await; // A loop of calls that are all served at once must let others run.
        let mut ready = self.ready()?;
        let called = match self.begin_here(&mut ready, method) {
            Tried::Called(called) => called,
            waits @ (Tried::Waits(..) | Tried::Runs(..)) => waits.called().await,
        };
        match called {
            Called::Done(result) => result,
            Called::NotHere(method) | Called::Stale(method) => {
                let args = rmp_serde::to_vec_named(&method);
                let args = args.map_err(|error| CallError::BadArguments(error.to_string()))?;
                let call = ready.encoded(M::NAME, args.into())?;
                let reply = send(ready.caller, call).await?;
                rmp_serde::from_slice(&reply)
                    .map_err(|error| CallError::BadReply(error.to_string()))
            }
        }
    }

    /// Runs a method as far as it goes without waiting, if its object lives in this process.
    fn begin_here<M: Method<Object = T>>(&self, ready: &mut Ready<'_>, method: M) -> Tried<M> {
        let mut method = method;
        if let Some(activation) = &*self.last.load() {
            match ready.begin(activation, method) {
                Tried::Called(Called::Stale(again)) => method = again,
                tried @ (Tried::Called(_) | Tried::Waits(..) | Tried::Runs(..)) => return tried,
            }
        }
        let host = &ready.caller.host;
        let (Some(slot), Some(hosted)) = (host.slot_at(ready.place), host.hosted::<T>()) else {
            return Tried::Called(Called::NotHere(method));
        };
        let (key, path) = (ready.key, ready.path);
        loop {
            let info = || ready.info(host.clock().now());
            let Some(activation) = hosted.activation(slot, key, path, info) else {
                return Tried::Called(Called::NotHere(method));
            };
            self.last.store(Some(activation.clone()));
            match ready.begin(&activation, method) {
                Tried::Called(Called::Stale(again)) => method = again,
                tried @ (Tried::Called(_) | Tried::Waits(..) | Tried::Runs(..)) => return tried,
            }
        }
    }

    /// Ends the object's activation, if it has one, after the calls that came before.
    ///
    /// Cancel safety: as for [`ObjectRef::call`].
    ///
    /// # Errors
    ///
    /// As for [`ObjectRef::call`].
    pub async fn deactivate(&self) -> Result<(), CallError> {
        self.tell(DEACTIVATE).await
    }

    /// Deletes the object's stored state, if any, and ends its activation, after the calls that
    /// came before. Deleting what does not exist succeeds.
    ///
    /// Cancel safety: as for [`ObjectRef::call`].
    ///
    /// # Errors
    ///
    /// As for [`ObjectRef::call`]. After [`CallError::NotStored`] the object may still exist.
    pub async fn delete(&self) -> Result<(), CallError> {
        self.tell(DELETE).await
    }

    async fn tell(&self, method: &'static str) -> Result<(), CallError> {
        let mut ready = self.ready()?;
        let call = ready.encoded(method, Bytes::new())?;
        match ready.caller.host.dispatch(call).await {
            Dispatch::Done(result) => result.map(drop),
            Dispatch::NotHere(call) => send(ready.caller, call).await.map(drop),
        }
    }

    fn ready(&self) -> Result<Ready<'_>, CallError> {
        let gone = || CallError::Stopping("the node is gone".to_owned());
        let caller = self.caller.as_ref().ok_or_else(gone)?;
        let target = self.target.as_ref();
        let (key, place) = target.map_err(|error| CallError::InvalidId(error.to_string()))?;
        let path = self.path.as_ref();
        let path = path.map_err(|error| CallError::Overloaded(error.to_string()))?;
        Ok(Ready {
            caller,
            key,
            place,
            path,
            trace: caller.host.traces().of_caller(&self.trace),
            timeout: self.timeout,
            limit: self.limit,
            deadline: None,
        })
    }
}

/// A call that can be made.
struct Ready<'a> {
    caller: &'a Caller,
    key: &'a ObjectKey,
    place: &'a Place,
    path: &'a CallPath,
    trace: Trace,
    timeout: Duration,
    limit: Option<Moment>,
    /// Made when the clock of the fence is first read for this call: no sooner than it must.
    deadline: Option<Moment>,
}

impl Ready<'_> {
    /// Gives an activation the call to run as far as it goes without waiting.
    fn begin<T: Object, M: Method<Object = T>>(
        &mut self,
        activation: &Arc<Activation<T>>,
        method: M,
    ) -> Tried<M> {
        let host = &self.caller.host;
        let now = host.clock().now();
        if let Err(late) = self.check_limit(now, M::NAME) {
            return Tried::Called(Called::Done(Err(late)));
        }
        if !host.is_fence_open_at(now) {
            return Tried::Called(Called::NotHere(method));
        }
        activation.begin(method, self.info(now), now)
    }

    fn check_limit(&self, now: Moment, method: &str) -> Result<(), CallError> {
        match self.limit {
            Some(limit) if now >= limit => Err(late_start(method)),
            Some(_) | None => Ok(()),
        }
    }

    fn info(&mut self, now: Moment) -> CallInfo {
        CallInfo {
            deadline: self.deadline(now),
            path: self.path.clone(),
            trace: self.trace.clone(),
        }
    }

    fn deadline(&mut self, now: Moment) -> Moment {
        *self.deadline.get_or_insert_with(|| {
            let deadline = now.plus(self.timeout);
            self.limit.map_or(deadline, |limit| limit.min(deadline))
        })
    }

    /// Writes the call down for whoever serves it elsewhere.
    fn encoded(&mut self, method: &'static str, args: Bytes) -> Result<EncodedCall, CallError> {
        let deadline = if self.deadline.is_none() && self.limit.is_none() {
            Instant::now() + self.timeout
        } else {
            let clock = self.caller.host.clock();
            let now = clock.now();
            self.check_limit(now, method)?;
            clock.instant(self.deadline(now))
        };
        Ok(EncodedCall {
            key: self.key.clone(),
            method: Cow::Borrowed(method),
            args,
            format: Format::MessagePack,
            deadline,
            path: self.path.clone(),
            trace: self.trace.clone(),
        })
    }
}

async fn send(caller: &Caller, call: EncodedCall) -> Result<Bytes, CallError> {
    check_args(&call.args, caller.host.payload_max())?;
    caller.remote.call(call).await
}

impl<T: Object> Clone for ObjectRef<T> {
    fn clone(&self) -> Self {
        Self {
            caller: self.caller.clone(),
            target: self.target.clone(),
            timeout: self.timeout,
            limit: self.limit,
            path: self.path.clone(),
            trace: self.trace.clone(),
            last: ArcSwapOption::new(self.last.load_full()),
        }
    }
}

impl<T: Object> fmt::Debug for ObjectRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectRef")
            .field("key", &self.key())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
