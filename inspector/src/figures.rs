//! What nodes report of themselves, as rates since the look before.
//!
//! Pure: functions of what was heard, its age and now. Figures that are too old are left out; a
//! node that is silent has none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use steading::node::{Contact, NodeReport, NodeStatus};
use steading::placement::NodeRecord;
use steading_http::{AtRisk, Facts};
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
}

/// What is known of a node at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// What it registered.
    pub record: &'a NodeRecord,
    /// When it was asked, and when it answered.
    pub contact: &'a Contact,
    /// Its last answer and the one before.
    pub looks: (Option<&'a Look>, Option<&'a Look>),
    /// Why the last question failed, if it did.
    pub error: Option<&'a str>,
    /// Shards that it owns.
    pub shards: usize,
    /// Whether it is one of the nodes that share the shards evenly.
    pub is_balanced: bool,
    /// Whether the view follows the store.
    pub is_followed: bool,
    /// The moment.
    pub now: Instant,
}

/// How a node is. Everything after `error` is none unless it answered within two seconds. Rates are
/// of the time between the last two looks; none before the second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct NodeFigures {
    /// `joining`, `active` or `draining` as it registered; or `fenced`: it serves nothing until
    /// etcd acknowledges a keep-alive; or `silent`: it does not answer.
    pub state: &'static str,
    /// What is at risk while it is silent or fenced; else none.
    pub at_risk: Option<AtRisk>,
    /// Milliseconds since it last answered; none if it never did.
    pub age_ms: Option<u64>,
    /// Why it does not answer, if it does not.
    pub error: Option<String>,
    /// Its weight if its load is compared with that of others: no gate, not joining, not draining,
    /// not cordoned.
    #[serde(skip)]
    pub compared: Option<f64>,
    /// Its live objects.
    pub objects: Option<u64>,
    /// Turns per second.
    pub calls_per_second: Option<f64>,
    /// Turns per second that ended without a state to keep.
    pub failed_turns_per_second: Option<f64>,
    /// Calls per second of its callers that failed.
    pub failed_calls_per_second: Option<f64>,
    /// Calls that wait there for an owner.
    pub parked: Option<u64>,
    /// Calls per second that found their object busy.
    pub waits_per_second: Option<f64>,
    /// Calls per second refused because a mailbox was full.
    pub refusals_per_second: Option<f64>,
    /// How much of all its CPUs the process used, 0 to 1, in its last window of ten seconds.
    pub cpu: Option<f64>,
    /// Bytes of memory that the process occupies.
    pub memory_bytes: Option<u64>,
    /// How many it may occupy; 0: not known.
    pub memory_max_bytes: Option<u64>,
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
    pub oldest_closing_seconds: Option<f64>,
    /// Calls per second that it sends to each other node.
    pub sends_per_second: BTreeMap<String, f64>,
    /// Connections to other nodes that are open.
    pub links_open: Option<u64>,
}

/// The part of a look that the cluster's figures are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latencies {
    calls: Buckets,
    turns: Buckets,
}

impl NodeFigures {
    /// Makes them of what is known of a node.
    pub(crate) fn of(known: &Known<'_>) -> (Self, Latencies) {
        let (record, contact, now) = (known.record, known.contact, known.now);
        let status = NodeStatus::of(record.state, contact, now);
        let (last, before) = known.looks;
        let fresh = last.filter(|_| contact.is_fresh(now));
        let (figures, latencies) =
            fresh.map_or_else(Default::default, |last| Self::reported(last, before));
        let weight = f64::from(record.weight.thousandths()) / 1000.0;
        let figures = Self {
            state: status.as_str(),
            at_risk: AtRisk::of(&Facts {
                status,
                shards: known.shards,
                objects_last_seen: last.map(|last| last.report.objects),
                unanswered: contact.unanswered_for(now),
                lease_ttl: record.lease_ttl,
                is_followed: known.is_followed,
            }),
            age_ms: contact.age(now).map(millis),
            error: known.error.map(Into::into),
            compared: known.is_balanced.then_some(weight),
            ..figures
        };
        (figures, latencies)
    }

    /// Returns whether it answered within two seconds.
    pub(crate) fn is_fresh(&self) -> bool {
        self.objects.is_some()
    }

