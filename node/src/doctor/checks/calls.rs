//! What callers notice, measured over a few seconds.

use super::{or_ok, percent};
use crate::doctor::facts::Facts;
use crate::doctor::finding::{Finding, Runbook};
use crate::doctor::samples::quantile;

/// From which part of calls on failures are an outage.
const ERRORS_MAX: f64 = 0.05;

/// From which 95th percentile on calls, and turns, are slow, in seconds.
const SLOW: f64 = 0.5;

/// Codes of errors that callers make, and no cluster can help.
const CALLERS_FAULTS: [&str; 7] = [
    "invalid_id",
    "unknown_type",
    "unknown_method",
    "bad_arguments",
    "too_large",
    "reply_too_large",
    "cycle",
];

pub(super) fn errors(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "failed_calls";
    const FAILED: &str = "steading_routed_calls_failed_total";
    let calls = facts.growth("steading_routed_calls_total", &[]);
    let codes = facts
        .told()
        .flat_map(|(_, told)| told.metrics.after.by(FAILED, "code"));
    let codes: std::collections::BTreeSet<_> = codes.map(|(code, _)| code).collect();
    let codes = codes
        .into_iter()
        .filter(|code| !CALLERS_FAULTS.contains(code));
    let failed = codes.map(|code| (facts.growth(FAILED, &[&format!("code=\"{code}\"")]), code));
    let mut failed: Vec<_> = failed.filter(|(count, _)| *count > 0.0).collect();
    failed.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let all: f64 = failed.iter().map(|(count, _)| count).sum();
    let seconds = facts.measured.as_secs_f64();
    let Some((_, first)) = failed.first() else {
        return vec![Finding::ok(
            CHECK,
            format!("{calls} calls between processes in {seconds} s, none failed"),
        )];
    };
    let part = all / calls.max(all);
    let what = format!("{} of {calls} calls in {seconds} s failed", percent(part));
    let runbook = Runbook("failing-calls");
    let finding = if part > ERRORS_MAX {
        Finding::bad(CHECK, runbook, what)
    } else {
        Finding::warn(CHECK, runbook, what)
    };
    let why = match *first {
        "no_owner" => "Nobody served their shard in time: see unowned_shards",
        "overloaded" => "A queue was full: a mailbox, the parked calls or a connection",
        "unreachable" | "disconnected" => "A node went, or nodes do not reach each other",
        "fenced" => "A node could not renew its lease: see fences",
        "not_stored" => "Storage did not take the state: see tokens",
        "panicked" => "A method panicked: its node's log has the place",
        "deadline" | "deadline_before_start" => {
            "Methods are slow, or wait for one another: see turns"
        }
        _ => "The log of the nodes says more",
    };
    vec![finding.because(format!("Most often `{first}`. {why}"))]
}

pub(super) fn latency(facts: &Facts) -> Vec<Finding> {
    slow(facts, "slow_calls", "steading_routed_call_seconds", "calls between processes")
        .map_or_else(|ok| vec![ok], |slow| {
            vec![slow.because("Methods are slow (see turns), calls wait for an owner (see parked_calls), or a node has too much to do").then("steading nodes")]
        })
}

pub(super) fn turns(facts: &Facts) -> Vec<Finding> {
    slow(facts, "turns", "steading_turn_seconds", "timed turns of methods")
        .map_or_else(|ok| vec![ok], |slow| {
            vec![slow.because("Methods wait for something outside, or compute for long; the dashboard tells which type")]
        })
}

/// Returns `Err` if all is well, and else what is slow.
fn slow(facts: &Facts, check: &'static str, metric: &str, of: &str) -> Result<Finding, Finding> {
    let histograms = facts.told().map(|(_, told)| told.metrics.buckets(metric));
    match quantile(0.95, &histograms.collect::<Vec<_>>()) {
        None => Err(Finding::ok(check, format!("no {of} while it was measured"))),
        Some((bound, count)) if bound <= SLOW => Err(Finding::ok(
            check,
            format!("p95 of {count} {of} is at most {bound} s"),
        )),
        Some((bound, count)) => {
            let what = format!("p95 of {count} {of} is over {SLOW} s: up to {bound} s");
            Ok(Finding::bad(check, Runbook("slow-calls"), what))
        }
    }
}

pub(super) fn parking(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "parked_calls";
    let runbook = Runbook("parked-calls");
    let refused = facts.growth("steading_parking_overflows_total", &[]);
    if refused > 0.0 {
        let what = format!("{refused} calls were refused since too many waited for an owner");
        let finding = Finding::bad(CHECK, runbook, what);
        return vec![finding.because("Shards have had no owner for long: see unowned_shards")];
    }
    let waiting = facts.told().filter_map(|(node, told)| {
        let parked = |samples: &crate::doctor::samples::Samples| {
            samples
                .sum("steading_parked_calls", &[])
                .unwrap_or_default()
        };
        let (before, after) = (parked(&told.metrics.before), parked(&told.metrics.after));
        // Waiting for moments is what parking is for; still waiting after a while is not.
        (before > 0.0 && after > 0.0).then(|| {
            let what = format!("{after} calls wait for an owner on {}", node.name);
            Finding::warn(CHECK, runbook, what)
                .because("Their shards have none: see unowned_shards")
        })
    });
    or_ok(waiting.collect(), CHECK, "no calls wait for an owner")
}
