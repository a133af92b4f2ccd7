//! What a host asks of its types, of which it knows the names alone.

use std::any::Any;
use std::fmt;
use std::panic::catch_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::Hosted;
use crate::error::CallError;
use crate::ids::{ObjectKey, Token};
use crate::object::activation::Activation;
use crate::object::chore::{Chore, Task};
use crate::object::common::millis;
use crate::object::directory::Slot;
use crate::object::encoding::encode_reply;
use crate::object::envelope::late_start;
use crate::object::mailbox::Hold;
use crate::object::registry::refused;
use crate::object::travel::Dormant;
use crate::object::turn::{CallInfo, panic_text};
use crate::object::{
    CallPath, DEACTIVATE, DELETE, Dispatch, EncodedCall, MethodFacts, Object, TimerError,
    TypeSettings,
};
use crate::telemetry::Trace;

/// How long the sweeper lets an interval save wait for its turn.
const SAVE_TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// What became of state that came with a shard when its shard was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::object) enum Adopted {
    /// It is live.
    Lives,
    /// It is to be woken: that takes time.
    Sleeps,
    /// A call was faster, or the shard is not open any more.
    Otherwise,
}

/// A type whose name alone is known.
pub(in crate::object) trait HostedType: Any + fmt::Debug + Send + Sync {
    fn settings(&self) -> &TypeSettings;
    /// Tells of its methods, in order of their names.
    fn methods(&self) -> Vec<MethodFacts>;
    /// Runs a call whose arguments are bytes.
    fn dispatch(
        self: Arc<Self>,
        slot: Arc<Slot>,
        call: EncodedCall,
    ) -> BoxFuture<'static, Dispatch>;
    /// Activates an object, if it has no activation and its shard is open.
    fn activate(self: Arc<Self>, slot: &Arc<Slot>, key: &ObjectKey);
    /// Reads state that comes with a shard.
    fn unpack(&self, state: &[u8]) -> Result<Box<dyn Any + Send + Sync>, String>;
    /// Returns the full name of a method, if the type has it and it can read these arguments.
    fn readable(&self, method: &str, args: &[u8]) -> Result<&'static str, TimerError>;
    /// Writes state that came with a shard, for its next journey.
    fn repack(&self, dormant: &Dormant) -> Result<Bytes, String>;
    /// Makes an activation of state that came with a shard, if that takes neither loading nor a
    /// hook.
    fn adopt(self: Arc<Self>, slot: &Arc<Slot>, key: &ObjectKey) -> Adopted;
    /// Activates an object whose state came with the shard, and waits for that.
    fn wake(self: Arc<Self>, slot: Arc<Slot>, key: ObjectKey) -> BoxFuture<'static, ()>;
    /// Ends in order an object whose state came with the shard and was never woken.
    fn end_dormant(
        self: Arc<Self>,
        slot: Arc<Slot>,
        token: Token,
        key: ObjectKey,
        dormant: Dormant,
    ) -> BoxFuture<'static, ()>;
    /// Saves what has changed, if the type saves at an interval and it is time.
    fn save_due(self: Arc<Self>, now: u64);
}

impl<T: Object> HostedType for Hosted<T> {
    fn settings(&self) -> &TypeSettings {
        &self.settings
    }

    fn methods(&self) -> Vec<MethodFacts> {
        let times = self.times.lock();
        let mut facts: Vec<_> = self
            .methods
            .values()
            .map(|entry| entry.facts(times.get(entry.name).copied().unwrap_or_default()))
            .collect();
        facts.sort_by_key(|facts| facts.name);
        facts
    }

