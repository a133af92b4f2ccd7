//! Where every shard is while a plan is being made.

use std::collections::BTreeMap;

use super::division::{Part, divide};
use super::zones::Zones;
use super::{Planning, Reason, Standings};
use crate::clock::Moment;
use crate::ids::{NodeId, ShardCount, ShardId};
use crate::placement::{ClusterView, NodeRecord};

/// The label by which a node states how many shards it can have at most.
pub const CAPACITY_LABEL: &str = "capacity";

/// A node that takes shards, and those that have their home there.
#[derive(Debug)]
pub(super) struct Taker<'a> {
    pub(super) node: &'a NodeId,
    pub(super) weight: u64,
    pub(super) tie: u32,
    pub(super) zone: usize,
    pub(super) capacity: Option<u32>,
    pub(super) cordoned: bool,
    pub(super) closed: bool,
    /// They cannot go: pinned, ordered here, or nowhere else to be.
    pub(super) fixed: Vec<ShardId>,
    /// They can go to nodes of this zone only.
    pub(super) bound: Vec<ShardId>,
    /// They can go anywhere.
    pub(super) free: Vec<ShardId>,
}

impl<'a> Taker<'a> {
    fn new(planning: &Planning<'a>, zones: &Zones<'_>, node: &'a NodeId) -> Self {
        let view = planning.view;
        let record = &view.nodes[node];
        Self {
            node,
            weight: record.weight.thousandths().into(),
            tie: tie(view, node),
            zone: zones.of_node(record),
            capacity: capacity(record).unwrap_or_default(),
            cordoned: view.orders.cordoned.contains(node),
            closed: false,
            fixed: Vec::new(),
            bound: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Returns how many shards have their home here.
    pub(super) fn count(&self) -> u32 {
        len(&self.fixed) + len(&self.bound) + len(&self.free)
    }

    pub(super) fn part(&self) -> Part {
        Part {
            weight: self.weight,
            tie: self.tie,
            zone: self.zone,
            capacity: self.capacity,
            cordoned: self.cordoned,
            closed: self.closed,
            count: self.count(),
            fixed: len(&self.fixed),
            bound: len(&self.bound),
        }
    }

    /// Returns the shards that can go, at least within the zone.
    pub(super) fn movable(&self) -> impl Iterator<Item = ShardId> {
        self.bound.iter().chain(&self.free).copied()
    }

    /// Returns all shards that have their home here.
    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> {
        self.movable().chain(self.fixed.iter().copied())
    }
}

/// Returns the capacity that a node states, in shards; an error if that is no number.
pub(in crate::placement) fn capacity(record: &NodeRecord) -> Result<Option<u32>, ()> {
    let stated = record.labels.get(CAPACITY_LABEL);
    stated.map(|text| text.parse().map_err(|_| ())).transpose()
}

pub(super) fn len(shards: &[ShardId]) -> u32 {
    u32::try_from(shards.len()).expect("at most as many as shards")
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

/// A shard that needs another home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Homeless {
    pub(super) shard: ShardId,
    pub(super) reason: Reason,
}

/// A new home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The place of the taker.
    pub(super) to: usize,
    /// Why the shard left the one before; of several reasons the first.
    pub(super) reason: Reason,
    pub(super) gain_permille: u32,
}

/// The new home of every shard that gets one. A table, since at first that is all of them.
#[derive(Debug)]
pub(super) struct Steps {
    count: ShardCount,
    by_shard: Vec<Option<Step>>,
}

impl Steps {
    fn new(count: ShardCount) -> Self {
        Self {
            count,
            by_shard: vec![None; count.get() as usize],
        }
    }

    /// Adds a step. A shard that has one goes on to the new home, for the reason it had.
    fn add(&mut self, shard: ShardId, step: Step) {
        match &mut self.by_shard[shard.index()] {
            Some(before) => before.to = step.to,
            none @ None => *none = Some(step),
        }
    }

    pub(super) fn remove(&mut self, shard: ShardId) {
        self.by_shard[shard.index()] = None;
    }

    pub(super) fn get(&self, shard: ShardId) -> Option<Step> {
        self.by_shard[shard.index()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_shard.iter().all(Option::is_none)
    }

    /// Returns every step, in order of the shards.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ShardId, Step)> {
        let steps = self.count.shards().zip(&self.by_shard);
        steps.filter_map(|(shard, step)| Some((shard, (*step)?)))
    }
}

/// The flags that a shard should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) pinned: bool,
    pub(super) quarantined: bool,
}

/// Some shards with the same trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Troubled {
    pub(super) shards: u32,
    pub(super) first: ShardId,
}

