//! How other nodes answer this one: a record for each, made of probes. Pure.
//!
//! Alone, a record decides nothing: one node's trouble in reaching another does not tell that the other
//! has stopped (ADR-0025). What all records together say is for [`Reach`](crate::placement::Reach).

use std::time::Duration;

use tokio::time::Instant;

use super::status::Contact;
use crate::ids::Incarnation;
use crate::placement::ReachState;
use crate::routing::Vitals;

/// How many of the last probes a record remembers: the error rate is of these.
const PROBES_KEPT: u32 = u32::BITS;

/// The weight of the newest round trip in the average is one in this many.
const LATENCY_WEIGHT: u32 = 8;

/// A node that has answered no probe for this long is lost: it is not reached any more.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// How a node probes the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// The pause between two probes of a node; the leader probes at least once a second. Default: 10 s.
    pub interval: Duration,
    /// How many probes in a row must fail for a node to count as unhealthy; one that is answered
    /// makes it healthy again. At least 1. Default: 3.
    pub failures: u32,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            failures: 3,
        }
    }
}

/// How another live node answers this one.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeHealth {
    /// Whether fewer probes in a row have failed than the settings allow.
    pub healthy: bool,
    /// The mean round trip of probes, of which newer ones count more; `None` until one is answered.
    pub latency: Option<Duration>,
    /// Connections for calls that are open from this node to that one.
    pub connections: usize,
    /// Probes that have failed since the last one that was answered.
    pub consecutive_failures: u32,
    /// What part of the last 32 probes failed, 0 to 1.
    pub error_rate: f64,
    /// The last failure of this life of the node, even if probes are answered again.
    pub last_failure: Option<LastFailure>,
    /// When probes were sent and answered.
    pub contact: Contact,
    /// Its live objects as of its last answer, however old that is.
    pub objects_last_seen: Option<u64>,
}

/// The last probe of a node that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastFailure {
    /// What went wrong, in words.
    pub reason: String,
    /// How long ago.
    pub age: Duration,
}

/// What the probes of one life of a node came to.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) life: Incarnation,
    /// A bit for each of the last probes, the newest lowest; set: failed.
    failed: u32,
    probes: u32,
    consecutive_failures: u32,
    latency: Option<Duration>,
    last_failure: Option<(String, Instant)>,
    contact: Contact,
    last: Option<Vitals>,
    /// When the first of the failures in a row came.
    failing_since: Option<Instant>,
}

/// A probe that was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Its round trip.
    pub(super) trip: Duration,
    pub(super) vitals: Vitals,
}

/// How a record changed with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Not in what matters.
    None,
    /// Too many probes in a row have failed now.
    Unhealthy,
    /// Probes are answered again.
    Recovered,
}

impl Record {
    /// Begins a record; a node is healthy until probes say otherwise.
    pub(super) fn new(life: Incarnation) -> Self {
        Self {
            life,
            failed: 0,
            probes: 0,
            consecutive_failures: 0,
            latency: None,
            last_failure: None,
            contact: Contact::default(),
            last: None,
            failing_since: None,
        }
    }

    /// Notes that a probe is on its way.
    pub(super) fn ask(&mut self, now: Instant) {
        self.contact.ask(now);
    }

    /// Returns when probes were sent and answered.
    pub(super) fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Returns how many CPUs the node's shards keep busy, unless that is no longer known.
    pub(super) fn shards_cpus(&self, now: Instant) -> Option<f64> {
        let last = self.last.filter(|_| self.contact.is_fresh(now));
        last?.shards_cpus
    }

    /// Takes in a probe that ended at `now`: its answer, or why it failed.
    pub(super) fn absorb(
        &mut self,
        probe: Result<Answer, String>,
        now: Instant,
        settings: HealthSettings,
    ) -> Turn {
        let was_healthy = self.is_healthy(settings);
        self.failed = self.failed << 1 | u32::from(probe.is_err());
        self.probes = (self.probes + 1).min(PROBES_KEPT);
        match probe {
            Ok(Answer { trip, vitals }) => {
                self.contact.answer(now, vitals.fence_left);
                self.last = Some(vitals);
                self.consecutive_failures = 0;
                self.failing_since = None;
                self.latency = Some(self.latency.map_or(trip, |mean| smoothed(mean, trip)));
            }
            Err(reason) => {
                self.contact.fail(now);
                self.consecutive_failures = self.consecutive_failures.saturating_add(1);
                self.last_failure = Some((reason, now));
                self.failing_since = self.failing_since.or(Some(now));
            }
        }
        match (was_healthy, self.is_healthy(settings)) {
            (true, false) => Turn::Unhealthy,
            (false, true) => Turn::Recovered,
            (true, true) | (false, false) => Turn::None,
        }
    }

    /// Returns how many probes have failed in a row.
    pub(super) fn failures(&self) -> u32 {
        self.consecutive_failures
    }

