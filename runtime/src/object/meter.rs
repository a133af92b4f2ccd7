//! What the turns of one shard cost: counted exactly, timed by sample.
//!
//! A turn writes no shared memory for this beside the counter of its own shard. One turn of
//! [`TURNS_PER_SAMPLE`], and the first of each second or so, is timed on the CPU clock of the
//! thread that runs it, each time it is polled; it stands for all turns of the shard since the
//! last one that was timed. So the shard's CPU time is one word that only grows: whoever reads it
//! twice has the cost in between, however many read, and never half of an update.
//!
//! What the estimate leaves out: the error of a sample (with n samples in a window about the
//! turns' own relative deviation by √n), the CPU time of turns that have not ended yet, and what
//! is not the turn: reading arguments, writing replies, waiting.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::directory::Slot;
use crate::ids::ObjectKey;

/// One turn of so many of a shard is timed. The two readings of the clock are system calls of
/// 0.3 µs each, so timing one of 64 would add 10 ns and more to a turn of 250 ns; this adds one.
const TURNS_PER_SAMPLE: u64 = 1024;

/// Beside those, the first turn of a shard in each period of 2^this milliseconds is timed, so that
/// few but heavy turns are seen too.
const PERIOD_BITS: u32 = 10;

thread_local! {
    /// How much CPU time turns took that ran inside the turn which this thread is timing; `None`
    /// while it times none. Such turns are timed too, or theirs would count as the outer's.
    static INSIDE: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// The counters of one shard.
#[derive(Debug)]
pub(super) struct Meter {
    turns: AtomicU64,
    failures: AtomicU64,
    waits: AtomicU64,
    refusals: AtomicU64,
    /// How many turns the samples so far stand for.
    sampled: AtomicU64,
    /// The period of the last sample.
    period: AtomicU64,
    /// The CPU time of all those turns, as estimated from the samples.
    cpu_nanos: AtomicU64,
}

/// What a meter has counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) turns: u64,
    pub(super) failures: u64,
    /// Calls that found their object busy and had to wait for their turn.
    pub(super) waits: u64,
    /// Calls that found a mailbox full.
    pub(super) refusals: u64,
    pub(super) cpu: Duration,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            turns: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            sampled: AtomicU64::new(0),
            period: AtomicU64::new(u64::MAX),
            cpu_nanos: AtomicU64::new(0),
        }
    }
}

