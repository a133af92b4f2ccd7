//! Moves that take too long, and how to plan around whatever does not act. Pure.
//!
//! Two things can be late. The owner of a shard does not hand it over: then the shard stays where
//! it is for a while, as something of it holds it there, such as a turn that does not end; and if
//! that befalls several shards on their way to one node, that node is taken to be the trouble. Or
//! nobody owns the shard and its target does not claim it: then that node gets nothing for a while.
//!
//! This decides about wishes only: whoever is taken to be stuck keeps what it owns until it gives
//! it up or its lease ends.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::flights::{Flight, Flights, Leg};
use super::insight::Excluded;
use super::waves::takes_shards;
use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};
use crate::placement::planner::PlanSettings;
use crate::placement::{ClusterView, Target};

/// How long a node gets no shards after it did not act.
const EXCLUDED_FOR: Duration = Duration::from_mins(1);

/// How long a shard that its owner did not hand over is left where it is.
const RESTS_FOR: Duration = Duration::from_mins(2);

/// So many given-up moves towards one node within [`EXCLUDED_FOR`] speak against the node.
const MOVES_AGAINST_NODE: u32 = 3;

/// What did not act in time, and is planned around.
#[derive(Debug)]
pub(super) struct Stuck {
    limits: Limits,
    excluded: BTreeMap<NodeId, Exclusion>,
    /// Moves given up on their way to a node, and until when they count against it.
    against: BTreeMap<NodeId, (u32, Moment)>,
    resting: BTreeMap<ShardId, Rest>,
    /// Moves that were reported, by where they go, and until when they are not again.
    told: BTreeMap<(ShardId, NodeId), Moment>,
}

/// How long a move may be on each of its legs.
#[derive(Clone, Copy, Debug)]
struct Limits {
    leaving: Duration,
    claiming: Duration,
}

#[derive(Debug)]
struct Exclusion {
    until: Moment,
    why: String,
}

#[derive(Debug)]
struct Rest {
    owner: NodeId,
    until: Moment,
}

/// A move that took too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Overdue {
    pub(super) shard: ShardId,
    /// Where it was to go.
    pub(super) to: NodeId,
    pub(super) leg: Leg,
    /// How long it has been on this leg.
    pub(super) after: Duration,
}

impl Overdue {
    /// The stable name of what it waited for, for metrics.
    pub(super) fn phase(&self) -> &'static str {
        match self.leg {
            Leg::Leaving(_) => "leaving",
            Leg::Claiming => "claiming",
        }
    }

    /// Returns what the shard's target is to be instead; `None` if an operator pinned it there: that
    /// is not for the leader to change.
    pub(super) fn instead(&self, target: &Target) -> Option<Target> {
        if target.pinned {
            return None;
        }
        let node = match &self.leg {
            Leg::Leaving(owner) => Some(owner.node.clone()),
            Leg::Claiming => None,
        };
        Some(Target {
            node,
            ..target.clone()
        })
    }
}

impl fmt::Display for Overdue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shard, to, after, ..
        } = self;
        let seconds = after.as_secs();
        match &self.leg {
            Leg::Leaving(owner) => write!(
                f,
                "{} has not handed shard {shard} over to {to} in {seconds} s",
                owner.node
            ),
            Leg::Claiming => write!(f, "{to} has not claimed shard {shard} in {seconds} s"),
        }
    }
}

impl Limits {
    fn of(self, flight: &Flight) -> Duration {
        match flight.leg {
            Leg::Leaving(_) => self.leaving,
            Leg::Claiming => self.claiming,
        }
    }
}

