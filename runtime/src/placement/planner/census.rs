//! Who can take shards, who has which, and which shards have no home.

use fnv::FnvHashMap;

use super::{Planning, Reason, Share, is_owned_by, quotas};
use crate::clock::Moment;
use crate::ids::{NodeId, ShardCount, ShardId};
use crate::placement::{ClusterView, NodeRecord, NodeState, OwnerRecord, Target};

/// What a live node is to the planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::placement) enum Standing {
    /// It takes shards; the number is its place among the takers.
    Taker(usize),
    /// It will take shards soon, being registered and not ready yet, or may do so, having just
    /// gone: what is targeted at it is kept until then.
    KeptUntil(Moment),
    /// It hosts nothing, or no longer wants to.
    Leaving,
}

/// The standing of every node that is live or has just gone.
///
/// A hash table, since each shard asks for its target's; nothing iterates it.
#[derive(Debug)]
pub(in crate::placement) struct Standings<'a>(FnvHashMap<&'a NodeId, Standing>);

impl<'a> Standings<'a> {
    /// Judges every node of the view.
    pub(in crate::placement) fn of(planning: &Planning<'a>) -> Self {
        let mut takers = 0..;
        let standings = planning.view.nodes.iter().map(|(node, record)| {
            let standing = match standing_without_place(planning, node, record) {
                Some(standing) => standing,
                None => Standing::Taker(takers.next().expect("fewer nodes than numbers")),
            };
            (node, standing)
        });
        let gone = planning.changed.iter().filter_map(|(node, since)| {
            let until = since.plus(planning.settings.return_delay);
            let returns = !planning.view.nodes.contains_key(node) && planning.now < until;
            returns.then_some((node, Standing::KeptUntil(until)))
        });
        Self(standings.chain(gone).collect())
    }

    /// Returns a node's standing; `None` if it is not live, nor has just gone.
    pub(in crate::placement) fn get(&self, node: &NodeId) -> Option<Standing> {
        self.0.get(node).copied()
    }
}

/// Returns the standing of a node that is no taker.
fn standing_without_place(
    planning: &Planning<'_>,
    node: &NodeId,
    record: &NodeRecord,
) -> Option<Standing> {
    match record.state {
        _ if record.weight.is_gate() => Some(Standing::Leaving),
        NodeState::Active => None,
        NodeState::Draining => Some(Standing::Leaving),
        NodeState::Joining => {
            let since = planning.changed.get(node).copied().unwrap_or(Moment::START);
            let until = since.plus(planning.settings.join_delay_max);
            let kept = planning.now < until;
            Some(if kept {
                Standing::KeptUntil(until)
            } else {
                Standing::Leaving
            })
        }
    }
}

/// A node that takes shards, and those that have their home there.
#[derive(Debug)]
pub(super) struct Taker<'a> {
    pub(super) node: &'a NodeId,
    weight: u64,
    tie: u32,
    pinned: u32,
    movable: Vec<ShardId>,
}

impl<'a> Taker<'a> {
    fn new(view: &'a ClusterView, node: &'a NodeId, record: &NodeRecord) -> Self {
        Self {
            node,
            weight: record.weight.thousandths().into(),
            tie: tie(view, node),
            pinned: 0,
            movable: Vec::new(),
        }
    }

    /// Returns how many shards have their home here.
    fn count(&self) -> u32 {
        self.pinned + u32::try_from(self.movable.len()).expect("at most as many as shards")
    }

    fn share(&self) -> Share {
        Share {
            weight: self.weight,
            count: self.count(),
            pinned: self.pinned,
            tie: self.tie,
        }
    }

    /// Gives up `excess` shards, no more than are movable: first those that it does not own yet, since nothing has to be
    /// handed over for them, then the highest ones.
    fn give_up(&mut self, view: &ClusterView, excess: u32) -> Vec<Homeless> {
        let (mut order, unowned): (Vec<_>, Vec<_>) = std::mem::take(&mut self.movable)
            .into_iter()
            .partition(|shard| is_owned_by(view, view.owners.get(*shard), self.node));
        order.extend(unowned);
        let given = order.split_off(order.len() - excess as usize);
        self.movable = order;
        given
            .into_iter()
            .map(|shard| Homeless {
                shard,
                reason: Reason::Join,
            })
            .collect()
    }
}

/// How many different ties there are.
const TIES: ShardCount = match ShardCount::new(1 << 16) {
    Ok(ties) => ties,
    Err(_) => panic!("a power of two"),
};

