//! Which shards are on their way, and since when. Pure.

use std::collections::BTreeMap;

use crate::clock::Moment;
use crate::ids::{NodeId, ShardId};
use crate::placement::{ClusterView, Owner};

/// The shards that something may have happened to between two views.
#[derive(Debug)]
pub(super) enum Touched {
    /// Any of them: nodes came or went, or nothing was seen before.
    All,
    /// These, whose target or owner key is another.
    Some(Vec<ShardId>),
}

impl Touched {
    pub(super) fn between(before: Option<&ClusterView>, view: &ClusterView) -> Self {
        let lives = |view: &ClusterView| -> Vec<_> {
            let nodes = view.nodes.iter();
            nodes
                .map(|(node, record)| (node.clone(), record.incarnation))
                .collect()
        };
        match before {
            Some(before) if lives(before) == lives(view) => {
                let owners = view.owners.changed_since(&before.owners);
                let targets = view.targets.changed_since(&before.targets);
                Self::Some(owners.chain(targets).collect())
            }
            Some(_) | None => Self::All,
        }
    }
}

/// How far a shard is on its way to its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leg {
    /// Another live node owns it and is to hand it over.
    Leaving(Owner),
    /// Nobody owns it; the target is to claim it.
    Claiming,
}

/// A shard whose target lives and does not own it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// Its target.
    pub(super) to: NodeId,
    pub(super) leg: Leg,
    /// When this leader first saw it on this leg to this target.
    pub(super) since: Moment,
}

/// Every shard that is on its way.
#[derive(Debug, Default)]
pub(super) struct Flights(BTreeMap<ShardId, Flight>);

impl Flights {
    /// Takes in a view that differs from the last one in the touched shards.
    pub(super) fn see(&mut self, view: &ClusterView, touched: &Touched, now: Moment) {
        match touched {
            Touched::All => {
                for shard in view.meta.shard_count.shards() {
                    self.look_at(shard, view, now);
                }
            }
            Touched::Some(shards) => {
                for shard in shards {
                    self.look_at(*shard, view, now);
                }
            }
        }
    }

    fn look_at(&mut self, shard: ShardId, view: &ClusterView, now: Moment) {
        let Some((to, leg)) = on_its_way(shard, view) else {
            self.0.remove(&shard);
            return;
        };
        let known = self.0.get(&shard);
        if known.is_none_or(|flight| flight.to != to || flight.leg != leg) {
            let since = now;
            self.0.insert(shard, Flight { to, leg, since });
        }
    }

    /// Returns how far a shard is on its way, if it is.
    pub(super) fn get(&self, shard: ShardId) -> Option<&Flight> {
        self.0.get(&shard)
    }

    /// Returns all of them, in order of the shards.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ShardId, &Flight)> {
        self.0.iter().map(|(shard, flight)| (*shard, flight))
    }
}

fn on_its_way(shard: ShardId, view: &ClusterView) -> Option<(NodeId, Leg)> {
    let target = view.targets.get(shard);
    let to = target
        .node
        .as_ref()
        .filter(|node| view.nodes.contains_key(*node))?;
    match view.live_owner(shard) {
        _ if target.quarantined => None,
        Some(owner) if owner.node == *to => None,
        Some(owner) => Some((to.clone(), Leg::Leaving(owner.clone()))),
        None => Some((to.clone(), Leg::Claiming)),
    }
}