impl Meter {
    pub(super) fn count_turn(&self, failed: bool) {
        self.turns.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refusal(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the turn that begins now is to be timed. `millis` may be coarse.
    #[inline]
    pub(super) fn is_due(&self, millis: u64) -> bool {
        self.turns
            .load(Ordering::Relaxed)
            .is_multiple_of(TURNS_PER_SAMPLE)
            || self.period.load(Ordering::Relaxed) != millis >> PERIOD_BITS
    }

    /// Takes in the CPU time of a turn that is about to be counted, and returns for how many it
    /// stands; none if another was timed at the same moment.
    fn take_sample(&self, cpu: Duration) -> u64 {
        let turns = self.turns.load(Ordering::Relaxed) + 1;
        let before = self.sampled.fetch_max(turns, Ordering::Relaxed);
        let stands_for = turns.saturating_sub(before);
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        self.cpu_nanos
            .fetch_add(nanos.saturating_mul(stands_for), Ordering::Relaxed);
        stands_for
    }

    pub(super) fn totals(&self) -> Totals {
        Totals {
            turns: self.turns.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            waits: self.waits.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            cpu: Duration::from_nanos(self.cpu_nanos.load(Ordering::Relaxed)),
        }
    }
}

/// Whether this thread is in the midst of a turn that is timed.
pub(super) fn is_timing() -> bool {
    INSIDE.get().is_some()
}

/// Where the samples of one type of objects are told, beside their shard.
pub(super) trait SampleSink: Send + Sync {
    /// Takes in a turn that was timed.
    fn note(&self, turn: TimedTurn<'_>);
}

/// A turn that was timed.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimedTurn<'a> {
    /// The object that had it.
    pub(super) key: &'a ObjectKey,
    /// The method that ran.
    pub(super) method: &'static str,
    /// How long it took, waiting inside it included.
    pub(super) wall: Duration,
    /// How much CPU time it took.
    pub(super) cpu: Duration,
    /// How many turns of its shard it stands for.
    pub(super) stands_for: u64,
}

/// What the turns of a method took that were timed, waiting inside them included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MethodTimes {
    /// How many were timed: one in 1024 of each shard, and the first of each second.
    pub timed: u64,
    /// How long they took together.
    pub total: Duration,
    /// How long the longest took.
    pub longest: Duration,
}

impl MethodTimes {
    pub(super) fn note(&mut self, wall: Duration) {
        self.timed += 1;
        self.total += wall;
        self.longest = self.longest.max(wall);
    }
}

/// A turn that is timed, until it is dropped.
pub(super) struct Sample {
    slot: Arc<Slot>,
    sink: Arc<dyn SampleSink>,
    key: ObjectKey,
    method: &'static str,
    began: Instant,
    cpu: Duration,
}

impl Sample {
    #[cold]
    pub(super) fn begin(
        slot: Arc<Slot>,
        sink: Arc<dyn SampleSink>,
        key: &ObjectKey,
        method: &'static str,
        millis: u64,
    ) -> Self {
        slot.meter
            .period
            .store(millis >> PERIOD_BITS, Ordering::Relaxed);
        Self {
            slot,
            sink,
            key: key.clone(),
            method,
            began: Instant::now(),
            cpu: Duration::ZERO,
        }
    }

    /// Times what this thread does until the stretch is dropped, but for timed turns inside.
    pub(super) fn stretch(&mut self) -> Stretch<'_> {
        let outer = INSIDE.replace(Some(Duration::ZERO));
        Stretch {
            cpu: &mut self.cpu,
            outer,
            began: thread_cpu(),
        }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let stands_for = self.slot.meter.take_sample(self.cpu);
        self.sink.note(TimedTurn {
            key: &self.key,
            method: self.method,
            wall: self.began.elapsed(),
            cpu: self.cpu,
            stands_for,
        });
    }
}

/// A part of a timed turn that runs on one thread without a break.
pub(super) struct Stretch<'a> {
    cpu: &'a mut Duration,
    outer: Option<Duration>,
    began: Duration,
}

impl Drop for Stretch<'_> {
    fn drop(&mut self) {
        let spent = thread_cpu().saturating_sub(self.began);
        let inside = INSIDE.replace(self.outer.map(|outer| outer + spent));
        *self.cpu += spent.saturating_sub(inside.unwrap_or_default());
    }
}

/// A turn that is timed each time it is polled.
pub(super) struct Timed<R> {
    pub(super) turn: BoxFuture<'static, R>,
    pub(super) sample: Box<Sample>,
}

impl<R> Future for Timed<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        let Self { turn, sample } = &mut *self;
        let _stretch = sample.stretch();
        turn.as_mut().poll(cx)
    }
}

