//! Lists every invariant that a plan breaks.
//!
//! For tests, for the leader before it writes a plan, and for tools. Works from the outcome alone:
//! of the planner it shares who may take shards and how many each should have, and nothing of how
//! it comes to a plan.

mod broken;

use std::collections::{BTreeMap, BTreeSet};

use super::planner::{
    Command, Move, Part, PinPolicy, Plan, Planning, Reason, Standing, Standings, Strategy, Waiting,
    Zones, capacity, divide, is_held, tie,
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

/// What each taker has after the plan and should have, and the fewest moves that takes.
struct Division {
    after: Vec<u32>,
    quotas: Vec<u32>,
    least: usize,
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

    /// Whether a command or the quarantine explains a shard's new flags.
    fn may_change_flags(&self, shard: ShardId, before: &Target, after: &Target) -> bool {
        let command = self.planning.commands.get(&shard);
        let pinned = before.pinned == after.pinned
            || match command {
                Some(Command::Pin(_)) => after.pinned,
                Some(Command::Unpin) => !after.pinned,
                Some(Command::Move(_) | Command::Release) | None => false,
            };
        let settings = self.planning.settings;
        let died = || {
            let deaths = self.planning.memory.deaths().find(|(of, _)| *of == shard);
            deaths.is_some_and(|(_, deaths)| deaths >= settings.quarantine_deaths.max(1))
        };
        let quarantined = before.quarantined == after.quarantined
            || if after.quarantined {
                settings.quarantine_deaths > 0 && died() && before.node == after.node
            } else {
                self.is_released(shard)
            };
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

    /// Checks that no node has more shards than before if that is more than its capacity, but for
    /// those that operators order there: they may displace others in a later plan only.
    fn full(&self) -> Vec<Broken> {
        let before = self.parts(|shard| {
            if self.is_ordered(shard) {
                self.standing_place(self.after.get(shard))
            } else {
                self.home(shard).and_then(|home| self.standings.place(home))
            }
        });
        let after = self.parts_after();
        let takers = self.takers.iter().zip(before.into_iter().zip(after));
        let full = takers.filter_map(|(node, (before, after))| {
            let count = after.count;
            let capacity = after
                .capacity
                .filter(|most| count > *most && count > before.count)?;
            Some(Broken::Full {
                node: (*node).clone(),
                count,
                capacity,
            })
        });
        full.collect()
    }

    /// Checks that everybody gets its quota, with as few moves as that takes.
    ///
    /// Where loads are known, counts may give way to them; and where hard rules meet capacities,
    /// to the room there is.
    fn divided(&self) -> Vec<Broken> {
        let is_by_load =
            self.planning.settings.strategy == Strategy::Load && !self.planning.loads.is_empty();
        let parts = self.parts_after();
        if is_by_load || self.is_limited && self.zones.has_rules() {
            return Vec::new();
        }
        let Division {
            after,
            quotas,
            least,
        } = self.division();
        // Where more is pinned than a share, the quotas add up to more than there is; and what hard
        // rules bind may have nowhere else to go.
        let is_all_divided =
            !self.zones.has_rules() && quotas.iter().sum::<u32>() == after.iter().sum::<u32>();
        let free = parts
            .iter()
            .map(|part| part.count - part.fixed - part.bound);
        let counts = after.iter().zip(&quotas).zip(&self.takers).zip(free);
        let uneven = counts.filter(|(((count, quota), _), free)| {
            let is_above = count > quota && (*free > 0 || is_all_divided);
            !self.waits && (is_above || count < quota && is_all_divided)
        });
        let uneven = uneven.map(|(counts, _)| counts);
        let mut broken: Vec<_> = uneven
            .map(|((count, quota), node)| Broken::Uneven {
                node: (*node).clone(),
                count: *count,
                quota: *quota,
            })
            .collect();
        let steps = self.plan.moves.iter().chain(&self.plan.pending);
        let moves = steps.filter(|step| self.was_free(step)).count();
        if moves > least {
            broken.push(Broken::TooManyMoves { moves, least });
        }
        broken
    }

    fn division(&self) -> Division {
        let before = self.parts(|shard| self.home_before_division(shard));
        let after: Vec<u32> = self.parts_after().iter().map(|part| part.count).collect();
        let (mut coming, mut bound_coming) = (0, BTreeMap::new());
        for (shard, target) in self.after.iter().filter(|(_, target)| !target.quarantined) {
            let is_placed = self.standing_place(target).is_some();
            if is_placed && self.home_before_division(shard).is_none() {
                coming += 1;
                if let Some(zone) = self.zones.hard(shard) {
                    *bound_coming.entry(zone).or_default() += 1;
                }
            }
        }
        let quotas = divide(&before, coming, &bound_coming);
        // What hard rules bind is where it has to be, and may have displaced others there.
        let free = self.parts(|shard| match self.zones.hard(shard) {
            Some(_) => self.standing_place(self.after.get(shard)),
            None => self.home_before_division(shard),
        });
        let excess = free.iter().zip(&quotas);
        let excess = excess.map(|(part, quota)| part.count.saturating_sub(*quota) as usize);
        let least = if self.waits { 0 } else { excess.sum() };
        Division {
            after,
            quotas,
            least,
        }
    }

    /// Whether the move could have been left out: the shard's home is a taker, and the move does
    /// not lead there, or changes nothing. What is moved for other reasons than evenness has one.
    fn was_free(&self, step: &Move) -> bool {
        let is_for_counts = match step.reason {
            Reason::Manual | Reason::Pin | Reason::Zone | Reason::Load => false,
            Reason::Join => true,
            // What returns to its owner may go on from there to the zone it should be in.
            Reason::Failure | Reason::Unplaced | Reason::Drain => !self.zones.has_soft_rules(),
        };
        let home = self.home(step.shard);
        let is_free = home.is_some_and(|home| *home != step.to);
        let is_bound = self.zones.hard(step.shard).is_some();
        step.from.as_ref() == Some(&step.to) || is_for_counts && is_free && !is_bound
    }

    fn parts_after(&self) -> Vec<Part> {
        self.parts(|shard| self.standing_place(self.after.get(shard)))
    }

    fn parts(&self, home: impl Fn(ShardId) -> Option<usize>) -> Vec<Part> {
        let part = |node: &&NodeId| {
            let record = &self.view.nodes[*node];
            Part {
                weight: record.weight.thousandths().into(),
                tie: tie(self.view, node),
                zone: self.zones.of_node(record),
                capacity: capacity(record).unwrap_or_default(),
                cordoned: self.view.orders.cordoned.contains(*node),
                closed: false,
                count: 0,
                fixed: 0,
                bound: 0,
            }
        };
        let mut parts: Vec<Part> = self.takers.iter().map(part).collect();
        for (shard, target) in self.after.iter().filter(|(_, target)| !target.quarantined) {
            if let Some(taker) = home(shard) {
                let part = &mut parts[taker];
                let zone = self.zones.hard(shard);
                part.count += 1;
                if self.is_fixed(shard, target) || zone.is_some_and(|zone| zone != part.zone) {
                    part.fixed += 1;
                } else if zone.is_some() {
                    part.bound += 1;
                }
            }
        }
        parts
    }

    fn is_fixed(&self, shard: ShardId, after: &Target) -> bool {
        self.is_ordered(shard) || after.pinned && self.home(shard).is_some()
    }

    /// Returns the taker that has a shard when counts are evened out: its home, unless an operator
    /// moves it, or a hard rule makes it leave.
    fn home_before_division(&self, shard: ShardId) -> Option<usize> {
        let after = self.standing_place(self.after.get(shard));
        if self.is_ordered(shard) {
            return after;
        }
        let home = self
            .home(shard)
            .and_then(|home| self.standings.place(home))?;
        let zone = self.zones.of_node(&self.view.nodes[self.takers[home]]);
        let is_astray = self.zones.hard(shard).is_some_and(|hard| hard != zone);
        (!is_astray || after.is_none_or(|after| after == home)).then_some(home)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::placement::planner::tests::World;
    use crate::placement::planner::{Strength, ZoneRule};

    #[test]
    fn a_good_plan_breaks_nothing() {
        check("a b", "aa--", "aabb", &[]);
        check("a b!", "ab-*", "aaa*", &[]);
    }

    #[test]
    fn a_target_that_takes_no_shards_is_named() {
        check(
            "a b!",
            "a-",
            "ab",
            &["shard 1 is given to b, which takes no shards"],
        );
        check(
            "a! b!",
            "aa",
            "ab",
            &["shard 1 is given to b, which takes no shards"],
        );
    }

    #[test]
    fn a_shard_left_out_is_named() {
        check(
            "a",
            "a-",
            "a-",
            &["shard 1 is left without a target, though nodes take shards"],
        );
        check(
            "a",
            "ab",
            "ab",
            &["shard 1 is left without a target, though nodes take shards"],
        );
    }

    #[test]
    fn p14_a_pinned_shard_that_is_taken_is_named() {
        let broken = ["shard 0 is pinned, and is moved"];
        check("a b", "Aaab", "Baab", &broken);
    }

    #[test]
    fn quarantine_and_flags_are_not_the_planners() {
        check("a", "a-", "aA", &["the flags of shard 1 change"]);
        let world = World::new("a", "a*");
        let mut plan = world.plan_to("aa");
        for (_, target) in &mut plan.targets {
            target.quarantined = true;
        }
        let broken = world.broken(&plan);
        assert_eq!(
            broken[0].to_string(),
            "shard 1 is in quarantine and gets a target"
        );
    }

    #[test]
    fn an_uneven_division_is_counted() {
        let uneven = [
            "a gets 3 shards, its quota is 2",
            "b gets 1 shards, its quota is 2",
        ];
        check("a b", "aaab", "aaab", &uneven);
    }

    #[test]
    fn moves_beyond_the_least_are_counted() {
        let broken = ["2 shards are taken from nodes that could keep them, 0 would do"];
        check("a b", "abab", "baab", &broken);
    }

    #[test]
    fn moves_that_say_otherwise_than_the_targets_are_named() {
        let world = World::new("a b", "aa--");
        let mut plan = world.plan_to("aabb");
        plan.moves.pop();
        let broken = world.broken(&plan);
        let shard = plan.targets.last().expect("two targets").0;
        assert_eq!(broken, [Broken::MovesDiffer { shard }]);
    }

    #[test]
    fn s2_53_a_cordoned_or_full_node_that_gets_shards_is_named() {
        check(
            "a b^",
            "aa--",
            "aabb",
            &[
                "shard 2 is given to b, which is cordoned",
                "shard 3 is given to b, which is cordoned",
                "a gets 2 shards, its quota is 4",
                "b gets 2 shards, its quota is 0",
            ],
        );
        check(
            "a b#1",
            "aa--",
            "aabb",
            &[
                "b is given 2 shards, its capacity is 1",
                "a gets 2 shards, its quota is 3",
                "b gets 2 shards, its quota is 1",
            ],
        );
    }

    #[test]
    fn s0_11_a_shard_in_the_wrong_zone_is_named() {
        let mut world = World::new("a@x b@y", "ab--");
        let shards: Vec<_> = world.view.meta.shard_count.shards().collect();
        world.settings.zone_rules = vec![ZoneRule {
            first: shards[2],
            last: shards[3],
            zone: "x".into(),
            strength: Strength::Hard,
        }];
        let broken = world.broken(&world.plan_to("abab"));
        let words: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert_eq!(
            words[0],
            "shard 3 is given to b, which is in the wrong zone"
        );
    }

    #[test]
    fn s0_23_moves_beyond_the_budget_and_paused_ones_are_named() {
        let mut world = World::new("a b", "aaaa");
        world.own("aaaa");
        world.settings.moves_in_flight_max = 1;
        let mut plan = world.plan_to("aabb");
        let said = |world: &World, plan: &Plan| -> Vec<String> {
            let broken = world.broken(plan).into_iter();
            broken.map(|broken| broken.to_string()).collect()
        };
        let over = "more moves begin from a to b than may be under way";
        assert_eq!(said(&world, &plan), [over]);
        world.settings.moves_in_flight_max = 2;
        assert_eq!(said(&world, &plan), [""; 0]);
        world.view.orders.paused = true;
        for step in &mut plan.moves {
            step.reason = Reason::Join;
        }
        let paused = [
            "shard 2 moves, though that is paused",
            "shard 3 moves, though that is paused",
        ];
        assert_eq!(said(&world, &plan), paused);
    }

    #[test]
    fn s2_39_a_command_that_is_forgotten_is_named() {
        let mut world = World::new("a b", "abab");
        let shard = world
            .view
            .meta
            .shard_count
            .shards()
            .next()
            .expect("a shard");
        let node = NodeId::new("b").expect("a letter");
        world.commands.insert(shard, Command::Pin(node));
        let broken = world.broken(&Plan::default());
        assert!(
            broken.contains(&Broken::CommandLost { shard }),
            "{broken:?}"
        );
    }

    #[test]
    fn a_shard_that_is_in_quarantine_and_moves_is_named() {
        let world = World::new("a b", "*bab");
        let mut plan = world.plan_to("bbab");
        for (_, target) in &mut plan.targets {
            target.quarantined = true;
        }
        let shard = plan.moves[0].shard;
        assert!(
            world
                .broken(&plan)
                .contains(&Broken::QuarantineBroken { shard })
        );
    }

    /// Checks a plan that leads from one layout to another; the notation is the planner's tests'.
    #[track_caller]
    fn check(nodes: &str, before: &str, after: &str, expected: &[&str]) {
        let world = World::new(nodes, before);
        let broken = world.broken(&world.plan_to(after));
        let words: Vec<_> = broken.iter().map(ToString::to_string).collect();
        assert_eq!(words, expected);
    }
}
