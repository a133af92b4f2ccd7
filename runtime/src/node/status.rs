//! The state of a registered node, as a process that asks it knows it.
//!
//! Pure: what was heard, when, and `now` are arguments. Registration says what a node announced
//! and hangs on its lease, which outlives a crash by several seconds; only the node's own answers
//! say whether it still serves. A status informs people and metrics. It decides nothing about
//! ownership, which depends on leases alone (ADR-0025).
//!
//! Invariant: figures that a node reported are shown for [`FIGURES_MAX_AGE`] and never longer.

use std::time::Duration;

use tokio::time::Instant;

use crate::placement::NodeState;

/// The greatest age at which figures that a node reported are still shown. Older figures are
/// left out, never repeated, and a node that was asked and has not answered for so long is silent.
pub const FIGURES_MAX_AGE: Duration = Duration::from_secs(2);

/// A question that has been unanswered for less than this says nothing about the node.
const PENDING_MIN: Duration = Duration::from_secs(1);

/// How long after the end of a lease the last of its node's shards is owned again: etcd notices
/// expiry twice a second, then the leader plans and the others claim.
const TAKEOVER_AFTER_LEASE: Duration = Duration::from_secs(1);

/// The state of a registered node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeStatus {
    /// It has registered and does not own shards yet.
    Joining,
    /// It takes part.
    Active,
    /// It gives its shards up, then leaves.
    Draining,
    /// It answers, but its fence has passed: it serves nothing until etcd acknowledges a keep-alive.
    Fenced,
    /// It does not answer. Its shards may be unserved until its lease ends.
    Silent,
}

impl NodeStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Joining,
        Self::Active,
        Self::Draining,
        Self::Fenced,
        Self::Silent,
    ];

    /// Returns the status that follows from a registration and from what was heard until `now`.
    pub fn of(registered: NodeState, contact: &Contact, now: Instant) -> Self {
        if contact.is_silent(now) {
            return Self::Silent;
        }
        if contact.fenced && contact.is_fresh(now) {
            return Self::Fenced;
        }
        match registered {
            NodeState::Joining => Self::Joining,
            NodeState::Active => Self::Active,
            NodeState::Draining => Self::Draining,
        }
    }

    /// Returns the stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Fenced => "fenced",
            Self::Silent => "silent",
        }
    }

    /// Returns whether calls to the node's shards may wait or fail.
    pub fn is_at_risk(self) -> bool {
        match self {
            Self::Joining | Self::Active | Self::Draining => false,
            Self::Fenced | Self::Silent => true,
        }
    }
}

/// When a node was asked about itself, and what came of it. The default: it was never asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last answered.
    answered: Option<Instant>,
    /// When the first question was asked that it has not answered since.
    unanswered: Option<Instant>,
    /// Whether a question failed since its last answer.
    failed: bool,
    /// Whether its last answer said that its fence had passed.
    fenced: bool,
}

impl Contact {
    /// Notes that a question is on its way.
    pub fn ask(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now);
    }

    /// Notes an answer, with the time that the node had left until its fence if it said so.
    pub fn answer(&mut self, now: Instant, fence_left: Option<Duration>) {
        *self = Self {
            answered: Some(now),
            unanswered: None,
            failed: false,
            fenced: fence_left.is_some_and(|left| left.is_zero()),
        };
    }

    /// Notes that a question failed: the connection was refused or broke, or time ran out.
    pub fn fail(&mut self, now: Instant) {
        self.unanswered.get_or_insert(now);
        self.failed = true;
    }

    /// Returns how long ago the node last answered; `None`: it never did.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.answered?))
    }

    /// Returns whether figures of the last answer may still be shown.
    pub fn is_fresh(&self, now: Instant) -> bool {
        self.age(now).is_some_and(|age| age <= FIGURES_MAX_AGE)
    }

    /// Returns whether the node was asked and does not answer. A node that nobody has asked lately
    /// is not silent: nothing is known of it.
    pub fn is_silent(&self, now: Instant) -> bool {
        // A question that has just been sent says nothing, and neither does a failure of a node that
        // has only now appeared: it may not know yet that it is registered.
        let failed = self.failed && self.answered.is_some();
        let pending = self.unanswered_for(now);
        let is_unanswered = pending.is_some_and(|pending| failed || pending >= PENDING_MIN);
        is_unanswered && !self.is_fresh(now)
    }

    /// Returns how long questions have gone unanswered; `None`: the last one was answered.
    pub fn unanswered_for(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.unanswered?))
    }
}

