//! What routing counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// Calls on their way to their objects.
#[derive(Clone, Debug, Default)]
pub struct RoutingMetrics {
    /// Calls that wait for somebody who can serve their shard.
    pub parking: ParkingMetrics,
    /// The connections to and from other nodes.
    pub links: LinkMetrics,
    /// How routed calls ended.
    pub calls: CallMetrics,
}

/// How calls ended that were not served at once in their caller's process.
#[derive(Clone, Debug)]
pub struct CallMetrics {
    /// Calls made.
    pub routed: Counter,
    /// Those that failed, by the code of their error.
    pub failed: Family<CallLabels, Counter>,
    /// Seconds from a call to its answer, waiting included; of one call in 16.
    pub seconds: Histogram,
}

/// The labels of [`CallMetrics::failed`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// The stable code of the error.
    pub code: &'static str,
}

/// One routed call of so many is timed.
const CALLS_PER_SAMPLE: u64 = 16;

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            routed: Counter::default(),
            failed: Family::default(),
            seconds: Histogram::new(call_buckets()),
        }
    }
}

/// From a twentieth of a millisecond to 26 s, and half a second: what is too slow for users begins
/// there, so alerts compare with it, and an estimate within a bucket would be off by a third.
fn call_buckets() -> impl Iterator<Item = f64> {
    let mut bounds: Vec<f64> = exponential_buckets(0.000_05, 2.0, 20).collect();
    bounds.push(0.5);
    bounds.sort_by(f64::total_cmp);
    bounds.into_iter()
}

impl CallMetrics {
    /// Counts a call that begins, and returns when it did if it is one of those that are timed.
    pub(crate) fn begin(&self) -> Option<Instant> {
        let before = self.routed.inc();
        before.is_multiple_of(CALLS_PER_SAMPLE).then(Instant::now)
    }

    /// Takes in the end of a call, and the code of its error.
    pub(crate) fn end(&self, began: Option<Instant>, failed: Option<&'static str>) {
        if let Some(began) = began {
            self.seconds.observe(began.elapsed().as_secs_f64());
        }
        if let Some(code) = failed {
            self.failed.get_or_create(&CallLabels { code }).inc();
        }
    }
}

/// Calls that wait for somebody who can serve their shard.
#[derive(Clone, Debug)]
pub struct ParkingMetrics {
    /// How many wait now.
    pub parked: Gauge,
    /// How many had to wait.
    pub parked_total: Counter,
    /// How many were refused because too many waited.
    pub overflows: Counter,
    /// How long they waited, in seconds.
    pub wait: Histogram,
}

impl Default for ParkingMetrics {
    fn default() -> Self {
        Self {
            parked: Gauge::default(),
            parked_total: Counter::default(),
            overflows: Counter::default(),
            wait: Histogram::new(exponential_buckets(0.0005, 4.0, 10)), // To 131 s.
        }
    }
}

/// The connections to and from other nodes.
#[derive(Clone, Debug, Default)]
pub struct LinkMetrics {
    /// Connections to other nodes that are open now.
    pub open: Gauge,
    /// Attempts to open one that failed.
    pub failed_dials: Counter,
    /// Open ones that broke.
    pub broken: Counter,
    /// Calls that went out.
    pub calls: Counter,
    /// Batches that carried them.
    pub batches: Counter,
    /// Calls that found the queue of their connection full.
    pub full: Counter,
    /// Calls answered by a node that did not own their shard and knew of no owner.
    pub not_owner: Counter,
    /// Calls answered by a node that did not own their shard and named who does.
    pub moved: Counter,
    /// Calls of other nodes that waited here and were passed on to their shard's new owner.
    pub forwarded: Counter,
    /// Calls that came in.
    pub inbound_calls: Counter,
    /// Calls that came in and whose answer is not sent yet.
    pub inbound_running: Gauge,
    /// Frames of kinds that this version does not know.
    pub unknown_frames: Counter,
    /// Connections given up because of a frame that could not be read.
    pub malformed: Counter,
}

impl RoutingMetrics {
    /// Makes them known to a registry.
    pub(super) fn register(&self, registry: &mut Registry) {
        let parking = &self.parking;
        let help = "Calls that wait for an owner";
        registry.register("parked_calls", help, parking.parked.clone());
        let help = "Calls that had to wait for an owner";
        registry.register("parked", help, parking.parked_total.clone());
        let help = "Calls refused because too many waited";
        registry.register("parking_overflows", help, parking.overflows.clone());
        let help = "How long calls waited for an owner";
        registry.register("parked_seconds", help, parking.wait.clone());
        let help = "Calls that were not served at once in their caller's process";
        registry.register("routed_calls", help, self.calls.routed.clone());
        let help = "Routed calls that failed by the code of their error";
        registry.register("routed_calls_failed", help, self.calls.failed.clone());
        let help = "Time from routed calls to their answers; of one call in 16";
        registry.register("routed_call_seconds", help, self.calls.seconds.clone());
        self.links.register(registry);
    }
}

impl LinkMetrics {
    fn register(&self, registry: &mut Registry) {
        let help = "Open connections to other nodes";
        registry.register("links_open", help, self.open.clone());
        let help = "Failed attempts to connect to another node";
        registry.register("link_dials_failed", help, self.failed_dials.clone());
        let help = "Connections to other nodes that broke";
        registry.register("links_broken", help, self.broken.clone());
        let help = "Calls sent to other nodes";
        registry.register("remote_calls", help, self.calls.clone());
        let help = "Batches of calls sent to other nodes";
        registry.register("remote_batches", help, self.batches.clone());
        let help = "Calls that found their connection's queue full";
        registry.register("link_queue_full", help, self.full.clone());
        let help = "Calls answered by a node that did not own their shard and knew of no owner";
        registry.register("not_owner_answers", help, self.not_owner.clone());
        let help = "Calls answered by a node that did not own their shard and named who does";
        registry.register("moved_answers", help, self.moved.clone());
        let help = "Calls that waited here and were passed on to their shard's new owner";
        registry.register("forwarded_calls", help, self.forwarded.clone());
        let help = "Calls that came from other nodes";
        registry.register("inbound_calls", help, self.inbound_calls.clone());
        let help = "Calls from other nodes that are not answered yet";
        registry.register("inbound_calls_running", help, self.inbound_running.clone());
        let help = "Frames of kinds that this version does not know";
        registry.register("frames_unknown", help, self.unknown_frames.clone());
        let help = "Connections given up because of an unreadable frame";
        registry.register("frames_malformed", help, self.malformed.clone());
    }
}
