//! Divides the shards over zones and nodes, within what nodes can and must have.
//!
//! Zones come first: each gets its part by the weight of its nodes, which differs from an even one
//! by less than a shard, and within a zone so does each node. Hard rules give a zone what it must
//! have at least.

use std::collections::BTreeMap;

use super::{Share, quotas};

/// One taker, as the division sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::placement) struct Part {
    pub(in crate::placement) weight: u64,
    pub(in crate::placement) tie: u32,
    pub(in crate::placement) zone: usize,
    /// Most shards that it can have, if it states that.
    pub(in crate::placement) capacity: Option<u32>,
    /// It keeps what it has, and gets nothing.
    pub(in crate::placement) cordoned: bool,
    /// It has less than its count because one shard makes it busy, and is not to be filled up.
    pub(in crate::placement) closed: bool,
    /// How many shards have their home there.
    pub(in crate::placement) count: u32,
    /// How many of them cannot go anywhere.
    pub(in crate::placement) fixed: u32,
    /// How many of them can only go to nodes of the same zone.
    pub(in crate::placement) bound: u32,
}

impl Part {
    /// Returns how many more shards it could take.
    pub(in crate::placement) fn room(&self) -> u32 {
        match self.capacity {
            _ if self.cordoned => 0,
            Some(capacity) => capacity.saturating_sub(self.count),
            None => u32::MAX,
        }
    }

    /// Returns how many more shards it could take that belong into its zone, if those that do not
    /// make room.
    pub(in crate::placement) fn bound_room(&self) -> u32 {
        match self.capacity {
            _ if self.cordoned => 0,
            Some(capacity) => capacity.saturating_sub(self.fixed + self.bound),
            None => u32::MAX,
        }
    }

    fn share(&self) -> Share {
        let (least, most) = if self.cordoned {
            (self.count, self.count)
        } else {
            let capacity = self.capacity.unwrap_or(u32::MAX);
            let most = if self.closed {
                capacity.min(self.count)
            } else {
                capacity
            };
            (self.fixed, most.max(self.fixed))
        };
        Share {
            weight: self.weight,
            count: self.count,
            least,
            most,
            tie: self.tie,
        }
    }
}

/// Returns how many shards each part should have, when `coming` shards have no home yet, and of
/// these so many of each zone's can only go there.
pub(in crate::placement) fn divide(
    parts: &[Part],
    coming: u32,
    bound_coming: &BTreeMap<usize, u32>,
) -> Vec<u32> {
    let total = coming + parts.iter().map(|part| part.count).sum::<u32>();
    let shares = bounded(parts, total);
    let mut zones: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, part) in parts.iter().enumerate() {
        zones.entry(part.zone).or_default().push(place);
    }
    if zones.len() <= 1 {
        return quotas(total, &shares);
    }
    let of_zones: Vec<Share> = zones
        .iter()
        .map(|(zone, places)| {
            let bound = places.iter().filter(|place| !parts[**place].cordoned);
            let bound: u32 = bound.map(|place| parts[*place].bound).sum();
            let coming = bound_coming.get(zone).copied().unwrap_or(0);
            zone_share(places.iter().map(|place| shares[*place]), bound + coming)
        })
        .collect();
    let mut divided = vec![0; parts.len()];
    for (places, total) in zones.values().zip(quotas(total, &of_zones)) {
        let of_nodes: Vec<Share> = places.iter().map(|place| shares[*place]).collect();
        for (place, quota) in places.iter().zip(quotas(total, &of_nodes)) {
            divided[*place] = quota;
        }
    }
    divided
}

fn zone_share(shares: impl Iterator<Item = Share>, bound: u32) -> Share {
    let none = Share {
        weight: 0,
        count: 0,
        least: bound,
        most: 0,
        tie: u32::MAX,
    };
    let sum = shares.fold(none, |sum, share| Share {
        weight: sum.weight + share.weight,
        count: sum.count + share.count,
        least: sum.least.saturating_add(share.least),
        most: sum.most.saturating_add(share.most),
        tie: sum.tie.min(share.tie),
    });
    Share {
        most: sum.most.max(sum.least),
        ..sum
    }
}

/// Returns the parts' shares, with bounds that leave room for all shards: what is closed opens, and
/// what is above its capacity keeps as much of that as finds no room elsewhere.
fn bounded(parts: &[Part], total: u32) -> Vec<Share> {
    let mut shares: Vec<Share> = parts.iter().map(Part::share).collect();
    let missing = |shares: &[Share]| {
        let mosts: u64 = shares.iter().map(|share| u64::from(share.most)).sum();
        u32::try_from(u64::from(total).saturating_sub(mosts)).expect("at most the total")
    };
    if missing(&shares) > 0 {
        let open = |part: &Part| {
            Part {
                closed: false,
                ..*part
            }
            .share()
        };
        shares = parts.iter().map(open).collect();
    }
    let mut missing = missing(&shares);
    for share in &mut shares {
        let stay = share.count.saturating_sub(share.most).min(missing);
        share.most += stay;
        missing -= stay;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_get_their_parts_before_nodes_do() {
        // Two zones of two nodes: the two odd shards go to different zones.
        let parts = [0, 0, 1, 1].map(|zone| part(zone, 0));
        let quotas = divide(&parts, 6, &BTreeMap::new());
        assert_eq!(quotas[0] + quotas[1], 3);
        assert_eq!(quotas[2] + quotas[3], 3);
    }

    #[test]
    fn s0_11_a_zone_gets_at_least_what_is_bound_to_it() {
        let parts = [0, 0, 1].map(|zone| part(zone, 0));
        let bound = BTreeMap::from([(1, 5)]);
        assert_eq!(divide(&parts, 9, &bound), [2, 2, 5]);
    }

    #[test]
    fn a_cordoned_part_keeps_what_it_has() {
        let mut parts = [0, 0].map(|zone| part(zone, 1));
        parts[0].cordoned = true;
        assert_eq!(divide(&parts, 6, &BTreeMap::new()), [1, 7]);
        parts[0].count = 6;
        assert_eq!(divide(&parts, 0, &BTreeMap::new()), [6, 1]);
    }

    #[test]
    fn s1_40_what_finds_no_room_stays_above_the_capacity() {
        let mut parts = [0, 0].map(|zone| part(zone, 4));
        parts[0].capacity = Some(2);
        assert_eq!(divide(&parts, 0, &BTreeMap::new()), [2, 6]);
        parts[1].capacity = Some(5);
        assert_eq!(divide(&parts, 0, &BTreeMap::new()), [3, 5]);
    }

    #[test]
    fn a_closed_part_is_not_filled_up_unless_nothing_else_has_room() {
        let mut parts = [part(0, 1), part(0, 5)];
        parts[0].closed = true;
        assert_eq!(divide(&parts, 0, &BTreeMap::new()), [1, 5]);
        parts[1].capacity = Some(4);
        assert_eq!(divide(&parts, 0, &BTreeMap::new()), [3, 3]);
    }

    fn part(zone: usize, count: u32) -> Part {
        Part {
            weight: 1,
            tie: 0,
            zone,
            capacity: None,
            cordoned: false,
            closed: false,
            count,
            fixed: 0,
            bound: 0,
        }
    }
}
