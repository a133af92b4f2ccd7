//! How an activation ends: in order, with its hook and a last save, or without a trace.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
use tracing::{debug, error};

use super::beginning::state_of;
use super::{Activation, Live, State};
use crate::error::CallError;
use crate::object::Object;
use crate::object::context::Context;
use crate::object::directory::Stage;
use crate::object::envelope::Refusal;
use crate::object::travel::Dormant;
use crate::object::turn::{CallInfo, panic_text};

impl<T: Object> Activation<T> {
    /// Runs the deactivation hook and saves. Errors are logged: nobody waits for them.
    pub(in crate::object) async fn end_in_order(self: &Arc<Self>, mut held: State<T>) {
        let end = AssertUnwindSafe(async {
            if !self.parted.load(Ordering::Acquire) {
                self.say_goodbye(&mut held).await;
            }
            self.save(&mut held).await
        });
        match end.catch_unwind().await {
            Ok(Ok(())) => debug!(object = %self.key, "deactivated"),
            Ok(Err(error)) => error!(object = %self.key, %error, "cannot save at its end"),
            Err(panic) => {
                error!(object = %self.key, why = panic_text(&*panic), "panicked at its end");
            }
        }
    }

    /// Ends in order an object that is in no table: its state came with the shard and was never
    /// woken. It is stored or has hooks, or it would have been made an activation.
    pub(in crate::object) async fn end_arrived(self: Arc<Self>, dormant: Dormant) {
        let mut arrived = Some(state_of(dormant.state));
        match self.load(&mut arrived).await {
            Ok(_) => {}
            Err(why) => error!(object = %self.key, why, "cannot save what came with the shard"),
        }
    }

    pub(super) async fn retire(self: Arc<Self>, held: State<T>) {
        self.end_in_order(held).await;
        self.over(None);
    }

    /// Runs the deactivation hook, if the type has one.
    pub(in crate::object) async fn say_goodbye(self: &Arc<Self>, held: &mut State<T>) {
        let Some(hook) = self.hosted.deactivate else {
            return;
        };
        let held = Arc::get_mut(held).expect("an exclusive turn has the only reference");
        let context = Context::new(self.clone(), CallInfo::background(self.clock()));
        if let Err(why) = hook(&mut held.state, &context).await {
            error!(object = %self.key, why, "the deactivation hook failed");
        }
    }

    /// Ends this activation. Calls that wait go to a new one, unless the shard is not open any
    /// more or this one `failed`.
    pub(in crate::object) fn over(self: &Arc<Self>, failed: Option<&CallError>) {
        let mut table = self.slot.table.write();
        let remains = self.mailbox.lock().finish();
        let was_there = table.remove(&**self);
        let mut refused = remains.queue;
        let keep = self.hosted.is_auto_started(&self.key);
        let mut fresh = None;
        let is_wanted = match table.stage {
            Stage::Open => keep || !refused.is_empty(),
            Stage::Closing => !refused.is_empty(),
            Stage::Closed | Stage::Sealed | Stage::Ending => false,
        };
        if failed.is_none() && was_there && is_wanted {
            let (key, slot) = (self.key.clone(), self.slot.clone());
            let queue = std::mem::take(&mut refused);
            let hosted = self.hosted.clone();
            let activation = Self::with_queue(key, table.token, slot, hosted, queue);
            if !table.is_open() {
                refused = activation.mailbox.lock().pause(|job| self.hold(job));
            }
            table.insert(activation.clone());
            fresh = Some(activation);
        }
        drop(table);
        drop(self.end_timers());
        if let Some(token) = remains.cancellation {
            token.cancel();
        }
        drop(remains.state);
        for job in refused {
            job.refuse(failed.map_or(Refusal::NotHere, |error| Refusal::Failed(error.clone())));
        }
        self.slot.quiet.notify_waiters();
        if let Some(fresh) = fresh {
            fresh.start(&CallInfo::background(self.clock()));
        } else if failed.is_some() && keep {
            self.hosted.common.restart_later(&self.slot, &self.key);
        }
    }
}
