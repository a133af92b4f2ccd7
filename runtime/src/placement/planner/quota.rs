//! How many shards each node should have.

use std::cmp::Reverse;

/// What a node, or a zone, brings into the division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::placement) struct Share {
    /// How much it takes beside others; above zero.
    pub(in crate::placement) weight: u64,
    /// How many shards it has now.
    pub(in crate::placement) count: u32,
    /// It cannot have fewer.
    pub(in crate::placement) least: u32,
    /// It cannot have more; at least [`least`](Self::least).
    pub(in crate::placement) most: u32,
    /// What decides between nodes that are alike otherwise.
    pub(in crate::placement) tie: u32,
}

/// Divides `total` shards by weight, by the method of the largest remainder, except that everybody
/// gets at least its least and at most its most. Only if the leasts add up to more than the total
/// do the quotas, and only if the mosts add up to less do they.
///
/// Among equal remainders, who has most beyond its whole share now keeps more: that costs the
/// fewest moves. A bound next to a share only decides who gets an odd shard, as long as there are
/// enough of these: else a shard that cannot leave its new home would shift the shares of all
/// others a little. Thus dividing again what was divided so gives the same.
pub(in crate::placement) fn quotas(total: u32, shares: &[Share]) -> Vec<u32> {
    let mut quotas: Vec<u32> = shares.iter().map(|share| share.least).collect();
    let mut open: Vec<usize> = (0..shares.len()).collect();
    let mut left = total;
    // Who is held to a bound takes no part in the division. The side that is further out of its
    // bounds is held to them for good, so there are at most as many rounds as nodes.
    loop {
        let division = Division::of(left, shares, &open);
        let Some((side, held)) = division.out_of_bounds(shares, &open) else {
            divide(division, shares, &open, &mut quotas);
            return quotas;
        };
        open.retain(|node| !held.contains(node));
        for node in held {
            let bound = match side {
                Side::Least => shares[node].least,
                Side::Most => shares[node].most,
            };
            quotas[node] = bound;
            left = left.saturating_sub(bound);
        }
    }
}

/// Which bound a share is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Least,
    Most,
}

/// How many shards are divided by how much weight.
#[derive(Clone, Copy, Debug)]
struct Division {
    total: u64,
    weights: u64,
}

impl Division {
    fn of(total: u32, shares: &[Share], open: &[usize]) -> Self {
        let weights: u64 = open.iter().map(|node| shares[*node].weight).sum();
        Self {
            total: total.into(),
            weights: weights.max(1),
        }
    }

    /// Returns the whole shards of a share, and what remains in parts of the weights.
    fn parts(self, share: Share) -> (u32, u64) {
        let parts = self.total * share.weight;
        let whole = u32::try_from(parts / self.weights).expect("a share is at most the total");
        (whole, parts % self.weights)
    }

    /// Returns by how much a share is less than its least, in parts of the weights.
    fn below_least(self, share: Share) -> u64 {
        let least = u64::from(share.least).saturating_mul(self.weights);
        least.saturating_sub(self.total * share.weight)
    }

    /// Returns by how much a share is more than its most, in parts of the weights.
    fn above_most(self, share: Share) -> u64 {
        let most = u64::from(share.most).saturating_mul(self.weights);
        (self.total * share.weight).saturating_sub(most)
    }

    /// Returns who must be held to its bound, all at the same side; `None`: the odd shards can go
    /// so that everybody is within.
    fn out_of_bounds(self, shares: &[Share], open: &[usize]) -> Option<(Side, Vec<usize>)> {
        // Less than a whole shard is made up for by an odd one, or by none.
        let far = |out: u64| out >= self.weights;
        let sum = |out: fn(Self, Share) -> u64| -> u64 {
            let outs = open.iter().map(|node| out(self, shares[*node]));
            outs.filter(|out| far(*out)).sum()
        };
        let (below, above) = (sum(Self::below_least), sum(Self::above_most));
        let all = |side, by: fn(Self, Share) -> u64, least: u64| {
            let is_out = |node: &usize| by(self, shares[*node]) >= least;
            Some((side, open.iter().copied().filter(is_out).collect()))
        };
        if below > 0 || above > 0 {
            return if below >= above {
                all(Side::Least, Self::below_least, self.weights)
            } else {
                all(Side::Most, Self::above_most, self.weights)
            };
        }
        let whole: u64 = open
            .iter()
            .map(|n| u64::from(self.parts(shares[*n]).0))
            .sum();
        let odd = self.total - whole;
        let count = |is: &dyn Fn(Share) -> bool| open.iter().filter(|n| is(shares[**n])).count();
        let takers = count(&|share| self.above_most(share) == 0 && self.parts(share).1 > 0);
        if count(&|share| self.below_least(share) > 0) as u64 > odd {
            all(Side::Least, Self::below_least, 1)
        } else if (takers as u64) < odd && takers < count(&|share| self.parts(share).1 > 0) {
            all(Side::Most, Self::above_most, 1)
        } else {
            None
        }
    }
}