impl Stuck {
    /// Begins with nothing that is stuck.
    pub(super) fn new(settings: &PlanSettings) -> Self {
        Self {
            limits: Limits {
                leaving: settings.leaving_limit,
                claiming: settings.claiming_limit,
            },
            excluded: BTreeMap::new(),
            against: BTreeMap::new(),
            resting: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Forgets what is over, and returns the moves that are overdue now and were not reported lately.
    pub(super) fn see(
        &mut self,
        flights: &Flights,
        view: &ClusterView,
        now: Moment,
    ) -> Vec<Overdue> {
        self.excluded.retain(|_, exclusion| exclusion.until > now);
        self.against.retain(|_, (_, until)| *until > now);
        self.told.retain(|_, until| *until > now);
        self.resting.retain(|shard, rest| {
            let owner = view.live_owner(*shard);
            rest.until > now && owner.is_some_and(|owner| owner.node == rest.owner)
        });
        let overdue = flights.iter().filter_map(|(shard, flight)| {
            let after = now.since(flight.since);
            let is_told = self.told.contains_key(&(shard, flight.to.clone()));
            (after >= self.limits.of(flight) && !is_told).then(|| Overdue {
                shard,
                to: flight.to.clone(),
                leg: flight.leg.clone(),
                after,
            })
        });
        overdue.collect()
    }

    /// Notes that these moves were given up.
    pub(super) fn note(&mut self, overdue: &[Overdue], now: Moment) {
        for step in overdue {
            let way = (step.shard, step.to.clone());
            self.told.insert(way, now.plus(RESTS_FOR));
            let against = match &step.leg {
                Leg::Claiming => MOVES_AGAINST_NODE,
                Leg::Leaving(owner) => {
                    let rest = Rest {
                        owner: owner.node.clone(),
                        until: now.plus(RESTS_FOR),
                    };
                    self.resting.insert(step.shard, rest);
                    1
                }
            };
            let until = now.plus(EXCLUDED_FOR);
            let counted = self.against.entry(step.to.clone()).or_insert((0, until));
            *counted = (counted.0 + against, until);
            if counted.0 >= MOVES_AGAINST_NODE {
                let why = step.to_string();
                self.excluded
                    .insert(step.to.clone(), Exclusion { until, why });
            }
        }
    }

    /// Returns the nodes that get no shards for now.
    pub(super) fn excluded(&self, now: Moment) -> Vec<Excluded> {
        let excluded = self.excluded.iter();
        let excluded = excluded.map(|(node, exclusion)| Excluded {
            node: node.clone(),
            left: exclusion.until.since(now),
            why: exclusion.why.clone(),
        });
        excluded.collect()
    }

    /// Returns the view to decide on: as if an operator had cordoned the excluded nodes. If nobody
    /// else takes shards, they are not excluded after all.
    pub(super) fn around(&self, view: &Arc<ClusterView>) -> Arc<ClusterView> {
        let others = view
            .nodes
            .keys()
            .filter(|node| !self.excluded.contains_key(*node));
        let is_needed = !others.into_iter().any(|node| takes_shards(node, view));
        if self.excluded.is_empty() || is_needed {
            return view.clone();
        }
        let mut around = ClusterView::clone(view);
        around.orders.cordoned.extend(self.excluded.keys().cloned());
        Arc::new(around)
    }

    /// Returns the view to plan on: besides, as if an operator had pinned the shards that rest.
    pub(super) fn for_planner(&self, view: &Arc<ClusterView>) -> Arc<ClusterView> {
        let around = self.around(view);
        if self.resting.is_empty() {
            return around;
        }
        let mut view = ClusterView::clone(&around);
        for (shard, rest) in &self.resting {
            let target = view.targets.get(*shard).clone();
            if target.node.as_ref() == Some(&rest.owner) {
                let pinned = true;
                view.targets.set(*shard, Target { pinned, ..target });
            }
        }
        Arc::new(view)
    }

    /// Returns when there is something to do or to forget even if nothing happens.
    pub(super) fn next_at(&self, flights: &Flights) -> Option<Moment> {
        let ends = self.excluded.values().map(|exclusion| exclusion.until);
        let rests = self.resting.values().map(|rest| rest.until);
        let told = self.told.values().copied();
        let is_told = |shard, to: &NodeId| self.told.contains_key(&(shard, to.clone()));
        let moving = flights
            .iter()
            .filter(|(shard, flight)| !is_told(*shard, &flight.to));
        let limits = moving.map(|(_, flight)| flight.since.plus(self.limits.of(flight)));
        ends.chain(rests).chain(told).chain(limits).min()
    }
}
