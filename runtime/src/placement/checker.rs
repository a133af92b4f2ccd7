//! Lists every invariant that a plan breaks.
//!
//! For tests, for the leader before it writes a plan, and for tools. Works from the outcome alone:
//! of the planner it shares who may take shards and how many each should have, and nothing of how
//! it comes to a plan.

mod broken;
mod counts;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::planner::{
    Command, Move, PinPolicy, Plan, Planning, Standing, Standings, Waiting, Zones, is_held,
};
use super::{ClusterView, ShardTable, Target};
use crate::ids::{NodeId, ShardId};

pub use broken::Broken;

/// Returns what is wrong with a plan made of this; nothing, if all is well.
///
/// Moves that wait count as done where counts are compared, since the plan means them.
pub fn check(planning: &Planning<'_>, plan: &Plan) -> Vec<Broken> {
    let outcome = Outcome::of(planning, plan);
    let mut broken: Vec<_> = outcome.listed().into_iter().collect();
    broken.extend(outcome.over_budget());
    let steps = plan.moves.iter().chain(&plan.pending);
    broken.extend(steps.filter_map(|step| outcome.step(step)));
    broken.extend(plan.moves.iter().filter_map(|step| outcome.held(step)));
    broken.extend(outcome.commands());
    for shard in planning.view.meta.shard_count.shards() {
        broken.extend(outcome.shard(shard));
    }
    if !outcome.takers.is_empty() {
        broken.extend(outcome.full());
        broken.extend(outcome.divided());
    }
    broken
}

/// Returns the fewest shards that must be taken from nodes that could keep them, to reach the
/// spread that such a plan should reach, beside what is moved for other reasons.
pub fn least_moves(planning: &Planning<'_>, plan: &Plan) -> usize {
    Outcome::of(planning, plan).division().least
}

/// The cluster before and after a plan.
struct Outcome<'a> {
    planning: &'a Planning<'a>,
    plan: &'a Plan,
    view: &'a ClusterView,
    /// When everything has been done, what waits included.
    after: ShardTable<Target>,
    standings: Standings<'a>,
    zones: Zones<'a>,
    /// In order of their places.
    takers: Vec<&'a NodeId>,
    /// Zones in which a taker has room after the plan.
    open_zones: BTreeSet<usize>,
    /// Some taker states a capacity.
    is_limited: bool,
    /// Joins wait.
    waits: bool,
    /// Shards that are nobody's wait too.
    first_placement_waits: bool,
}

impl<'a> Outcome<'a> {
    fn of(planning: &'a Planning<'a>, plan: &'a Plan) -> Self {
        let view = planning.view;
        let standings = Standings::of(planning);
        let is_taker = |node: &&NodeId| standings.place(node).is_some();
        let takers = view.nodes.keys().filter(is_taker).collect();
        let waiting = Waiting::of(planning);
        let mut after = view.targets.clone();
        for (shard, target) in &plan.targets {
            after.set(*shard, target.clone());
        }
        for step in &plan.pending {
            let node = Some(step.to.clone());
            let before = after.get(step.shard).clone();
            after.set(step.shard, Target { node, ..before });
        }
        let mut outcome = Self {
            planning,
            plan,
            view,
            after,
            standings,
            zones: Zones::of(planning),
            takers,
            open_zones: BTreeSet::new(),
            is_limited: false,
            waits: waiting.until().is_some(),
            first_placement_waits: waiting.puts_off_first_placement(view),
        };
        let parts = outcome.parts_after();
        let open = parts.iter().filter(|part| part.room() > 0);
        outcome.open_zones = open.map(|part| part.zone).collect();
        outcome.is_limited = parts.iter().any(|part| part.capacity.is_some());
        outcome
    }

    /// Checks that the list of moves and the new targets say the same.
    fn listed(&self) -> Option<Broken> {
        let before = |shard: &ShardId| self.view.targets.get(*shard).node.as_ref();
        let targets = self.plan.targets.iter();
        let meant: BTreeMap<_, _> = targets
            .map(|(shard, target)| (*shard, (before(shard), target.node.as_ref())))
            .filter(|(_, (from, to))| from != to)
            .collect();
        let moves = self.plan.moves.iter();
        let said: BTreeMap<_, _> = moves
            .map(|step| (step.shard, (step.from.as_ref(), Some(&step.to))))
            .collect();
        let mut shards = meant.keys().chain(said.keys());
        let differs = shards.find(|shard| meant.get(shard) != said.get(shard));
        differs.map(|shard| Broken::MovesDiffer { shard: *shard })
    }

