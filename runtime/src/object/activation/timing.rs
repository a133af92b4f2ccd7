//! An activation's timers. They are kept in the host's book; all that stands here is whether to look.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Activation, Live};
use crate::object::Object;
use crate::object::timers::Kept;
use crate::object::travel::Dormant;

impl<T: Object> Activation<T> {
    /// Takes over the timers that came with its state.
    pub(super) fn install(self: &Arc<Self>, timers: Vec<Kept>) {
        let live: Arc<dyn Live> = self.clone();
        self.hosted.common.timers.install(&live, timers);
    }

    pub(super) fn has_timers(&self) -> bool {
        self.timed.load(Ordering::Acquire) && self.hosted.common.timers.has_any(self)
    }

    pub(super) fn kept_timers(&self) -> Vec<Kept> {
        if self.timed.load(Ordering::Acquire) {
            self.hosted.common.timers.of(self)
        } else {
            Vec::new()
        }
    }

    /// Ends its timers, and returns them.
    pub(super) fn end_timers(&self) -> Vec<Kept> {
        if self.timed.load(Ordering::Acquire) {
            self.hosted.common.timers.end(self)
        } else {
            Vec::new()
        }
    }

    /// Gives the state that came with the shard back, with its timers: it could not be activated.
    /// Timers must tick though nobody calls, so it is tried again.
    pub(super) fn keep_for_later(self: &Arc<Self>, state: T, used: u64) {
        let timers = self.end_timers();
        let is_timed = !timers.is_empty();
        let dormant = Dormant {
            state: Box::new(state),
            used,
            timers,
        };
        self.slot.put_dormant(self.key.clone(), dormant);
        if is_timed {
            self.hosted.common.restart_later(&self.slot, &self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::Activation;

    #[test]
    fn who_has_no_timers_pays_no_byte_for_them() {
        let flags = size_of::<Activation<u8>>() - offset_of!(Activation<u8>, discarded);
        assert_eq!(flags, size_of::<usize>(), "all flags share one word");
    }
}
