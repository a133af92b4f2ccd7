//! Says what no plan can mend.

use std::collections::BTreeMap;

use super::board::{Board, Taker, capacity};
use super::load::stale_after;
use super::placing::room_of;
use super::weighing::{Weighing, of_share};
use super::{Advice, PinPolicy, Planning};
use crate::ids::ShardId;

impl Board<'_> {
    /// Returns what operators should know of what is on the board.
    pub(super) fn advice(&self) -> Vec<Advice> {
        let mut advice = Vec::new();
        let view = self.planning.view;
        if self.takers.is_empty() {
            let shards = view.meta.shard_count.shards();
            let unowned = shards
                .filter(|shard| view.live_owner(*shard).is_none())
                .count();
            let unowned = u32::try_from(unowned).expect("at most as many as shards");
            advice.push(Advice::NoTakers { unowned });
            return advice;
        }
        let waits = match self.planning.settings.pin_policy {
            PinPolicy::Wait => true,
            PinPolicy::FailOver => false,
        };
        advice.extend(
            self.absent
                .iter()
                .map(|(node, pinned)| Advice::PinnedToAbsent {
                    node: (*node).clone(),
                    shards: pinned.shards,
                    first: pinned.first,
                    waits,
                }),
        );
        advice.extend(
            self.unmet
                .iter()
                .map(|(zone, unmet)| Advice::ZoneRuleUnmet {
                    zone: self.zones.name(*zone).into(),
                    shards: unmet.shards,
                    first: unmet.first,
                }),
        );
        self.advise_on_capacity(&mut advice);
        if self.planning.settings.zone_headroom {
            self.advise_on_headroom(&mut advice);
        }
        advice
    }

    fn advise_on_capacity(&self, advice: &mut Vec<Advice>) {
        if self.without_room > 0 {
            let shards = self.without_room;
            advice.push(Advice::CapacityExhausted { shards });
        }
        let unreadable = self.takers.iter().filter(|taker| {
            let record = &self.planning.view.nodes[taker.node];
            capacity(record).is_err()
        });
        advice.extend(unreadable.map(|taker| Advice::CapacityUnreadable {
            node: taker.node.clone(),
        }));
        let capacity: Option<u64> = self.takers.iter().map(|t| t.capacity.map(u64::from)).sum();
        let count: u64 = self
            .takers
            .iter()
            .map(|taker| u64::from(taker.count()))
            .sum();
        let used = capacity.map(|capacity| of_share(count, capacity.max(1)));
        let watermark = u64::from(self.planning.settings.capacity_watermark_permille);
        if let Some(used) = used.filter(|used| *used >= watermark) {
            let used_permille = u32::try_from(used).unwrap_or(u32::MAX);
            advice.push(Advice::CapacityNear { used_permille });
        }
    }

    /// Looks at what would be if a zone were lost.
    ///
    /// No placement can make that better or worse, so it is said and not planned for: what the others
    /// can take is the sum of their capacities, and what they must take is every shard but those
    /// that a hard rule binds to the lost zone, or a pin to a node of it. Neither depends on where
    /// the shards are, but for cordons, which end. Only more capacity helps, or another rule.
    fn advise_on_headroom(&self, advice: &mut Vec<Advice>) {
        let zones: BTreeMap<usize, u64> = self.zones_of_takers();
        if zones.len() < 2 {
            return;
        }
        let Planning {
            loads,
            settings,
            now,
            ..
        } = self.planning;
        let uses = self.takers.iter().map(|taker| {
            let used = loads.node(taker.node, stale_after(settings), now)?;
            Some(u64::from(used.cpu_permille) * taker.weight)
        });
        let used: Option<u64> = uses.sum();
        let weights: u64 = zones.values().sum();
        for (zone, weight) in &zones {
            let short = self.short_without(*zone);
            if short > 0 {
                advice.push(Advice::ZoneWithoutHeadroom {
                    zone: self.zones.name(*zone).into(),
                    shards: u32::try_from(short).unwrap_or(u32::MAX),
                });
            }
            let others = (weights - weight).max(1);
            if let Some(cpu) = used.map(|used| used / others).filter(|cpu| *cpu > 1000) {
                advice.push(Advice::ZoneWithoutCpu {
                    zone: self.zones.name(*zone).into(),
                    cpu_permille: u32::try_from(cpu).unwrap_or(u32::MAX),
                });
            }
        }
    }

    /// Returns how many shards would find no room in the other zones if a zone were lost.
    fn short_without(&self, zone: usize) -> u64 {
        let (inside, others): (Vec<_>, Vec<_>) =
            self.takers.iter().partition(|taker| taker.zone == zone);
        let (room, above) = room_of(others);
        if room >= self.planning.view.meta.shard_count.get().into() {
            return 0; // As mostly, where capacities are not stated: no shard has to be looked at.
        }
        let coming: u64 = inside.iter().map(|taker| self.could_go(taker, zone)).sum();
        u64::saturating_sub(coming + above, room)
    }

    /// Counts the shards of a taker that would go to other zones if its own were lost.
    fn could_go(&self, taker: &Taker<'_>, zone: usize) -> u64 {
        let Planning { view, settings, .. } = self.planning;
        let waits = |shard: &ShardId| {
            let is_pinned = match self.flags.get(shard) {
                Some(flags) => flags.pinned,
                None => view.targets.get(*shard).pinned,
            };
            let is_bound = self.zones.hard(*shard) == Some(zone);
            is_bound || is_pinned && settings.pin_policy == PinPolicy::Wait
        };
        taker.shards().filter(|shard| !waits(shard)).count() as u64
    }

    /// Returns the weight of each zone with takers.
    fn zones_of_takers(&self) -> BTreeMap<usize, u64> {
        let mut zones = BTreeMap::new();
        for taker in &self.takers {
            *zones.entry(taker.zone).or_default() += taker.weight;
        }
        zones
    }

    /// Says who stays above the band after all that could be done.
    pub(super) fn advice_on_load(&self, weighing: &Weighing) -> Vec<Advice> {
        let places = 0..self.takers.len();
        let above = places.filter(|place| weighing.excess(*place).is_some());
        let advice = above.map(|place| {
            let node = self.takers[place].node.clone();
            let permille = |p: u64| u32::try_from(p).unwrap_or(u32::MAX);
            let share = weighing.share(place);
            match weighing.hottest(self, place) {
                Some((cost, shard)) if cost > share => Advice::HotShard {
                    shard,
                    node,
                    load_permille: permille(of_share(cost, share)),
                },
                Some(_) | None => Advice::Overloaded {
                    node,
                    load_permille: permille(weighing.permille(place).unwrap_or(0)),
                },
            }
        });
        advice.collect()
    }
}
