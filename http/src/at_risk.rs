//! What a silent or fenced node puts at risk, as nodes and the Inspector show it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use steading::node::{NodeStatus, Takeover};
use utoipa::ToSchema;

/// What is at risk while a registered node is silent or fenced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AtRisk {
    /// Shards that the node owns: calls to their objects may wait or fail.
    pub shards: usize,
    /// Its live objects as of its last answer; none if it never answered.
    pub objects_last_seen: Option<u64>,
    /// Seconds for which it has not answered; none if it answers.
    pub silent_seconds: Option<f64>,
    /// Seconds after which other nodes own its shards at the latest, if its process has ended; none
    /// if that is unknown, or its lease lives on.
    pub takeover_seconds: Option<f64>,
    /// What happens next.
    pub next: String,
}

/// What is known of a node that may put something at risk.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its status.
    pub status: NodeStatus,
    /// Shards that it owns.
    pub shards: usize,
    /// Its live objects as of its last answer.
    pub objects_last_seen: Option<u64>,
    /// For how long it has left questions unanswered.
    pub unanswered: Option<Duration>,
    /// The time to live of its lease; zero: unknown.
    pub lease_ttl: Duration,
    /// Whether the view that shows it as registered follows the store.
    pub is_followed: bool,
}

impl AtRisk {
    /// Returns what is at risk; `None` while the node serves.
    pub fn of(facts: &Facts) -> Option<Self> {
        if !facts.status.is_at_risk() {
            return None;
        }
        let silent = facts
            .unanswered
            .filter(|_| facts.status == NodeStatus::Silent);
        let takeover = match silent {
            Some(unanswered) if facts.is_followed => Takeover::of(facts.lease_ttl, unanswered),
            Some(_) | None => Takeover::Unknown,
        };
        let next = match (facts.status, takeover) {
            (NodeStatus::Fenced, _) => {
                "it serves again once etcd acknowledges a keep-alive, and loses its shards if its lease ends first".into()
            }
            (_, Takeover::Within(left)) => format!(
                "if its process has ended, other nodes own its shards in at most {:.0} s, when its lease has ended",
                left.as_secs_f64().ceil()
            ),
            (_, Takeover::Never) => {
                "its lease lives on, so its process runs and no node takes its shards over: restart it, or repair the network to it".into()
            }
            (_, Takeover::Unknown) => "other nodes own its shards when its lease has ended".into(),
        };
        Some(Self {
            shards: facts.shards,
            objects_last_seen: facts.objects_last_seen,
            silent_seconds: silent.map(|silent| silent.as_secs_f64()),
            takeover_seconds: takeover.seconds(),
            next,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Facts = Facts {
        status: NodeStatus::Silent,
        shards: 7,
        objects_last_seen: Some(3),
        unanswered: Some(Duration::from_secs(2)),
        lease_ttl: Duration::from_secs(5),
        is_followed: true,
    };

    fn next(facts: &Facts) -> String {
        AtRisk::of(facts).expect("something is at risk").next
    }

    #[test]
    fn a_node_that_serves_puts_nothing_at_risk() {
        for status in [
            NodeStatus::Joining,
            NodeStatus::Active,
            NodeStatus::Draining,
        ] {
            assert_eq!(AtRisk::of(&Facts { status, ..SILENT }), None);
        }
    }

    #[test]
    fn a_silent_node_says_when_others_take_over() {
        let risk = AtRisk::of(&SILENT).expect("it is silent");
        assert_eq!((risk.shards, risk.objects_last_seen), (7, Some(3)));
        assert_eq!(risk.silent_seconds, Some(2.0));
        assert_eq!(risk.takeover_seconds, Some(4.0));
        assert!(risk.next.contains("at most 4 s"), "{}", risk.next);
    }

    #[test]
    fn a_lease_that_lives_on_means_no_takeover() {
        let hung = Facts {
            unanswered: Some(Duration::from_secs(9)),
            ..SILENT
        };
        assert!(next(&hung).starts_with("its lease lives on"));
        let blind = Facts {
            is_followed: false,
            ..hung
        };
        assert_eq!(
            next(&blind),
            "other nodes own its shards when its lease has ended"
        );
    }

    #[test]
    fn a_fenced_node_waits_for_etcd() {
        let fenced = Facts {
            status: NodeStatus::Fenced,
            unanswered: None,
            ..SILENT
        };
        let risk = AtRisk::of(&fenced).expect("it is fenced");
        assert_eq!((risk.silent_seconds, risk.takeover_seconds), (None, None));
        assert!(risk.next.starts_with("it serves again once etcd"));
    }
}
