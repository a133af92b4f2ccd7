//! The metrics of objects, turns and the per-shard lock.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What objects count. The lock is the per-shard one: turns hold it shared, closing alone.
#[derive(Clone, Debug)]
pub struct ObjectMetrics {
    /// Activations begun.
    pub activations: Counter,
    /// Turns that panicked.
    pub panics: Counter,
    /// Closings begun: attempts to take a shard's lock alone.
    pub lock_attempts_exclusive: Counter,
    /// Closings that wait for running turns now.
    pub locks_wanted_exclusive: Gauge,
    /// Shards that are sealed now, or whose objects end.
    pub locks_held_exclusive: Gauge,
    /// Seconds that closings waited for running turns.
    pub lock_wait_seconds: Histogram,
    /// Seconds that shards were sealed, until they opened again or had no objects.
    pub lock_hold_seconds: Histogram,
    /// Closings given up because turns did not end in time.
    pub lock_overdue: Counter,
    /// Shards that opened without the state that was to come with them.
    pub parcels_missing: Counter,
    /// Timers of objects that are set now.
    pub timers: Gauge,
    /// Ticks of timers by how they ended.
    pub timer_ticks: Family<TickLabels, Counter>,
    /// Seconds from the beginning of a turn to its end, by type. Only of the turns that are timed:
    /// its count is not that of all turns.
    pub turn_seconds: Family<TypeLabels, Histogram, fn() -> Histogram>,
    /// Turns by type, as estimated from those that are timed: each stands for the turns of its
    /// shard since the last one.
    pub turns_estimated: Family<TypeLabels, Counter>,
    /// CPU seconds of turns by type, estimated in the same way.
    pub turn_cpu_seconds: Family<TypeLabels, Counter<f64, AtomicU64>>,
}

/// The labels of what is told by the type of the objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TypeLabels {
    /// The registered name of the type.
    pub object_type: Arc<str>,
}

/// The labels of how a tick of a timer ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TickLabels {
    /// `ran`; `failed`: its turn panicked or could not be stored; `put_off`: it could not have its
    /// turn now, and tries again.
    pub outcome: &'static str,
}

impl ObjectMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let metrics = Self {
            activations: Counter::default(),
            panics: Counter::default(),
            lock_attempts_exclusive: Counter::default(),
            locks_wanted_exclusive: Gauge::default(),
            locks_held_exclusive: Gauge::default(),
            lock_wait_seconds: seconds(),
            lock_hold_seconds: seconds(),
            lock_overdue: Counter::default(),
            parcels_missing: Counter::default(),
            timers: Gauge::default(),
            timer_ticks: Family::default(),
            turn_seconds: Family::new_with_constructor(turn_histogram as _),
            turns_estimated: Family::default(),
            turn_cpu_seconds: Family::default(),
        };
        let m = metrics.clone();
        registry.register("activations", "Activations begun", m.activations);
        registry.register("panics", "Turns that panicked", m.panics);
        registry.register(
            "parcels_missing",
            "Shards that opened without the state that was to come with them",
            m.parcels_missing,
        );
        registry.register("timers", "Timers of objects that are set", m.timers);
        registry.register(
            "timer_ticks",
            "Ticks of timers by how they ended; one that was put off tries again",
            m.timer_ticks,
        );
        registry.register(
            "turn_seconds",
            "Time from the beginning to the end of turns that are timed",
            m.turn_seconds,
        );
        registry.register(
            "turns_estimated",
            "Turns by type as estimated from those that are timed",
            m.turns_estimated,
        );
        registry.register(
            "turn_cpu_seconds",
            "CPU time of turns by type as estimated from those that are timed",
            m.turn_cpu_seconds,
        );
        metrics.register_lock(registry.sub_registry_with_prefix("shard_lock"));
        metrics
    }

    fn register_lock(&self, lock: &mut Registry) {
        let m = self.clone();
        lock.register(
            "attempts_exclusive",
            "Closings begun",
            m.lock_attempts_exclusive,
        );
        lock.register(
            "wanted_exclusive",
            "Closings that wait for running turns",
            m.locks_wanted_exclusive,
        );
        lock.register(
            "held_exclusive",
            "Shards that are sealed, or whose objects end",
            m.locks_held_exclusive,
        );
        lock.register(
            "wait_seconds",
            "Time that closings waited for running turns",
            m.lock_wait_seconds,
        );
        lock.register(
            "hold_seconds",
            "Time that shards were sealed, until they opened again or had no objects",
            m.lock_hold_seconds,
        );
        lock.register(
            "overdue",
            "Closings given up because turns did not end in time",
            m.lock_overdue,
        );
    }

    /// Returns what timed turns of this type are told to.
    pub(crate) fn turns_of(&self, name: &Arc<str>) -> TurnMetrics {
        let labels = TypeLabels {
            object_type: name.clone(),
        };
        TurnMetrics {
            seconds: self.turn_seconds.get_or_create(&labels).clone(),
            estimated: self.turns_estimated.get_or_create(&labels).clone(),
            cpu_seconds: self.turn_cpu_seconds.get_or_create(&labels).clone(),
        }
    }
}

/// The metrics of one type's turns.
#[derive(Clone, Debug)]
pub(crate) struct TurnMetrics {
    seconds: Histogram,
    estimated: Counter,
    cpu_seconds: Counter<f64, AtomicU64>,
}

impl TurnMetrics {
    /// Takes in a timed turn, which stands for so many.
    pub(crate) fn note(&self, wall: Duration, cpu: Duration, stands_for: u64) {
        self.seconds.observe(wall.as_secs_f64());
        self.estimated.inc_by(stands_for);
        let turns = u32::try_from(stands_for).unwrap_or(u32::MAX);
        let cpu = cpu.saturating_mul(turns);
        self.cpu_seconds.inc_by(cpu.as_secs_f64());
    }
}

/// From 4 µs to 16 s.
fn turn_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_004, 4.0, 12))
}
