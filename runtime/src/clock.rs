//! The clock that fences are measured on.
//!
//! It counts the time a machine is suspended, which `Instant` on Linux does not: a lease runs out
//! while its owner sleeps, so the owner's clock must run too (ADR-0002).

use std::time::Duration;

use tokio::time::Instant;

/// A moment on a [`Clock`], in nanoseconds since some moment in the past of that clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Before every moment a clock tells.
    pub const START: Self = Self(0);

    /// After every moment a clock tells.
    pub const NEVER: Self = Self(u64::MAX);

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
        Self(self.0.saturating_add(nanos(after)))
    }

    /// Returns the moment `before` this one.
    #[must_use]
    pub fn minus(self, before: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(before)))
    }

    /// Returns the time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The first second of tokio's clock is left free, so that no reading is [`Moment::START`].
const TOKIO_START: Moment = Moment(1_000_000_000);

/// Tells the time that fences are measured in.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's `CLOCK_BOOTTIME`; about 20 ns a reading.
    Boot,
    /// Tokio's clock, counted from this start, so that tests can pause and advance it.
    Tokio(Instant),
}

impl Clock {
    /// Returns a clock that follows tokio's, beginning now.
    pub fn tokio() -> Self {
        Self::Tokio(Instant::now())
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
            Self::Tokio(start) => TOKIO_START.plus(start.elapsed()),
        }
    }

    /// Returns a moment as timers and other nodes know it. Costs two readings, but for tokio's
    /// clock. If the machine is suspended between now and then, the instant comes later.
    pub fn instant(&self, moment: Moment) -> Instant {
        match self {
            Self::Boot => {
                let (now, instant) = (self.now(), Instant::now());
                let past = instant.checked_sub(now.since(moment));
                past.unwrap_or(instant) + moment.since(now)
            }
            Self::Tokio(start) => *start + moment.since(TOKIO_START),
        }
    }

    /// Returns the moment of an instant: the inverse of [`Clock::instant`], at the same cost.
    pub fn moment(&self, instant: Instant) -> Moment {
        match self {
            Self::Boot => {
                let (now, reading) = (self.now(), Instant::now());
                let future = instant.saturating_duration_since(reading);
                let past = reading.saturating_duration_since(instant);
                now.plus(future).minus(past)
            }
            Self::Tokio(start) => TOKIO_START.plus(instant.saturating_duration_since(*start)),
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

    /// What the next test runs where it was suspended.
    #[test]
    #[ignore = "does nothing but tell the time"]
    fn tells_boot_time() {
        println!("boot time: {}", Clock::Boot.now().nanos());
    }

    /// In a time namespace of its own the system's boot time is a day ahead, and the time without
    /// suspend is not: as if the machine had been suspended for a day.
    #[test]
    fn boot_time_counts_suspend() {
        const DAY: Duration = Duration::from_hours(24);
        let suspended = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--user", "--map-root-user", "--time"]);
            command.args(["--boottime", &DAY.as_secs().to_string()]);
            command.args(["--", program]).args(arguments);
            command
                .output()
                .ok()
                .filter(|output| output.status.success())
        };
        if suspended("true", &[]).is_none() {
            println!("not shown: this system allows no time namespace");
            return;
        }
        let this = std::env::current_exe().expect("a test runs");
        let test = "clock::tests::tells_boot_time";
        let arguments = ["--exact", test, "--ignored", "--nocapture"];
        let before = Clock::Boot.now();
        let output = suspended(this.to_str().expect("UTF-8"), &arguments).expect("it runs");
        let told = String::from_utf8(output.stdout).expect("UTF-8");
        let told = told.split("boot time: ").nth(1).expect("the time");
        let told = told.split_whitespace().next().expect("the time");
        let then = Moment::from_nanos(told.parse().expect("a number"));
        assert!(
            then.since(before) >= DAY,
            "{then:?} is not a day after {before:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_is_the_same_instant_there_and_back() {
        let clock = Clock::tokio();
        let later = clock.now().plus(Duration::from_secs(3));
        assert_eq!(
            clock.instant(later),
            Instant::now() + Duration::from_secs(3)
        );
        assert_eq!(clock.moment(clock.instant(later)), later);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.moment(clock.instant(later)), later, "when it is over");
        let _in_reach = clock.instant(Moment::NEVER);
    }

    #[test]
    fn boot_time_and_instants_are_as_far_apart_there_and_back() {
        let near = |a: Moment, b: Moment| a.since(b) + b.since(a) < Duration::from_secs(1);
        let now = Clock::Boot.now();
        for moment in [
            now,
            now.plus(Duration::from_hours(1)),
            now.minus(Duration::from_secs(1)),
        ] {
            let back = Clock::Boot.moment(Clock::Boot.instant(moment));
            assert!(near(back, moment), "{back:?} for {moment:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_moves_only_when_told() {
        let clock = Clock::tokio();
        let before = clock.now();
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now().since(before), Duration::from_secs(3));
    }
}
