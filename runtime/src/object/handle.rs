//! Handles: calling objects from anywhere. (Skeleton.)

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{EncodedCall, Host, Method, Object};
use crate::error::CallError;
use crate::ids::{InvalidObjectKey, ObjectKey};

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

/// A reference to one object, from which its typed handle is made. Cheap to clone.
#[derive(Debug)]
pub struct ObjectRef<T: Object> {
    _object: std::marker::PhantomData<fn(T)>,
}

impl<T: Object> ObjectRef<T> {
    /// Makes a reference to the object with this ID. A bad ID shows when it is called, as
    /// [`CallError::InvalidId`].
    pub fn new(_caller: Caller, _id: &str) -> Self {
        unimplemented!("skeleton")
    }

    /// Calls a method and returns what it returned.
    ///
    /// # Errors
    ///
    /// [`CallError`], which tells whether the method may have run.
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn call<M: Method<Object = T>>(&self, _method: M) -> Result<M::Reply, CallError> {
        unimplemented!("skeleton")
    }

    /// Sets how long each call waits for its answer. Default: 10 s.
    #[must_use]
    pub fn with_timeout(self, _timeout: Duration) -> Self {
        unimplemented!("skeleton")
    }

    /// Returns the object's key.
    ///
    /// # Errors
    ///
    /// [`InvalidObjectKey`] if the ID cannot name an object.
    pub fn key(&self) -> Result<&ObjectKey, &InvalidObjectKey> {
        unimplemented!("skeleton")
    }

    /// Ends the object's activation, if it has one, after the calls that came before.
    ///
    /// # Errors
    ///
    /// As for [`ObjectRef::call`].
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn deactivate(&self) -> Result<(), CallError> {
        unimplemented!("skeleton")
    }

    /// Deletes the object's stored state, if any, and ends its activation, after the calls that
    /// came before. Deleting what does not exist succeeds.
    ///
    /// # Errors
    ///
    /// As for [`ObjectRef::call`].
    #[allow(clippy::unused_async, reason = "skeleton")]
    pub async fn delete(&self) -> Result<(), CallError> {
        unimplemented!("skeleton")
    }
}

impl<T: Object> Clone for ObjectRef<T> {
    fn clone(&self) -> Self {
        unimplemented!("skeleton")
    }
}
