//! A type as one host runs it: its settings, hooks and methods, and the way to its activations.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::activation::{Activation, Called, Live};
use super::busiest::Busiest;
use super::chore::{Answer, Chore, Task, finished};
use super::directory::Slot;
use super::envelope::late_start;
use super::mailbox::{Gate, Hold};
use super::meter::{MethodTimes, SampleSink, TimedTurn};
use super::timers::Timers;
use super::travel::Dormant;
use super::turn::{CallInfo, panic_text};
use super::{
    AutoStart, CallPath, Caller, DEACTIVATE, DELETE, Dispatch, EncodedCall, Hook, Host, Method,
    MethodEntry, MethodFacts, Methods, Object, RemoteCalls, TimerError, TypeSettings,
};
use crate::clock::Clock;
use crate::error::CallError;
use crate::fence::Fence;
use crate::ids::{Layout, NodeId, ObjectKey, Place, Token};
use crate::storage::Storage;
use crate::tasks::Tasks;
use crate::telemetry::{Metrics, Trace, TurnMetrics};

/// How long the sweeper lets an interval save wait for its turn.
const SAVE_TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// What all objects of a host share.
pub(super) struct Common {
    pub(super) node: NodeId,
    pub(super) layout: Layout,
    pub(super) fence: Arc<Fence>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) payload_max: usize,
    pub(super) tasks: Tasks,
    pub(super) metrics: Arc<Metrics>,
    pub(super) host: Weak<Host>,
    pub(super) remote: OnceLock<Weak<dyn RemoteCalls>>,
    /// Milliseconds since the host's start, as of the sweeper's last tick.
    pub(super) millis: AtomicU64,
    pub(super) timers: Arc<Timers>,
    /// Objects that are to live without being called, whose activation failed: to be tried again.
    pub(super) restarts: Mutex<Vec<(Arc<Slot>, ObjectKey)>>,
    /// What timed turns tell of single objects.
    pub(super) busiest: Busiest,
}

impl Common {
    /// Returns the time in milliseconds since the host's start, at most one tick old: reading it
    /// costs nothing.
    pub(super) fn now(&self) -> u64 {
        self.millis.load(Ordering::Relaxed)
    }

    /// The clock of the fence, on which deadlines are kept.
    pub(super) fn clock(&self) -> Clock {
        self.fence.clock()
    }

    pub(super) fn caller(&self) -> Option<Caller> {
        Some(Caller {
            host: self.host.upgrade()?,
            remote: self.remote.get()?.upgrade()?,
        })
    }

    /// Whether a call belongs to a turn that holds this place open.
    pub(super) fn hold(&self, slot: &Slot, path: &CallPath) -> Hold {
        let is_here = |key: &ObjectKey| match key.place(&self.layout) {
            Ok(Place::Shard(shard)) => slot.shard == Some(shard),
            Ok(Place::Node(node)) => slot.shard.is_none() && node == self.node,
            Err(_) => false,
        };
        if path.any(is_here) {
            Hold::Held
        } else {
            Hold::Free
        }
    }

    pub(super) fn restart_later(&self, slot: &Arc<Slot>, key: &ObjectKey) {
        self.restarts.lock().push((slot.clone(), key.clone()));
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").finish_non_exhaustive()
    }
}

/// What became of state that came with a shard when its shard was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adopted {
    /// It is live.
    Lives,
    /// It is to be woken: that takes time.
    Sleeps,
    /// A call was faster, or the shard is not open any more.
    Otherwise,
}

/// A type whose name alone is known.
pub(super) trait HostedType: Any + fmt::Debug + Send + Sync {
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

/// A type as one host runs it.
pub(super) struct Hosted<T> {
    pub(super) common: Arc<Common>,
    pub(super) name: Arc<str>,
    pub(super) settings: TypeSettings,
    pub(super) idle_millis: u64,
    pub(super) activate: Option<Hook<T>>,
    pub(super) deactivate: Option<Hook<T>>,
    methods: HashMap<&'static str, MethodEntry<T>>,
    /// Changed since their last save, each once.
    dirty: Mutex<Vec<Weak<Activation<T>>>>,
    saved_at: AtomicU64,
    turns: TurnMetrics,
    /// What the turns of each method took that were timed.
    times: Mutex<BTreeMap<&'static str, MethodTimes>>,
}

impl<T: Methods> Hosted<T> {
    pub(super) fn erased(common: Arc<Common>) -> Arc<dyn HostedType> {
        let settings = T::settings();
        let methods = T::methods().into_iter().map(|entry| (entry.name, entry));
        let name = T::TYPE.into();
        let turns = common.metrics.objects.turns_of(&name);
        Arc::new(Self {
            common,
            turns,
            name,
            idle_millis: millis(settings.idle),
            settings,
            activate: T::ACTIVATE,
            deactivate: T::DEACTIVATE,
            methods: methods.collect(),
            dirty: Mutex::new(Vec::new()),
            saved_at: AtomicU64::new(0),
            times: Mutex::default(),
        })
    }
}

impl<T: Object> Hosted<T> {
    /// Runs a method of the object with this key when its turn comes. Never `Called::Stale`.
    pub(super) async fn call<M: Method<Object = T>>(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        key: &ObjectKey,
        mut method: M,
        info: CallInfo,
    ) -> Called<M> {
        loop {
            let made = self.activation(slot, key, &info.path, || info.clone());
            let Some(activation) = made else {
                return Called::NotHere(method);
            };
            match activation.call(method, info.clone()).await {
                Called::Stale(again) => method = again,
                called @ (Called::Done(_) | Called::NotHere(_)) => return called,
            }
        }
    }

