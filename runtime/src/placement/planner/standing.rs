//! What each node is to the planner.

use fnv::FnvHashMap;

use super::Planning;
use crate::clock::Moment;
use crate::ids::NodeId;
use crate::placement::{NodeRecord, NodeState};

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

    /// Returns a node's place among the takers, if it is one.
    pub(in crate::placement) fn place(&self, node: &NodeId) -> Option<usize> {
        match self.get(node)? {
            Standing::Taker(place) => Some(place),
            Standing::KeptUntil(_) | Standing::Leaving => None,
        }
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