/// Returns what decides between nodes that are alike: another order in each cluster, so that the
/// first name does not get the odd shard everywhere.
pub(in crate::placement) fn tie(view: &ClusterView, node: &NodeId) -> u32 {
    let parts = [view.meta.cluster_id.as_str(), node.as_str()];
    ShardId::of_key(&parts, TIES).get()
}

/// A shard that needs another target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Homeless {
    pub(super) shard: ShardId,
    pub(super) reason: Reason,
}

/// Who has what.
#[derive(Debug)]
pub(super) struct Census<'a> {
    /// In order of their names.
    pub(super) takers: Vec<Taker<'a>>,
    /// In no order.
    pub(super) homeless: Vec<Homeless>,
    /// Shards whose home is the taker their owner key names, though their target is another; counted
    /// among that taker's already.
    pub(super) returned: Vec<(Homeless, usize)>,
    /// When the first node loses what is kept for it.
    pub(super) kept_until: Option<Moment>,
}

impl<'a> Census<'a> {
    /// Finds every shard's home.
    pub(super) fn of(planning: &Planning<'a>) -> Self {
        let view = planning.view;
        let standings = Standings::of(planning);
        let is_taker = |node| matches!(standings.get(node), Some(Standing::Taker(_)));
        let takers = view.nodes.iter().filter(|(node, _)| is_taker(*node));
        let mut census = Self {
            takers: takers
                .map(|(node, record)| Taker::new(view, node, record))
                .collect(),
            homeless: Vec::new(),
            returned: Vec::new(),
            kept_until: None,
        };
        for ((shard, target), (_, owner)) in view.targets.iter().zip(view.owners.iter()) {
            if !target.quarantined {
                census.settle(&standings, shard, target, owner);
            }
        }
        census
    }

    /// Returns how many shards each taker should have.
    pub(super) fn quotas(&self) -> Vec<u32> {
        let shares: Vec<Share> = self.takers.iter().map(Taker::share).collect();
        let held: u32 = shares.iter().map(|share| share.count).sum();
        let homeless = u32::try_from(self.homeless.len()).expect("at most as many as shards");
        quotas(held + homeless, &shares)
    }

    /// Whether any taker has more than its quota.
    pub(super) fn is_any_above(&self, quotas: &[u32]) -> bool {
        let mut counts = self.takers.iter().map(Taker::count).zip(quotas);
        counts.any(|(count, quota)| count > *quota)
    }

    /// Makes homeless what takers have above their quotas.
    pub(super) fn give_up_excess(&mut self, view: &ClusterView, quotas: &[u32]) {
        for (taker, quota) in self.takers.iter_mut().zip(quotas) {
            let excess = taker.count().saturating_sub(*quota);
            if excess > 0 {
                self.homeless.extend(taker.give_up(view, excess));
            }
        }
    }

    /// Returns how many shards each taker lacks.
    pub(super) fn rooms(&self, quotas: &[u32]) -> Vec<u32> {
        let counts = self.takers.iter().map(Taker::count).zip(quotas);
        counts
            .map(|(count, quota)| quota.saturating_sub(count))
            .collect()
    }

    fn settle(
        &mut self,
        standings: &Standings<'_>,
        shard: ShardId,
        target: &Target,
        owner: &OwnerRecord,
    ) {
        let standing = target.node.as_ref().map(|node| standings.get(node));
        let reason = match standing {
            Some(Some(Standing::Taker(taker))) => return self.hold(taker, shard, target),
            Some(Some(Standing::KeptUntil(until))) => {
                self.kept_until = Some(self.kept_until.map_or(until, |first| first.min(until)));
                return;
            }
            Some(Some(Standing::Leaving)) => Reason::Drain,
            Some(None) => Reason::Failure,
            None => Reason::Unplaced,
        };
        let homeless = Homeless { shard, reason };
        // Any life of the node will do: the newest knows best how to get its state back.
        match owner
            .owner
            .as_ref()
            .and_then(|owner| standings.get(&owner.node))
        {
            Some(Standing::Taker(taker)) => {
                self.hold(taker, shard, target);
                self.returned.push((homeless, taker));
            }
            Some(Standing::KeptUntil(_) | Standing::Leaving) | None => self.homeless.push(homeless),
        }
    }

    fn hold(&mut self, taker: usize, shard: ShardId, target: &Target) {
        if target.pinned {
            self.takers[taker].pinned += 1;
        } else {
            self.takers[taker].movable.push(shard);
        }
    }
}