/// Divides what is left among those that no bound holds.
fn divide(division: Division, shares: &[Share], open: &[usize], quotas: &mut [u32]) {
    let mut left = division.total;
    let mut odd = Vec::with_capacity(open.len());
    for node in open {
        let share = shares[*node];
        let (whole, remainder) = division.parts(share);
        left -= u64::from(whole);
        quotas[*node] = whole;
        if division.above_most(share) == 0 {
            let must = division.below_least(share) > 0;
            let lacks = i64::from(whole) - i64::from(share.count);
            odd.push((Reverse(must), Reverse(remainder), lacks, share.tie, *node));
        }
    }
    if left > 0 {
        odd.sort_unstable();
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        for (.., node) in odd.into_iter().take(left) {
            quotas[node] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s0_10_weights_divide_the_shards() {
        check(12, &[(1, 0), (2, 0), (3, 0)], &[2, 4, 6]);
        check(8, &[(1, 0), (1, 0), (1, 0)], &[3, 3, 2]);
        check(1, &[(1, 0), (3, 0)], &[0, 1]);
    }

    #[test]
    fn who_has_more_keeps_the_odd_shard() {
        check(8, &[(1, 2), (1, 3), (1, 3)], &[2, 3, 3]);
        check(7, &[(1, 0), (1, 0), (1, 7)], &[2, 2, 3]);
        check(6, &[(1, 2), (3, 4)], &[2, 4]);
    }

    /// Every way for 4 nodes to have up to 4 shards each.
    #[test]
    fn s2_37_no_other_fair_division_costs_fewer_moves() {
        for layout in 0..5_u32.pow(4) {
            let counts = [0, 1, 2, 3].map(|node| layout / 5_u32.pow(node) % 5);
            let total: u32 = counts.iter().sum();
            let shares = shares(&counts.map(|count| (1, count)));
            let fair = |odd: u32| -> Vec<u32> {
                (0..4).map(|node| total / 4 + (odd >> node & 1)).collect()
            };
            let moves = |quotas: &[u32]| -> u32 {
                let pairs = counts.iter().zip(quotas);
                pairs
                    .map(|(count, quota)| count.saturating_sub(*quota))
                    .sum()
            };
            let odds = (0_u32..16).filter(|odd| odd.count_ones() == total % 4);
            let least = odds.map(|odd| moves(&fair(odd))).min();
            assert_eq!(Some(moves(&quotas(total, &shares))), least, "{counts:?}");
        }
    }

    #[test]
    fn p14_what_is_pinned_stays_and_the_rest_is_divided() {
        let mut shares = shares(&[(1, 5), (1, 3), (1, 1)]);
        shares[0].least = 5;
        assert_eq!(quotas(9, &shares), [5, 2, 2]);
        shares[1].least = 3;
        assert_eq!(quotas(9, &shares), [5, 3, 1]);
    }

    #[test]
    fn s1_40_nobody_gets_more_than_its_most_and_the_others_share_the_rest() {
        let mut shares = shares(&[(1, 0), (1, 0), (2, 0)]);
        shares[2].most = 3;
        assert_eq!(quotas(12, &shares), [5, 4, 3]);
        shares[1].most = 4;
        assert_eq!(quotas(12, &shares), [5, 4, 3]);
        shares[0].most = 4;
        assert_eq!(quotas(12, &shares), [4, 4, 3], "less than all");
    }

    /// Every way to hold some of five nodes to what they got.
    #[test]
    fn p13_what_is_held_where_it_was_put_leaves_the_others_as_they_are() {
        let weights = [(1000, 0), (988, 1), (924, 2), (3330, 0), (27, 1)];
        for total in 0..40 {
            let mut shares = shares(&weights);
            let divided = quotas(total, &shares);
            for (share, quota) in shares.iter_mut().zip(&divided) {
                share.count = *quota;
            }
            for held in 0..1_u32 << weights.len() {
                let mut shares = shares.clone();
                for (node, quota) in divided.iter().enumerate() {
                    shares[node].least = if held >> node & 1 == 1 { *quota } else { 0 };
                }
                assert_eq!(quotas(total, &shares), divided, "{total} {held:b}");
            }
        }
    }

    /// Every pair of bounds for three nodes of unequal weight.
    #[test]
    fn bounds_are_kept_and_everything_is_divided() {
        for bounds in 0..4_u32.pow(6) {
            let digit = |place: u32| bounds / 4_u32.pow(place) % 4;
            let mut shares = shares(&[(1, 2), (2, 1), (4, 3)]);
            for (share, place) in shares.iter_mut().zip([0, 2, 4]) {
                share.least = digit(place);
                share.most = digit(place) + 2 * digit(place + 1);
            }
            let sum = |f: fn(&Share) -> u32| shares.iter().map(f).sum::<u32>();
            let (least, most) = (sum(|s| s.least), sum(|s| s.most));
            let quotas = quotas(6, &shares);
            for (quota, share) in quotas.iter().zip(&shares) {
                assert!(share.least <= *quota && *quota <= share.most, "{shares:?}");
            }
            let total: u32 = quotas.iter().sum();
            assert_eq!(total, most.min(least.max(6)), "{shares:?}");
        }
    }

    #[track_caller]
    fn check(total: u32, weights_and_counts: &[(u64, u32)], expected: &[u32]) {
        assert_eq!(quotas(total, &shares(weights_and_counts)), expected);
    }

    fn shares(weights_and_counts: &[(u64, u32)]) -> Vec<Share> {
        let share = |(&(weight, count), tie)| Share {
            weight,
            count,
            least: 0,
            most: u32::MAX,
            tie,
        };
        weights_and_counts.iter().zip(0..).map(share).collect()
    }
}
