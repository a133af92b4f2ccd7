//! The types a node hosts, and their methods by name.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::activation::{Activation, Called, Live};
use super::common::Common;
use super::directory::Slot;
use super::encoding::{decode_args, encode_reply};
use super::hosted::{Hosted, HostedType};
use super::timers::{Due, Timers, tick};
use super::turn::CallInfo;
use super::{Access, Dispatch, EncodedCall, Format, Method, MethodTimes, Methods, Object};
use crate::error::CallError;

type Run<T> = fn(Arc<Hosted<T>>, Arc<Slot>, EncodedCall) -> BoxFuture<'static, Dispatch>;
type LetTick<T> = fn(&Arc<Activation<T>>, &Arc<Timers>, Due<Weak<dyn Live>>);

/// A method of `T` without its argument types.
pub struct MethodEntry<T> {
    pub(super) name: &'static str,
    arguments: &'static [&'static str],
    access: Access,
    pub(super) run: Run<T>,
    /// Whether it can read these arguments, written as `MessagePack`.
    pub(super) reads: fn(&[u8]) -> Result<(), String>,
    pub(super) tick: LetTick<T>,
}

/// A method as people are told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodFacts {
    /// Its name.
    pub name: &'static str,
    /// The names of its arguments, in order.
    pub arguments: &'static [&'static str],
    /// Whether it may change the state.
    pub access: Access,
    /// What its turns took here that were timed.
    pub times: MethodTimes,
}

impl<T: Object> MethodEntry<T> {
    /// Makes the entry of a method.
    pub fn of<M: Method<Object = T>>() -> Self {
        Self {
            name: M::NAME,
            arguments: M::ARGUMENTS,
            access: M::BODY.access(),
            run: |hosted, slot, call| run::<M>(hosted, slot, call).boxed(),
            reads: reads::<M>,
            tick: tick::<M>,
        }
    }
}

impl<T> MethodEntry<T> {
    /// Tells of it, with what its turns took.
    pub(super) fn facts(&self, times: MethodTimes) -> MethodFacts {
        MethodFacts {
            name: self.name,
            arguments: self.arguments,
            access: self.access,
            times,
        }
    }
}

async fn run<M: Method>(
    hosted: Arc<Hosted<M::Object>>,
    slot: Arc<Slot>,
    call: EncodedCall,
) -> Dispatch {
    // Reading and writing values runs code of users, which may panic.
    let read = catch_unwind(|| decode_args::<M>(call.format, &call.args));
    let method = match read {
        Ok(Ok(method)) => method,
        Ok(Err(why)) => return bad_arguments(&slot, call, &why),
        Err(_) => return bad_arguments(&slot, call, "reading them panicked"),
    };
    let info = CallInfo {
        deadline: hosted.common.clock().moment(call.deadline),
        path: call.path.clone(),
        trace: call.trace.clone(),
    };
    match hosted.call(&slot, &call.key, method, info).await {
        Called::Done(Ok(reply)) => {
            let payload_max = hosted.common.payload_max;
            let write = || encode_reply(call.format, &reply, &call.key, payload_max);
            let written = catch_unwind(AssertUnwindSafe(write));
            let panicked = |_| Err(CallError::BadReply("writing it panicked".into()));
            Dispatch::Done(written.unwrap_or_else(panicked))
        }
        Called::Done(Err(error)) => Dispatch::Done(Err(error)),
        Called::NotHere(_) | Called::Stale(_) => Dispatch::NotHere(call),
    }
}

fn reads<M: Method>(args: &[u8]) -> Result<(), String> {
    let read = catch_unwind(|| decode_args::<M>(Format::MessagePack, args).map(drop));
    read.unwrap_or_else(|_| Err("reading them panicked".to_owned()))
}

fn bad_arguments(slot: &Slot, call: EncodedCall, why: &str) -> Dispatch {
    let method = format!("{}.{}", call.key.object_type(), call.method);
    let error = CallError::BadArguments(format!("{method}: {why}"));
    refused(slot, call, error)
}

/// Answers with what this node's version of the program finds wrong with a call. Only the owner may
/// say that: another node can have another version.
pub(super) fn refused(slot: &Slot, call: EncodedCall, error: CallError) -> Dispatch {
    if slot.table.read().is_open() {
        Dispatch::Done(Err(error))
    } else {
        Dispatch::NotHere(call)
    }
}

impl<T> fmt::Debug for MethodEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MethodEntry").field(&self.name).finish()
    }
}

type HostType = fn(Arc<Common>) -> Arc<dyn HostedType>;

/// The object types that a node hosts.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    pub(super) types: BTreeMap<&'static str, HostType>,
}

impl Registry {
    /// Adds a type, in place of one of the same name.
    pub fn register<T: Methods>(&mut self) {
        self.types.insert(T::TYPE, Hosted::<T>::erased);
    }

    /// Returns the names of the types, sorted.
    pub fn type_names(&self) -> Vec<&'static str> {
        self.types.keys().copied().collect()
    }
}
