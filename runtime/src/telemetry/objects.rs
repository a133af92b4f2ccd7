//! The metrics of objects, turns and the per-shard lock.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// What objects count. The lock is the per-shard one: turns hold it shared, closing alone.
#[derive(Clone, Debug)]
pub struct ObjectMetrics {
    /// Activations begun.
    pub activations: Counter,
    /// Turns that panicked.
    pub panics: Counter,
    /// Saves of object state, by outcome.
    pub saves: Family<SaveLabels, Counter>,
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
}

/// The labels of [`ObjectMetrics::saves`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SaveLabels {
    /// `ok` or `error`.
    pub outcome: &'static str,
}

impl ObjectMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        let metrics = Self {
            activations: Counter::default(),
            panics: Counter::default(),
            saves: Family::default(),
            lock_attempts_exclusive: Counter::default(),
            locks_wanted_exclusive: Gauge::default(),
            locks_held_exclusive: Gauge::default(),
            lock_wait_seconds: seconds(),
            lock_hold_seconds: seconds(),
            lock_overdue: Counter::default(),
            parcels_missing: Counter::default(),
        };
        let m = metrics.clone();
        registry.register("activations", "Activations begun", m.activations);
        registry.register("panics", "Turns that panicked", m.panics);
        registry.register("saves", "Saves of object state by outcome", m.saves);
        registry.register(
            "parcels_missing",
            "Shards that opened without the state that was to come with them",
            m.parcels_missing,
        );
        let lock = registry.sub_registry_with_prefix("shard_lock");
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
        metrics
    }

    pub(crate) fn count_save(&self, is_ok: bool) {
        let outcome = if is_ok { "ok" } else { "error" };
        self.saves.get_or_create(&SaveLabels { outcome }).inc();
    }
}

/// What a host has counted so far, over all of its shards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostCounts {
    pub(crate) turns: u64,
    pub(crate) failures: u64,
    pub(crate) objects: usize,
    pub(crate) most_in_a_shard: usize,
}

/// Where the counts come from when metrics are read; `None`: the host is gone.
pub(crate) trait CountTurns: Send + Sync + 'static {
    fn counts(&self) -> Option<HostCounts>;
}

pub(super) struct TurnCollector<C>(pub(super) C);

impl<C> fmt::Debug for TurnCollector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnCollector")
    }
}

impl<C: CountTurns> Collector for TurnCollector<C> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(counts) = self.0.counts() else {
            return Ok(());
        };
        let gauge = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
        let mut write = |name: &str, help: &str, metric: &dyn Describe| {
            metric.describe(&mut encoder, name, help)
        };
        write(
            "turns",
            "Turns ended: shared holds of the per-shard lock",
            &ConstCounter::new(counts.turns),
        )?;
        write(
            "turns_failed",
            "Turns that ended without a state to keep",
            &ConstCounter::new(counts.failures),
        )?;
        write("objects", "Live objects", &gauge(counts.objects))?;
        write(
            "objects_in_shard_max",
            "Live objects of the fullest shard",
            &gauge(counts.most_in_a_shard),
        )
    }
}

trait Describe {
    fn describe(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
    ) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> Describe for M {
    fn describe(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
    ) -> Result<(), fmt::Error> {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}