    /// Returns the object's activation, made now if there was none; `None` if its shard is not
    /// open here or the node is fenced. `info` is asked, of the call that needs it, only if a new
    /// one is made.
    pub(super) fn activation(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        key: &ObjectKey,
        path: &CallPath,
        info: impl FnOnce() -> CallInfo,
    ) -> Option<Arc<Activation<T>>> {
        let hold = || self.common.hold(slot, path);
        if let Some(activation) = existing(slot, key, hold).ok()? {
            return Some(activation);
        }
        let (activation, is_new) = self.insert(slot, key, hold)?;
        if is_new {
            activation.start(&info());
        }
        Some(activation)
    }

    /// Puts a new activation into the table, unless somebody else has; `None`: not open here.
    fn insert(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        key: &ObjectKey,
        hold: impl FnOnce() -> Hold,
    ) -> Option<(Arc<Activation<T>>, bool)> {
        if !self.common.fence.is_open() {
            return None;
        }
        let mut table = slot.table.write();
        if !table.admits(hold) {
            return None;
        }
        if let Some(activation) = table.find(key).map(downcast) {
            return Some((activation, false));
        }
        let key = key.with_type_name(&self.name);
        let activation = Activation::new(key, table.token, slot.clone(), self.clone());
        if !table.is_open() {
            activation.pause();
        }
        table.insert(activation.clone());
        Some((activation, true))
    }

    async fn chore(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        key: &ObjectKey,
        task: Task,
        info: CallInfo,
    ) -> Answer {
        let deadline = self.common.clock().instant(info.deadline);
        let hold = || self.common.hold(slot, &info.path);
        loop {
            let activation = match (existing(slot, key, hold).ok()?, task) {
                (Some(activation), _) => activation,
                (None, Task::Save | Task::Deactivate) => return Some(Ok(())),
                (None, Task::Delete) => match self.insert(slot, key, hold)? {
                    (activation, true) => return delete_cold(activation, deadline).await,
                    (activation, false) => activation,
                },
            };
            let (chore, answer) = Chore::new(task, info.clone());
            match activation.submit(chore) {
                Ok(()) => return finished(answer, deadline).await,
                Err(Gate::Gone) => {} // Just now: look for a new one.
                Err(Gate::Open | Gate::Paused | Gate::Sealed) => return None,
            }
        }
    }

    /// Returns a method of the type.
    pub(super) fn method(&self, name: &str) -> Option<&MethodEntry<T>> {
        self.methods.get(name)
    }

    /// Whether making an activation takes more than making the state.
    pub(super) fn wakes_slowly(&self) -> bool {
        T::STATE.is_some() || self.activate.is_some()
    }

    pub(super) fn note_dirty(&self, activation: &Arc<Activation<T>>) {
        self.dirty.lock().push(Arc::downgrade(activation));
    }

    /// Whether the object is one of those that live without being called.
    pub(super) fn is_auto_started(&self, key: &ObjectKey) -> bool {
        match self.settings.auto_start {
            AutoStart::Never => false,
            AutoStart::PerCluster => key.id() == AUTO_CLUSTER_ID,
            AutoStart::PerShard => key.id().starts_with("shard#") && key.id().ends_with("/auto"),
            AutoStart::PerNode => key.id().starts_with("node#") && key.id().ends_with("/auto"),
        }
    }
}

/// The ID of a cluster's one auto-started object of a type.
pub(super) const AUTO_CLUSTER_ID: &str = "cluster";

/// The shard is not open here.
struct Shut;

fn existing<T: Object>(
    slot: &Slot,
    key: &ObjectKey,
    hold: impl FnOnce() -> Hold,
) -> Result<Option<Arc<Activation<T>>>, Shut> {
    let table = slot.table.read();
    if table.admits(hold) {
        Ok(table.find(key).map(downcast))
    } else {
        Err(Shut)
    }
}

fn downcast<T: Object>(live: &Arc<dyn Live>) -> Arc<Activation<T>> {
    let any: Arc<dyn Any + Send + Sync> = live.clone();
    any.downcast()
        .expect("a type's name belongs to one type of a host")
}

async fn delete_cold<T: Object>(activation: Arc<Activation<T>>, deadline: Instant) -> Answer {
    let tasks = activation.tasks().clone();
    let work = tasks.spawn_work(async move { activation.delete_cold().await });
    match tokio::time::timeout_at(deadline, work).await {
        Ok(Ok(deleted)) => Some(deleted),
        Ok(Err(_)) => Some(Err(CallError::Fenced("the process ends".into()))),
        Err(_) => Some(Err(super::envelope::late_end(DELETE))),
    }
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
                return match self.methods.get(name).map(|entry| entry.run) {
                    Some(run) => run(self, slot, call),
                    None => Box::pin(std::future::ready(Dispatch::Done(Err(unknown(&call))))),
                };
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
                Some(Ok(())) => Dispatch::Done(super::encoding::encode_reply(
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
                self.common.metrics.objects.activations.inc();
                activation
                    .activate(CallInfo::background(self.common.clock()))
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

impl<T: Object> SampleSink for Hosted<T> {
    fn note(&self, turn: TimedTurn<'_>) {
        let TimedTurn {
            key, method, wall, ..
        } = turn;
        self.turns.note(wall, turn.cpu, turn.stands_for);
        self.times.lock().entry(method).or_default().note(wall);
        let now = self.common.now();
        self.common.busiest.note(key, wall, turn.stands_for, now);
    }
}

fn unknown(call: &EncodedCall) -> CallError {
    CallError::UnknownMethod(format!("{}.{}", call.key.object_type(), call.method))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<T> fmt::Debug for Hosted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
