//! How many shards each node should have.

use std::cmp::Reverse;

/// What a node brings into the division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::placement) struct Share {
    /// How much it takes beside others; above zero.
    pub(in crate::placement) weight: u64,
    /// How many shards it has now.
    pub(in crate::placement) count: u32,
    /// How many of them must not be taken from it.
    pub(in crate::placement) pinned: u32,
    /// What decides between nodes that are alike otherwise.
    pub(in crate::placement) tie: u32,
}

/// Divides `total` shards by weight, by the method of the largest remainder, except that nobody's
/// quota is below what is pinned there. Only where that is so can the quotas add up to more than
/// the total.
///
/// Among equal remainders, who has most beyond its whole share now keeps more: that costs the fewest moves, and dividing
/// again what was divided so gives the same.
pub(in crate::placement) fn quotas(total: u32, shares: &[Share]) -> Vec<u32> {
    let mut open: Vec<usize> = (0..shares.len()).collect();
    let mut left = total;
    // Who has more pinned than its share, rounded up, takes no part in the division. Each round
    // settles a node for good, so there are at most as many rounds as nodes.
    loop {
        let weights: u64 = open.iter().map(|node| shares[*node].weight).sum();
        let before = open.len();
        let mut pinned = 0;
        open.retain(|node| {
            let Share {
                weight,
                pinned: own,
                ..
            } = shares[*node];
            let fits = u64::from(own) <= (u64::from(left) * weight).div_ceil(weights);
            pinned += if fits { 0 } else { own };
            fits
        });
        if open.len() == before {
            break;
        }
        left -= pinned;
    }
    let mut quotas: Vec<u32> = shares.iter().map(|share| share.pinned).collect();
    divide(left, shares, &open, &mut quotas);
    quotas
}

fn divide(total: u32, shares: &[Share], open: &[usize], quotas: &mut [u32]) {
    let weights: u64 = open.iter().map(|node| shares[*node].weight).sum();
    let mut left = total;
    let mut odd = Vec::with_capacity(open.len());
    for node in open {
        let Share {
            weight,
            count,
            pinned,
            tie,
        } = shares[*node];
        let parts = u64::from(total) * weight;
        let whole = u32::try_from(parts / weights).expect("a share is at most the total");
        left -= whole;
        // What is pinned beyond the whole share is kept in any case: it may as well be the odd one.
        // What is pinned beyond the whole share is kept in any case: it may as well be the odd one.
        let lacks = i64::from(whole) - i64::from(count);
        odd.push((Reverse(parts % weights), pinned <= whole, lacks, tie, *node));
        quotas[*node] = whole.max(pinned);
    }
    odd.sort_unstable();
    for (_, fits, .., node) in odd.into_iter().take(left as usize) {
        quotas[node] += u32::from(fits);
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
        shares[0].pinned = 5;
        assert_eq!(quotas(9, &shares), [5, 2, 2]);
        shares[1].pinned = 3;
        assert_eq!(quotas(9, &shares), [5, 3, 1]);
    }

    #[track_caller]
    fn check(total: u32, weights_and_counts: &[(u64, u32)], expected: &[u32]) {
        assert_eq!(quotas(total, &shares(weights_and_counts)), expected);
    }

    fn shares(weights_and_counts: &[(u64, u32)]) -> Vec<Share> {
        let share = |(&(weight, count), tie)| Share {
            weight,
            count,
            pinned: 0,
            tie,
        };
        weights_and_counts.iter().zip(0..).map(share).collect()
    }
}
