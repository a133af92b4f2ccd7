//! What nodes tell of themselves, as rates since the look before.

use std::collections::BTreeMap;

use serde::Serialize;
use steading::node::NodeReport;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::openmetrics::{Buckets, Samples};

/// What one look at one node brought.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    at: Instant,
    incarnation: Option<u64>,
    report: NodeReport,
    samples: Samples,
    calls: Buckets,
    turns: Buckets,
}

impl Look {
    /// Keeps what a node told at a moment.
    pub(crate) fn new(at: Instant, report: NodeReport, text: &str) -> Self {
        let samples = Samples::read(text);
        Self {
            at,
            incarnation: report.incarnation.map(steading::ids::Incarnation::get),
            calls: samples.buckets("steading_routed_call_seconds"),
            turns: samples.buckets("steading_turn_seconds"),
            report,
            samples,
        }
    }

    /// Returns the report.
    pub(crate) fn report(&self) -> &NodeReport {
        &self.report
    }

    /// When it was.
    pub(crate) fn at(&self) -> Instant {
        self.at
    }
}

/// How a node fares. Rates are of the time between the last two looks; none before the second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct NodeFigures {
    /// Milliseconds since it last told anything; none if it never did.
    pub age_ms: Option<u64>,
    /// Whether that is too long ago: the rest is old.
    pub stale: bool,
    /// Why it does not answer, if it does not.
    pub error: Option<String>,
    /// Its live objects.
    pub objects: u64,
    /// Turns per second.
    pub calls_per_second: Option<f64>,
    /// Turns per second that ended without a state to keep.
    pub failed_turns_per_second: Option<f64>,
    /// Calls per second of its callers that failed.
    pub failed_calls_per_second: Option<f64>,
    /// Calls that wait there for an owner.
    pub parked: u64,
    /// Calls per second that found their object busy.
    pub waits_per_second: Option<f64>,
    /// Calls per second refused because a mailbox was full.
    pub refusals_per_second: Option<f64>,
    /// How much of all its CPUs the process used, 0 to 1, in its last window of ten seconds.
    pub cpu: Option<f64>,
    /// Bytes of memory that the process occupies.
    pub memory_bytes: u64,
    /// How many it may occupy; 0: not known.
    pub memory_max_bytes: u64,
    /// Calls per second of its callers that were not served at once in its process.
    pub routed_calls_per_second: Option<f64>,
    /// Seconds that half of its callers' calls took at most, waiting included.
    pub call_p50: Option<f64>,
    /// Seconds that 95 of 100 of them took at most.
    pub call_p95: Option<f64>,
    /// Seconds that 99 of 100 of them took at most.
    pub call_p99: Option<f64>,
    /// Seconds that half of its turns took at most.
    pub turn_p50: Option<f64>,
    /// Seconds that 95 of 100 of them took at most.
    pub turn_p95: Option<f64>,
    /// Seconds that 99 of 100 of them took at most.
    pub turn_p99: Option<f64>,
    /// Seconds that were left until its fence when it last heard from the store.
    pub fence_margin_seconds: Option<f64>,
    /// Seconds that were left until its fence when it told this: it serves nothing once they are over,
    /// unless the store answers it before.
    pub fence_left_seconds: Option<f64>,
    /// Seconds that the oldest of its shards has been closing.
    pub oldest_closing_seconds: f64,
    /// Calls per second that it sends to each other node.
    pub sends_per_second: BTreeMap<String, f64>,
    /// Connections to other nodes that are open.
    pub links_open: u64,
}

/// The part of a look that the cluster's figures are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    calls: Buckets,
    turns: Buckets,
}

