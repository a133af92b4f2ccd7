//! Methods that keep a thread busy, told from those that only wait or are quick.
//!
//! A stream runs the calls it reads, one after the other; a method that computes for long would
//! hold up every other call of that connection. Such methods are found by measuring, and run
//! aside. On a busy machine a quick method can take long because its thread was not running, so a
//! long run only raises a suspicion, which the thread's own CPU time confirms.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::object::EncodedCall;

/// A run that computes for longer than this is heavy.
pub(super) const SLICE: Duration = Duration::from_micros(200);

/// A heavy method that was quick this many times in a row is not heavy any more.
const QUICK_RUNS: u32 = 64;

/// The most methods that are watched.
const METHODS_MAX: usize = 1024;

/// The methods that are under suspicion or found heavy. All others are not mentioned.
#[derive(Debug, Default)]
pub(super) struct Heavy {
    methods: Mutex<HashMap<Name, Verdict>>,
    len: AtomicUsize,
}

/// Type and method.
pub(super) type Name = (String, String);

/// Names the method that a call is to.
pub(super) fn name(call: &EncodedCall) -> Name {
    (call.key.object_type().to_owned(), call.method.to_string())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Suspected,
    Heavy { quick_runs: u32 },
}

/// Measures one run.
#[derive(Debug)]
pub(super) struct Measure {
    /// `None`: nobody suspects the method, so its CPU time, which is slow to read, is not read.
    suspected: Option<(Name, Duration)>,
    start: Instant,
}

impl Heavy {
    /// Whether calls of this method are to run aside.
    pub(super) fn is_heavy(&self, call: &EncodedCall) -> bool {
        let verdict = self.verdict(call);
        verdict.is_some_and(|(_, verdict)| matches!(verdict, Verdict::Heavy { .. }))
    }

    /// Begins to measure a run, on the thread that does it.
    pub(super) fn begin(&self, call: &EncodedCall, now: Instant) -> Measure {
        Measure {
            suspected: self.verdict(call).map(|(name, _)| (name, cpu_time())),
            start: now,
        }
    }

    /// Takes in a run that ended at `now`, on the same thread. `name` gives the type and method.
    pub(super) fn end(&self, measure: Measure, now: Instant, name: impl FnOnce() -> Name) {
        match measure.suspected {
            None if now - measure.start <= SLICE => {}
            None => self.suspect(name()),
            Some((name, start)) => self.judge(name, cpu_time().saturating_sub(start) > SLICE),
        }
    }

    fn verdict(&self, call: &EncodedCall) -> Option<(Name, Verdict)> {
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let name = name(call);
        let verdict = self.methods.lock().get(&name).copied()?;
        Some((name, verdict))
    }

    fn suspect(&self, name: Name) {
        let mut methods = self.methods.lock();
        if methods.len() < METHODS_MAX {
            methods.entry(name).or_insert(Verdict::Suspected);
            self.len.store(methods.len(), Ordering::Relaxed);
        }
    }

    fn judge(&self, name: Name, heavy: bool) {
        let mut methods = self.methods.lock();
        let verdict = methods.get(&name).and_then(|verdict| next(*verdict, heavy));
        match verdict {
            Some(verdict) => methods.insert(name, verdict),
            None => methods.remove(&name),
        };
        self.len.store(methods.len(), Ordering::Relaxed);
    }
}

/// Returns what is thought of a method after one more run; `None`: nothing any more.
fn next(verdict: Verdict, heavy: bool) -> Option<Verdict> {
    match (verdict, heavy) {
        (Verdict::Suspected | Verdict::Heavy { .. }, true) => {
            Some(Verdict::Heavy { quick_runs: 0 })
        }
        (Verdict::Suspected, false) => None,
        (Verdict::Heavy { quick_runs }, false) => {
            let quick_runs = quick_runs + 1;
            (quick_runs < QUICK_RUNS).then_some(Verdict::Heavy { quick_runs })
        }
    }
}

/// Returns how long this thread has computed so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_alone_condemns_nobody() {
        assert_eq!(next(Verdict::Suspected, false), None);
        assert_eq!(
            next(Verdict::Suspected, true),
            Some(Verdict::Heavy { quick_runs: 0 })
        );
    }

    #[test]
    fn a_heavy_method_is_forgiven_after_many_quick_runs() {
        let mut verdict = Some(Verdict::Heavy { quick_runs: 0 });
        for _ in 1..QUICK_RUNS {
            verdict = verdict.and_then(|verdict| next(verdict, false));
            assert!(verdict.is_some());
        }
        assert_eq!(verdict.and_then(|verdict| next(verdict, false)), None);
    }

    #[test]
    fn cpu_time_goes_forward() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(cpu_time() > before && sum < u64::MAX);
    }
}