    /// Checks that no more moves begin than may be under way.
    fn over_budget(&self) -> Option<Broken> {
        let settings = self.planning.settings;
        let begin = self.plan.moves.iter().filter_map(|step| {
            let owner = self.view.live_owner(step.shard)?;
            (owner.node != step.to).then_some((&owner.node, &step.to))
        });
        let begin: Vec<_> = begin.collect();
        let flights = self.planning.in_flight.iter();
        let flights = flights.map(|flight| (&flight.from, &flight.to));
        let (mut all, mut leaving, mut coming) = (0, BTreeMap::new(), BTreeMap::new());
        for (from, to) in flights.chain(begin.iter().copied()) {
            all += 1;
            *leaving.entry(from).or_insert(0) += 1;
            *coming.entry(to).or_insert(0) += 1;
        }
        let is_too_much = |(from, to): &&(&NodeId, &NodeId)| {
            let of_node = leaving[*from].max(coming[*to]);
            all > settings.moves_in_flight_max || of_node > settings.moves_per_node_max
        };
        let (from, to) = begin.iter().find(is_too_much)?;
        Some(Broken::OverBudget {
            from: (*from).clone(),
            to: (*to).clone(),
        })
    }

    /// Checks where a move leads.
    fn step(&self, step: &Move) -> Option<Broken> {
        let (shard, target) = (step.shard, step.to.clone());
        if self.view.targets.get(shard).quarantined && !self.is_released(shard) {
            return Some(Broken::QuarantineBroken { shard });
        }
        let Some(place) = self.standings.place(&step.to) else {
            return Some(Broken::NotATaker { shard, target });
        };
        // Who serves a shard already does not get it.
        let serves = self.owner(shard) == Some(&step.to);
        if self.view.orders.cordoned.contains(&step.to) && !serves {
            return Some(Broken::Cordoned { shard, target });
        }
        let zone = self.zones.of_node(&self.view.nodes[self.takers[place]]);
        if self.zones.hard(shard).is_some_and(|hard| hard != zone) && !serves {
            return Some(Broken::ZoneRule { shard, target });
        }
        None
    }

    /// Checks that a move which begins does not have to wait for operators.
    fn held(&self, step: &Move) -> Option<Broken> {
        let is_held = self.view.orders.paused && is_held(step.reason);
        is_held.then_some(Broken::Paused { shard: step.shard })
    }

    /// Checks that every command is carried out, waits or is refused.
    fn commands(&self) -> impl Iterator<Item = Broken> {
        let commands = self.planning.commands.iter();
        let pending = self.plan.pending.iter().map(|step| step.shard);
        let pending: BTreeSet<ShardId> = pending.collect();
        let lost = commands.filter(move |(shard, command)| {
            let after = self.after.get(**shard);
            let waits = pending.contains(shard);
            let done = match command {
                Command::Move(node) => after.node.as_ref() == Some(node),
                Command::Pin(node) => after.node.as_ref() == Some(node) && (after.pinned || waits),
                Command::Unpin => !after.pinned || waits,
                Command::Release => !after.quarantined,
            };
            !done && !self.plan.refused.contains_key(shard)
        });
        lost.map(|(shard, _)| Broken::CommandLost { shard: *shard })
    }

    fn shard(&self, shard: ShardId) -> Option<Broken> {
        let (before, after) = (self.view.targets.get(shard), self.after.get(shard));
        if !self.may_change_flags(shard, before, after) {
            return Some(Broken::FlagsChanged { shard });
        }
        if after.quarantined {
            return None;
        }
        let moves = before.node != after.node;
        if moves && before.pinned && !self.may_move_pinned(shard, before, after) {
            return Some(Broken::PinMoved { shard });
        }
        match self.standing(after) {
            Some(Standing::Taker(_)) => {
                let from = self
                    .home(shard)
                    .filter(|home| Some(*home) != after.node.as_ref())?;
                let may_leave = !self.waits || self.is_ordered(shard);
                (!may_leave).then(|| Broken::Taken {
                    shard,
                    from: from.clone(),
                })
            }
            Some(Standing::KeptUntil(_)) => None,
            // Checked with the moves.
            Some(Standing::Leaving) | None if moves => None,
            Some(Standing::Leaving) | None => {
                (!self.may_be_left_out(shard)).then_some(Broken::Unplaced { shard })
            }
        }
    }

