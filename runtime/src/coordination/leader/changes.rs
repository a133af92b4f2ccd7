//! When each node came, changed its state, or went. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::ids::{Incarnation, NodeId};
use crate::placement::{ClusterView, NodeState};

/// How long a node that went is remembered; far longer than any planner waits for it.
const GONE_KEPT: Duration = Duration::from_mins(1);

/// What the planner has to know of nodes, which no view can tell: since when they are as they are.
///
/// Every candidate keeps it, so that a new leader knows about changes that its predecessor saw.
#[derive(Debug, Default)]
pub(super) struct Changes {
    seen: Option<BTreeMap<NodeId, (Incarnation, NodeState)>>,
    times: BTreeMap<NodeId, Moment>,
}

impl Changes {
    /// Notes who came, changed or went. Nodes of the first view were there long ago.
    pub(super) fn see(&mut self, view: &ClusterView, now: Moment) {
        let nodes = view.nodes.iter();
        let present: BTreeMap<_, _> = nodes
            .map(|(node, record)| (node.clone(), (record.incarnation, record.state)))
            .collect();
        if let Some(seen) = &self.seen {
            let all = seen.keys().chain(present.keys());
            for node in all.filter(|node| seen.get(*node) != present.get(*node)) {
                self.times.insert(node.clone(), now);
            }
        }
        self.times
            .retain(|node, time| present.contains_key(node) || now.since(*time) < GONE_KEPT);
        self.seen = Some(present);
    }

    /// Returns when each node was last seen to come, change or go.
    pub(super) fn times(&self) -> &BTreeMap<NodeId, Moment> {
        &self.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardCount;
    use crate::placement::{ClusterMeta, News, NodeRecord};

    #[test]
    fn times_are_of_the_last_change_and_the_first_view_is_none() {
        let mut changes = Changes::default();
        let mut view = view();
        set(&mut view, "a", Some(NodeState::Active));
        changes.see(&view, at(1));
        set(&mut view, "b", Some(NodeState::Joining));
        changes.see(&view, at(2));
        set(&mut view, "b", Some(NodeState::Active));
        changes.see(&view, at(3));
        changes.see(&view, at(4));
        set(&mut view, "a", None);
        changes.see(&view, at(5));
        assert_eq!(times(&changes), [("a", at(5)), ("b", at(3))]);
        changes.see(&view, at(65));
        assert_eq!(times(&changes), [("b", at(3))], "gone for long");
    }

    fn times(changes: &Changes) -> Vec<(&str, Moment)> {
        let times = changes.times().iter();
        times.map(|(node, time)| (node.as_str(), *time)).collect()
    }

    fn at(seconds: u64) -> Moment {
        Moment::START.plus(Duration::from_secs(seconds))
    }

    fn view() -> ClusterView {
        ClusterView::empty(ClusterMeta::new(
            "test",
            ShardCount::new(1).expect("a power of two"),
        ))
    }

    fn set(view: &mut ClusterView, node: &str, state: Option<NodeState>) {
        let record = state.map(|state| NodeRecord {
            state,
            ..NodeRecord::of(Incarnation::new(1))
        });
        view.apply(News::Node(NodeId::new(node).expect("a letter"), record));
    }
}