    /// Reads the newest look and the one before.
    fn reported(now: &Look, before: Option<&Look>) -> (Self, Latencies) {
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
            objects: Some(now.report.objects),
            calls_per_second: sum_rate("steading_turns_total"),
            failed_turns_per_second: sum_rate("steading_turns_failed_total"),
            failed_calls_per_second: sum_rate("steading_routed_calls_failed_total"),
            routed_calls_per_second: sum_rate("steading_routed_calls_total"),
            parked: Some(whole(gauge("steading_parked_calls"))),
            waits_per_second: sum_rate("steading_calls_waited_total"),
            refusals_per_second: sum_rate("steading_calls_overloaded_total"),
            cpu: (load.number > 0).then(|| count(load.cpu_permille()) / 1000.0),
            memory_bytes: Some(whole(gauge("steading_process_resident_memory_bytes"))),
            memory_max_bytes: Some(whole(gauge("steading_process_memory_max_bytes"))),
            call_p50: latencies.calls.quantile(0.5),
            call_p95: latencies.calls.quantile(0.95),
            call_p99: latencies.calls.quantile(0.99),
            turn_p50: latencies.turns.quantile(0.5),
            turn_p95: latencies.turns.quantile(0.95),
            turn_p99: latencies.turns.quantile(0.99),
            fence_margin_seconds: gauge("steading_fence_margin_seconds"),
            fence_left_seconds: now.report.fence_left.map(|left| left.as_secs_f64()),
            oldest_closing_seconds: gauge("steading_oldest_closing_seconds"),
            sends_per_second: sends.collect(),
            links_open: Some(whole(gauge("steading_links_open"))),
            ..Self::default()
        };
        (figures, latencies)
    }
}

/// How the cluster is: the sums over the nodes that answered within two seconds. Means are of
/// those among them that share the shards evenly: no gates, none that joins, drains or is cordoned.
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
    /// Which part of the registered nodes is neither silent nor fenced, 0 to 1; none without nodes.
    pub healthy: Option<f64>,
    /// Which part of the routed calls failed, 0 to 1; none if there were none.
    pub error_rate: Option<f64>,
    /// How much of all their CPUs the nodes used that share the shards, 0 to 1: the mean.
    pub cpu: Option<f64>,
    /// Calls that wait for an owner; none if no node answers.
    pub parked: Option<u64>,
    /// Live objects of the nodes that answer; none if none does.
    pub objects: Option<u64>,
    /// Shards whose owner is silent or fenced: calls to them may wait or fail.
    pub shards_at_risk: u64,
    /// How far the busiest node is above the mean by its calls for its weight: 0.1 is 10 %. None
    /// with few calls, or a single node to compare.
    pub imbalance: Option<f64>,
    /// The least time left until a fence, in seconds.
    pub fence_margin_seconds: Option<f64>,
    /// Calls per second refused because a mailbox was full.
    pub refusals_per_second: Option<f64>,
    /// Calls per second that found their object busy.
    pub waits_per_second: Option<f64>,
}

