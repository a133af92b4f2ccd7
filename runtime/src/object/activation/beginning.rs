//! How an activation begins: with state that came with its shard, that storage has, or that is new.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures::FutureExt;
use tracing::warn;

use super::{Activation, State};
use crate::error::CallError;
use crate::object::context::Context;
use crate::object::mailbox::End;
use crate::object::travel::Dormant;
use crate::object::turn::{CallInfo, Held, Saved, panic_text};
use crate::object::{CALL_TIMEOUT_DEFAULT, Object};
use crate::probation::Window;

/// Names the activation among the work of an object; no method has this name.
const ACTIVATION: &str = "(activation)";

impl<T: Object> Activation<T> {
    /// Activates the object; calls wait until it is done. The call that needed it gives the path
    /// and the least deadline of what the hook calls.
    pub(in crate::object) fn start(self: &Arc<Self>, info: &CallInfo) {
        self.hosted.common.metrics.objects.activations.inc();
        if self.slot.watching.is_on()
            && let Some(window) = self.hosted.common.window(&self.slot, &self.key, ACTIVATION)
        {
            let work = self.clone().start_in(window, info.clone());
            self.hosted.common.tasks.spawn_work(work);
            return;
        }
        if self.hosted.wakes_slowly() {
            let work = self.clone().activate(info.clone());
            self.hosted.common.tasks.spawn_work(work);
            return;
        }
        self.begin_at_once();
    }

    /// Activates the object, and waits for that.
    pub(in crate::object) async fn wake(self: Arc<Self>, info: CallInfo) {
        self.hosted.common.metrics.objects.activations.inc();
        let is_on = self.slot.watching.is_on();
        let common = &self.hosted.common;
        match is_on
            .then(|| common.window(&self.slot, &self.key, ACTIVATION))
            .flatten()
        {
            Some(window) => self.start_in(window, info).await,
            None => self.activate(info).await,
        }
    }

    /// Activates the object in a window of its watched shard.
    async fn start_in(
        self: Arc<Self>,
        window: impl Future<Output = Option<Window>>,
        info: CallInfo,
    ) {
        let Some(_window) = window.await else {
            return self.fail("the incarnation has expired");
        };
        if self.hosted.wakes_slowly() {
            self.activate(info).await;
        } else {
            self.begin_at_once();
        }
    }

    /// Begins with state that needs neither loading nor a hook.
    fn begin_at_once(self: &Arc<Self>) {
        if let Some(dormant) = self.slot.take_dormant(&self.key) {
            return self.begin_with(dormant);
        }
        match catch_unwind(T::create) {
            Ok(state) => self.activated(ready(state, None)),
            Err(panic) => self.fail(&panic_text(&*panic)),
        }
    }

    /// Loads and greets it. State that came with the shard is kept if that fails, but for a panic.
    pub(in crate::object) async fn activate(self: Arc<Self>, info: CallInfo) {
        let arrived = self.slot.take_dormant(&self.key);
        let used = arrived.as_ref().map(|dormant| dormant.used);
        let mut arrived = arrived.map(|dormant| {
            self.install(dormant.timers);
            state_of(dormant.state)
        });
        let made = AssertUnwindSafe(self.load_and_greet(&mut arrived, info)).catch_unwind();
        let made = made.await;
        if let (Some(state), Some(used)) = (arrived, used) {
            self.keep_for_later(state, used);
        }
        match made {
            Ok(Ok(end)) => self.activated(end),
            Ok(Err(why)) => self.fail(&why),
            Err(panic) => self.fail(&panic_text(&*panic)),
        }
    }

    /// Begins with state that came with the shard.
    pub(in crate::object) fn begin_with(self: &Arc<Self>, dormant: Dormant) {
        self.install(dormant.timers);
        let end = ready(state_of(dormant.state), None);
        let next = self.mailbox.lock().leave_alone(end, dormant.used);
        self.act(next);
    }

    fn activated(self: &Arc<Self>, end: End<State<T>>) {
        let next = self
            .mailbox
            .lock()
            .leave_alone(end, self.hosted.common.now());
        self.act(next);
    }

    async fn load_and_greet(
        self: &Arc<Self>,
        arrived: &mut Option<T>,
        mut info: CallInfo,
    ) -> Result<End<State<T>>, String> {
        let (mut state, saved) = self.load(arrived).await?;
        let mut deactivate = false;
        if let Some(hook) = self.hosted.activate {
            let least = self.now().plus(CALL_TIMEOUT_DEFAULT);
            info.deadline = info.deadline.max(least);
            let context = Context::new(self.clone(), info);
            if let Err(why) = hook(&mut state.0, &context).await {
                if state.1 {
                    *arrived = Some(state.0);
                }
                return Err(why);
            }
            deactivate = context.wants_deactivation();
        }
        Ok(End {
            deactivate,
            ..ready(state.0, saved)
        })
    }

    /// Returns the state, and whether it arrived with the shard: then that counts, not what storage
    /// has. Loading still comes first, for it raises storage's token over the old owner's.
    pub(super) async fn load(
        self: &Arc<Self>,
        arrived: &mut Option<T>,
    ) -> Result<((T, bool), Option<Box<Saved>>), String> {
        let Some(codec) = T::STATE else {
            let came = arrived.is_some();
            return Ok(((arrived.take().unwrap_or_else(T::create), came), None));
        };
        let storage = &self.hosted.common.storage;
        let stored = storage.load(&self.key, self.token).await;
        let stored = stored.map_err(|error| error.to_string())?;
        let mut saved = Box::new(Saved {
            version: stored.version,
            bytes: stored.state,
            dirty: false,
        });
        if let Some(state) = arrived {
            self.store_arrived(state, &mut saved).await?;
            let state = arrived.take().expect("it was there just now");
            return Ok(((state, true), Some(saved)));
        }
        let state = match &saved.bytes {
            Some(bytes) => {
                (codec.decode)(bytes).map_err(|why| format!("cannot read its state: {why}"))?
            }
            None => T::create(),
        };
        Ok(((state, false), Some(saved)))
    }

    /// Saves what arrived if storage has something else: it is not the old owner's storage.
    async fn store_arrived(&self, state: &T, saved: &mut Saved) -> Result<(), String> {
        let codec = T::STATE.expect("only stored types are loaded");
        let bytes = (codec.encode)(state)?;
        if saved.bytes.as_ref() != Some(&bytes) {
            let put = self.put(saved.version, Some(bytes.clone())).await;
            saved.version = put.map_err(|error| error.to_string())?;
            saved.bytes = Some(bytes);
        }
        Ok(())
    }

    fn fail(self: &Arc<Self>, why: &str) {
        warn!(object = %self.key, why, "cannot activate");
        let error = CallError::Activation(format!("{}: {why}", self.key));
        self.over(Some(&error));
    }
}

/// Returns the state of an object of this type.
pub(super) fn state_of<T: Object>(state: Box<dyn Any + Send + Sync>) -> T {
    let state = state.downcast();
    *state.expect("state was read by the type that it belongs to")
}

fn ready<T>(state: T, saved: Option<Box<Saved>>) -> End<State<T>> {
    End {
        state: Some(Arc::new(Held { state, saved })),
        deactivate: false,
    }
}
