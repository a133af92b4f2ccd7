//! Of calls.

use super::*;

#[test]
fn failed_calls_are_told_by_their_code_and_callers_faults_are_none() {
    let text = |code: &str| {
        format!(
            "steading_routed_calls_total 100\nsteading_routed_calls_failed_total{{code=\"{code}\"}} 20"
        )
    };
    let mut facts = well();
    says(&mut facts, &text("no_owner"));
    let finding = the(&facts, "failed_calls");
    assert_eq!(
        (finding.level, finding.what.as_str()),
        (Level::Bad, "20 % of 100 calls in 3 s failed")
    );
    assert!(finding.why.expect("a reason").contains("no_owner"));
    says(&mut facts, &text("bad_arguments"));
    assert_eq!(the(&facts, "failed_calls").level, Level::Ok);
}

#[test]
fn s0_34_slow_calls_and_slow_turns_are_told() {
    for (metric, check) in [
        ("steading_routed_call_seconds", "slow_calls"),
        ("steading_turn_seconds", "turns"),
    ] {
        for (fast, level) in [(90, Level::Bad), (99, Level::Ok)] {
            let mut facts = well();
            let text = format!(
                "{metric}_bucket{{le=\"0.5\"}} {fast}\n{metric}_bucket{{le=\"0.8192\"}} 100\n{metric}_bucket{{le=\"+Inf\"}} 100"
            );
            says(&mut facts, &text);
            assert_eq!(the(&facts, check).level, level, "{metric}");
        }
    }
}

#[test]
fn parked_calls_are_told_if_they_stay_and_refused_ones_at_once() {
    let mut facts = well();
    says(&mut facts, "steading_parked_calls 3");
    assert_eq!(
        the(&facts, "parked_calls").level,
        Level::Ok,
        "only for a moment"
    );
    let told = facts.nodes[1].told.as_mut().expect("it answers");
    told.metrics.before = Samples::parse("steading_parked_calls 3\n");
    assert_eq!(the(&facts, "parked_calls").level, Level::Warn);
    says(&mut facts, "steading_parking_overflows_total 1");
    assert_eq!(the(&facts, "parked_calls").level, Level::Bad);
}
