//! When this node must not serve. (Skeleton.)

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{Clock, Moment};

/// The moment by its own clock until which a node may start turns, write and reply.
///
/// Shared by the lease keeper, which moves the deadline, and everything that serves, which only
/// asks. Asking reads the clock: about 20 ns.
#[derive(Debug)]
pub struct Fence {
    clock: Clock,
    deadline: AtomicU64,
}

impl Fence {
    /// Makes a fence that is closed until it is first extended.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            deadline: AtomicU64::new(0),
        }
    }

    /// Whether the node may serve at this moment.
    pub fn is_open(&self) -> bool {
        self.clock.now() < self.deadline()
    }

    /// Returns the moment from which the node must not serve.
    pub fn deadline(&self) -> Moment {
        Moment::from_nanos(self.deadline.load(Ordering::Acquire))
    }
}
