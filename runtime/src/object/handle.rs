//! Handles: calling objects from anywhere. (Skeleton.)

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{EncodedCall, Host, Object};
use crate::error::CallError;

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

/// A reference to one object, from which its typed handle is made. Cheap to clone.
#[derive(Debug)]
pub struct ObjectRef<T: Object> {
    _object: std::marker::PhantomData<fn(T)>,
}