    fn dispatch(
        self: Arc<Self>,
        slot: Arc<Slot>,
        call: EncodedCall,
    ) -> BoxFuture<'static, Dispatch> {
        if Instant::now() >= call.deadline {
            let late = late_start(&call.method);
            return Box::pin(std::future::ready(Dispatch::Done(Err(late))));
        }
        let task = match &*call.method {
            DEACTIVATE => Task::Deactivate,
            DELETE => Task::Delete,
            name => {
                let Some(entry) = self.methods.get(name) else {
                    let unknown = unknown(&call);
                    return Box::pin(std::future::ready(refused(&slot, call, unknown)));
                };
                return (entry.run)(self, slot, call);
            }
        };
        Box::pin(async move {
            if call.path.contains(&call.key) {
                let cycle = format!("{} -> {}", call.path, call.key);
                return Dispatch::Done(Err(CallError::Cycle(cycle)));
            }
            let info = CallInfo {
                deadline: self.common.clock().moment(call.deadline),
                path: call.path.clone(),
                trace: call.trace.clone(),
            };
            match self.chore(&slot, &call.key, task, info).await {
                Some(Ok(())) => Dispatch::Done(encode_reply(
                    call.format,
                    &(),
                    &call.key,
                    self.common.payload_max,
                )),
                Some(Err(error)) => Dispatch::Done(Err(error)),
                None => Dispatch::NotHere(call),
            }
        })
    }

    fn activate(self: Arc<Self>, slot: &Arc<Slot>, key: &ObjectKey) {
        let info = || CallInfo::background(self.common.clock());
        let _ = self.activation(slot, key, &CallPath::EMPTY, info);
    }

    fn unpack(&self, state: &[u8]) -> Result<Box<dyn Any + Send + Sync>, String> {
        let codec = T::TRAVEL.ok_or("its type does not travel here")?;
        // Reading values runs code of users, which may panic.
        let read = catch_unwind(|| (codec.decode)(state));
        let read = read.unwrap_or_else(|panic| Err(panic_text(&*panic)));
        Ok(Box::new(read?))
    }

    fn readable(&self, method: &str, args: &[u8]) -> Result<&'static str, TimerError> {
        let unknown = || TimerError::UnknownMethod(format!("{}.{method}", self.name));
        let entry = self.method(method).ok_or_else(unknown)?;
        let reads = (entry.reads)(args);
        reads.map_err(|why| TimerError::BadArguments(format!("{}.{method}: {why}", self.name)))?;
        Ok(entry.name)
    }

    fn repack(&self, dormant: &Dormant) -> Result<Bytes, String> {
        let codec = T::TRAVEL.ok_or("its type does not travel")?;
        let state = dormant.state.downcast_ref::<T>();
        let state = state.expect("state was read by the type that it belongs to");
        (codec.encode)(state).map(Bytes::from)
    }

    fn adopt(self: Arc<Self>, slot: &Arc<Slot>, key: &ObjectKey) -> Adopted {
        if self.wakes_slowly() {
            return Adopted::Sleeps;
        }
        let mut table = slot.table.write();
        if !table.is_open() || table.find(key).is_some() {
            return Adopted::Otherwise; // Its activation takes the state, or the shard goes on.
        }
        let Some(dormant) = table.dormant.remove(key) else {
            return Adopted::Otherwise;
        };
        let key = key.with_type_name(&self.name);
        let activation = Activation::new(key, table.token, slot.clone(), self.clone());
        table.insert(activation.clone());
        drop(table);
        self.common.metrics.objects.activations.inc();
        activation.begin_with(dormant);
        Adopted::Lives
    }

    fn wake(self: Arc<Self>, slot: Arc<Slot>, key: ObjectKey) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some((activation, true)) = self.insert(&slot, &key, || Hold::Free) {
                activation
                    .wake(CallInfo::background(self.common.clock()))
                    .await;
            }
        })
    }

    fn end_dormant(
        self: Arc<Self>,
        slot: Arc<Slot>,
        token: Token,
        key: ObjectKey,
        dormant: Dormant,
    ) -> BoxFuture<'static, ()> {
        let key = key.with_type_name(&self.name);
        let activation = Activation::new(key, token, slot, self);
        Box::pin(activation.end_arrived(dormant))
    }

    fn save_due(self: Arc<Self>, now: u64) {
        let Some(every) = self.settings.save_every else {
            return;
        };
        if now < self.saved_at.load(Ordering::Relaxed) + millis(every) {
            return;
        }
        self.saved_at.store(now, Ordering::Relaxed);
        let dirty = std::mem::take(&mut *self.dirty.lock());
        for activation in dirty.iter().filter_map(Weak::upgrade) {
            let info = CallInfo {
                deadline: self.common.clock().now().plus(SAVE_TURN_TIMEOUT),
                path: CallPath::EMPTY,
                trace: Trace::NONE,
            };
            let (chore, _) = Chore::new(Task::Save, info);
            let _ = activation.submit(chore); // One that ends saves by itself.
        }
    }
}

fn unknown(call: &EncodedCall) -> CallError {
    CallError::UnknownMethod(format!("{}.{}", call.key.object_type(), call.method))
}