/// The CPU time of this thread so far.
fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ShardCount, ShardId};
    use parking_lot::Mutex;
    use std::hash::RandomState;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[derive(Default)]
    struct Noted(Mutex<Vec<(Duration, u64)>>);

    impl SampleSink for Noted {
        fn note(&self, turn: TimedTurn<'_>) {
            self.0.lock().push((turn.cpu, turn.stands_for));
        }
    }

    fn slot() -> Arc<Slot> {
        let shard = ShardId::new(1, ShardCount::DEFAULT).expect("in range");
        Arc::new(Slot::new(Some(shard), RandomState::new()))
    }

    fn burn(time: Duration) {
        let until = thread_cpu() + time;
        while thread_cpu() < until {
            std::hint::spin_loop();
        }
    }

    fn begin(slot: &Arc<Slot>, sink: Arc<Noted>, millis: u64) -> Sample {
        let key = ObjectKey::new("Counter", "c1").expect("a good key");
        Sample::begin(slot.clone(), sink, &key, "work", millis)
    }

    fn timed(slot: &Arc<Slot>, work: impl FnOnce()) {
        timed_at(0, slot, work);
    }

    fn timed_at(millis: u64, slot: &Arc<Slot>, work: impl FnOnce()) {
        let mut sample = begin(slot, Arc::new(Noted::default()), millis);
        let stretch = sample.stretch();
        work();
        drop(stretch);
        drop(sample);
        slot.meter.count_turn(false);
    }

    #[test]
    fn s1_48_a_meter_begins_at_zero_and_its_first_turn_is_due() {
        let slot = slot();
        assert_eq!(slot.meter.totals(), Totals::default());
        assert!(slot.meter.is_due(0));
    }

    #[test]
    fn s1_7_one_turn_of_many_is_due_and_the_first_of_each_period() {
        let slot = slot();
        let due = |millis: u64| {
            let due = slot.meter.is_due(millis);
            if due {
                timed_at(millis, &slot, || {});
            } else {
                slot.meter.count_turn(false);
            }
            due
        };
        let within: Vec<_> = (0..4000).filter(|_| due(0)).collect();
        assert_eq!(within.len(), 4, "of 4000 turns at one moment");
        assert!(due(1 << PERIOD_BITS), "the first of the next period");
        assert!(!due(1 << PERIOD_BITS));
    }

    #[test]
    fn s1_34_every_turn_of_concurrent_threads_is_counted_and_none_is_free() {
        let slot = slot();
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..1000 {
                        if slot.meter.is_due(0) {
                            timed(&slot, || burn(Duration::from_micros(50)));
                        } else {
                            slot.meter.count_turn(false);
                        }
                    }
                });
            }
        });
        let totals = slot.meter.totals();
        assert_eq!(totals.turns, 4000);
        // Samples stand for all turns but those since the last one, at 50 µs or a little more each.
        let least = Duration::from_micros(50) * (4000 - 2 * 1024);
        assert!(totals.cpu >= least, "{:?}", totals.cpu);
    }

    #[test]
    fn s1_6_reading_while_turns_run_sees_only_growing_totals() {
        let slot = slot();
        std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                for _ in 0..2000 {
                    timed(&slot, || {});
                }
            });
            let mut before = Totals::default();
            while !writer.is_finished() {
                let now = slot.meter.totals();
                assert!(now.turns >= before.turns && now.cpu >= before.cpu);
                before = now;
            }
        });
    }

    #[test]
    fn a_sample_stands_for_the_turns_since_the_last_one() {
        let (slot, noted) = (slot(), Arc::new(Noted::default()));
        for turns in [1, 10, 100] {
            for _ in 1..turns {
                slot.meter.count_turn(false);
            }
            drop(begin(&slot, noted.clone(), 0));
            slot.meter.count_turn(false);
        }
        let stood: Vec<_> = noted.0.lock().iter().map(|(_, turns)| *turns).collect();
        assert_eq!(stood, [1, 10, 100]);
    }

    #[test]
    fn the_time_of_a_turn_inside_another_is_its_own() {
        let (outer, inner) = (slot(), slot());
        timed(&outer, || {
            burn(Duration::from_millis(2));
            assert!(is_timing());
            timed(&inner, || burn(Duration::from_millis(20)));
            burn(Duration::from_millis(2));
        });
        assert!(!is_timing());
        let (outer, inner) = (outer.meter.totals().cpu, inner.meter.totals().cpu);
        assert!(inner >= Duration::from_millis(20), "{inner:?}");
        let own = Duration::from_millis(4)..Duration::from_millis(15);
        assert!(own.contains(&outer), "{outer:?}");
    }

    #[test]
    fn a_panic_in_a_timed_turn_ends_its_timing() {
        let slot = slot();
        let panics = catch_unwind(AssertUnwindSafe(|| timed(&slot, || panic!("on purpose"))));
        assert!(panics.is_err() && !is_timing());
    }
}
