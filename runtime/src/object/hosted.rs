//! A type as one host runs it: its settings, hooks and methods, and the way to its activations.

mod erased;

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::time::Instant;

pub(super) use self::erased::{Adopted, HostedType};
use super::activation::{Activation, Called, Live};
use super::chore::{Answer, Chore, Task, finished};
use super::common::{Common, millis};
use super::directory::Slot;
use super::envelope::late_end;
use super::mailbox::{Gate, Hold};
use super::meter::{MethodTimes, SampleSink, TimedTurn};
use super::turn::CallInfo;
use super::{
    AutoStart, CallPath, DELETE, Hook, Method, MethodEntry, Methods, Object, TypeSettings,
};
use crate::error::CallError;
use crate::ids::ObjectKey;
use crate::telemetry::TurnMetrics;

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
        Err(_) => Some(Err(late_end(DELETE))),
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

impl<T> fmt::Debug for Hosted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosted")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
