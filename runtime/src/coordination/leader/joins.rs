//! When each node was first seen in its present life and state. Pure.

use std::collections::BTreeMap;

use crate::clock::Moment;
use crate::ids::{Incarnation, NodeId};
use crate::placement::{ClusterView, NodeState};

/// What the planner has to know of joins, which no view can tell: their times.
///
/// Every candidate keeps it, so that a new leader knows about joins that its predecessor saw.
#[derive(Debug, Default)]
pub(super) struct Joins {
    seen: Option<BTreeMap<NodeId, (Incarnation, NodeState)>>,
    joined: BTreeMap<NodeId, Moment>,
}

impl Joins {
    /// Notes who came, changed or went. Nodes of the first view were there long ago.
    pub(super) fn see(&mut self, view: &ClusterView, now: Moment) {
        let nodes = view.nodes.iter();
        let present: BTreeMap<_, _> = nodes
            .map(|(node, record)| (node.clone(), (record.incarnation, record.state)))
            .collect();
        if let Some(seen) = &self.seen {
            for (node, life) in &present {
                if seen.get(node) != Some(life) {
                    self.joined.insert(node.clone(), now);
                }
            }
        }
        self.joined.retain(|node, _| present.contains_key(node));
        self.seen = Some(present);
    }

    pub(super) fn joined(&self) -> &BTreeMap<NodeId, Moment> {
        &self.joined
    }
}