    /// Whether a shard without a usable target may stay so.
    fn may_be_left_out(&self, shard: ShardId) -> bool {
        if self.takers.is_empty() || self.first_placement_waits && self.home(shard).is_none() {
            return true;
        }
        if self.waits_for_its_node(shard) {
            return true;
        }
        if self.home(shard).is_some() {
            return false;
        }
        // Where hard rules meet capacities, room may be there and not be had.
        match self.zones.hard(shard) {
            _ if self.zones.has_rules() && self.is_limited => true,
            Some(zone) => !self.open_zones.contains(&zone),
            None => self.open_zones.is_empty(),
        }
    }

    /// Whether a pinned shard is to wait for its node, should that be absent.
    fn waits_for_its_node(&self, shard: ShardId) -> bool {
        let is_pinned = self.after.get(shard).pinned && !self.is_ordered(shard);
        let waits = match self.planning.settings.pin_policy {
            PinPolicy::Wait => true,
            PinPolicy::FailOver => false,
        };
        waits && is_pinned && self.view.targets.get(shard).node.is_some()
    }

    /// Whether a pinned shard may leave the target it has: a command says so, or that is absent.
    fn may_move_pinned(&self, shard: ShardId, before: &Target, after: &Target) -> bool {
        let is_unpinned = !after.pinned;
        let is_absent = match self.standing(before) {
            Some(Standing::Taker(_) | Standing::KeptUntil(_)) => false,
            Some(Standing::Leaving) | None => true,
        };
        self.is_ordered(shard) || is_unpinned || is_absent && !self.waits_for_its_node(shard)
    }

    /// Whether a command explains a shard's new flags.
    fn may_change_flags(&self, shard: ShardId, before: &Target, after: &Target) -> bool {
        let command = self.planning.commands.get(&shard);
        let pinned = before.pinned == after.pinned
            || match command {
                Some(Command::Pin(_)) => after.pinned,
                Some(Command::Unpin) => !after.pinned,
                Some(Command::Move(_) | Command::Release) | None => false,
            };
        let quarantined = before.quarantined == after.quarantined
            || !after.quarantined && self.is_released(shard);
        pinned && quarantined
    }

    fn is_released(&self, shard: ShardId) -> bool {
        self.planning.commands.get(&shard) == Some(&Command::Release)
    }

    /// Whether an operator says where a shard should be.
    fn is_ordered(&self, shard: ShardId) -> bool {
        match self.planning.commands.get(&shard) {
            Some(Command::Move(_) | Command::Pin(_)) => !self.plan.refused.contains_key(&shard),
            Some(Command::Unpin | Command::Release) | None => false,
        }
    }

    /// Returns the taker that should keep a shard: its target, else whom its owner key names.
    fn home(&self, shard: ShardId) -> Option<&NodeId> {
        let target = self.view.targets.get(shard);
        match self.standing(target) {
            Some(Standing::Taker(_)) => target.node.as_ref(),
            Some(Standing::KeptUntil(_)) => None,
            Some(Standing::Leaving) | None if self.waits_for_its_node(shard) => None,
            Some(Standing::Leaving) | None => {
                let owner = self.owner(shard)?;
                self.standings.place(owner).map(|_| owner)
            }
        }
    }

    /// Returns whom a shard's owner key names.
    fn owner(&self, shard: ShardId) -> Option<&NodeId> {
        let owner = self.view.owners.get(shard).owner.as_ref()?;
        Some(&owner.node)
    }

    fn standing(&self, target: &Target) -> Option<Standing> {
        self.standings.get(target.node.as_ref()?)
    }

    fn standing_place(&self, target: &Target) -> Option<usize> {
        self.standings.place(target.node.as_ref()?)
    }
}
