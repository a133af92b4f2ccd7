//! How a cluster's shards are divided over its nodes: what metrics and people look at.
//!
//! Only told, never decided by: the planner has its own integers.

use std::collections::BTreeMap;

use super::{ClusterView, NodeRecord, NodeState};
use crate::ids::NodeId;

/// How the shards of a view are divided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Balance {
    /// Shards that their target owns, or that have a live owner and no target.
    pub settled: usize,
    /// Shards that another live node than their target owns.
    pub moving: usize,
    /// Shards without a live owner, but for those in quarantine.
    pub unowned: usize,
    /// Shards in quarantine: left alone, with or without an owner.
    pub quarantined: usize,
    /// Shards that an operator fixed where they are, whatever else they are.
    pub pinned: usize,
    /// Those of them without a live owner: whoever calls their objects waits.
    pub pinned_unowned: usize,
    /// Shards that each node owns which takes shards; `None` without such a node.
    pub shards: Option<Spread>,
}

/// How evenly something is divided over the nodes that take shards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// What the node with most has.
    pub max: f64,
    /// What the node with least has.
    pub min: f64,
    /// What a node has on average.
    pub mean: f64,
    /// Standard deviation over mean of what nodes have for their weight: 0 if each has exactly
    /// its share.
    pub variation: f64,
}

impl Balance {
    /// Reads off a view how its shards are divided. Costs some tens of nanoseconds a shard.
    pub fn of(view: &ClusterView) -> Self {
        let mut balance = Self::default();
        let mut owned: BTreeMap<&NodeId, u64> = BTreeMap::new();
        for (shard, target) in view.targets.iter() {
            balance.pinned += usize::from(target.pinned);
            let owner = view.live_owner(shard);
            if let Some(owner) = owner {
                *owned.entry(&owner.node).or_default() += 1;
            }
            balance.pinned_unowned += usize::from(target.pinned && owner.is_none());
            let count = match (owner, &target.node) {
                _ if target.quarantined => &mut balance.quarantined,
                (None, _) => &mut balance.unowned,
                (Some(owner), Some(target)) if owner.node != *target => &mut balance.moving,
                (Some(_), _) => &mut balance.settled,
            };
            *count += 1;
        }
        balance.shards = spread(view, |node| {
            Some(as_f64(owned.get(node).copied().unwrap_or_default()))
        });
        balance
    }
}

/// Returns whether the planner evens a registered node out with others: no gate, neither joining
/// nor draining, and not cordoned. Means and spreads cover these nodes alone, since the others are
/// meant to differ.
pub fn is_balanced(view: &ClusterView, node: &NodeId) -> bool {
    let takes = |record: &NodeRecord| record.state == NodeState::Active && !record.weight.is_gate();
    view.nodes.get(node).is_some_and(takes) && !view.orders.cordoned.contains(node)
}

/// Counts the shards whose live owner is one of these nodes.
pub fn owned_by(view: &ClusterView, is: impl Fn(&NodeId) -> bool) -> usize {
    let shards = view.meta.shard_count.shards();
    let owners = shards.filter_map(|shard| view.live_owner(shard));
    owners.filter(|owner| is(&owner.node)).count()
}

/// Returns how evenly something is divided over the nodes of a view that [`is_balanced`] accepts;
/// nodes of which the amount is not known are left out.
pub fn spread(view: &ClusterView, amount: impl Fn(&NodeId) -> Option<f64>) -> Option<Spread> {
    let nodes = view.nodes.iter();
    let takers = nodes.filter(|(node, _)| is_balanced(view, node));
    let amounts = takers.filter_map(|(node, record)| {
        let weight = f64::from(record.weight.thousandths()) / 1000.0;
        Some((amount(node)?, weight))
    });
    Spread::of(&amounts.collect::<Vec<_>>())
}

