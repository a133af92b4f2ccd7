//! Whether a node can take traffic, and what is missing if not.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Below this share of claimed shards a node is not ready, in percent of those targeted at it.
const CLAIMED_PERCENT_MIN: usize = 99;

/// One thing that must hold for a node to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The store answers, and its cluster is one this program can be part of.
    StoreConnected,
    /// The node is registered and its lease is alive.
    LeaseAlive,
    /// The fence is open: the lease was renewed in time.
    NotFenced,
    /// The view has caught up with the store.
    ViewCaughtUp,
    /// Other nodes reach this one at its advertised address, as far as they have said.
    Reached,
    /// The newest plan knows this incarnation of the node, or leaves it without shards on purpose:
    /// it is cordoned, balancing is paused, or rules leave it none.
    Planned,
    /// At least 99 % of the shards targeted at the node are claimed. Quarantined shards do not
    /// count, nor pinned ones that another live node still owns.
    ShardsClaimed,
    /// The node's listeners take connections.
    Accepting,
    /// The storage answers: its disk works, and its file is there.
    StorageWorks,
    /// The node is not giving its shards up.
    NotDraining,
}

impl Condition {
    /// Every condition, in the order in which a node meets them.
    pub const ALL: [Self; 10] = [
        Self::StoreConnected,
        Self::LeaseAlive,
        Self::NotFenced,
        Self::ViewCaughtUp,
        Self::Reached,
        Self::Planned,
        Self::ShardsClaimed,
        Self::Accepting,
        Self::StorageWorks,
        Self::NotDraining,
    ];

    /// Returns the condition's stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoreConnected => "store_connected",
            Self::LeaseAlive => "lease_alive",
            Self::NotFenced => "not_fenced",
            Self::ViewCaughtUp => "view_caught_up",
            Self::Reached => "reached",
            Self::Planned => "planned",
            Self::ShardsClaimed => "shards_claimed",
            Self::Accepting => "accepting",
            Self::StorageWorks => "storage_works",
            Self::NotDraining => "not_draining",
        }
    }
}

/// What a node knows of itself at one moment; [`Facts::met`] decides from it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Facts {
    pub(super) store_connected: bool,
    pub(super) lease_alive: bool,
    pub(super) fence_open: bool,
    pub(super) view_caught_up: bool,
    pub(super) accepting: bool,
    pub(super) reached: bool,
    pub(super) planned: bool,
    pub(super) storage_works: bool,
    pub(super) draining: bool,
    pub(super) gate: bool,
    pub(super) claimed: usize,
    pub(super) targeted: usize,
    /// What a condition waits for. One that is met may wait too: a paused cluster's new node is
    /// ready, and gets shards once an operator resumes.
    pub(super) waits: BTreeMap<Condition, String>,
}

impl Facts {
    /// Notes what a condition waits for.
    pub(super) fn waits(&mut self, condition: Condition, what: String) {
        self.waits.insert(condition, what);
    }

    /// Whether a condition holds. A gate owns nothing, so no plan need know it.
    pub(super) fn met(&self, condition: Condition) -> bool {
        match condition {
            Condition::StoreConnected => self.store_connected,
            Condition::LeaseAlive => self.lease_alive,
            Condition::NotFenced => self.fence_open,
            Condition::ViewCaughtUp => self.view_caught_up,
            Condition::Reached => self.gate || self.reached,
            Condition::Planned => self.gate || self.planned,
            Condition::ShardsClaimed => {
                self.gate || self.claimed * 100 >= self.targeted * CLAIMED_PERCENT_MIN
            }
            Condition::Accepting => self.accepting,
            Condition::StorageWorks => self.storage_works,
            Condition::NotDraining => !self.draining,
        }
    }
}

/// The state of one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionState {
    /// Which.
    pub condition: Condition,
    /// Whether it holds.
    pub met: bool,
    /// How long it has been so.
    pub since: Duration,
    /// What it waits for, such as an operator's directive; a condition that is met may wait too.
    pub waiting_for: Option<String>,
}

/// Whether a node can take traffic now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Every condition, in the order of [`Condition::ALL`].
    pub conditions: Vec<ConditionState>,
    /// How many shards the node owns.
    pub claimed: usize,
    /// How many shards it should own.
    pub targeted: usize,
    /// What the node waits for: to join; else what its first unmet condition waits for; else the
    /// directive that leaves a ready node without shards.
    pub waiting_for: Option<String>,
    /// What is wrong without keeping the node from taking traffic.
    pub warnings: Vec<String>,
}

