//! How many shards each node has after a plan, against how many it should and may have.

use std::collections::BTreeMap;

use super::{Broken, Outcome};
use crate::ids::{NodeId, ShardId};
use crate::placement::Target;
use crate::placement::planner::{Move, Part, Reason, Strategy, capacity, divide, tie};

/// What each taker has after the plan and should have, and the fewest moves that takes.
pub(super) struct Division {
    after: Vec<u32>,
    quotas: Vec<u32>,
    pub(super) least: usize,
}

impl Outcome<'_> {
    /// Checks that no node has more shards than before if that is more than its capacity, but for
    /// those that operators order there: they may displace others in a later plan only.
    pub(super) fn full(&self) -> Vec<Broken> {
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
    pub(super) fn divided(&self) -> Vec<Broken> {
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

    pub(super) fn division(&self) -> Division {
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

    pub(super) fn parts_after(&self) -> Vec<Part> {
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
}
