//! What waits for nodes that may still be coming.
//!
//! A join waits until none has followed it for the join delay, so that nodes that start together
//! are planned together; but no longer than the greatest delay after the first of them. In a
//! cluster that serves nothing yet, first placements wait for the same time (ADR-0003). What a
//! dead or draining node leaves never waits.

use super::{PlanSettings, Planning};
use crate::clock::Moment;
use crate::placement::{ClusterView, NodeState};

/// Whether joins wait now, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::placement) struct Waiting(Option<Moment>);

impl Waiting {
    /// Looks at when the takers joined.
    pub(in crate::placement) fn of(planning: &Planning<'_>) -> Self {
        let takers = planning
            .view
            .nodes
            .iter()
            .filter(|(_, node)| node.state == NodeState::Active && !node.weight.is_gate());
        let mut joins: Vec<Moment> = takers
            .filter_map(|(node, _)| planning.changed.get(node).copied())
            .collect();
        joins.sort_unstable();
        Self(closing(&joins, planning.settings).filter(|until| planning.now < *until))
    }

    /// Returns the end of the wait, if joins wait now.
    pub(in crate::placement) fn until(self) -> Option<Moment> {
        self.0
    }

    /// Whether shards without a home wait like joins: only while no shard of the cluster has a
    /// live owner, so that nothing that was served before is put off.
    pub(in crate::placement) fn puts_off_first_placement(self, view: &ClusterView) -> bool {
        self.0.is_some()
            && view
                .meta
                .shard_count
                .shards()
                .all(|s| view.live_owner(s).is_none())
    }
}

/// Returns when the last window of joins closes. A join that comes before a window closes extends
/// it, up to its greatest length; a later one opens the next.
fn closing(joins: &[Moment], settings: &PlanSettings) -> Option<Moment> {
    let mut window: Option<(Moment, Moment)> = None;
    for join in joins {
        let first = match window {
            Some((first, close)) if *join < close => first,
            Some(_) | None => *join,
        };
        let longest = first.plus(settings.join_delay_max);
        window = Some((first, join.plus(settings.join_delay).min(longest)));
    }
    window.map(|(_, close)| close)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_lone_join_waits_for_the_delay() {
        check(&[], None);
        check(&[1000], Some(1300));
    }

    #[test]
    fn joins_that_follow_each_other_wait_together_but_not_for_ever() {
        check(&[1000, 1299], Some(1599));
        check(
            &[1000, 1250, 1500, 1750, 2000, 2250, 2500, 2750, 2990],
            Some(3000),
        );
    }

    #[test]
    fn a_join_after_the_window_opens_the_next() {
        check(&[1000, 1300], Some(1600));
        check(
            &[1000, 1250, 1500, 1750, 2000, 2250, 2500, 2750, 2990, 3000],
            Some(3300),
        );
    }

    #[track_caller]
    fn check(joins_ms: &[u64], close_ms: Option<u64>) {
        let moment = |ms: &u64| Moment::START.plus(Duration::from_millis(*ms));
        let joins: Vec<_> = joins_ms.iter().map(moment).collect();
        assert_eq!(
            closing(&joins, &PlanSettings::default()),
            close_ms.as_ref().map(moment)
        );
    }
}