impl ClusterFigures {
    /// Sums up nodes.
    pub(crate) fn of<'a>(
        nodes: impl Iterator<Item = (&'a NodeFigures, &'a Latencies)> + Clone,
    ) -> Self {
        let all = nodes.clone().count();
        let risks = nodes
            .clone()
            .filter_map(|(figures, _)| figures.at_risk.as_ref());
        let shards_at_risk = risks.clone().map(|risk| risk.shards as u64).sum();
        let well = all - risks.count();
        let fresh = nodes.filter(|(figures, _)| figures.is_fresh());
        let compared = fresh.clone().map(|(figures, _)| figures);
        let compared = compared.filter(|figures| figures.compared.is_some());
        let total = |figure: fn(&NodeFigures) -> Option<u64>| {
            let known = fresh.clone().filter_map(|(figures, _)| figure(figures));
            known.reduce(|sum, figure| sum + figure)
        };
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
            healthy: part(well, all),
            error_rate: sum(|figures| figures.failed_calls_per_second)
                .zip(sum(|figures| figures.routed_calls_per_second))
                .filter(|(_, routed)| *routed > 0.0)
                .map(|(failed, routed)| (failed / routed).min(1.0)),
            cpu: mean(compared.clone().filter_map(|figures| figures.cpu)),
            parked: total(|figures| figures.parked),
            objects: total(|figures| figures.objects),
            shards_at_risk,
            imbalance: imbalance(compared),
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

/// Returns how far the busiest is above the mean, by calls for its weight. Too few calls say
/// nothing, and neither does a single node.
fn imbalance<'a>(nodes: impl Iterator<Item = &'a NodeFigures>) -> Option<f64> {
    /// Fewer calls a second and node are no load to speak of.
    const CALLS_MIN: f64 = 10.0;
    let calls = nodes.filter_map(|node| Some(node.calls_per_second? / node.compared?));
    let calls: Vec<f64> = calls.collect();
    if calls.len() < 2 {
        return None;
    }
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

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, record};

    fn node(calls: f64) -> NodeFigures {
        NodeFigures {
            state: "active",
            age_ms: Some(1),
            objects: Some(5),
            compared: Some(1.0),
            calls_per_second: Some(calls),
            fence_margin_seconds: Some(calls / 10.0),
            parked: Some(1),
            failed_calls_per_second: Some(1.0),
            routed_calls_per_second: Some(calls / 2.0),
            cpu: Some(calls / 100.0),
            ..NodeFigures::default()
        }
    }

    fn sum(nodes: &[NodeFigures]) -> ClusterFigures {
        let none = Latencies::default();
        ClusterFigures::of(nodes.iter().map(|node| (node, &none)))
    }

    fn near(is: Option<f64>, want: f64) -> bool {
        (is.unwrap_or_default() - want).abs() < 1e-9
    }

    fn silent(shards: usize) -> NodeFigures {
        let at_risk = AtRisk {
            shards,
            objects_last_seen: None,
            silent_seconds: Some(2.0),
            takeover_seconds: None,
            next: String::new(),
        };
        NodeFigures {
            state: "silent",
            at_risk: Some(at_risk),
            compared: Some(1.0),
            ..NodeFigures::default()
        }
    }

    /// S0-32.
    #[test]
    fn the_cluster_is_the_sum_of_answering_nodes() {
        let sum = sum(&[node(20.0), node(40.0), silent(7)]);
        assert_eq!(sum.calls_per_second, Some(60.0));
        assert_eq!((sum.parked, sum.objects), (Some(2), Some(10)));
        assert_eq!(
            (sum.fence_margin_seconds, sum.shards_at_risk),
            (Some(2.0), 7)
        );
        assert!(near(sum.healthy, 2.0 / 3.0), "{sum:?}");
        assert!(near(sum.error_rate, 2.0 / 30.0), "{sum:?}");
        assert!(near(sum.cpu, 0.3), "{sum:?}");
        assert!(near(sum.imbalance, 1.0 / 3.0), "{sum:?}");
    }

    #[test]
    fn nothing_is_known_when_no_node_answers() {
        let sum = sum(&[silent(7), silent(0)]);
        assert_eq!(
            (sum.objects, sum.parked, sum.calls_per_second),
            (None, None, None)
        );
        assert_eq!((sum.cpu, sum.imbalance), (None, None));
        assert!(near(sum.healthy, 0.0), "{sum:?}");
    }

    #[test]
    fn gates_count_in_sums_and_in_no_mean() {
        let gate = NodeFigures {
            compared: None,
            cpu: Some(0.9),
            ..node(0.0)
        };
        let sum = sum(&[node(20.0), node(20.0), gate.clone(), gate]);
        assert!(near(sum.cpu, 0.2), "{sum:?}");
        assert!(
            sum.imbalance.is_some_and(|part| part.abs() < 1e-9),
            "{sum:?}"
        );
        assert_eq!(sum.failed_calls_per_second, Some(4.0));
    }

    #[test]
    fn a_heavier_node_may_have_more_calls() {
        let heavy = NodeFigures {
            compared: Some(2.0),
            ..node(40.0)
        };
        let sum = sum(&[node(20.0), heavy]);
        assert!(
            sum.imbalance.is_some_and(|part| part.abs() < 1e-9),
            "{sum:?}"
        );
    }

    #[test]
    fn figures_vanish_after_two_seconds_without_an_answer() {
        let start = Instant::now();
        let report = NodeReport {
            node: id("a"),
            incarnation: Some(record().incarnation),
            objects: 12,
            by_shard: BTreeMap::new(),
            load: steading::node::NodeLoad::default(),
            shards: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            sent: BTreeMap::new(),
            fence_left: Some(Duration::from_secs(3)),
        };
        let look = Look::new(start, report, "steading_parked_calls 4\n");
        let mut contact = Contact::default();
        contact.answer(start, Some(Duration::from_secs(3)));
        contact.fail(start + Duration::from_millis(900));
        let at = |ms: u64| {
            let (figures, _) = NodeFigures::of(&Known {
                record: &record(),
                contact: &contact,
                looks: (Some(&look), None),
                error: Some("refused"),
                shards: 9,
                is_balanced: true,
                is_followed: true,
                now: start + Duration::from_millis(ms),
            });
            figures
        };
        let fresh = at(2_000);
        assert_eq!(
            (fresh.state, fresh.objects, fresh.parked),
            ("active", Some(12), Some(4))
        );
        let old = at(2_001);
        assert_eq!((old.state, old.objects, old.parked), ("silent", None, None));
        let risk = old.at_risk.expect("it owns shards");
        assert_eq!((risk.shards, risk.objects_last_seen), (9, Some(12)));
        assert!(risk.takeover_seconds.is_some_and(|left| left < 5.0));
    }
}
