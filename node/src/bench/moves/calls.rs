//! Calls that were made: how long they took, and how many failed.

use std::time::Duration;

use hdrhistogram::Histogram;
use steading::CallError;

use super::super::callers::histogram;

/// What some calls came to.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    times: Histogram<u64>,
    pub(super) failed: u64,
    /// Why the first of those failed.
    pub(super) first_error: Option<CallError>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            times: histogram(),
            failed: 0,
            first_error: None,
        }
    }

    /// Takes in a call that took so long, also if it failed.
    pub(super) fn record(&mut self, took: Duration, error: Option<CallError>) {
        self.times
            .saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.failed += u64::from(error.is_some());
        self.first_error = self.first_error.take().or(error);
    }

    /// Takes in other calls.
    pub(super) fn add(&mut self, other: &Self) {
        self.times
            .add(&other.times)
            .expect("all histograms have the same bounds");
        self.add_failed(other.failed, other.first_error.as_ref());
    }

    /// Takes in that calls failed whose times are told elsewhere.
    pub(super) fn add_failed(&mut self, failed: u64, first_error: Option<&CallError>) {
        self.failed += failed;
        self.first_error = self.first_error.take().or_else(|| first_error.cloned());
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.times.len()
    }

    /// Returns the time, in milliseconds, that this share of the calls stayed within.
    pub(super) fn quantile_ms(&self, quantile: f64) -> f64 {
        Duration::from_nanos(self.times.value_at_quantile(quantile)).as_secs_f64() * 1e3
    }

    /// Returns how long the longest took, in milliseconds.
    pub(super) fn longest_ms(&self) -> f64 {
        Duration::from_nanos(self.times.max()).as_secs_f64() * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_up_with_the_first_failure_and_the_longest() {
        let (mut calls, mut others) = (Calls::new(), Calls::new());
        calls.record(Duration::from_millis(1), None);
        others.record(
            Duration::from_millis(9),
            Some(CallError::Deadline("late".into())),
        );
        others.record(
            Duration::from_millis(2),
            Some(CallError::Deadline("late".into())),
        );
        calls.add(&others);
        assert_eq!((calls.count(), calls.failed), (3, 2));
        assert!(calls.first_error.is_some());
        assert!((calls.longest_ms() - 9.0).abs() < 0.1);
        assert!((calls.quantile_ms(0.5) - 2.0).abs() < 0.1);
    }
}
