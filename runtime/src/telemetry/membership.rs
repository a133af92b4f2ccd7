//! What a node counts of its own life in the store.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The metrics of a node's own life in the store.
#[derive(Debug)]
pub struct MembershipMetrics {
    /// How much time was left until the fence when the last keep-alive was answered, in seconds.
    /// Near zero: the node is about to be suspended.
    pub fence_margin_seconds: Gauge<f64, AtomicU64>,
    /// How long an answered keep-alive keeps the fence open, counted from its sending, in seconds:
    /// what the margin is a part of.
    pub fence_seconds: Gauge<f64, AtomicU64>,
    /// Round trips of keep-alives that were answered, in seconds.
    pub keep_alive_seconds: Histogram,
    /// How often the fence's deadline passed.
    pub suspensions: Counter,
    /// How often the lease or the node key was lost, and every activation with it.
    pub lives_lost: Counter,
    /// How often the node joined again after that.
    pub rejoins: Counter,
}

impl MembershipMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let this = Self {
            fence_margin_seconds: Gauge::default(),
            fence_seconds: Gauge::default(),
            keep_alive_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
            suspensions: Counter::default(),
            lives_lost: Counter::default(),
            rejoins: Counter::default(),
        };
        let help = "Time left until the fence when the last keep-alive was answered";
        registry.register(
            "fence_margin_seconds",
            help,
            this.fence_margin_seconds.clone(),
        );
        let help = "Time that an answered keep-alive keeps the fence open, from its sending";
        registry.register("fence_seconds", help, this.fence_seconds.clone());
        let help = "Round trips of answered keep-alives";
        registry.register("keep_alive_seconds", help, this.keep_alive_seconds.clone());
        let help = "How often the fence's deadline passed";
        registry.register("suspensions", help, this.suspensions.clone());
        let help = "How often the lease or the node key was lost";
        registry.register("lives_lost", help, this.lives_lost.clone());
        let help = "How often the node joined again after a lost life";
        registry.register("rejoins", help, this.rejoins.clone());
        this
    }
}