impl Spread {
    /// Summarises what some have, each with its weight.
    fn of(amounts: &[(f64, f64)]) -> Option<Self> {
        let (&(first, _), count) = (amounts.first()?, as_f64(amounts.len() as u64));
        let each = || amounts.iter().map(|(amount, _)| *amount);
        let for_weight = || amounts.iter().map(|(amount, weight)| amount / weight);
        let mean = for_weight().sum::<f64>() / count;
        let squares = for_weight().map(|share| (share - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        Some(Self {
            max: each().fold(first, f64::max),
            min: each().fold(first, f64::min),
            mean: each().sum::<f64>() / count,
            variation: if mean > 0.0 { deviation / mean } else { 0.0 },
        })
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "told to people, who need no 53 bits"
)]
fn as_f64(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::ids::{Incarnation, Revision, ShardCount, ShardId};
    use crate::placement::{ClusterMeta, News, NodeRecord, Owner, OwnerRecord, Target, Weight};

    #[test]
    fn s2_19_a_spread_has_extremes_mean_and_variation() {
        let even = Spread::of(&[(10.0, 1.0), (10.0, 1.0)]);
        let expected = Spread {
            max: 10.0,
            min: 10.0,
            mean: 10.0,
            variation: 0.0,
        };
        assert_eq!(even, Some(expected));
        let uneven = Spread::of(&[(30.0, 1.0), (10.0, 1.0)]).expect("of two");
        assert_eq!((uneven.max, uneven.min, uneven.mean), (30.0, 10.0, 20.0));
        assert!((uneven.variation - 0.5).abs() < 1e-9, "{uneven:?}");
    }

    #[test]
    fn s2_19_a_node_of_twice_the_weight_has_its_share_with_twice_as_much() {
        let weighted = Spread::of(&[(20.0, 2.0), (10.0, 1.0)]).expect("of two");
        assert!(weighted.variation.abs() < 1e-9, "{weighted:?}");
    }

    #[test]
    fn nothing_is_no_spread_and_all_zero_is_even() {
        assert_eq!(Spread::of(&[]), None);
        let idle = Spread::of(&[(0.0, 1.0), (0.0, 1.0)]).expect("of two");
        assert!(idle.variation.abs() < 1e-9);
    }

    #[test]
    fn a_node_of_which_nothing_is_known_is_not_one_without_load() {
        let load = |node: &NodeId| (*node != named('b')).then_some(0.5);
        let spread = spread(&view("abc", "-", "-"), load).expect("two are known");
        assert_eq!((spread.min, spread.mean), (0.5, 0.5));
    }

    #[test]
    fn only_nodes_that_can_get_shards_are_compared() {
        let mut view = view("abcde", "aaab", "aaab");
        let balanced = |view: &ClusterView| {
            let nodes = view.nodes.keys();
            let nodes = nodes.filter(|node| is_balanced(view, node));
            nodes.map(NodeId::as_str).collect::<String>()
        };
        assert_eq!(balanced(&view), "abcde");
        for (letter, weight, state) in [
            ('c', Weight::from_thousandths(0), NodeState::Active),
            ('d', Weight::ONE, NodeState::Joining),
            ('e', Weight::ONE, NodeState::Draining),
        ] {
            let changed = NodeRecord {
                weight,
                state,
                ..record()
            };
            view.apply(News::Node(named(letter), Some(changed)));
        }
        assert_eq!(balanced(&view), "ab");
        let shards = Balance::of(&view).shards.expect("of two");
        assert_eq!((shards.max, shards.min, shards.mean), (3.0, 1.0, 2.0));
        view.orders.cordoned.insert(named('a'));
        assert_eq!(balanced(&view), "b");
        assert_eq!(owned_by(&view, |node| *node == named('a')), 3);
        assert_eq!(owned_by(&view, |node| *node == named('c')), 0);
    }

    #[test]
    fn s0_30_s2_20_every_shard_is_counted_once_and_pins_beside() {
        let mut view = view("ab", "aabb", "ab-b");
        let mut marked = view.targets.get(shard(3)).clone();
        (marked.pinned, marked.quarantined) = (true, true);
        view.targets.set(shard(3), marked);
        let balance = Balance::of(&view);
        let counts = (balance.settled, balance.moving, balance.unowned);
        assert_eq!(
            (counts, balance.quarantined, balance.pinned),
            ((1, 1, 1), 1, 1)
        );
        assert_eq!(balance.pinned_unowned, 0);
        let mut pinned = view.targets.get(shard(2)).clone();
        pinned.pinned = true;
        view.targets.set(shard(2), pinned);
        let balance = Balance::of(&view);
        assert_eq!((balance.pinned, balance.pinned_unowned), (2, 1));
        let shards = balance.shards.expect("two nodes take shards");
        assert_eq!((shards.max, shards.min), (2.0, 1.0));
    }

    pub(in crate::placement) fn shard(number: u32) -> ShardId {
        ShardId::new(number, ShardCount::DEFAULT).expect("in range")
    }

    /// A cluster of nodes with a letter each, and a letter for each shard's target and owner; `-`
    /// is none. A capital letter is an owner of an earlier life.
    pub(in crate::placement) fn view(nodes: &str, targets: &str, owners: &str) -> ClusterView {
        let count = u32::try_from(targets.len()).expect("a few");
        let mut view = ClusterView::empty(ClusterMeta::new(
            "test",
            ShardCount::new(count).expect("a power of two"),
        ));
        for node in nodes.chars() {
            view.apply(News::Node(named(node), Some(record())));
        }
        own(&mut view, 1, owners);
        for (number, node) in (0..).zip(targets.chars()) {
            let node = (node != '-').then(|| named(node));
            view.targets.set(
                shard(number),
                Target {
                    node,
                    ..Target::default()
                },
            );
        }
        view
    }

    /// Writes owners at a revision.
    pub(in crate::placement) fn own(view: &mut ClusterView, revision: u64, owners: &str) {
        for (number, node) in (0..).zip(owners.chars()) {
            let owner = (node != '-').then(|| Owner {
                node: named(node.to_ascii_lowercase()),
                incarnation: Incarnation::new(u64::from(node.is_ascii_lowercase())),
            });
            let record = OwnerRecord {
                revision: Revision::new(revision),
                owner,
                parcel: None,
            };
            view.apply(News::Owner(shard(number), record));
        }
    }

    pub(in crate::placement) fn named(letter: char) -> NodeId {
        NodeId::new(&letter.to_string()).expect("a good name")
    }

    fn record() -> NodeRecord {
        NodeRecord {
            grpc: "127.0.0.1:1".into(),
            version: "test".into(),
            ..NodeRecord::of(Incarnation::new(1))
        }
    }
}
