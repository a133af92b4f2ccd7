//! Brings shards into the zone that a soft rule names, as far as swaps can: they leave all counts
//! as they are.

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use super::board::Board;
use crate::ids::ShardId;

/// A shard that is free to go, and the taker that has it.
type Place = (ShardId, usize);

impl Board<'_> {
    /// Swaps shards until no swap brings one more of them into its zone.
    ///
    /// Takes time in proportion to the shards, and to the swaps times the shards that wish for a
    /// zone.
    pub(super) fn meet_preferences(&mut self) {
        if !self.zones.has_soft_rules() {
            return;
        }
        let mut partners = Partners::of(self);
        let mut misplaced = self.misplaced();
        loop {
            let before = misplaced.len();
            for (shard, from) in misplaced {
                let to = self.zones.soft(shard).expect("only shards with a wish");
                let zone = self.takers[from].zone;
                if let Some((partner, there)) = partners.take(shard, to, zone) {
                    self.carry(shard, from, there, (Reason::Zone, 0));
                    self.carry(partner, there, from, (Reason::Zone, 0));
                }
            }
            misplaced = self.misplaced();
            if misplaced.len() >= before {
                break;
            }
            partners = Partners::of(self);
        }
    }

    /// Returns every shard that is free to go and not in the zone it should be in.
    fn misplaced(&self) -> Vec<Place> {
        let mut misplaced: Vec<Place> = self
            .exchangeable()
            .filter(|(shard, place)| {
                let wish = self.zones.soft(*shard);
                wish.is_some_and(|zone| zone != self.takers[*place].zone)
            })
            .collect();
        misplaced.sort_unstable();
        misplaced
    }

    fn exchangeable(&self) -> impl Iterator<Item = Place> {
        let (memory, now) = (self.planning.memory, self.planning.now);
        let takers = self.takers.iter().enumerate();
        let takers = takers.filter(|(_, taker)| !taker.cordoned);
        let all = takers.flat_map(|(place, taker)| taker.free.iter().map(move |s| (*s, place)));
        all.filter(move |(shard, _)| !memory.rests(*shard, now))
    }
}

/// Shards that could make room in a zone, since they need not be there.
struct Partners {
    /// By the zone where they are and the one they wish for, if any.
    by_zones: BTreeMap<(usize, Option<usize>), Vec<Place>>,
    /// Those that went already, each once in a pass.
    went: BTreeSet<ShardId>,
}

impl Partners {
    fn of(board: &Board<'_>) -> Self {
        let mut by_zones: BTreeMap<_, Vec<Place>> = BTreeMap::new();
        for (shard, place) in board.exchangeable() {
            let zone = board.takers[place].zone;
            let wish = board.zones.soft(shard);
            if wish != Some(zone) {
                by_zones
                    .entry((zone, wish))
                    .or_default()
                    .push((shard, place));
            }
        }
        Self {
            by_zones,
            went: BTreeSet::new(),
        }
    }

    /// Takes a partner out of a zone for a shard that wishes to be there, unless that went as
    /// another's partner: first one that wishes to be where the shard comes from, then one that
    /// wishes for nothing, then any.
    fn take(&mut self, shard: ShardId, zone: usize, comes_from: usize) -> Option<Place> {
        if self.went.contains(&shard) {
            return None;
        }
        let others = self.by_zones.range((zone, None)..(zone + 1, None));
        let others: Vec<_> = others.map(|(zones, _)| *zones).collect();
        let first = [(zone, Some(comes_from)), (zone, None)];
        let partner = first.into_iter().chain(others).find_map(|zones| {
            let partners = self.by_zones.get_mut(&zones)?;
            while let Some(partner) = partners.pop() {
                if !self.went.contains(&partner.0) {
                    return Some(partner);
                }
            }
            None
        })?;
        self.went.extend([shard, partner.0]);
        Some(partner)
    }
}