/// When other nodes own the shards of a silent or fenced node, if its process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takeover {
    /// At most this long from now.
    Within(Duration),
    /// Not by itself: the lease should have ended and has not, so the process runs and renews it,
    /// but does not answer here.
    Never,
    /// The node's time to live is unknown.
    Unknown,
}

impl Takeover {
    /// Returns when the shards of a node are owned again that is registered with a lease of
    /// `lease_ttl` and has left questions unanswered for `unanswered`.
    ///
    /// The node cannot have renewed its lease after it died, which was before the first question
    /// that it left unanswered.
    pub fn of(lease_ttl: Duration, unanswered: Duration) -> Self {
        if lease_ttl.is_zero() {
            return Self::Unknown;
        }
        let limit = lease_ttl + TAKEOVER_AFTER_LEASE;
        match limit.checked_sub(unanswered) {
            Some(left) if !left.is_zero() => Self::Within(left),
            Some(_) | None => Self::Never,
        }
    }

    /// Returns the bound in seconds, if there is one.
    pub fn seconds(self) -> Option<f64> {
        match self {
            Self::Within(left) => Some(left.as_secs_f64()),
            Self::Never | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a history of `at:event` in milliseconds: `?` asked, `+` answered, `f` answered and
    /// fenced, `x` failed.
    fn contact(start: Instant, events: &[(u64, char)]) -> Contact {
        let mut contact = Contact::default();
        for (ms, event) in events {
            let at = start + Duration::from_millis(*ms);
            match event {
                '?' => contact.ask(at),
                '+' => contact.answer(at, Some(Duration::from_secs(3))),
                'f' => contact.answer(at, Some(Duration::ZERO)),
                'x' => contact.fail(at),
                other => panic!("no event {other}"),
            }
        }
        contact
    }

    #[test]
    fn a_status_follows_from_answers_and_their_age() {
        type Case<'a> = (&'a [(u64, char)], u64, NodeStatus, bool);
        let cases: [Case<'_>; 14] = [
            (&[], 9_000, NodeStatus::Active, false),
            (&[(0, '?')], 500, NodeStatus::Active, false),
            (&[(0, '?')], 1_000, NodeStatus::Silent, false),
            (&[(0, '?'), (1, 'x')], 1, NodeStatus::Active, false),
            (&[(0, 'x'), (500, 'x')], 1_000, NodeStatus::Silent, false),
            (&[(0, '+')], 2_000, NodeStatus::Active, true),
            (&[(0, '+')], 2_001, NodeStatus::Active, false),
            (&[(0, 'f')], 2_000, NodeStatus::Fenced, true),
            (&[(0, 'f')], 2_001, NodeStatus::Active, false),
            (&[(0, '+'), (900, 'x')], 2_000, NodeStatus::Active, true),
            (&[(0, '+'), (900, 'x')], 2_001, NodeStatus::Silent, false),
            (&[(0, 'f'), (900, '?')], 2_001, NodeStatus::Silent, false),
            (&[(0, '+'), (9_000, '?')], 9_900, NodeStatus::Active, false),
            (&[(0, 'x'), (9_000, '+')], 9_001, NodeStatus::Active, true),
        ];
        let start = Instant::now();
        for (events, at, status, fresh) in cases {
            let (contact, now) = (contact(start, events), start + Duration::from_millis(at));
            let is = NodeStatus::of(NodeState::Active, &contact, now);
            let found = (is, contact.is_fresh(now));
            assert_eq!(found, (status, fresh), "{events:?} at {at} ms");
        }
    }

    #[test]
    fn a_registration_is_the_status_of_an_answering_node() {
        let now = Instant::now();
        let contact = contact(now, &[(0, '+')]);
        for (state, status) in [
            (NodeState::Joining, NodeStatus::Joining),
            (NodeState::Active, NodeStatus::Active),
            (NodeState::Draining, NodeStatus::Draining),
        ] {
            assert_eq!(NodeStatus::of(state, &contact, now), status);
            assert!(!status.is_at_risk());
        }
    }

    #[test]
    fn a_takeover_is_bounded_by_the_lease() {
        let of = |ttl, unanswered| {
            Takeover::of(
                Duration::from_millis(ttl),
                Duration::from_millis(unanswered),
            )
        };
        assert_eq!(of(5_000, 2_000), Takeover::Within(Duration::from_secs(4)));
        assert_eq!(of(5_000, 6_000), Takeover::Never);
        assert_eq!(of(5_000, 60_000), Takeover::Never);
        assert_eq!(of(0, 2_000), Takeover::Unknown);
    }
}
