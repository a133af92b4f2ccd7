//! Plans, as HTTP shows them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use steading::coordination::plans::{PlanOutcome, PlanRecord, PlannedMove};
use utoipa::ToSchema;

/// A plan: what moves why, how far it is, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanInfo {
    /// Its number, which grows from plan to plan.
    pub id: u64,
    /// The weightiest reason of its moves, such as `join`, `drain` or `manual`.
    pub reason: String,
    /// What set it off, in words.
    pub trigger: String,
    /// `running`, `done`, `aborted`, `superseded` or `failed`.
    pub outcome: String,
    /// The plan that took its place.
    pub superseded_by: Option<u64>,
    /// How much of it has ended, from 0 to 100.
    pub percent: u32,
    /// When the rest will probably have ended (RFC 3339); none if nothing has yet, or all has.
    pub ends_at: Option<String>,
    /// Who carries it out, or did last.
    pub leader: String,
    /// That leader's term.
    #[serde(default)]
    pub term: u64,
    /// When it was made (RFC 3339), by the leader's clock, as are all times here.
    pub created_at: String,
    /// When its record was last written.
    pub updated_at: String,
    /// When its last move ended.
    pub ended_at: Option<String>,
    /// How many times some of its moves began together.
    pub waves: u32,
    /// The fewest moves that would have led to as even a spread.
    pub least_moves: u32,
    /// Its moves by phase.
    pub counts: PlanCounts,
    /// Its moves, those that have not ended first; not in a list of plans, and at most 512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<MoveInfo>,
    /// What happened to it that was not planned, oldest first.
    pub events: Vec<EventInfo>,
    /// Whether a look at its shards after its last move found all as planned; none before that.
    pub as_planned: Option<bool>,
    /// Objects whose state the old owners sent with its shards, as they counted them; none until the
    /// new owners have told, a second or so after the last move.
    #[serde(default)]
    pub objects_before: Option<u64>,
    /// Objects whose state the new owners have taken in, as they counted them.
    #[serde(default)]
    pub objects_after: Option<u64>,
}

/// How many moves of a plan are in which phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanCounts {
    /// Waiting for their wave.
    pub pending: u32,
    /// Under way.
    pub ordered: u32,
    /// Done.
    pub done: u32,
    /// Given up, since somebody did not act.
    pub failed: u32,
    /// Not wanted any more.
    pub cancelled: u32,
}

/// One move of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MoveInfo {
    /// Which shard.
    pub shard: u32,
    /// Its target before.
    pub from: Option<String>,
    /// Its target after.
    pub to: String,
    /// Why.
    pub reason: String,
    /// `pending`, `ordered`, `done`, `failed` or `cancelled`.
    pub phase: String,
    /// When it began (RFC 3339).
    pub ordered_at: Option<String>,
    /// When it ended, however.
    pub ended_at: Option<String>,
}

/// Something that happened to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventInfo {
    /// When (RFC 3339).
    pub at: String,
    /// `stuck`, `continued`, `aborted` or `dropped`.
    pub kind: String,
    /// What exactly.
    pub text: String,
}

impl PlanInfo {
    /// Shows a plan with its moves.
    pub fn of(plan: &PlanRecord) -> Self {
        let mut moves: Vec<&PlannedMove> = plan.moves.iter().collect();
        moves.sort_by_key(|step| (step.is_ended(), step.shard));
        Self {
            moves: moves.into_iter().map(MoveInfo::of).collect(),
            ..Self::without_moves(plan)
        }
    }

    /// Shows a plan in a list.
    pub fn without_moves(plan: &PlanRecord) -> Self {
        let counts = plan.counts();
        let superseded_by = match plan.outcome {
            PlanOutcome::Superseded(by) => Some(by.get()),
            PlanOutcome::Running
            | PlanOutcome::Done
            | PlanOutcome::Aborted
            | PlanOutcome::Failed => None,
        };
        Self {
            id: plan.id.get(),
            reason: plan.reason.as_str().into(),
            trigger: plan.trigger.clone(),
            outcome: plan.outcome.as_str().into(),
            superseded_by,
            percent: plan.percent(),
            ends_at: plan.ends_at().map(time),
            leader: plan.leader.to_string(),
            term: plan.term.get(),
            created_at: time(plan.created_at),
            updated_at: time(plan.updated_at),
            ended_at: plan.ended_at.map(time),
            waves: plan.waves,
            least_moves: plan.least,
            counts: PlanCounts {
                pending: counts.pending,
                ordered: counts.ordered,
                done: counts.done,
                failed: counts.failed,
                cancelled: counts.cancelled,
            },
            moves: Vec::new(),
            events: plan
                .events
                .iter()
                .map(|event| EventInfo {
                    at: time(event.at),
                    kind: event.kind.as_str().into(),
                    text: event.text.clone(),
                })
                .collect(),
            as_planned: plan.check.map(|check| check.is_good()),
            objects_before: plan.check.and_then(|check| check.objects_before),
            objects_after: plan.check.and_then(|check| check.objects_after),
        }
    }

    /// Whether some of it has not ended.
    pub fn is_running(&self) -> bool {
        self.ended_at.is_none()
    }
}

impl MoveInfo {
    /// Shows a move.
    pub fn of(step: &PlannedMove) -> Self {
        Self {
            shard: step.shard.get(),
            from: step.from.as_ref().map(ToString::to_string),
            to: step.to.to_string(),
            reason: step.reason.as_str().into(),
            phase: step.phase.as_str().into(),
            ordered_at: step.ordered_at.map(time),
            ended_at: step.ended_at.map(time),
        }
    }
}

/// Writes a moment.
pub fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
