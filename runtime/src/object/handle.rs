//! Handles: calling objects from anywhere.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::activation::{Activation, Called};
use super::encoding::check_args;
use super::turn::CallInfo;
use super::{
    CallPath, DEACTIVATE, DELETE, Dispatch, EncodedCall, Format, Host, Method, Object, PathTooLong,
};
use crate::error::CallError;
use crate::ids::{InvalidObjectKey, Layout, ObjectKey, Place};

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
    limit: Option<Instant>,
    path: Result<CallPath, PathTooLong>,
    /// Only ever tried, never waited for: a hot reference that many tasks share does without.
    last: Mutex<Weak<Activation<T>>>,
}

impl<T: Object> ObjectRef<T> {
    /// Makes a reference to the object with this ID. A bad ID shows when it is called, as
    /// [`CallError::InvalidId`].
    pub fn new(caller: Caller, id: &str) -> Self {
        Self::of(Some(caller), id, Ok(CallPath::EMPTY), None)
    }

    /// Makes a reference for use within a turn.
    pub(super) fn within(
        caller: Option<Caller>,
        id: &str,
        path: Result<CallPath, PathTooLong>,
        limit: Instant,
    ) -> Self {
        Self::of(caller, id, path, Some(limit))
    }

    fn of(
        caller: Option<Caller>,
        id: &str,
        path: Result<CallPath, PathTooLong>,
        limit: Option<Instant>,
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
            last: Mutex::new(Weak::new()),
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
        let Ready {
            caller,
            key,
            place,
            info,
        } = self.ready()?;
        if Some(info.deadline) == self.limit && Instant::now() >= info.deadline {
            return Err(super::envelope::late_start(M::NAME));
        }
        match self
            .call_here(caller, key, place, method, info.clone())
            .await
        {
            Called::Done(result) => result,
            Called::NotHere(method) | Called::Stale(method) => {
                let args = rmp_serde::to_vec_named(&method);
                let args = args.map_err(|error| CallError::BadArguments(error.to_string()))?;
                let call = encoded(key, M::NAME, args.into(), info);
                let reply = send(caller, call).await?;
                rmp_serde::from_slice(&reply)
                    .map_err(|error| CallError::BadReply(error.to_string()))
            }
        }
    }

    async fn call_here<M: Method<Object = T>>(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        place: &Place,
        mut method: M,
        info: CallInfo,
    ) -> Called<M> {
        let last = self.last.try_lock().and_then(|last| last.upgrade());
        if let Some(activation) = last {
            match activation.call(method, info.clone()).await {
                Called::Stale(again) => method = again,
                called @ (Called::Done(_) | Called::NotHere(_)) => return called,
            }
        }
        let (Some(slot), Some(hosted)) = (caller.host.slot_at(place), caller.host.hosted::<T>())
        else {
            return Called::NotHere(method);
        };
        loop {
            let Some(activation) = hosted.activation(slot, key, &info) else {
                return Called::NotHere(method);
            };
            if let Some(mut last) = self.last.try_lock() {
                *last = Arc::downgrade(&activation);
            }
            match activation.call(method, info.clone()).await {
                Called::Stale(again) => method = again,
                called @ (Called::Done(_) | Called::NotHere(_)) => return called,
            }
        }
    }

    /// Ends the object's activation, if it has one, after the calls that came before.
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
    /// # Errors
    ///
    /// As for [`ObjectRef::call`]. After [`CallError::NotStored`] the object may still exist.
    pub async fn delete(&self) -> Result<(), CallError> {
        self.tell(DELETE).await
    }

    async fn tell(&self, method: &'static str) -> Result<(), CallError> {
        let Ready {
            caller, key, info, ..
        } = self.ready()?;
        let call = encoded(key, method, Bytes::new(), info);
        match caller.host.dispatch(call).await {
            Dispatch::Done(result) => result.map(drop),
            Dispatch::NotHere(call) => send(caller, call).await.map(drop),
        }
    }

    fn ready(&self) -> Result<Ready<'_>, CallError> {
        let gone = || CallError::Stopping("the node is gone".to_owned());
        let caller = self.caller.as_ref().ok_or_else(gone)?;
        let target = self.target.as_ref();
        let (key, place) = target.map_err(|error| CallError::InvalidId(error.to_string()))?;
        let path = self.path.as_ref();
        let path = path.map_err(|error| CallError::Overloaded(error.to_string()))?;
        let deadline = Instant::now() + self.timeout;
        let info = CallInfo {
            deadline: self.limit.map_or(deadline, |limit| limit.min(deadline)),
            path: path.clone(),
        };
        Ok(Ready {
            caller,
            key,
            place,
            info,
        })
    }
}

struct Ready<'a> {
    caller: &'a Caller,
    key: &'a ObjectKey,
    place: &'a Place,
    info: CallInfo,
}

fn encoded(key: &ObjectKey, method: &'static str, args: Bytes, info: CallInfo) -> EncodedCall {
    EncodedCall {
        key: key.clone(),
        method: Cow::Borrowed(method),
        args,
        format: Format::MessagePack,
        deadline: info.deadline,
        path: info.path,
    }
}

async fn send(caller: &Caller, call: EncodedCall) -> Result<Bytes, CallError> {
    check_args(&call.args, caller.host.payload_max())?;
    caller.remote.call(call).await
}

impl<T: Object> Clone for ObjectRef<T> {
    fn clone(&self) -> Self {
        let last = self.last.try_lock().map(|last| last.clone());
        Self {
            caller: self.caller.clone(),
            target: self.target.clone(),
            timeout: self.timeout,
            limit: self.limit,
            path: self.path.clone(),
            last: Mutex::new(last.unwrap_or_default()),
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
