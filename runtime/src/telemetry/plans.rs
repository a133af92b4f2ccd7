//! Spans of plans and of the shards that they move (ADR-0020).
//!
//! Their IDs follow from the cluster, the plan and the shard. So leader, old owner and new owner
//! each record their part of one trace without telling each other anything: the store keeps with
//! each target the plan that set it.

use std::hash::Hasher;
use std::time::SystemTime;

use fnv::FnvHasher;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId};

use super::traces::{attribute, shard as shard_attribute};
use super::{EndedSpan, Traces};
use crate::ids::{PlanId, ShardId};

/// A part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Plan,
    /// Moves that were ordered together: the wave with this number.
    Wave(u32),
    /// One shard's move, as the leader sees it, in the wave with this number.
    Move(ShardId, u32),
    /// What the old owner did for that move.
    HandOver(ShardId),
    /// What the new owner did after that.
    Open(ShardId),
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Plan => "steading.plan",
            Self::Wave(_) => "steading.wave",
            Self::Move(..) => "steading.move",
            Self::HandOver(_) => "steading.hand_over",
            Self::Open(_) => "steading.open",
        }
    }

    fn parent(self) -> Option<Self> {
        match self {
            Self::Plan => None,
            Self::Wave(_) => Some(Self::Plan),
            Self::Move(_, wave) => Some(Self::Wave(wave)),
            // The wave is no part of the ID of a move.
            Self::HandOver(shard) => Some(Self::Move(shard, 0)),
            Self::Open(shard) => Some(Self::HandOver(shard)),
        }
    }

    /// Returns the shard that it is about.
    pub(crate) fn shard(self) -> Option<ShardId> {
        match self {
            Self::Plan | Self::Wave(_) => None,
            Self::Move(shard, _) | Self::HandOver(shard) | Self::Open(shard) => Some(shard),
        }
    }

    fn number(self) -> u64 {
        let (kind, number) = match self {
            Self::Plan => (1, 0),
            Self::Wave(wave) => (2, wave),
            Self::Move(shard, _) => (3, shard.get()),
            Self::HandOver(shard) => (4, shard.get()),
            Self::Open(shard) => (5, shard.get()),
        };
        kind << 32 | u64::from(number)
    }
}

/// The trace of one plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanTrace<'a> {
    traces: &'a Traces,
    cluster: u64,
    plan: PlanId,
}

impl Traces {
    /// Returns the trace of a plan, if it is sampled.
    pub(crate) fn plan(&self, cluster_id: &str, plan: PlanId) -> Option<PlanTrace<'_>> {
        let spans = self.spans()?;
        let mut cluster = FnvHasher::default();
        cluster.write(cluster_id.as_bytes());
        let cluster = cluster.finish();
        let trace = PlanTrace {
            traces: self,
            cluster,
            plan,
        };
        spans.samples(trace.id()).then_some(trace)
    }
}

impl PlanTrace<'_> {
    /// Records a part that has ended now or earlier.
    pub(crate) fn record(
        &self,
        part: Part,
        (began, ended): (SystemTime, SystemTime),
        failed: Option<&'static str>,
        more: impl IntoIterator<Item = KeyValue>,
    ) {
        let Some(spans) = self.traces.spans() else {
            return;
        };
        let plan = i64::try_from(self.plan.get()).unwrap_or(i64::MAX);
        let mut attributes = vec![KeyValue::new(attribute::PLAN, plan)];
        attributes.extend(part.shard().map(shard_attribute));
        attributes.extend(more);
        spans.record(EndedSpan {
            trace: self.id(),
            id: self.span(part),
            parent: part
                .parent()
                .map_or(SpanId::INVALID, |parent| self.span(parent)),
            name: part.name(),
            began,
            ended,
            attributes,
            failed: failed.map(Into::into),
        });
    }

    fn id(&self) -> TraceId {
        let half = |number| u128::from(self.mixed(number));
        TraceId::from(half(1) << 64 | half(2))
    }

    fn span(&self, part: Part) -> SpanId {
        SpanId::from(self.mixed(part.number()))
    }

    /// Mixes the bits well, since samplers take those of the trace for a random number. Never 0,
    /// which would name nothing.
    fn mixed(&self, number: u64) -> u64 {
        let mut mixed = self.cluster;
        for part in [self.plan.get(), number] {
            mixed = (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
            mixed ^= mixed >> 32;
        }
        mixed.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardCount;
    use crate::telemetry::Spans;
    use opentelemetry::Context;
    use opentelemetry::trace::SpanBuilder;
    use parking_lot::Mutex;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    #[derive(Debug, Default)]
    struct Recorded(Mutex<Vec<EndedSpan>>);

    impl Spans for Recorded {
        fn start(&self, _: SpanBuilder, parent: &Context) -> Context {
            parent.clone()
        }

        fn samples(&self, _: TraceId) -> bool {
            true
        }

        fn record(&self, span: EndedSpan) {
            self.0.lock().push(span);
        }
    }

    #[test]
    fn nodes_that_do_not_talk_record_one_connected_trace() {
        let recorded = Arc::new(Recorded::default());
        let shards = ShardCount::new(128).expect("a power of two").shards();
        for part in shards.flat_map(|shard| {
            [
                Part::Open(shard),
                Part::HandOver(shard),
                Part::Move(shard, shard.get() % 3 + 1),
            ]
        }) {
            // Each as if on a node of its own.
            let traces = Traces::new(recorded.clone());
            let trace = traces
                .plan("cluster", PlanId::new(7))
                .expect("all are sampled");
            trace.record(
                part,
                (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH),
                None,
                [],
            );
        }
        let traces = Traces::new(recorded.clone());
        let trace = traces
            .plan("cluster", PlanId::new(7))
            .expect("all are sampled");
        for part in [Part::Plan, Part::Wave(1), Part::Wave(2), Part::Wave(3)] {
            trace.record(
                part,
                (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH),
                None,
                [],
            );
        }
        let spans = recorded.0.lock();
        let ids: BTreeSet<_> = spans.iter().map(|span| span.id.to_bytes()).collect();
        assert_eq!(ids.len(), spans.len());
        assert!(spans.iter().all(|span| span.trace == spans[0].trace));
        let roots = spans.iter().filter(|span| span.parent == SpanId::INVALID);
        assert_eq!(
            roots.map(|root| root.name).collect::<Vec<_>>(),
            ["steading.plan"]
        );
        let children = spans.iter().filter(|span| span.parent != SpanId::INVALID);
        assert!(
            children
                .into_iter()
                .all(|span| ids.contains(&span.parent.to_bytes()))
        );
    }

    #[test]
    fn other_plans_and_clusters_have_other_traces() {
        let traces = Traces::new(Arc::new(Recorded::default()));
        let id = |cluster, plan| {
            traces
                .plan(cluster, PlanId::new(plan))
                .map(|trace| trace.id())
        };
        let ids = [id("a", 1), id("a", 2), id("b", 1), id("b", 2)];
        let distinct: BTreeSet<_> = ids.iter().flatten().map(|id| id.to_bytes()).collect();
        assert_eq!(distinct.len(), 4);
    }
}
