//! How an activation leaves with its shard, or begins anew here if that stays after all.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::{Activation, Live, State};
use crate::object::travel::{Dormant, Packed, STATE_BYTES_MAX, StateError};
use crate::object::turn::panic_text;
use crate::object::{Object, timers};

impl<T: Object> Activation<T> {
    /// Does what [`Live::pack`] says.
    pub(super) async fn packed(self: Arc<Self>) -> Result<Option<Packed>, StateError> {
        let (mut held, used) = {
            let mut mailbox = self.mailbox.lock();
            match mailbox.take_last() {
                Some(held) => (held, mailbox.used().at()),
                None => return Ok(None), // It cannot be trusted, and begins anew.
            }
        };
        let prepared = AssertUnwindSafe(self.prepare(&mut held))
            .catch_unwind()
            .await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(panic) => {
                self.note_panic("deactivate", &panic_text(&*panic));
                return Ok(None);
            }
        };
        drop(self.mailbox.lock().put_back(held));
        let (key, now) = (self.key.clone(), self.hosted.common.now());
        match prepared {
            Ok(state) => Ok(state.map(|state| Packed {
                key,
                state,
                idle: Duration::from_millis(now.saturating_sub(used)),
                timers: timers::pack(self.kept_timers(), Instant::now()),
            })),
            Err(reason) => Err(StateError {
                object: key,
                reason,
            }),
        }
    }

    /// Runs the hook, saves, and writes the state of a sealed activation.
    async fn prepare(self: &Arc<Self>, held: &mut State<T>) -> Result<Option<Bytes>, String> {
        if self.hosted.deactivate.is_some() && !self.parted.swap(true, Ordering::AcqRel) {
            self.say_goodbye(held).await;
        }
        self.save(held).await.map_err(|error| error.to_string())?;
        let written = T::TRAVEL.map(|codec| (codec.encode)(&held.state));
        match written.transpose()? {
            Some(state) if state.len() > STATE_BYTES_MAX => Err(format!(
                "it has {} bytes, and at most {STATE_BYTES_MAX} travel",
                state.len()
            )),
            written => Ok(written.map(Bytes::from)),
        }
    }

    /// Ends it for good, since its deactivation hook has run. Returns its state to begin anew from;
    /// `None`: that cannot be trusted.
    pub(super) fn taken_back(self: Arc<Self>) -> Option<Dormant> {
        let (held, used) = {
            let mut mailbox = self.mailbox.lock();
            (mailbox.take_last(), mailbox.used().at())
        };
        let timers = self.end_timers();
        self.discard();
        let held = Arc::into_inner(held?)?;
        let state = Box::new(held.state);
        Some(Dormant {
            state,
            used,
            timers,
        })
    }
}