    /// Returns how the node is reached at `now`; `None` before the first probe has ended.
    pub(super) fn reach(&self, now: Instant) -> Option<ReachState> {
        let lost = |since: Instant| now - since >= LOST_AFTER;
        match (self.probes, self.latency) {
            (0, _) => None,
            (_, None) => Some(ReachState::Never),
            (_, Some(_)) if self.failing_since.is_some_and(lost) => Some(ReachState::Lost),
            (_, Some(_)) => Some(ReachState::Reached),
        }
    }

    pub(super) fn is_healthy(&self, settings: HealthSettings) -> bool {
        self.consecutive_failures < settings.failures.max(1)
    }

    /// Tells what the record says at `now`; `None` before the first probe has ended.
    pub(super) fn told(
        &self,
        connections: usize,
        now: Instant,
        settings: HealthSettings,
    ) -> Option<NodeHealth> {
        let last = self.last_failure.as_ref();
        (self.probes > 0).then(|| NodeHealth {
            healthy: self.is_healthy(settings),
            latency: self.latency,
            connections,
            consecutive_failures: self.consecutive_failures,
            error_rate: f64::from(self.failed.count_ones()) / f64::from(self.probes),
            last_failure: last.map(|(reason, at)| LastFailure {
                reason: reason.clone(),
                age: now - *at,
            }),
            contact: self.contact,
            objects_last_seen: self.last.map(|last| last.objects),
        })
    }
}

/// Exponential smoothing, so that a single slow answer does not pass for a slow node.
fn smoothed(mean: Duration, newest: Duration) -> Duration {
    (mean * (LATENCY_WEIGHT - 1) + newest) / LATENCY_WEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: HealthSettings = HealthSettings {
        interval: Duration::from_secs(10),
        failures: 3,
    };

    fn record() -> (Record, Instant) {
        (Record::new(Incarnation::new(7)), Instant::now())
    }

    fn answer(ms: u64) -> Answer {
        Answer {
            trip: Duration::from_millis(ms),
            ..Answer::default()
        }
    }

    fn failure() -> Result<Answer, String> {
        Err("no answer".into())
    }

    #[test]
    fn s0_15_as_many_failures_in_a_row_as_the_setting_says_make_a_node_unhealthy() {
        let (mut record, now) = record();
        let answered = Ok(answer(1));
        let probes = [failure(), failure(), answered.clone(), failure(), failure()];
        for probe in probes {
            assert_eq!(record.absorb(probe, now, SETTINGS), Turn::None);
        }
        assert_eq!(record.absorb(failure(), now, SETTINGS), Turn::Unhealthy);
        assert_eq!(record.absorb(failure(), now, SETTINGS), Turn::None);
        assert_eq!(record.absorb(answered, now, SETTINGS), Turn::Recovered);
    }

    #[test]
    fn s0_15_a_record_tells_latency_failures_and_the_last_error() {
        let (mut record, now) = record();
        assert_eq!(record.told(2, now, SETTINGS), None, "not probed yet");
        for probe in [Ok(8), Err(()), Ok(16), Ok(8)] {
            let probe = probe.map(answer).or_else(|()| failure());
            record.absorb(probe, now, SETTINGS);
        }
        let told = NodeHealth {
            healthy: true,
            latency: Some(Duration::from_micros(8_875)),
            connections: 2,
            consecutive_failures: 0,
            error_rate: 0.25,
            last_failure: Some(LastFailure {
                reason: "no answer".into(),
                age: Duration::from_secs(5),
            }),
            contact: *record.contact(),
            objects_last_seen: Some(0),
        };
        let later = now + Duration::from_secs(5);
        assert_eq!(record.told(2, later, SETTINGS), Some(told));
    }

    #[test]
    fn a_node_is_lost_ten_seconds_after_its_last_answer() {
        let (mut record, now) = record();
        assert_eq!(record.reach(now), None);
        record.absorb(failure(), now, SETTINGS);
        assert_eq!(record.reach(now + LOST_AFTER), Some(ReachState::Never));
        record.absorb(Ok(answer(1)), now, SETTINGS);
        assert_eq!(record.reach(now), Some(ReachState::Reached));
        let failed = now + Duration::from_secs(1);
        for _ in 0..3 {
            record.absorb(failure(), failed, SETTINGS);
        }
        let before = failed + LOST_AFTER - Duration::from_millis(1);
        assert_eq!(record.reach(before), Some(ReachState::Reached));
        assert_eq!(record.reach(failed + LOST_AFTER), Some(ReachState::Lost));
    }

    #[test]
    fn a_failure_leaves_the_error_rate_after_thirty_two_answers() {
        let (mut record, now) = record();
        record.absorb(failure(), now, SETTINGS);
        for _ in 0..PROBES_KEPT {
            record.absorb(Ok(answer(0)), now, SETTINGS);
        }
        let told = record.told(0, now, SETTINGS).expect("it was probed");
        assert!(told.error_rate.abs() < f64::EPSILON);
        assert!(told.last_failure.is_some(), "it is still the last");
    }
}
