//! One tick: a turn that nobody waits for.

use std::panic::catch_unwind;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use parking_lot::Mutex;
use tracing::{error, warn};

use super::{Due, FAILED_OUTCOME, RAN_OUTCOME, Timers};
use crate::error::CallError;
use crate::object::activation::{Activation, Live};
use crate::object::encoding::decode_args;
use crate::object::envelope::{Queued, Refusal, Started};
use crate::object::mailbox::{End, Gate};
use crate::object::turn::{Begun, CallInfo, Held, begin, is_brief};
use crate::object::{Access, CallPath, Format, Method};

/// A tick that waits for its turn.
struct Tick<M: Method> {
    due: Due<Weak<dyn Live>>,
    timers: Arc<Timers>,
    /// Until its turn begins.
    method: Mutex<Option<M>>,
}

/// Lets a tick wait for its turn in its object's mailbox.
pub(in crate::object) fn tick<M: Method>(
    activation: &Arc<Activation<M::Object>>,
    timers: &Arc<Timers>,
    due: Due<Weak<dyn Live>>,
) {
    // Reading values runs code of users, which may panic.
    let read = catch_unwind(|| decode_args::<M>(Format::MessagePack, &due.spec.args));
    let Ok(Ok(method)) = read else {
        let (object, timer) = (activation.key(), &due.spec.name);
        error!(%object, %timer, "its arguments cannot be read any more: the timer ends");
        timers.change(|book| book.drop_one(due.place, due.id));
        return;
    };
    let tick = Arc::new(Tick {
        due,
        timers: timers.clone(),
        method: Mutex::new(Some(method)),
    });
    match activation.submit(tick.clone()) {
        Ok(()) => {}
        Err(Gate::Gone) => timers.forget(tick.due.place),
        Err(Gate::Open | Gate::Paused | Gate::Sealed) => tick.put_off(),
    }
}

impl<M: Method> Tick<M> {
    fn put_off(&self) {
        self.timers.put_off(self.due.place, self.due.id);
    }

    fn ended(&self, activation: &Activation<M::Object>, result: &Result<M::Reply, CallError>) {
        let outcome = match result {
            Ok(_) => RAN_OUTCOME,
            Err(error) => {
                let (object, timer) = (activation.key(), &self.due.spec.name);
                warn!(%object, %timer, method = M::NAME, %error, "a tick failed");
                FAILED_OUTCOME
            }
        };
        self.timers.ended(self.due.place, self.due.id, outcome);
    }
}

impl<M: Method> Queued<M::Object> for Tick<M> {
    fn access(&self) -> Access {
        M::BODY.access()
    }

    fn method(&self) -> &'static str {
        M::NAME
    }

    fn is_brief(&self) -> bool {
        is_brief::<M>()
    }

    fn path(&self) -> CallPath {
        CallPath::EMPTY
    }

    fn start(
        self: Arc<Self>,
        activation: &Arc<Activation<M::Object>>,
        held: Arc<Held<M::Object>>,
    ) -> Started<M::Object> {
        let untouched = |held| {
            Started::Ended(End {
                state: Some(held),
                deactivate: false,
            })
        };
        if !activation.may_begin(activation.now()) {
            self.put_off();
            return untouched(held);
        }
        if !self.timers.begin(self.due.place, self.due.id) {
            return untouched(held); // Cancelled or replaced since.
        }
        let method = self.method.lock().take();
        let method = method.expect("a tick has one turn");
        // The turn has the time that a call would have; nobody waits for its end but the next tick.
        let info = CallInfo::background(Live::clock(&**activation));
        match begin(activation, held, info, method) {
            Begun::Ended((end, result)) => {
                self.ended(activation, &result);
                Started::Ended(end)
            }
            Begun::Suspended(turn) => {
                let activation = activation.clone();
                let rest = turn.map(move |(end, result)| {
                    self.ended(&activation, &result);
                    end
                });
                Started::Suspended(rest.boxed())
            }
        }
    }

    fn refuse(&self, refusal: Refusal) {
        match refusal {
            // The shard closes, the mailbox is full, or the activation ends, and its timers too.
            Refusal::NotHere | Refusal::Failed(_) => self.put_off(),
        }
    }
}