impl Readiness {
    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        self.conditions.iter().all(|state| state.met)
    }
}

/// Remembers since when each condition is as it is.
#[derive(Debug)]
pub(super) struct Tracker {
    since: [(bool, Instant); Condition::ALL.len()],
}

impl Tracker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: [(false, now); Condition::ALL.len()],
        }
    }

    /// Takes the present facts in and returns what follows from them.
    pub(super) fn observe(
        &mut self,
        facts: &Facts,
        waiting_for: Option<String>,
        now: Instant,
    ) -> Readiness {
        let observed = Condition::ALL.into_iter().zip(&mut self.since);
        let conditions = observed.map(|(condition, since)| {
            let met = facts.met(condition);
            if since.0 != met {
                *since = (met, now);
            }
            ConditionState {
                condition,
                met,
                since: now - since.1,
                waiting_for: facts.waits.get(&condition).cloned(),
            }
        });
        let conditions: Vec<ConditionState> = conditions.collect();
        let mut unmet = conditions.iter().filter(|state| !state.met);
        let of_unmet = unmet.find_map(|state| state.waiting_for.clone());
        let is_ready = conditions.iter().all(|state| state.met);
        let of_met = || facts.waits.values().next().cloned().filter(|_| is_ready);
        let waiting_for = waiting_for.or(of_unmet).or_else(of_met);
        let Facts {
            claimed, targeted, ..
        } = *facts;
        Readiness {
            conditions,
            claimed,
            targeted,
            waiting_for,
            warnings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving() -> Facts {
        Facts {
            store_connected: true,
            lease_alive: true,
            fence_open: true,
            view_caught_up: true,
            accepting: true,
            reached: true,
            planned: true,
            storage_works: true,
            draining: false,
            gate: false,
            claimed: 99,
            targeted: 100,
            waits: BTreeMap::new(),
        }
    }

    fn ready(facts: &Facts) -> bool {
        Tracker::new(Instant::now())
            .observe(facts, None, Instant::now())
            .is_ready()
    }

    #[tokio::test]
    async fn v2_each_missing_condition_alone_makes_a_node_unready() {
        assert!(ready(&serving()));
        let broken: [fn(&mut Facts); 9] = [
            |facts| facts.accepting = false,
            |facts| facts.store_connected = false,
            |facts| facts.lease_alive = false,
            |facts| facts.fence_open = false,
            |facts| facts.view_caught_up = false,
            |facts| facts.reached = false,
            |facts| facts.planned = false,
            |facts| facts.claimed = 98,
            |facts| facts.draining = true,
        ];
        for breaking in broken {
            let mut facts = serving();
            breaking(&mut facts);
            assert!(!ready(&facts), "{facts:?}");
        }
    }

    #[tokio::test]
    async fn a_gate_needs_no_plan_and_no_shards() {
        assert!(ready(&Facts {
            gate: true,
            reached: false,
            planned: false,
            claimed: 0,
            ..serving()
        }));
    }

    #[tokio::test]
    async fn the_first_unmet_condition_is_waited_for() {
        let mut facts = serving();
        facts.waits(Condition::NotDraining, "the end of the drain".into());
        facts.waits(Condition::Planned, "an operator".into());
        let waits = |facts: &Facts, trouble: Option<&str>| {
            let mut tracker = Tracker::new(Instant::now());
            let trouble = trouble.map(str::to_owned);
            tracker.observe(facts, trouble, Instant::now()).waiting_for
        };
        assert_eq!(waits(&facts, None).as_deref(), Some("an operator"));
        facts.draining = true;
        assert_eq!(waits(&facts, None).as_deref(), Some("the end of the drain"));
        facts.planned = false;
        assert_eq!(waits(&facts, None).as_deref(), Some("an operator"));
        assert_eq!(waits(&facts, Some("etcd")).as_deref(), Some("etcd"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_tells_since_when() {
        let mut tracker = Tracker::new(Instant::now());
        tracker.observe(&serving(), None, Instant::now());
        tokio::time::advance(Duration::from_secs(7)).await;
        let readiness = tracker.observe(&serving(), None, Instant::now());
        assert!(
            readiness
                .conditions
                .iter()
                .all(|c| c.since == Duration::from_secs(7))
        );
    }
}
