//! What a shard asks of its activations, whose types it does not know.

use std::any::Any;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Activation, State};
use crate::clock::Clock;
use crate::ids::{ObjectKey, Token};
use crate::object::envelope::{Queued, Refusal};
use crate::object::hosted::HostedType;
use crate::object::mailbox::Mailbox;
use crate::object::timers::{Due, Timers};
use crate::object::travel::{Dormant, Packed, StateError};
use crate::object::{Caller, Object, ObjectInfo, TimerError};

/// An activation whose type is not known.
pub(in crate::object) trait Live: Any + fmt::Debug + Send + Sync {
    fn key(&self) -> &ObjectKey;
    fn token(&self) -> Token;
    /// The clock of its calls' deadlines.
    fn clock(&self) -> Clock;
    /// How its turns call others; `None` while the node ends.
    fn caller(&self) -> Option<Caller>;
    /// A token that is cancelled when it ends.
    fn cancellation(&self) -> CancellationToken;
    fn info(&self, now: u64) -> ObjectInfo;
    /// How many bytes storage has of its state, as far as that is known now.
    fn state_len(&self) -> usize;
    /// The method whose turn began last.
    fn running(&self) -> &'static str;
    /// Whether no turn runs.
    fn is_quiet(&self) -> bool;
    /// Lets no more turns start and sends away those that wait, except for calls of turns of the
    /// same shard: the shard closes.
    fn pause(&self);
    /// Lets no turn start at all, if it is paused and none runs; returns whether that is so.
    fn seal(&self) -> bool;
    /// Takes back what [`Live::seal`] did.
    fn unseal(&self);
    /// Lets turns start again: the shard does not close after all.
    fn resume(self: Arc<Self>);
    /// Prepares a sealed activation for the move of its shard, and returns its state if that
    /// travels. Everything stays as it is but for what the deactivation hook does.
    fn pack(self: Arc<Self>) -> BoxFuture<'static, Result<Option<Packed>, StateError>>;
    /// Lets a sealed activation go on. One whose deactivation hook has run cannot: its state is
    /// returned, to begin anew from.
    fn reopen(self: Arc<Self>) -> Option<Dormant>;
    /// Ends a sealed activation; returns what must be awaited for that.
    fn end_paused(self: Arc<Self>) -> Option<BoxFuture<'static, ()>>;
    /// Ends it without saving, and keeps running turns from storing and answering.
    fn discard(&self);
    /// The host's timers.
    fn timers(&self) -> &Arc<Timers>;
    /// Notes that it has timers, before it is given one.
    fn note_timed(&self);
    /// Whether it has ended.
    fn is_over(&self) -> bool;
    /// Returns the full name of a method, if the type has it and it can read these arguments.
    fn readable(&self, method: &str, args: &[u8]) -> Result<&'static str, TimerError>;
    /// Lets a tick of one of its timers wait for its turn.
    fn tick(self: Arc<Self>, due: Due<Weak<dyn Live>>);
    /// Begins its orderly end if it has not been used for its type's idle time, and has no timers.
    fn expire(self: Arc<Self>, now: u64) -> Option<BoxFuture<'static, ()>>;
}

impl<T: Object> Live for Activation<T> {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

    fn token(&self) -> Token {
        self.token
    }

    fn clock(&self) -> Clock {
        self.hosted.common.clock()
    }

    fn caller(&self) -> Option<Caller> {
        self.hosted.common.caller()
    }

    fn cancellation(&self) -> CancellationToken {
        self.mailbox.lock().cancellation()
    }

    fn info(&self, now: u64) -> ObjectInfo {
        let mailbox = self.mailbox.lock();
        let idle_millis = if mailbox.is_quiet() {
            now.saturating_sub(mailbox.used().at())
        } else {
            0
        };
        ObjectInfo {
            key: self.key.clone(),
            shard: self.slot.shard,
            waiting: mailbox.waiting(),
            idle: Duration::from_millis(idle_millis),
            method: mailbox.running().into(),
            state_bytes: saved_len(&mailbox) as u64,
            turns: mailbox.used().turns(),
            timed: self.hosted.common.busiest.of(&self.key, now),
        }
    }

    fn state_len(&self) -> usize {
        saved_len(&self.mailbox.lock())
    }

    fn running(&self) -> &'static str {
        self.mailbox.lock().running()
    }

    fn is_quiet(&self) -> bool {
        self.mailbox.lock().is_quiet()
    }

    fn pause(&self) {
        let waiting = self.mailbox.lock().pause(|job| self.hold(job));
        for job in waiting {
            job.refuse(Refusal::NotHere);
        }
    }

    fn seal(&self) -> bool {
        self.mailbox.lock().seal()
    }

    fn unseal(&self) {
        self.mailbox.lock().unseal();
    }

    fn resume(self: Arc<Self>) {
        let next = self.mailbox.lock().resume();
        self.act(next);
    }

    fn pack(self: Arc<Self>) -> BoxFuture<'static, Result<Option<Packed>, StateError>> {
        Box::pin(self.packed())
    }

    fn reopen(self: Arc<Self>) -> Option<Dormant> {
        if self.parted.load(Ordering::Acquire) {
            return self.taken_back();
        }
        self.unseal();
        self.resume();
        None
    }

    fn end_paused(self: Arc<Self>) -> Option<BoxFuture<'static, ()>> {
        let last = self.mailbox.lock().take_last();
        let held = last.filter(|held| {
            let dirty = held.saved.as_ref().is_some_and(|saved| saved.dirty);
            dirty || self.hosted.deactivate.is_some() && !self.parted.load(Ordering::Acquire)
        });
        let Some(held) = held else {
            self.over(None);
            return None;
        };
        Some(Box::pin(self.retire(held)))
    }

    fn discard(&self) {
        self.discarded.store(true, Ordering::Release);
        let remains = self.mailbox.lock().finish();
        drop(self.end_timers());
        if let Some(token) = remains.cancellation {
            token.cancel();
        }
        for job in remains.queue {
            job.refuse(Refusal::NotHere);
        }
    }

    fn timers(&self) -> &Arc<Timers> {
        &self.hosted.common.timers
    }

    fn note_timed(&self) {
        self.timed.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.discarded.load(Ordering::Acquire) || self.mailbox.lock().is_over()
    }

    fn readable(&self, method: &str, args: &[u8]) -> Result<&'static str, TimerError> {
        self.hosted.readable(method, args)
    }

    fn tick(self: Arc<Self>, due: Due<Weak<dyn Live>>) {
        let method = self.hosted.method(due.spec.method);
        let method = method.expect("it was there when the timer was set");
        (method.tick)(&self, self.timers(), due);
    }

    fn expire(self: Arc<Self>, now: u64) -> Option<BoxFuture<'static, ()>> {
        if self.hosted.is_auto_started(&self.key) {
            return None;
        }
        let used_before = now.checked_sub(self.hosted.idle_millis)?;
        if self.has_timers() {
            return None;
        }
        let held = self.mailbox.lock().retire_if_idle(used_before)?;
        Some(Box::pin(self.retire(held)))
    }
}

/// How many bytes storage has of the state in a mailbox, as far as that is known now.
fn saved_len<T: Object>(mailbox: &Mailbox<State<T>, Arc<dyn Queued<T>>>) -> usize {
    let saved = mailbox.state().and_then(|held| held.saved.as_ref());
    let bytes = saved.and_then(|saved| saved.bytes.as_ref());
    bytes.map_or(0, Vec::len)
}