/// Where every shard is, and what is left to decide.
#[derive(Debug)]
pub(super) struct Board<'a> {
    pub(super) planning: Planning<'a>,
    pub(super) standings: Standings<'a>,
    pub(super) zones: Zones<'a>,
    /// In order of their names.
    pub(super) takers: Vec<Taker<'a>>,
    /// In no order.
    pub(super) homeless: Vec<Homeless>,
    /// Shards in another zone than a hard rule says, and the taker that serves them meanwhile.
    pub(super) strays: Vec<(ShardId, usize)>,
    /// Every shard whose home is not its target.
    pub(super) steps: Steps,
    /// Every shard whose flags change.
    pub(super) flags: BTreeMap<ShardId, Flags>,
    /// When the first node loses what is kept for it.
    pub(super) kept_until: Option<Moment>,
    /// Pinned shards by their absent node.
    pub(super) absent: BTreeMap<&'a NodeId, Troubled>,
    /// Shards that cannot be where a hard rule says, by zone.
    pub(super) unmet: BTreeMap<usize, Troubled>,
    /// How many shards find no room.
    pub(super) without_room: u32,
    /// Something waits for nodes that may still join.
    pub(super) put_off: bool,
}

impl<'a> Board<'a> {
    /// Makes a board without shards.
    pub(super) fn new(planning: Planning<'a>) -> Self {
        let standings = Standings::of(&planning);
        let zones = Zones::of(&planning);
        let nodes = planning.view.nodes.keys();
        let takers = nodes.filter(|node| standings.place(node).is_some());
        let takers = takers.map(|node| Taker::new(&planning, &zones, node));
        Self {
            takers: takers.collect(),
            planning,
            standings,
            zones,
            homeless: Vec::new(),
            strays: Vec::new(),
            steps: Steps::new(planning.view.meta.shard_count),
            flags: BTreeMap::new(),
            kept_until: None,
            absent: BTreeMap::new(),
            unmet: BTreeMap::new(),
            without_room: 0,
            put_off: false,
        }
    }

    /// Gives a shard a home.
    pub(super) fn hold(&mut self, taker: usize, shard: ShardId) {
        let taker = &mut self.takers[taker];
        match self.zones.hard(shard) {
            Some(_) => taker.bound.push(shard),
            None => taker.free.push(shard),
        }
    }

    /// Gives a shard a home that is not its target.
    pub(super) fn send(&mut self, shard: ShardId, to: usize, reason: Reason, gain_permille: u32) {
        self.steps.add(
            shard,
            Step {
                to,
                reason,
                gain_permille,
            },
        );
    }

    /// Takes a shard that can go from one taker to another.
    pub(super) fn carry(&mut self, shard: ShardId, from: usize, to: usize, why: (Reason, u32)) {
        let taker = &mut self.takers[from];
        taker.bound.retain(|bound| *bound != shard);
        taker.free.retain(|free| *free != shard);
        self.hold(to, shard);
        self.send(shard, to, why.0, why.1);
    }

    /// Returns how many shards each taker should have.
    pub(super) fn quotas(&self) -> Vec<u32> {
        let parts: Vec<Part> = self.takers.iter().map(Taker::part).collect();
        let mut bound_coming = BTreeMap::new();
        for zone in self
            .homeless
            .iter()
            .filter_map(|h| self.zones.hard(h.shard))
        {
            *bound_coming.entry(zone).or_default() += 1;
        }
        let coming = u32::try_from(self.homeless.len()).expect("at most as many as shards");
        divide(&parts, coming, &bound_coming)
    }

    /// Whether nothing moves, nor is kept for a node that may return.
    pub(super) fn is_settled(&self) -> bool {
        let targets = &self.planning.view.targets;
        let moves = |(shard, step): (ShardId, Step)| {
            targets.get(shard).node.as_ref() != Some(self.takers[step.to].node)
        };
        self.kept_until.is_none() && self.homeless.is_empty() && !self.steps.iter().any(moves)
    }

    /// Puts those last that should be the first to go: shards that do not rest, or what an operator
    /// has just moved would go back; of these the ones that are not owned by their home yet, since
    /// nothing has to be handed over for them, and then those in no zone they should be in. What
    /// has just come for its load goes first of all to stay.
    pub(super) fn by_ease(&self, taker: usize, shards: Vec<ShardId>) -> Vec<ShardId> {
        let Planning {
            view, memory, now, ..
        } = self.planning;
        let Taker { node, zone, .. } = self.takers[taker];
        let life = view.nodes[node].incarnation;
        let mut shards = shards;
        shards.sort_by_cached_key(|shard| {
            let owner = view.owners.get(*shard).owner.as_ref();
            let is_owned = owner.is_some_and(|o| o.incarnation == life && o.node == *node);
            let rests = memory.rests(*shard, now);
            let is_in_zone = self.zones.soft(*shard) == Some(zone);
            let step = self.steps.get(*shard);
            let is_relief = step.is_some_and(|step| step.reason == Reason::Load);
            (!is_relief, !rests, !is_owned, !is_in_zone)
        });
        shards
    }
}
