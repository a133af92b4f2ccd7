//! Wall-clock time for records, which goes the way of the node's own clock. Pure but for its start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock::{Clock, Moment};

/// Tells the wall clock's time as counted from a start, so that it never goes back, and stands
/// still where tests pause the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    start: SystemTime,
    started: Moment,
}

impl Wall {
    /// Begins to count beside a clock.
    pub(super) fn beside(clock: Clock) -> Self {
        Self {
            start: SystemTime::now(),
            started: clock.now(),
        }
    }

    /// Returns the time at a moment of the clock, in whole milliseconds as records keep it.
    pub(super) fn at(self, now: Moment) -> SystemTime {
        let at = self.start + now.since(self.started);
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let whole = u64::try_from(since_epoch.as_millis()).unwrap_or_default();
        UNIX_EPOCH + Duration::from_millis(whole)
    }
}