impl NodeFigures {
    /// Makes them of the newest look and the one before.
    pub(crate) fn of(now: &Look, before: Option<&Look>) -> (Self, Latencies) {
        let before = before.filter(|before| before.incarnation == now.incarnation);
        let seconds = before.map(|before| (now.at - before.at).as_secs_f64());
        let seconds = seconds.filter(|seconds| *seconds > 0.0);
        let rate = |now: f64, then: f64| seconds.map(|seconds| ((now - then) / seconds).max(0.0));
        let sum_rate = |name: &str| {
            let then = before.map_or(0.0, |before| before.samples.sum(name));
            rate(now.samples.sum(name), then)
        };
        let gauge = |name: &str| now.samples.get(name);
        let latencies = before.map_or_else(Latencies::default, |before| Latencies {
            calls: now.calls.since(&before.calls),
            turns: now.turns.since(&before.turns),
        });
        let load = &now.report.load;
        let sends = now.report.sent.iter().filter_map(|(node, sent)| {
            let then = before.and_then(|before| before.report.sent.get(node));
            let rate = rate(count(*sent), count(then.copied().unwrap_or_default()))?;
            Some((node.to_string(), rate))
        });
        let figures = Self {
            age_ms: None,
            stale: false,
            error: None,
            objects: now.report.objects,
            calls_per_second: sum_rate("steading_turns_total"),
            failed_turns_per_second: sum_rate("steading_turns_failed_total"),
            failed_calls_per_second: sum_rate("steading_routed_calls_failed_total"),
            routed_calls_per_second: sum_rate("steading_routed_calls_total"),
            parked: whole(gauge("steading_parked_calls")),
            waits_per_second: sum_rate("steading_calls_waited_total"),
            refusals_per_second: sum_rate("steading_calls_overloaded_total"),
            cpu: (load.number > 0).then(|| count(load.cpu_permille()) / 1000.0),
            memory_bytes: whole(gauge("steading_process_resident_memory_bytes")),
            memory_max_bytes: whole(gauge("steading_process_memory_max_bytes")),
            call_p50: latencies.calls.quantile(0.5),
            call_p95: latencies.calls.quantile(0.95),
            call_p99: latencies.calls.quantile(0.99),
            turn_p50: latencies.turns.quantile(0.5),
            turn_p95: latencies.turns.quantile(0.95),
            turn_p99: latencies.turns.quantile(0.99),
            fence_margin_seconds: gauge("steading_fence_margin_seconds"),
            fence_left_seconds: now.report.fence_left.map(|left| left.as_secs_f64()),
            oldest_closing_seconds: gauge("steading_oldest_closing_seconds").unwrap_or_default(),
            sends_per_second: sends.collect(),
            links_open: whole(gauge("steading_links_open")),
        };
        (figures, latencies)
    }
}

/// How the cluster fares: the sums over the nodes that told something lately.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct ClusterFigures {
    /// Turns per second.
    pub calls_per_second: Option<f64>,
    /// Calls per second that failed.
    pub failed_calls_per_second: Option<f64>,
    /// Turns per second that ended without a state to keep.
    pub failed_turns_per_second: Option<f64>,
    /// Seconds that half of the calls took at most: routed ones, or turns where none was routed.
    pub p50: Option<f64>,
    /// Seconds that 95 of 100 of them took at most.
    pub p95: Option<f64>,
    /// Seconds that 99 of 100 of them took at most.
    pub p99: Option<f64>,
    /// Which part of the nodes told something lately, 0 to 1; none without nodes.
    pub healthy: Option<f64>,
    /// Which part of the routed calls failed, 0 to 1; none if there were none.
    pub error_rate: Option<f64>,
    /// How much of all their CPUs the nodes used, 0 to 1: the mean.
    pub cpu: Option<f64>,
    /// Calls that wait for an owner.
    pub parked: u64,
    /// Live objects.
    pub objects: u64,
    /// How far the busiest node is above the mean by its calls: 0.1 is 10 %. None without calls.
    pub imbalance: Option<f64>,
    /// The least time left until a fence, in seconds.
    pub fence_margin_seconds: Option<f64>,
    /// Calls per second refused because a mailbox was full.
    pub refusals_per_second: Option<f64>,
    /// Calls per second that found their object busy.
    pub waits_per_second: Option<f64>,
}

