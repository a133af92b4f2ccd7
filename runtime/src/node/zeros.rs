//! Shows each metric with all its label values from the beginning, so that a first event is a rise
//! from zero. Here, since the values are named where they belong, and metrics know no other part.

use crate::coordination::CLAIM_OUTCOMES;
use crate::coordination::plans::MovePhase;
use crate::coordination::reconciler::Stage;
use crate::error::CallError;
use crate::object::TICK_OUTCOMES;
use crate::placement::planner::Reason;
use crate::telemetry::{
    BatchLabels, CallLabels, ClaimLabels, CoordinationMetrics, GivenUpLabels, HandoverLabels,
    HandshakeLabels, Metrics, MoveLabels, PhaseLabels, PlanEndLabels, PlanLabels, ProbeLabels,
    ReloadLabels, SendFailureLabels, SkipLabels, StuckLabels, TickLabels,
};
use crate::tls;

/// What may come of writing a plan.
const PLAN_WRITES: [&str; 6] = [
    "written",
    "deposed",
    "overtaken",
    "broken",
    "transient",
    "unknown",
];

/// What may come of a plan.
const PLAN_ENDS: [&str; 4] = ["done", "aborted", "superseded", "failed"];

/// Shows every family whose label values are known beforehand.
pub(super) fn begin_at_zero(metrics: &Metrics) {
    coordination(&metrics.coordination);
    for outcome in CLAIM_OUTCOMES {
        let claims = &metrics.coordination.owner_claims;
        drop(claims.get_or_create(&ClaimLabels { outcome }));
    }
    for outcome in tls::RELOAD_OUTCOMES {
        let reloads = &metrics.certificates.reloads;
        drop(reloads.get_or_create(&ReloadLabels { outcome }));
    }
    for outcome in tls::HANDSHAKE_OUTCOMES {
        let handshakes = &metrics.certificates.handshakes;
        drop(handshakes.get_or_create(&HandshakeLabels { outcome }));
    }
    for phase in Stage::ALL.map(Stage::name) {
        let phases = &metrics.placement.oldest_in_phase_seconds;
        drop(phases.get_or_create(&PhaseLabels { phase }));
    }
    for outcome in TICK_OUTCOMES {
        let ticks = &metrics.objects.timer_ticks;
        drop(ticks.get_or_create(&TickLabels { outcome }));
    }
    for outcome in ["answered", "failed"] {
        drop(
            metrics
                .health
                .probes
                .get_or_create(&ProbeLabels { outcome }),
        );
    }
    for (code, _) in CallError::CODES {
        let failed = &metrics.routing.calls.failed;
        drop(failed.get_or_create(&CallLabels { code }));
    }
}

fn coordination(metrics: &CoordinationMetrics) {
    for reason in Reason::ALL.map(Reason::as_str) {
        for outcome in PLAN_WRITES {
            drop(metrics.plans.get_or_create(&PlanLabels { reason, outcome }));
        }
        for outcome in PLAN_ENDS {
            let labels = PlanEndLabels { reason, outcome };
            drop(metrics.plans_ended.get_or_create(&labels));
        }
        for phase in MovePhase::ALL.into_iter().filter(|phase| phase.is_ended()) {
            let phase = phase.as_str();
            let labels = MoveLabels { reason, phase };
            drop(metrics.moves_ended.get_or_create(&labels));
        }
    }
    for reason in ["settled", "waiting", "view_behind", "suspended"] {
        drop(metrics.plan_skips.get_or_create(&SkipLabels { reason }));
    }
    for phase in ["close", "send", "commit", "gap", "total"] {
        let labels = HandoverLabels { phase };
        drop(metrics.handover_seconds.get_or_create(&labels));
    }
    for reason in ["unreachable", "refused", "unreadable", "late", "failed"] {
        let labels = SendFailureLabels { reason };
        drop(metrics.sends_failed.get_or_create(&labels));
    }
    for step in ["hand_over", "claim", "take_over", "restamp", "release"] {
        for outcome in ["committed", "refused", "not_sent", "unknown"] {
            drop(
                metrics
                    .batches
                    .get_or_create(&BatchLabels { step, outcome }),
            );
        }
    }
    for phase in ["leaving", "claiming"] {
        drop(
            metrics
                .moves_given_up
                .get_or_create(&GivenUpLabels { phase }),
        );
    }
    for phase in Stage::ALL.map(Stage::name) {
        drop(metrics.moves_stuck.get_or_create(&StuckLabels { phase }));
    }
}
