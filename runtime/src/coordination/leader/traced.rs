//! What the leader adds to the trace of a plan, once it has ended (ADR-0020).

use std::time::SystemTime;

use opentelemetry::KeyValue;

use crate::coordination::plans::{MovePhase, PlanOutcome, PlanRecord};
use crate::telemetry::{Part, Traces, attribute};

/// Most moves of a plan that get a span of their own.
const MOVE_SPANS_MAX: usize = 1024;

/// Records a plan, its waves and its moves.
pub(super) fn trace_plan(traces: &Traces, cluster_id: &str, plan: &PlanRecord) {
    let Some(trace) = traces.plan(cluster_id, plan.id) else {
        return;
    };
    let ended = plan.ended_at.unwrap_or(plan.updated_at);
    let failed = match plan.outcome {
        PlanOutcome::Failed => Some("failed"),
        PlanOutcome::Aborted => Some("aborted"),
        PlanOutcome::Running | PlanOutcome::Done | PlanOutcome::Superseded(_) => None,
    };
    let facts = [
        KeyValue::new(attribute::REASON, plan.reason.as_str()),
        KeyValue::new("steading.outcome", plan.outcome.as_str()),
        KeyValue::new("steading.moves", i64::from(plan.counts().total())),
    ];
    trace.record(Part::Plan, (plan.created_at, ended), failed, facts);
    for (number, (began, ended)) in waves(plan) {
        trace.record(Part::Wave(number), (began, ended), None, []);
    }
    let numbers = ordered(plan);
    let moves = plan.moves.iter().filter_map(|step| {
        let began = step.ordered_at?;
        Some((step, began, step.ended_at.unwrap_or(ended)))
    });
    for (step, began, ended) in moves.take(MOVE_SPANS_MAX) {
        let wave = number_of(&numbers, began);
        let failed = (step.phase == MovePhase::Failed).then_some("failed");
        let from = step.from.iter();
        let from = from.map(|node| KeyValue::new("steading.node.from", node.to_string()));
        let to = KeyValue::new(attribute::NODE, step.to.to_string());
        trace.record(
            Part::Move(step.shard, wave),
            (began, ended),
            failed,
            from.chain([to]),
        );
    }
}

/// Returns when each wave was ordered: what is ordered together has one time.
fn ordered(plan: &PlanRecord) -> Vec<SystemTime> {
    let mut times: Vec<_> = plan
        .moves
        .iter()
        .filter_map(|step| step.ordered_at)
        .collect();
    times.sort_unstable();
    times.dedup();
    times
}

fn number_of(waves: &[SystemTime], ordered: SystemTime) -> u32 {
    let before = waves.partition_point(|time| *time < ordered);
    u32::try_from(before + 1).unwrap_or(u32::MAX)
}

/// Returns each wave's number, its beginning, and the end of its last move.
fn waves(plan: &PlanRecord) -> Vec<(u32, (SystemTime, SystemTime))> {
    let numbers = ordered(plan);
    let waves = numbers.iter().map(|began| {
        let moves = plan
            .moves
            .iter()
            .filter(|step| step.ordered_at == Some(*began));
        let ended = moves.filter_map(|step| step.ended_at).max();
        (
            number_of(&numbers, *began),
            (*began, ended.unwrap_or(*began)),
        )
    });
    waves.collect()
}