impl ClusterFigures {
    /// Sums up nodes. Only those that are not stale count.
    pub(crate) fn of<'a>(
        nodes: impl Iterator<Item = (&'a NodeFigures, &'a Latencies)> + Clone,
    ) -> Self {
        let all = nodes.clone().count();
        let fresh = nodes.filter(|(figures, _)| !figures.stale && figures.age_ms.is_some());
        let told = fresh.clone().count();
        let part = |of: usize, all: usize| (all > 0).then(|| count(of as u64) / count(all as u64));
        let sum = |figure: fn(&NodeFigures) -> Option<f64>| {
            let known = fresh.clone().filter_map(|(figures, _)| figure(figures));
            known.fold(None, |sum, figure| Some(sum.unwrap_or(0.0) + figure))
        };
        let (mut calls, mut turns) = (Buckets::default(), Buckets::default());
        for (_, latencies) in fresh.clone() {
            calls.add(&latencies.calls);
            turns.add(&latencies.turns);
        }
        let quantile = |part| calls.quantile(part).or_else(|| turns.quantile(part));
        let margins = fresh.clone();
        let margins = margins.filter_map(|(figures, _)| figures.fence_margin_seconds);
        Self {
            calls_per_second: sum(|figures| figures.calls_per_second),
            failed_calls_per_second: sum(|figures| figures.failed_calls_per_second),
            failed_turns_per_second: sum(|figures| figures.failed_turns_per_second),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            healthy: part(told, all),
            error_rate: sum(|figures| figures.failed_calls_per_second)
                .zip(sum(|figures| figures.routed_calls_per_second))
                .filter(|(_, routed)| *routed > 0.0)
                .map(|(failed, routed)| (failed / routed).min(1.0)),
            cpu: mean(fresh.clone().filter_map(|(figures, _)| figures.cpu)),
            parked: fresh.clone().map(|(figures, _)| figures.parked).sum(),
            objects: fresh.clone().map(|(figures, _)| figures.objects).sum(),
            imbalance: imbalance(fresh.clone().map(|(figures, _)| figures)),
            fence_margin_seconds: margins.reduce(f64::min),
            refusals_per_second: sum(|figures| figures.refusals_per_second),
            waits_per_second: sum(|figures| figures.waits_per_second),
        }
    }
}

fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let sum = |(sum, many), number| (sum + number, many + 1);
    let (sum, many) = numbers.fold((0.0, 0), sum);
    (many > 0).then(|| sum / count(many))
}

/// Says how far the busiest is above the mean. Too few calls say nothing.
fn imbalance<'a>(nodes: impl Iterator<Item = &'a NodeFigures>) -> Option<f64> {
    /// Fewer calls a second and node are no load to speak of.
    const CALLS_MIN: f64 = 10.0;
    let calls: Vec<f64> = nodes.filter_map(|node| node.calls_per_second).collect();
    let most = calls.iter().copied().reduce(f64::max)?;
    let mean = calls.iter().sum::<f64>() / count(calls.len() as u64);
    (mean >= CALLS_MIN).then(|| most / mean - 1.0)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shown to people, who need no 53 bits"
)]
fn count(number: u64) -> f64 {
    number as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "gauges of counts and bytes are whole and not negative"
)]
fn whole(gauge: Option<f64>) -> u64 {
    gauge.unwrap_or_default().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(calls: f64) -> NodeFigures {
        NodeFigures {
            age_ms: Some(1),
            calls_per_second: Some(calls),
            fence_margin_seconds: Some(calls / 10.0),
            parked: 1,
            failed_calls_per_second: Some(1.0),
            routed_calls_per_second: Some(calls / 2.0),
            cpu: Some(calls / 100.0),
            ..NodeFigures::default()
        }
    }

    #[test]
    fn s0_32_the_cluster_is_the_sum_of_what_fresh_nodes_told() {
        let silent = NodeFigures {
            stale: true,
            ..node(9000.0)
        };
        let nodes = [node(20.0), node(40.0), silent];
        let none = Latencies::default();
        let sum = ClusterFigures::of(nodes.iter().map(|node| (node, &none)));
        assert_eq!(sum.calls_per_second, Some(60.0));
        assert_eq!((sum.parked, sum.fence_margin_seconds), (2, Some(2.0)));
        let near = |is: Option<f64>, want: f64| (is.unwrap_or_default() - want).abs() < 1e-9;
        assert!(near(sum.healthy, 2.0 / 3.0), "{sum:?}");
        assert!(near(sum.error_rate, 2.0 / 30.0), "{sum:?}");
        assert!(near(sum.cpu, 0.3), "{sum:?}");
        let imbalance = sum.imbalance.unwrap_or_default();
        assert!((imbalance - 1.0 / 3.0).abs() < 1e-9, "{imbalance}");
    }
}
