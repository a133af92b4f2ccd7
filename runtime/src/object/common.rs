//! What all objects of a host share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;

use super::busiest::Busiest;
use super::directory::Slot;
use super::mailbox::Hold;
use super::timers::Timers;
use super::{CallPath, Caller, Host, RemoteCalls};
use crate::clock::Clock;
use crate::fence::Fence;
use crate::ids::{Layout, NodeId, ObjectKey, Place};
use crate::probation::{Probation, Window};
use crate::storage::Storage;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

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
    /// The windows of watched shards.
    pub(super) probation: Arc<Probation>,
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

    /// Waits until new work of a watched shard may run; `None`: it never may, as the incarnation has
    /// expired. Returns at once what is to be awaited, or `None` if the work is not watched.
    #[cold]
    pub(super) fn window(
        &self,
        slot: &Slot,
        key: &ObjectKey,
        what: &'static str,
    ) -> Option<impl Future<Output = Option<Window>> + Send + use<>> {
        let watch = slot.watching.new_work(key, what)?;
        Some(self.probation.clone().enter(slot.shard?, watch))
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

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
