//! What this node adds to the trace of a plan that moves shards (ADR-0020).

use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;

use super::Reconciler;
use crate::ids::ShardId;
use crate::telemetry::{Part, attribute};

/// How the time of a hand-over was spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long the shard was closed.
    pub(super) gap: Duration,
    /// From the decision to give it up.
    pub(super) total: Duration,
}

impl Reconciler {
    /// Records that a shard was handed over to its target.
    pub(super) fn trace_hand_over(&self, shard: ShardId, times: Times) {
        let ended = SystemTime::now();
        let began = ended.checked_sub(times.total).unwrap_or(ended);
        let gap = KeyValue::new("steading.gap_ms", times.gap.as_secs_f64() * 1000.0);
        self.trace(Part::HandOver(shard), (began, ended), [gap]);
    }

    /// Records that a shard was opened, if another node handed it over. `began` is when that was
    /// known here.
    pub(super) fn trace_open(&self, shard: ShardId, began: SystemTime) {
        if self.seen.owners.get(shard).parcel.is_some() {
            self.trace(Part::Open(shard), (began, SystemTime::now()), []);
        }
    }

    fn trace(
        &self,
        part: Part,
        times: (SystemTime, SystemTime),
        more: impl IntoIterator<Item = KeyValue>,
    ) {
        let (traces, target) = (
            &self.parts.metrics.traces,
            self.seen.targets.get(shard_of(part)),
        );
        let Some(cause) = target.cause.as_ref().filter(|_| traces.is_on()) else {
            return; // Too old for its plan to be known.
        };
        let Some(trace) = traces.plan(&self.seen.meta.cluster_id, cause.plan) else {
            return;
        };
        let to = target.node.iter();
        let to = to.map(|node| KeyValue::new(attribute::NODE, node.to_string()));
        trace.record(part, times, None, to.chain(more));
    }
}

fn shard_of(part: Part) -> ShardId {
    part.shard().expect("this node's parts are about a shard")
}
