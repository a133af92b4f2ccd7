//! The clock that fences are measured on.
//!
//! It counts the time a machine is suspended, which `Instant` on Linux does not: a lease runs out
//! while its owner sleeps, so the owner's clock must run too (ADR-0002).

use std::time::Duration;

/// A moment on a [`Clock`], in nanoseconds since some moment in the past of that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Before every moment a clock tells.
    pub const START: Self = Self(0);

    /// Wraps nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Returns nanoseconds.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Returns the moment `after` this one.
    #[must_use]
    pub fn plus(self, after: Duration) -> Self {
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Tells the time that fences are measured in.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's `CLOCK_BOOTTIME`; about 20 ns a reading.
    Boot,
    /// Tokio's clock, counted from this start, so that tests can pause and advance it.
    Tokio(tokio::time::Instant),
}

impl Clock {
    /// Returns a clock that follows tokio's, beginning now.
    pub fn tokio() -> Self {
        Self::Tokio(tokio::time::Instant::now())
    }

    /// Returns the present moment.
    pub fn now(&self) -> Moment {
        match self {
            Self::Boot => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(now.tv_sec).expect("time since boot is positive");
                let nanos = u64::try_from(now.tv_nsec).expect("nanoseconds are positive");
                Moment(seconds * 1_000_000_000 + nanos)
            }
            // The first second is left free, so that no reading is `Moment::START`.
            Self::Tokio(start) => Moment::START.plus(Duration::from_secs(1) + start.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_forward() {
        let before = Clock::Boot.now();
        assert!(Clock::Boot.now() >= before && before > Moment::START);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_moves_only_when_told() {
        let clock = Clock::tokio();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(3));
    }
}
